"""The page of a training that never was."""

import numpy as np

from t2i.training.page import render
from t2i.training.verdict import EVAL_SAMPLES

LOADED = {"name": "clip-vit-h-14", "sha256": "a", "weights": "published"}


def scores(*pairs: tuple[float, float]) -> list[dict]:
    return [
        {
            "step": 1000 * n,
            "samples_count": 512_000 * n,
            "samples": EVAL_SAMPLES,
            "fid": fid,
            "fid_interval": [fid - 1, fid + 1],
            "clip": clip,
            "clip_shifted": 0.01,
            "networks": {"clip": LOADED},
        }
        for n, (fid, clip) in enumerate(pairs, start=1)
    ]


def page(sizes: dict, found: list[dict]) -> str:
    curve = [{"step": each["step"], "seconds": each["step"] / 2, "loss": 0.5} for each in found]
    facts = {
        "settings": {"steps": 2000, "batch": 512, "precision": "bf16", "seed": 3},
        "sizes": sizes,
        "curve": curve,
        "samples": 6_513_144,
        "processes": 8,
        "device": {"name": "a GPU"},
        "software": {"torch": "2"},
    }
    events = [{"key": "run_start", "time_ms": 0}, {"key": "run_stop", "time_ms": 90_000}]
    pictures = {each["step"]: [np.zeros((8, 8, 3), dtype=np.uint8)] for each in found}
    checks = [
        {
            "rule": "A rule.",
            "value": "no checkpoint",
            "mend": "train longer",
            "verdict": "fail",
            "source": "us",
        }
    ]
    verdicts = {"verdict": "fail", "checks": checks}
    return render(facts, found, verdicts, events, pictures, ["<b>a caption</b>"])
