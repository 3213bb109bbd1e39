"""Pillow's bicubic resize of square 8-bit images as two products, for a GPU: the same bits.

Pillow (src/libImaging/Resample.c) rounds the weights of a row's pixels to integers with 22 bits
after the point, adds up in integers, and rounds to 8 bits after the horizontal pass and again after
the vertical one. Sums stay below 2**31, so products in float64 give them exactly.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

PRECISION = 22  # bits after the point
SUPPORT = 2.0  # of the kernel, in pixels
A = -0.5  # the kernel's parameter


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return ((A + 2) * x - (A + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * A if x < 2 else 0.0


@cache
def weights(size: int, wanted: int, device: torch.device) -> Tensor:
    """Integer weights (wanted, size) float64 by which `size` pixels of a row become `wanted`."""
    scale = size / wanted
    stretch = max(scale, 1.0)
    reach = SUPPORT * stretch
    rows = torch.zeros(wanted, size, dtype=torch.float64)
    for row in range(wanted):
        centre = (row + 0.5) * scale
        first = max(0, int(centre - reach + 0.5))
        last = min(size, int(centre + reach + 0.5))
        values = [_bicubic((x - centre + 0.5) * (1.0 / stretch)) for x in range(first, last)]
        total = sum(values)
        for x, value in enumerate(values, start=first):
            exact = value * (1.0 / total) * (1 << PRECISION)
            rows[row, x] = math.trunc(exact - 0.5 if exact < 0 else exact + 0.5)
    return rows.to(device)


def resized(images: Tensor, side: int) -> Tensor:
    """Images (n, size, size, 3) uint8 as (n, side, side, 3) uint8, as Pillow resizes them."""
    by = weights(images.shape[1], side, images.device).T
    across = images.permute(0, 1, 3, 2).double() @ by
    down = _rounded(across).permute(0, 3, 2, 1) @ by
    return _rounded(down).permute(0, 3, 1, 2).to(torch.uint8)


def _rounded(sums: Tensor) -> Tensor:
    half = 1 << (PRECISION - 1)
    return ((sums + half) / (1 << PRECISION)).floor().clamp(0, 255)
