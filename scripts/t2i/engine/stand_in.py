"""Pictures without a model, to try a workflow or to measure what is around a model.

They show nothing of the caption: their scores mean nothing.
"""

from __future__ import annotations

import numpy as np

CELLS = 8


def stand_in_image(index: int, side: int) -> np.ndarray:
    """The picture (side, side, 3) uint8 of a sample: a grid of random colours; `side` >= CELLS.

    Its first two cells spell the index, so that indices below 2**32 have their own pictures,
    and differ, so that no picture is of a single colour.
    """
    cells = np.random.default_rng(index).integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8)
    low, high = divmod(index, 1 << 16)[::-1]
    cells[0, 0] = *divmod(low, 256), 0
    cells[0, 1] = *divmod(high, 256), 255
    nearest = np.arange(side) * CELLS // side
    image: np.ndarray = cells[:, nearest][nearest]
    return image
