"""Images as they leave a painter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """Pixels (n, height, width, 3) uint8, and whether each was finite before rounding (n,) bool."""

    pixels: np.ndarray
    finite: np.ndarray
