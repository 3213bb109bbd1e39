"""Images as they leave a painter."""

from __future__ import annotations

import io
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


MAX_PIXELS = 1 << 26  # of an image: a small PNG can hold more than the memory does


def pixel_digest(image: np.ndarray) -> str:
    """Hex sha256 of an image's raw pixels, (height, width, 3) uint8."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected (height, width, 3) uint8, got {image.shape} {image.dtype}")
    return sha256_bytes(np.ascontiguousarray(image).tobytes())


def encode_png(image: np.ndarray) -> bytes:
    """PNG of an RGB image, at the fastest compression (generation should not wait for it)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Pixels (height, width, 3) uint8 of an RGB PNG.

    Raises ValueError for another mode, or more than `MAX_PIXELS` pixels, and what Pillow raises
    (OSError, SyntaxError, ValueError) for anything that is not a complete PNG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
            if image.mode != "RGB":
                raise ValueError(f"expected an RGB PNG, got mode {image.mode}")
            return np.asarray(image)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
