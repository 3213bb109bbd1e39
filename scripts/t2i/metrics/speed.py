"""How fast a variant is, from the rates of its shards, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, variance
from typing import Any

from scipy import stats

WAITED = 0.05  # of the time, that a job's threads may wait for a processor on a free machine
UNEVEN = 1.1  # fastest shard's rate by the slowest's, above which the machine was not even


def shard_speed(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Speed and use of the machine of a variant's shards, by their manifests.

    images_per_second (median), interval (95 %, None for a single shard), shards, deviation (of
    the rates' logarithms), gpu_memory_bytes and memory_bytes (at most), watts, joules (per image,
    GPU, idle power included), busy (why the machine was not free for this, in words; empty: it
    was). What no shard knows is None.
    """
    rates = [manifest["images_per_second"] for manifest in manifests]
    usages = [manifest.get("usage") or {} for manifest in manifests]
    logarithms = [math.log(rate) for rate in rates]
    deviation = math.sqrt(variance(logarithms)) if len(rates) > 1 else None
    joules = [
        usage["watts"] / rate
        for usage, rate in zip(usages, rates, strict=True)
        if usage.get("watts") is not None
    ]
    return {
        "images_per_second": median(rates),
        "interval": _interval(median(rates), deviation, len(rates)),
        "shards": len(rates),
        "deviation": deviation,
        "memory_bytes": _known(max, usages, "memory_bytes"),
        "gpu_memory_bytes": _known(max, usages, "gpu_memory_bytes"),
        "watts": _known(mean, usages, "watts"),
        "joules": mean(joules) if joules else None,
        "busy": _busy(rates, usages),
    }


def _interval(middle: float, deviation: float | None, number: int) -> list[float] | None:
    """Student's 95 % interval of the rates' logarithms, about their median's."""
    if deviation is None:
        return None
    half = float(stats.t.ppf(0.975, number - 1)) * deviation / math.sqrt(number)
    return [middle * math.exp(-half), middle * math.exp(half)]


def speed_up(speed: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """How many times as fast as the baseline: ratio, and its 95 % interval after Welch.

    The interval is None where one of both has a single shard.
    """
    ratio = speed["images_per_second"] / baseline["images_per_second"]
    parts = [speed, baseline]
    if any(part["deviation"] is None for part in parts):
        return {"ratio": ratio, "interval": None}
    errors = [part["deviation"] ** 2 / part["shards"] for part in parts]
    total = sum(errors)
    if total == 0:
        return {"ratio": ratio, "interval": [ratio, ratio]}
    pairs = zip(errors, parts, strict=True)
    freedom = total**2 / sum(error**2 / (part["shards"] - 1) for error, part in pairs)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(total)
    return {"ratio": ratio, "interval": [ratio * math.exp(-half), ratio * math.exp(half)]}


def _known(of: Any, usages: Sequence[dict[str, Any]], key: str) -> Any:
    values = [usage[key] for usage in usages if usage.get(key) is not None]
    return of(values) if values else None


def _busy(rates: Sequence[float], usages: Sequence[dict[str, Any]]) -> list[str]:
    reasons = []
    waited = _known(max, usages, "waited") or 0.0
    if waited > WAITED:
        reasons.append(f"a job waited {waited:.0%} of its time for a processor")
    if (_known(max, usages, "gpu_processes") or 0) > 1:
        reasons.append("another program used the GPU")
    held = {reason for usage in usages for reason in usage.get("held_down", ())}
    if held:
        reasons.append(f"the GPU's clock was held down by {' and '.join(sorted(held))}")
    if max(rates) > UNEVEN * min(rates):
        reasons.append(f"rates of shards from {min(rates):.3g} to {max(rates):.3g} images/s")
    return reasons
