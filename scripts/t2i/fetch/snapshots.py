"""Model snapshots as MLCommons hosts them, as entries for the table of inputs.

A snapshot is a .uri file that holds the base address of its files; beside it lies an .md5 file
with a line of md5sum for each of them. Pinning it trusts its content on that day.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError

from t2i.base import embedded
from t2i.base.addresses import shown
from t2i.fetch.edit import group_text
from t2i.fetch.http import LOOPBACK, HttpClient, TransferError
from t2i.fetch.transfer import Expected, Limits, transfer

PIPELINE = "checkpoint_pipe/"
SCHEDULER = "checkpoint_scheduler/scheduler/"
WEIGHTED = ("text_encoder", "text_encoder_2", "unet", "vae")
REQUIRED = ("model_index.json", "scheduler/scheduler_config.json")
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
LONGEST_TEXT = 1 << 20  # bytes of a .uri or .md5 file
GROUP = r"[a-z0-9][a-z0-9._-]*"


class SnapshotError(ValueError):
    """A snapshot cannot be pinned: wrong layout, unsafe path, or missing file."""


@dataclass(frozen=True)
class Snapshot:
    """Files of a snapshot in diffusers' layout.

    `files` are by name: the path below the base address, and the md5. `left_out` says of every
    other file why the table does not name it.
    """

    base: str
    files: dict[str, tuple[str, str]]
    left_out: list[str]


def read_snapshot(client: HttpClient, address: str, limits: Limits) -> Snapshot:
    """The snapshot behind a .uri address; raises SnapshotError or TransferError."""
    _check_secure(address)
    if not urlsplit(address).path.endswith(".uri"):
        raise SnapshotError(f"{shown(address)}: expected an address that ends with .uri")
    base = _text(client, address, limits).strip().rstrip("/")
    if len(base.split()) != 1 or "{" in base:
        raise SnapshotError(f"{shown(address)}: expected one address in it, got {base!r:.200}")
    _check_secure(base)
    listed = _text(client, f"{address.removesuffix('.uri')}.md5", limits)
    files, left_out = diffusers_files(md5_lines(listed))
    return Snapshot(base, files, left_out)


def _check_secure(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise SnapshotError(
            f"{shown(address)}: not an https address, so its digests cannot be trusted"
        )


def _text(client: HttpClient, address: str, limits: Limits) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text")
        try:
            transfer(client, address, path, Expected(largest=LONGEST_TEXT), limits)
        except TransferError as error:
            raise TransferError(f"{shown(address)}: {error}") from error
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise SnapshotError(f"{shown(address)}: not text ({error.reason})") from error


def md5_lines(text: str) -> dict[str, str]:
    """The md5 by path of md5sum's lines; raises SnapshotError, which names the line.

    A path must be relative, go downwards only, and consist of letters, digits and `._-`.
    """
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-f]{32}) [ *](?:\./)?(.+)", line.rstrip())
        if match is None:
            raise SnapshotError(
                f"md5 list, line {number}: expected an md5 and a path, got {line!r:.200}"
            )
        digest, path = match.groups()
        parts = path.split("/")
        if not all(re.fullmatch(r"[A-Za-z0-9._-]+", part) and part.strip(".") for part in parts):
            raise SnapshotError(
                f"md5 list, line {number}: the path {path!r} is not a plain one; refused"
            )
        if digests.setdefault(path, digest) != digest:
            raise SnapshotError(f"md5 list, line {number}: duplicate path {path!r}")
    return digests


def diffusers_files(digests: dict[str, str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Files by their names in diffusers' layout, and why each other file is left out.

    The scheduler is the one at the top level, since that is the one the reference loads. The
    tokenizers are left out because the workflow rebuilds them. Raises SnapshotError, which names
    what is missing, if this is not Stable Diffusion XL.
    """
    files: dict[str, tuple[str, str]] = {}
    left_out = []
    for path in sorted(digests):  # the pipeline's own scheduler comes before the other one
        name = path.removeprefix(PIPELINE)
        if path.startswith(SCHEDULER):
            name = f"scheduler/{path.removeprefix(SCHEDULER)}"
        if why := _reason_against(path, name):
            left_out.append(f"{path}: {why}")
            continue
        if name in files:
            left_out.append(f"{files[name][0]}: {path} is used instead")
        files[name] = (path, digests[path])
    missing = [name for name in REQUIRED if name not in files]
    for folder in WEIGHTED:
        own = [name for name in files if name.startswith(f"{folder}/")]
        if f"{folder}/config.json" not in own:
            missing.append(f"{folder}/config.json")
        if not any(name.endswith(".safetensors") for name in own):
            missing.append(f"{folder}/*.safetensors")
    if missing:
        lines = [f"  missing: {name}" for name in missing] + [
            f"  left out: {line}" for line in left_out
        ]
        raise SnapshotError("\n".join(["no snapshot of Stable Diffusion XL:", *lines]))
    return dict(sorted(files.items())), left_out


def _reason_against(path: str, name: str) -> str | None:
    """Why a file does not belong into the table; None where it does."""
    folder, suffix = name.partition("/")[0], PurePosixPath(name).suffix
    if not path.startswith((PIPELINE, SCHEDULER)):
        return f"neither below {PIPELINE} nor below {SCHEDULER}"
    if suffix in PICKLES:
        return "pickled, which can run code; only safetensors are read"
    if folder in ("tokenizer", "tokenizer_2"):
        return "the workflow rebuilds the tokenizers"
    if name in REQUIRED or (folder in WEIGHTED and suffix in (".json", ".safetensors")):
        return None
    return "not a part of the model that is run"


def file_size(client: HttpClient, address: str) -> int | None:
    """Size in bytes of the file at an address, None where the server does not tell.

    Raises TransferError where there is no such file.
    """
    try:
        with client.open(address, {"Range": "bytes=0-0"}) as answer:
            status, headers = answer.status, answer.headers
    except HTTPError as error:
        raise TransferError(f"{shown(address)}: {error}") from error
    if status not in (200, 206):
        raise TransferError(f"{shown(address)}: it answers {status}")
    size = headers.get("Content-Length", "")
    if status == 206:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if re.fullmatch("[0-9]{1,18}", size) else None


def table_entry(group: str, licence: str, snapshot: Snapshot, sizes: dict[str, int | None]) -> str:
    """A group of the table of inputs as YAML; `sizes` are by name, None where not known."""
    if not re.fullmatch(GROUP, group) or group == embedded.MODEL:
        raise SnapshotError(
            f"{group!r} cannot be a model's name; expected one such as sdxl-mlc-fp16"
        )
    comments = "".join(f"# left out: {line}\n" for line in snapshot.left_out)
    files = {
        name: {"path": path, "size": sizes[name], "md5": digest}
        for name, (path, digest) in snapshot.files.items()
    }
    return comments + group_text(group, licence, f"{snapshot.base}/{{path}}", files)
