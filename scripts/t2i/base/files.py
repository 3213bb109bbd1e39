"""Files that exist whole or not at all, and their digests."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

CHUNK = 1 << 20


def sha256_bytes(data: bytes | memoryview) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def verify_sha256(path: Path, digest: str) -> None:
    """Raise ValueError, which names both digests, unless a file's hex sha256 is `digest`."""
    actual = sha256_file(path)
    if actual != digest:
        raise ValueError(
            f"{path}: expected sha256 {digest}, got {actual}; the file has changed since it was "
            "fetched, delete it and run again"
        )


def new_digest(algorithm: str | None, size: int | None) -> Any:
    """A hash object for an algorithm of the table of inputs; git_blob needs the file's size."""
    if algorithm == "git_blob":
        return hashlib.sha1(b"blob %d\0" % (size or 0), usedforsecurity=False)
    return hashlib.new(algorithm or "sha256", usedforsecurity=algorithm in ("sha256", "sha512"))


def file_digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file by an algorithm of the table of inputs."""
    digest = new_digest(algorithm, path.stat().st_size)
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())


def sha256_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON (sorted keys, no spaces)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(part: Path, path: Path) -> None:
    """Give a whole file its name: flushed to the disk before it is renamed, the folder after."""
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _clear_remains(path: Path) -> None:
    """Remove what processes that were killed have left of `path`, which may be many gigabytes.

    One process at a time makes a file; one that runs on this host may be this one's other thread.
    """
    for remains in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number, _, kind = remains.name.removeprefix(f".{path.name}.").rpartition(".")
        ended = number.isdecimal() and not Path("/proc", number).exists()
        if not ended or kind not in ("part", "old"):
            continue
        if remains.is_dir() and not remains.is_symlink():
            shutil.rmtree(remains, ignore_errors=True)
        else:
            remains.unlink(missing_ok=True)


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what is written there becomes `path` on success.

    The file is flushed to the disk before it is renamed and the folder after, so that a reader
    or a crash sees the old content, nothing, or all of the new content. On an exception the
    temporary file is removed and `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_remains(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)  # a link by this name would lead the content elsewhere
    try:
        yield part
        settle(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Like `publish` for a folder: `path` is replaced as a whole once the block has succeeded.

    A folder cannot be renamed onto a full one, so the old one is renamed out of the way first: for
    an instant there is none, but never a part of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    _clear_remains(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        for entry in (part, *part.rglob("*")):
            _sync(entry)
        if path.exists():
            path.replace(old)
        try:
            part.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
        _sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def files_of(folder: Path) -> list[PurePosixPath]:
    """Everything but folders below a folder, relative to it, in order."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(PurePosixPath(path.relative_to(folder).as_posix()) for path in paths)


def file_table(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and sha256 of every plain file below a folder, by path relative to it."""
    return {
        str(path): {"size": (folder / path).stat().st_size, "sha256": sha256_file(folder / path)}
        for path in files_of(folder)
        if (folder / path).is_file() and not (folder / path).is_symlink()
    }


def write_text(path: Path, text: str) -> None:
    """Publish `text` as UTF-8 with the line ends it has."""
    with publish(path) as part:
        part.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Publish `value` as indented JSON; NaN and infinities are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without duplicate keys, for `object_pairs_hook`.

    Raises ValueError with the duplicate key: of two values, readers take different
    ones.
    """
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"duplicate key {key!r}")
        entries[key] = value
    return entries


def read_text(path: Path) -> str:
    """Read text; raises ValueError that names the file when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error


def decoded(data: bytes, path: Path, encoding: str = "utf-8") -> str:
    """The text of a file's bytes; raises ValueError with file and line where it is not UTF-8."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 ({error.reason})") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def read_json(path: Path) -> Any:
    """Read JSON; raises ValueError that names the file when it is not JSON, or holds NaN."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # of nesting, or a number of 5000 digits
        raise ValueError(f"{path}: not valid JSON ({error}); delete it and run again") from error
