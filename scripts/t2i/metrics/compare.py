"""Variants compared with the first one, image by image and score by score."""

from __future__ import annotations

from typing import Any

import numpy as np

from t2i.metrics.fid import normal_interval


def compare(
    baseline: dict[str, Any],
    other: dict[str, Any],
    baseline_influence: dict[str, np.ndarray],
    other_influence: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Differences (other less baseline) of FID and CLIP with paired 95 % intervals.

    Both variants saw the same prompts, so the interval is that of the mean of per-sample
    differences, which is far narrower than the two intervals side by side. Variants of unequal
    size, or scored by other networks or another reference, are not compared: the numbers are then
    None and `reason` says why. The bias of FID at a finite number of images cancels only as far as
    it is the same in both.
    """
    reason = None
    if baseline["samples"] != other["samples"]:
        reason = f"{baseline['samples']} and {other['samples']} samples: unequal sizes"
    elif _scored_by(baseline) != _scored_by(other):
        reason = "scored by other networks or against another reference"
    result: dict[str, Any] = {"samples": other["samples"], "comparable": reason is None}
    for name in ("fid", "clip"):
        difference = interval = None
        if reason is None:
            difference = other[name] - baseline[name]
            paired = other_influence[name] - baseline_influence[name]
            interval = list(normal_interval(difference, paired))
        result[f"{name}_difference"], result[f"{name}_interval"] = difference, interval
    return {**result, "reason": reason}


def _scored_by(metrics: dict[str, Any]) -> tuple[Any, Any]:
    return metrics["protocol"]["networks"], metrics["reference"]["sha256"]


def identical_images(baseline: list[dict[str, Any]], other: list[dict[str, Any]]) -> int:
    """Number of samples whose pixels are the same in both variants' manifests."""
    digests = [
        {sample.index: sample.sha256 for manifest in manifests for sample in manifest["samples"]}
        for manifests in (baseline, other)
    ]
    return sum(digests[1].get(index) == digest for index, digest in digests[0].items())


def image_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two images (height, width, 3) uint8, in grey levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def mean_absolute_difference(
    baseline: dict[str, np.ndarray], other: dict[str, np.ndarray]
) -> float | None:
    """Mean absolute difference in grey levels over the images both have, None if there is none."""
    differences = [
        image_difference(image, other[name])
        for name, image in sorted(baseline.items())
        if name in other and other[name].shape == image.shape
    ]
    return float(np.mean(differences)) if differences else None
