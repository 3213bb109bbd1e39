"""FID and CLIP of a variant, with intervals and everything one must know to compare them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from t2i import embedded
from t2i.features import Features
from t2i.fid import Moments, frechet_distance, normal_interval
from t2i.files import sha256_bytes
from t2i.intervals import wilson_interval
from t2i.labels import Network, weights_in_words

SCHEMA = 1
FULL_RANK_SAMPLES = 2049  # a covariance of 2048 features has full rank from here on
INTERVAL_METHOD = {
    "fid": (
        "95 % normal interval from each image's influence on FID (infinitesimal jackknife); it "
        "covers sampling error, not the bias of FID at a finite number of images"
    ),
    "clip": "95 % normal interval of the mean over images",
    "clip_first": "Wilson's 95 % interval of a share",
}
MLPERF_NETWORKS = {
    "inception": "inception-2015-12-05",
    "clip": "clip-vit-b-32",
}
MODEL_WEIGHTS = {embedded.MODEL: embedded.TRAINED, embedded.STAND_IN: "none"}
MLPERF_MODEL = "sdxl-base-1.0"
MLPERF_STATISTICS = "coco2014/val2014.npz"


def image_set_digest(digests: np.ndarray) -> str:
    """sha256 over the hex digests of all images in index order, one a line."""
    return sha256_bytes("".join(f"{digest}\n" for digest in digests).encode())


def protocols(inception: Network, clip: Network, statistics: str) -> dict[str, Any]:
    """Names of the protocols by which FID and CLIP were computed, and the networks behind them.

    `mlperf` is only said of the published networks and, for FID, the benchmark's own reference
    statistics; `statistics` is their path below resources/ or a description.
    """
    published = {
        "inception": inception.name == MLPERF_NETWORKS["inception"]
        and inception.weights == "published",
        "clip": clip.name == MLPERF_NETWORKS["clip"] and clip.weights == "published",
    }
    fid = published["inception"] and statistics == MLPERF_STATISTICS
    return {
        "fid": "mlperf" if fid else f"{inception.name} against {statistics}",
        "clip": "mlperf" if published["clip"] else clip.name,
        "networks": {"inception": asdict(inception), "clip": asdict(clip)},
    }


def comparability(samples: int, protocol: dict[str, Any], model: str) -> dict[str, Any]:
    """Whether FID and CLIP may be set beside other people's numbers, and why not."""
    reasons = []
    if model == embedded.STAND_IN:
        reasons.append("the pictures are a stand-in's, which draws them without any model")
    elif model == embedded.MODEL:
        reasons.append(f"{model} is a miniature {embedded.TRAINED}")
    elif model != MLPERF_MODEL:
        reasons.append(f"the model is {model}, not MLPerf's {MLPERF_MODEL}")
    for network in protocol["networks"].values():
        if network["weights"] != "published":
            reasons.append(f"{network['name']} has {weights_in_words(network['weights'])}")
    if protocol["fid"] != "mlperf":
        reasons.append("the reference statistics or the network of FID are not MLPerf's")
    if samples < FULL_RANK_SAMPLES:
        reasons.append(
            f"{samples} samples: below {FULL_RANK_SAMPLES} the covariance of FID is rank-deficient"
        )
    return {"value": not reasons, "reasons": reasons}


def reduce_metrics(
    features: Features, reference: Moments, protocol: dict[str, Any], model: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores of one variant, and each sample's influence (n,) on FID and CLIP score (n,).

    The mean of the CLIP scores is taken in float64. `clip_shifted` is the mean score when every
    image is scored with the next caption: pictures that belong to their captions score lower.
    `clip_first` is the share of samples whose own caption scores higher than the next one.
    """
    fid, influence = frechet_distance(features.inception, reference)
    scores = features.clip.astype(np.float64)
    clip = float(scores.mean())
    first = int((features.clip > features.clip_shifted).sum())
    metrics = {
        "model": model,
        "model_weights": MODEL_WEIGHTS.get(model, "as fetched"),
        "samples": len(features.index),
        "fid": fid,
        "clip": clip,
        "clip_shifted": float(features.clip_shifted.mean(dtype=np.float64)),
        "clip_first": first / len(scores),
        "clip_first_interval": list(wilson_interval(first, len(scores))),
        "fid_interval": list(normal_interval(fid, influence)),
        "clip_interval": list(normal_interval(clip, scores)),
        "interval_method": INTERVAL_METHOD,
        "protocol": protocol,
        "comparable": comparability(len(features.index), protocol, model),
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
            f"features of samples {stale[:10]} are of other images than the shards hold; "
            "delete the feature files of their shards and run again"
        )


def shard_facts(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Engine, device and images a second (of one device) that a variant's shards tell of."""
    seconds = sum(manifest["seconds"] for manifest in manifests)
    images = sum(len(manifest["samples"]) for manifest in manifests)
    return {
        "engine": manifests[0]["engine"],
        "device": manifests[0]["device"],
        "images_per_second": images / seconds if seconds > 0 else None,
    }


def finite_images(manifests: list[dict[str, Any]], samples: int) -> np.ndarray:
    """Whether each of the samples (n,) was finite before it was rounded."""
    finite = np.ones(samples, dtype=bool)
    for manifest in manifests:
        for sample in manifest["samples"]:
            finite[sample.index] &= sample.finite
    return finite


def compare(
    baseline: dict[str, Any],
    other: dict[str, Any],
    baseline_influence: dict[str, np.ndarray],
    other_influence: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Differences (other less baseline) of FID and CLIP with paired 95 % intervals.

    Both variants saw the same prompts, so the interval is that of the mean of per-sample
    differences, which is far narrower than the two intervals side by side. Variants of unequal
    size or protocol are not compared: the numbers are then None and `reason` says why.
    """
    reason = None
    if baseline["samples"] != other["samples"]:
        reason = f"{baseline['samples']} and {other['samples']} samples: unequal sizes"
    elif baseline["protocol"] != other["protocol"]:
        reason = "scored by different protocols"
    result: dict[str, Any] = {"samples": other["samples"], "comparable": reason is None}
    for name in ("fid", "clip"):
        difference = interval = None
        if reason is None:
            difference = other[name] - baseline[name]
            paired = other_influence[name] - baseline_influence[name]
            interval = list(normal_interval(difference, paired))
        result[f"{name}_difference"], result[f"{name}_interval"] = difference, interval
    return {**result, "reason": reason}


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
