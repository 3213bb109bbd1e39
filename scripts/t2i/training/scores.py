"""FID and CLIP of a checkpoint, as MLPerf's training benchmark reports them."""

from __future__ import annotations

from typing import Any

from t2i.metrics.features import Features
from t2i.metrics.fid import Moments, frechet_distance, positive_interval


def checkpoint_scores(features: Features, reference: Moments) -> dict[str, Any]:
    """FID with its interval, and the mean cosine of pictures and captions (CLIP, not times 100).

    `clip_shifted` is the cosine with the next row's caption: what a picture of nothing gets.
    """
    fid, influence = frechet_distance(features.inception, reference)
    return {
        "samples": len(features.index),
        "fid": fid,
        "fid_interval": positive_interval(fid, influence),
        "clip": float(features.clip.mean(dtype="float64")) / 100,
        "clip_shifted": float(features.clip_shifted.mean(dtype="float64")) / 100,
    }
