"""Grids of pictures for the report of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from t2i.base.files import publish

GRID_COLUMNS = 16


def to_pixels(pictures: Tensor) -> Tensor:
    """Pixels (n, h, w, 3) uint8, on the CPU, of pictures (n, 3, h, w) in [0, 1]."""
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().contiguous()


def grid(images: np.ndarray, columns: int = GRID_COLUMNS) -> Image.Image:
    """Images (n, s, s, 3) uint8 side by side, in rows of `columns`; a short last row ends black.

    Fewer than `columns` images are one row.
    """
    side, columns = images.shape[1], min(columns, len(images))
    images = np.pad(images, [(0, -len(images) % columns), (0, 0), (0, 0), (0, 0)])
    rows = images.reshape(-1, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(rows.reshape(-1, columns * side, 3))


def save_png(path: Path, image: Image.Image) -> None:
    """Publish an image as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as part:
        image.save(part, format="PNG", optimize=True)
