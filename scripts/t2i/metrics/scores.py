"""FID and CLIP of a variant, with intervals and everything one must know to compare them."""

from __future__ import annotations

from typing import Any

import numpy as np

from t2i.base import embedded
from t2i.base.files import sha256_bytes
from t2i.base.stats import wilson_interval
from t2i.metrics.features import Features
from t2i.metrics.fid import Moments, frechet_distance, normal_interval, positive_interval
from t2i.metrics.protocol import Recipe, Scoring, comparability, protocol
from t2i.metrics.speed import shard_speed

SCHEMA = 1
INTERVAL_METHOD = {
    "fid": (
        "95 % interval of the FID of as many images, with the reference taken as exact: normal on "
        "the scale of the logarithm, from each image's influence on FID (infinitesimal "
        "jackknife); FID falls as the number of images grows, and that bias is not in it"
    ),
    "clip": "95 % normal interval of the mean over images",
    "clip_first": "Wilson's 95 % interval of a share",
}
MODEL_WEIGHTS = {embedded.MODEL: embedded.TRAINED, embedded.STAND_IN: "none"}


def image_set_digest(digests: np.ndarray) -> str:
    """sha256 over the hex digests of all images in index order, one a line."""
    return sha256_bytes("".join(f"{digest}\n" for digest in digests).encode())


def reduce_metrics(
    features: Features, reference: Moments, recipe: Recipe, scoring: Scoring
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores of one variant, and each sample's influence (n,) on FID and CLIP score (n,).

    The mean of the CLIP scores is taken in float64. `clip_shifted` is the mean score when every
    image is scored with the next caption: pictures that belong to their captions score lower.
    `clip_first` is the share of samples whose own caption scores higher than the next one.
    """
    fid, influence = frechet_distance(features.inception, reference)
    samples = len(features.index)
    scores = features.clip.astype(np.float64)
    clip = float(scores.mean())
    first = int((features.clip > features.clip_shifted).sum())
    metrics = {
        "model": recipe.model,
        "model_weights": MODEL_WEIGHTS.get(recipe.model, "as fetched"),
        "samples": samples,
        "fid": fid,
        "clip": clip,
        "clip_shifted": float(features.clip_shifted.mean(dtype=np.float64)),
        "clip_first": first / len(scores),
        "clip_first_interval": list(wilson_interval(first, len(scores))),
        "fid_interval": list(positive_interval(fid, influence)),
        "clip_interval": list(normal_interval(clip, scores)),
        "interval_method": INTERVAL_METHOD,
        "protocol": protocol(recipe, scoring, samples),
        "comparable": comparability(recipe, scoring, samples),
        "digest": image_set_digest(features.sha256),
    }
    return metrics, {"fid": influence, "clip": scores}


def check_same_images(features: Features, manifests: list[dict[str, Any]]) -> None:
    """Raise ValueError when features were taken of other pixels than the manifests name."""
    named: dict[int, str] = {
        sample.index: sample.sha256 for manifest in manifests for sample in manifest["samples"]
    }
    pairs = zip(features.index.tolist(), features.sha256.tolist(), strict=True)
    stale = [index for index, digest in pairs if named.get(index) != digest]
    if stale:
        raise ValueError(
            f"features of samples {stale[:10]} do not match the images of the shards; "
            "delete the feature files of their shards and run again"
        )


def shard_facts(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Engine, device and speed (`t2i.metrics.speed.shard_speed`) of a variant's shards."""
    return {
        "engine": manifests[0]["engine"],
        "device": manifests[0]["device"],
        "speed": shard_speed(manifests),
    }


def finite_images(manifests: list[dict[str, Any]], samples: int) -> np.ndarray:
    """Whether each of the samples (n,) was finite before it was rounded."""
    finite = np.ones(samples, dtype=bool)
    for manifest in manifests:
        for sample in manifest["samples"]:
            finite[sample.index] &= sample.finite
    return finite
