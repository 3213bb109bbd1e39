"""The table of inputs (config/sources.yaml) and the fetching of one of them.

Nothing is trusted by name: whatever the way a file comes, its size and digest are checked before
it gets its name.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from t2i.files import CHUNK, publish

logger = logging.getLogger(__name__)

TIMEOUT = 60  # seconds without a byte
ALGORITHMS = {"sha256": 64, "git_blob": 40, "md5": 32}  # hex digits


class FetchError(RuntimeError):
    """An input could not be had, or is not what the table says."""


@dataclass(frozen=True)
class Source:
    """One input. `name` is its path below resources/, `size` is in bytes where it is published.

    `algorithm` is sha256, md5, or git_blob (git's object id: sha1 of a short header and content).
    """

    name: str
    address: str
    licence: str
    size: int | None
    algorithm: str
    digest: str


def read_sources(table: dict[str, Any]) -> dict[str, Source]:
    """All inputs of the table by name; raises ValueError that lists every malformed entry."""
    sources = {}
    mistakes = []
    for group, entry in (table if isinstance(table, dict) else {"": None}).items():
        if not (isinstance(entry, dict) and entry.get("licence") and _is_table(entry.get("files"))):
            mistakes.append(f"  {group or 'the top level'}: expected groups with licence and files")
            continue
        for file, facts in entry["files"].items():
            name = f"{group}/{file}"
            if mistake := _mistake(name, facts):
                mistakes.append(f"  {name}: {mistake}")
                continue
            algorithm = next(known for known in ALGORITHMS if known in facts)
            address = facts.get("address", entry.get("address", ""))
            address = address.replace("{path}", facts.get("path", file))
            sources[name] = Source(
                name, address, entry["licence"], facts.get("size"), algorithm, facts[algorithm]
            )
    if mistakes:
        raise ValueError("\n".join(["the table of inputs cannot be used:", *mistakes]))
    return sources


def _is_table(files: Any) -> bool:
    return isinstance(files, dict) and all(isinstance(facts, dict) for facts in files.values())


def _mistake(name: str, facts: dict[str, Any]) -> str | None:
    """What is wrong with one entry of the table."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "the name leaves resources/"
    given = [known for known in ALGORITHMS if known in facts]
    if not given:
        return f"give one of the digests {', '.join(ALGORITHMS)}"
    digits, digest = ALGORITHMS[given[0]], facts[given[0]]
    if not isinstance(digest, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", digest):
        return f"{given[0]} is {digest!r}; expected {digits} lower-case hex digits, in quotes"
    size = facts.get("size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return f"size is {size!r}; expected a number of bytes"
    return None


def fetch(source: Source, destination: Path, mirror: str | None, offline: bool) -> str:
    """Bring one input to `destination` and return the address it came from.

    The mirror (a folder, or an address prefix) is asked first under the input's name; what it
    lacks comes from the published address. Raises FetchError with what was wrong, where, and
    what to do; `destination` then does not exist.
    """
    tried = []
    for address in _addresses(source, mirror):
        if offline and urlsplit(address).scheme in ("http", "https"):
            tried.append(f"{address}: not asked, the configuration says offline")
            continue
        try:
            with publish(destination) as part:
                _copy_checked(source, address, part)
        except (OSError, http.client.HTTPException) as error:
            tried.append(f"{address}: {error}")
            continue
        logger.info("%s from %s", source.name, address)
        return address
    if not tried:
        tried.append("the table gives no address, the configuration no mirror")
    raise FetchError(
        "\n".join(
            [
                f"{source.name} could not be had:",
                *(f"  {line}" for line in tried),
                f"Put the file ({source.algorithm} {source.digest}) into a folder as {source.name} "
                "and name the folder as `mirror` in the configuration.",
            ]
        )
    )


def _addresses(source: Source, mirror: str | None) -> Iterator[str]:
    if mirror:
        if "://" in mirror or mirror.startswith("file:"):
            yield f"{mirror.rstrip('/')}/{quote(source.name)}"
        else:
            yield f"file:{quote(str(Path(mirror, source.name)))}"
    if source.address:
        yield source.address


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http, and to nothing else than those."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            wanted = " or ".join(allowed)
            raise FetchError(f"{req.full_url}: redirects to {newurl}, not to {wanted}; refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(address: str) -> IO[bytes]:
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).open("rb")
    if parts.scheme not in ("http", "https"):
        raise FetchError(f"{address}: expected an address that begins with file:, http: or https:")
    opener = urllib.request.build_opener(_NoDowngrade)
    request = urllib.request.Request(address, headers={"User-Agent": "t2i-bench"})
    response: IO[bytes] = opener.open(request, timeout=TIMEOUT)
    return response


def _copy_checked(source: Source, address: str, part: Path) -> None:
    if source.algorithm == "git_blob" and source.size is None:
        digest = None  # git's header holds the size, so hashing waits for the end
    else:
        digest = _new_digest(source.algorithm, source.size)
    size = 0
    with _open(address) as stream, part.open("wb") as handle:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if source.size is not None and size > source.size:
                break
            handle.write(chunk)
            if digest is not None:
                digest.update(chunk)
    if source.size is not None and size != source.size:
        more = "more than " if size > source.size else ""
        raise FetchError(
            f"{source.name} from {address}: expected {source.size} bytes, got {more}"
            f"{min(size, source.size)}; the source is damaged or has changed, nothing was kept"
        )
    found = digest.hexdigest() if digest is not None else file_digest(part, source.algorithm)
    if found != source.digest:
        raise FetchError(
            f"{source.name} from {address}: expected {source.algorithm} {source.digest}, got "
            f"{found}; the source is damaged or has changed, nothing was kept"
        )


def _new_digest(algorithm: str, size: int | None) -> Any:
    if algorithm == "git_blob":
        return hashlib.sha1(b"blob %d\0" % (size or 0), usedforsecurity=False)
    return hashlib.new(algorithm, usedforsecurity=algorithm == "sha256")


def file_digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file by an algorithm of the table."""
    digest = _new_digest(algorithm, path.stat().st_size)
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())
