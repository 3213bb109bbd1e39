"""How scores were taken, and whether they may be compared with MLPerf's.

Source of the values: the text-to-image reference of mlcommons/inference at b66003e1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from t2i.base import embedded
from t2i.base.files import file_digest
from t2i.metrics.labels import Network, describe, weights_in_words
from t2i.mlperf import (
    CAPTIONS_SHA256,
    LATENTS_SHA256,
    MLPERF_DATASET,
    MLPERF_GUIDANCE,
    MLPERF_MODEL,
    MLPERF_NETWORKS,
    MLPERF_STATISTICS,
    MLPERF_STEPS,
    NEGATIVE_PROMPT,
    OFFICIAL_SAMPLES,
    STATISTICS_BLOB,
)

FULL_RANK_SAMPLES = 2049  # a covariance of 2048 features has full rank from here on
MLPERF = "mlperf"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a variant's pictures were made from and how.

    `captions` and `latents` are the sha256 of captions.tsv and latents.npy; `patch` names what
    changed the model, `cache` says which steps run all of it, `unet` names another one (None:
    nothing, all, the model's).
    """

    dataset: str
    model: str
    steps: int
    guidance: float
    negative_prompt: str
    patch: str | None
    captions: str
    latents: str
    cache: dict[str, Any] | None = None
    unet: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What pictures were scored with: two networks, and reference statistics, named by their path
    below resources/ and by git's object id."""

    inception: Network
    clip: Network
    statistics: str
    statistics_blob: str


def recipe(given: Mapping[str, Any], inputs: Mapping[str, str]) -> Recipe:
    """What the configuration says of a variant, with the digests of the inputs that were used."""
    return Recipe(**given, captions=inputs["captions"], latents=inputs["latents"])


def scoring(inception: Path, clip: Path, statistics: Path) -> Scoring:
    """The scoring by two network folders and a file below resources/."""
    return Scoring(
        inception=describe(inception),
        clip=describe(clip),
        statistics=statistics.relative_to("resources").as_posix(),
        statistics_blob=file_digest(statistics, "git_blob"),
    )


def _made_differently(recipe: Recipe) -> list[str]:
    """In what the pictures are not those of the benchmark."""
    reasons = []
    if recipe.model == embedded.STAND_IN:
        reasons.append("the pictures are a stand-in's, which draws them without any model")
    elif recipe.model == embedded.MODEL:
        reasons.append(f"{recipe.model} is a miniature {embedded.TRAINED}")
    elif recipe.model != MLPERF_MODEL:
        reasons.append(f"the model is {recipe.model}, not MLPerf's {MLPERF_MODEL}")
    if recipe.patch:
        reasons.append(f"the model is changed by the patch {recipe.patch}")
    if recipe.unet:
        reasons.append(f"the UNet is another ({recipe.unet})")
    if recipe.cache:
        reasons.append(f"DeepCache ({cache_in_words(recipe.cache)}) skips most of the model")
    if recipe.dataset != MLPERF_DATASET:
        reasons.append(f"the data set is {recipe.dataset}, not MLPerf's {MLPERF_DATASET}")
    elif recipe.captions != CAPTIONS_SHA256:
        reasons.append("the captions are not the 5000 that MLPerf published")
    if recipe.latents != LATENTS_SHA256:
        reasons.append("the starting latent is not the one that MLPerf published")
    if recipe.steps != MLPERF_STEPS:
        reasons.append(f"{recipe.steps} steps, MLPerf takes {MLPERF_STEPS}")
    if recipe.guidance != MLPERF_GUIDANCE:
        reasons.append(f"guidance {recipe.guidance:g}, MLPerf's is {MLPERF_GUIDANCE:g}")
    if recipe.negative_prompt != NEGATIVE_PROMPT:
        reasons.append("the negative prompt is not MLPerf's")
    return reasons


def cache_in_words(cache: Mapping[str, Any]) -> str:
    """Which steps are deep, for a reader."""
    if "interval" in cache:
        return f"every {cache['interval']} steps a deep one"
    return f"deep steps {', '.join(map(str, cache['deep']))}"


def _scored_differently(scoring: Scoring) -> dict[str, list[str]]:
    """In what each score is not taken as the benchmark takes it."""
    reasons: dict[str, list[str]] = {"fid": [], "clip": []}
    for score, kind in (("fid", "inception"), ("clip", "clip")):
        network: Network = getattr(scoring, kind)
        if network.name != MLPERF_NETWORKS[kind]:
            text = f"{score.upper()}'s network is {network.name}, not MLPerf's"
            if network.weights != "published":
                text += f", and has {weights_in_words(network.weights)}"
            reasons[score].append(text)
        elif network.weights != "published":
            reasons[score].append(f"{network.name} has {weights_in_words(network.weights)}")
    official = (MLPERF_STATISTICS, STATISTICS_BLOB)
    if (scoring.statistics, scoring.statistics_blob) != official:
        reasons["fid"].append("the reference statistics of FID are not those that MLPerf published")
    return reasons


def _too_few(samples: int) -> list[str]:
    if samples == OFFICIAL_SAMPLES:
        return []
    reason = f"{samples} samples, not MLPerf's {OFFICIAL_SAMPLES}: FID falls as their number grows"
    if samples < FULL_RANK_SAMPLES:
        reason += f", and below {FULL_RANK_SAMPLES} its covariance is rank-deficient"
    return [reason]


def protocol(recipe: Recipe, scoring: Scoring, samples: int) -> dict[str, Any]:
    """Names of the protocols by which FID and CLIP were taken, and the networks behind them.

    `mlperf` is said of a score alone that was taken as the benchmark takes it, of its pictures.
    """
    made = _made_differently(recipe) + _too_few(samples)
    scored = _scored_differently(scoring)
    own = {"fid": f"{scoring.inception.name} against {scoring.statistics}"}
    own["clip"] = scoring.clip.name
    return {
        **{score: own[score] if made or scored[score] else MLPERF for score in scored},
        "networks": {"inception": asdict(scoring.inception), "clip": asdict(scoring.clip)},
    }


def comparability(recipe: Recipe, scoring: Scoring, samples: int) -> dict[str, Any]:
    """Whether FID and CLIP may be compared with others' numbers, and every reason why not."""
    scored = _scored_differently(scoring)
    reasons = [*_made_differently(recipe), *scored["fid"], *scored["clip"], *_too_few(samples)]
    return {"value": not reasons, "reasons": reasons}
