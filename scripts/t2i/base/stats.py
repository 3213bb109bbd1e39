"""Intervals of shares."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, `count` of `total` samples.

    It lies within 0 and 1, and has a width even where all samples or none are counted.
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"{count} of {total} samples are not a valid share")
    share, spread = count / total, Z95**2 / total
    middle = share + spread / 2
    reach = Z95 * math.sqrt((share * (1 - share) + spread / 4) / total)
    low = 0.0 if count == 0 else (middle - reach) / (1 + spread)
    high = 1.0 if count == total else (middle + reach) / (1 + spread)
    return low, high
