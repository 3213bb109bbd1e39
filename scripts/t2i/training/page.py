"""A training of Stable Diffusion v2 as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from t2i.metrics.labels import weights_in_words
from t2i.report.charts import line_chart
from t2i.report.gallery import Thumbnail, thumbnail
from t2i.report.page import TEMPLATES, environment
from t2i.training.bands import band
from t2i.training.mllog import CLIP, FID, minutes
from t2i.training.settings import SD2_UNET

SHOWN = 8  # pictures of each checkpoint
BUDGET = 40_000  # characters of a picture
MINIATURE = (
    "A miniature with the structure of Stable Diffusion v2, trained on drawn pictures: its loss, "
    "scores and speed say nothing about the benchmark."
)


def labels(facts: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader has to know before any number."""
    found = [] if facts["sizes"] == SD2_UNET else [MINIATURE]
    networks = scores[0]["networks"].values() if scores else []
    found += [
        f"{network['name']} has {weights_in_words(network['weights'])}, not the published ones."
        for network in networks
        if network["weights"] != "published"
    ]
    return found


def change_in_words(scores: Sequence[Mapping[str, Any]]) -> str:
    """Whether pictures became better between the first and the last checkpoint."""
    first, last = scores[0], scores[-1]
    better = [
        name
        for name, gain in (
            ("FID", first["fid"] - last["fid"]),
            ("CLIP", last["clip"] - first["clip"]),
        )
        if gain > 0
    ]
    if len(scores) < 2:
        return "One checkpoint was evaluated; whether pictures became better is not known."
    if len(better) == 2:
        return "FID fell and CLIP rose from the first checkpoint to the last."
    said = f"only {better[0]} became better" if better else "neither FID nor CLIP became better"
    return f"From the first checkpoint to the last {said}."


def _rows(facts: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores with the seconds of their steps, and the reference's band where there is one."""
    seconds = {row["step"]: row["seconds"] for row in facts["curve"]}
    real = facts["sizes"] == SD2_UNET
    return [
        {
            **each,
            "seconds": seconds[each["step"]],
            "band": band(facts["settings"]["batch"], each["samples_count"]) if real else None,
        }
        for each in scores
    ]


def render(
    facts: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Any],
    events: list[dict[str, Any]],
    pictures: Mapping[int, Sequence[np.ndarray]],
    captions: Sequence[str],
) -> str:
    """The whole page; `pictures` are the first of each checkpoint by its step."""
    timed = _rows(facts, scores)
    charts = [
        line_chart("Loss", "mean squared error of the velocity", facts["curve"], ["loss"],
                   logarithmic=True),
        line_chart("FID of checkpoints", "FID", timed, ["fid"], logarithmic=True),
        line_chart("CLIP of checkpoints", "cosine", timed, ["clip", "clip_shifted"],
                   logarithmic=True),
    ]  # fmt: skip
    rows: dict[int, list[Thumbnail]] = {
        step: [thumbnail(Image.fromarray(each), BUDGET) for each in shown[:SHOWN]]
        for step, shown in sorted(pictures.items())
    }
    style = "".join(
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "curves.css")
    )
    settings = facts["settings"]
    last = facts["curve"][-1]
    return (
        environment()
        .get_template("training.html.jinja")
        .render(
            style=style,
            labels=labels(facts, scores),
            verdict=verdicts["verdict"],
            checks=verdicts["checks"],
            facts=facts,
            settings=settings,
            scores=timed,
            charts=charts,
            rows=rows,
            captions=list(captions)[:SHOWN],
            change=change_in_words(scores),
            minutes=minutes(events),
            speed=last["step"] * settings["batch"] / last["seconds"],
            targets={"fid": FID, "clip": CLIP},
        )
    )
