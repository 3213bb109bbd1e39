"""Disk space: readable sizes, and an error before work starts that would not fit."""

from __future__ import annotations

import os
from pathlib import Path


class DiskFullError(RuntimeError):
    """A file system has less free space than something needs; the message names both numbers."""


def format_bytes(count: int) -> str:
    """The byte count in decimal units, the ones in which disks are sold: `17.3 GB`, `512 bytes`."""
    if count < 1000:
        return f"{count} bytes"
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest of its parents that exists."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def free_bytes(folder: Path) -> int:
    """The bytes that an ordinary user may still write below the folder, which need not exist yet.

    That is what the file system of its nearest existing parent reports; quotas are not seen.
    """
    status = os.statvfs(nearest_existing(folder))
    return status.f_bavail * status.f_frsize


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise DiskFullError unless `needed` more bytes fit below the folder.

    `what` names in the message what would be written, for example a file name.
    """
    free = free_bytes(folder)
    if needed > free:
        raise DiskFullError(
            f"{what} needs {format_bytes(needed)}, but {folder} has only {format_bytes(free)} "
            "free: make room (`snakemake free` removes what can be rebuilt) or choose another "
            "folder with more space"
        )


def freed_bytes(path: Path) -> int:
    """The bytes that removing a file or folder gives back; 0 where there is none.

    A file that has another hard link elsewhere gives nothing back, and links are not followed.
    """
    if path.is_dir() and not path.is_symlink():
        return sum(freed_bytes(entry) for entry in path.iterdir())
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return status.st_size if status.st_nlink == 1 else 0


def held_bytes(folder: Path) -> int:
    """The bytes of all files below the folder, those with other hard links included."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
