"""Images as they leave a painter."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from t2i.base.files import (
    sha256_bytes,
)


@dataclass(frozen=True)
class Images:
    """Pixels (n, height, width, 3) uint8, and whether each was finite before rounding (n,) bool."""

    pixels: np.ndarray
    finite: np.ndarray


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP, RGB = 2, 2  # a row's filter; an image's colour type
BLOCK = 32  # rows
MAX_PIXELS = 1 << 26  # of an image: a small PNG can hold more than the memory does


def pixel_digest(image: np.ndarray) -> str:
    """Hex sha256 of an image's raw pixels, (height, width, 3) uint8."""
    _require_rgb(image)
    return sha256_bytes(np.ascontiguousarray(image).data)


def _require_rgb(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected (height, width, 3) uint8, got {image.shape} {image.dtype}")


def encode_png(image: np.ndarray) -> bytes:
    """PNG of an RGB image (height, width, 3) uint8, made for speed.

    Generation should not wait for it, nor scoring for its decoding. Pillow tries five filters on
    every row and most often takes Paeth's, the slowest to undo; here every row is stored as its
    difference from the row above ("Up"), which takes a third of the time to write and to
    read, at about the same size for photographs (PNG specification, chapters 5, 9 and 11).
    """
    _require_rgb(image)
    height, width, _ = image.shape
    rows = np.empty((height, 1 + 3 * width), dtype=np.uint8)
    rows[:, 0] = UP
    flat = image.reshape(height, 3 * width)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = compressor.compress(rows.data) + compressor.flush()
    return PNG_SIGNATURE + _header(width, height) + _chunk(b"IDAT", data) + END


def _chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    check = struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    return b"".join((struct.pack(">I", len(data)), kind, data, check))


def _header(width: int, height: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, RGB, 0, 0, 0))


END = _chunk(b"IEND", b"")


def _decode_own(data: bytes) -> np.ndarray | None:
    """Pixels of a PNG as `encode_png` writes it; None for any other, and for a damaged one.

    Faster than Pillow, and hardly any of it keeps other threads from running.
    """
    if len(data) < 2 * len(PNG_SIGNATURE) + 8:
        return None
    width, height = struct.unpack_from(">II", data, len(PNG_SIGNATURE) + 8)
    start = PNG_SIGNATURE + _header(width, height)
    body = memoryview(data)[len(start) + 8 : -4 - len(END)]
    if not 0 < width * height <= MAX_PIXELS or data != start + _chunk(b"IDAT", body) + END:
        return None
    size = height * (1 + 3 * width)
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(body, size + 1)
    except zlib.error:
        return None
    if len(raw) != size or not inflater.eof:
        return None
    stored = np.frombuffer(raw, dtype=np.uint8).reshape(height, 1 + 3 * width)
    if (stored[:, 0] != UP).any():
        return None
    return _summed(stored[:, 1:].copy()).reshape(height, width, 3)


def _summed(rows: np.ndarray) -> np.ndarray:
    """Each row plus all above it, modulo 256; in the place of the rows.

    First within blocks, all of them at once, then from block to block: in few large steps.
    """
    whole = len(rows) // BLOCK * BLOCK
    blocks = rows[:whole].reshape(-1, BLOCK, rows.shape[1])
    for k in range(1, BLOCK):
        blocks[:, k] += blocks[:, k - 1]
    for k in range(1, len(blocks)):
        blocks[k] += blocks[k - 1, -1]
    for k in range(max(1, whole), len(rows)):
        rows[k] += rows[k - 1]
    return rows


def decode_png(data: bytes) -> np.ndarray:
    """Pixels (height, width, 3) uint8 of an RGB PNG.

    Raises ValueError for another mode, or more than `MAX_PIXELS` pixels, and what Pillow raises
    (OSError, SyntaxError, ValueError) for anything that is not a complete PNG.
    """
    if (own := _decode_own(data)) is not None:
        return own
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
            if image.mode != "RGB":
                raise ValueError(f"expected an RGB PNG, got mode {image.mode}")
            return np.asarray(image)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
