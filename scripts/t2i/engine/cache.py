"""DeepCache: which steps run the whole UNet, and which reuse what the last of those kept.

Ma et al. (2024). The steps in between run the UNet's last level alone (`UNet.shallow`). This skips
computation, so it is for MLPerf's open division.
"""

from __future__ import annotations

from typing import Any


def deep_steps(cache: dict[str, Any] | None, steps: int) -> list[bool]:
    """For each step whether it is deep.

    `cache` has `interval` (every so many steps a deep one, the first included) or `deep` (their
    numbers); None makes all steps deep. Raises ValueError where the first step is not deep or a
    number is none of a step.
    """
    if cache is None:
        return [True] * steps
    if "interval" in cache:
        return [step % cache["interval"] == 0 for step in range(steps)]
    numbers = set(cache["deep"])
    if 0 not in numbers:
        raise ValueError("cache.deep: step 0 has nothing to reuse, so it must be deep; add 0")
    if late := sorted(number for number in numbers if number >= steps):
        raise ValueError(f"cache.deep: got {late[0]}; the last of {steps} steps is {steps - 1}")
    return [step in numbers for step in range(steps)]
