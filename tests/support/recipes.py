"""Recipes and scorings for tests: MLPerf's own, and made-up ones."""

from dataclasses import replace
from typing import Any

from t2i.metrics.labels import Network
from t2i.metrics.protocol import Recipe, Scoring
from t2i.mlperf import (
    CAPTIONS_SHA256,
    LATENTS_SHA256,
    MLPERF_NETWORKS,
    MLPERF_STATISTICS,
    NEGATIVE_PROMPT,
    STATISTICS_BLOB,
)

MLPERF_RECIPE = Recipe(
    dataset="coco2014",
    model="sdxl-base-1.0",
    steps=20,
    guidance=8.0,
    negative_prompt=NEGATIVE_PROMPT,
    patch=None,
    captions=CAPTIONS_SHA256,
    latents=LATENTS_SHA256,
)
MLPERF_SCORING = Scoring(
    inception=Network(MLPERF_NETWORKS["inception"], "a", "published"),
    clip=Network(MLPERF_NETWORKS["clip"], "a", "published"),
    statistics=MLPERF_STATISTICS,
    statistics_blob=STATISTICS_BLOB,
)


def micro_recipe(**changes: Any) -> Recipe:
    """That of the miniature."""
    made_here = {"dataset": "pictures", "captions": "c", "latents": "l"}
    return replace(MLPERF_RECIPE, **{"model": "micro-sdxl", **made_here, **changes})


def scoring(inception: Network, clip: Network, statistics: str = "random features") -> Scoring:
    """Scores by these networks."""
    return Scoring(inception=inception, clip=clip, statistics=statistics, statistics_blob="b")
