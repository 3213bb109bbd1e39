"""Damage that a file's time does not tell."""

from __future__ import annotations

import os
from pathlib import Path


def rewrite(path: Path, content: bytes) -> None:
    """Give a file other content, in its place, and its old times."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def flipped(content: bytes, place: int) -> bytes:
    """A content with another bit at one place."""
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def flip_bit(path: Path, place: int | None = None) -> None:
    """Change one bit of a file, by its place or in the middle, and leave its size and times."""
    content = path.read_bytes()
    rewrite(path, flipped(content, 8 * (len(content) // 2) if place is None else place))
