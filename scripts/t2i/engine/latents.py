"""The one latent that all samples start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t2i.base.arrays import read_array

SHAPE = (1, 4, 128, 128)
SEED = 0


def draw_latent() -> np.ndarray:
    """A standard normal latent (1, 4, 128, 128) float32 for the embedded data set.

    It is numpy's, from a fixed seed. The benchmark's own latent is a published file and is never
    drawn again: the last bits of torch's generator depend on its version.
    """
    return np.random.default_rng(SEED).standard_normal(SHAPE, dtype=np.float32)


def read_latent(path: Path, side: int) -> np.ndarray:
    """The top left part (1, 4, side, side) float32 of a latent file (1, 4, 128, 128).

    Raises ValueError when the file holds something else, is smaller than asked for, or has values
    that are not finite, of which every image would be black.
    """
    latent = read_array(path)
    if latent.ndim != 4 or latent.shape[:2] != (1, 4) or min(latent.shape[2:]) < side:
        raise ValueError(f"{path}: shape {latent.shape}, expected (1, 4, n, n) with n >= {side}")
    part: np.ndarray = latent[:, :, :side, :side].astype(np.float32)
    if not np.isfinite(part).all():
        raise ValueError(f"{path}: {(~np.isfinite(part)).sum()} values are not finite")
    return part
