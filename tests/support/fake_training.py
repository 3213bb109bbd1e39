"""Files of a training that never was: plausible numbers, and one text that must be escaped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2i.micro.record import ATTRIBUTES

HOSTILE = '<script>alert("a|b")</script>'
CAPTIONS = 512
STEPS = {"vae": 9000, "clip": 2500, "unet": 6000}
CURVES = {
    "vae": {"loss": 0.4, "error": 0.3, "edges": 0.05, "kl": 900.0},
    "clip": {"loss": 6.6, "right": 0.004},
    "unet": {"loss": 1.0, "band_0": 0.9, "band_1": 0.4, "band_2": 0.2, "band_3": 0.1},
}
BYTES = {"all": 9_345_678, "micro-sdxl/unet.safetensors": 9_000_001, "micro-clip/a.json": 345_677}


def curve(part: str, rows: int = 40) -> list[dict[str, Any]]:
    """Losses that fall and shares that rise, over the whole training."""
    found = []
    for row in range(1, rows + 1):
        share = row / rows
        values = {
            name: round(1 - math.exp(-4 * share), 6) if name == "right" else first * 0.1**share
            for name, first in CURVES[part].items()
        }
        place = {"step": STEPS[part] * row // rows, "seconds": round(300.25 * share, 2)}
        found.append({**place, **values})
    return found


def facts(part: str, job_seconds: float = 321.75) -> dict[str, Any]:
    """The content of one part's JSON file."""
    judged: list[dict[str, Any]] = []
    for row in range(1, 9) if part != "clip" else ():
        place = {"step": STEPS[part] * row // 8, "seconds": round(300.25 * row / 8, 2)}
        shares = {name: 0.12 * row - 0.01 * k for k, name in enumerate(ATTRIBUTES)}
        judged.append({**place, **(shares if part == "unet" else {"error_grey_levels": 9.0 / row})})
    return {
        "part": part,
        "settings": {"steps": STEPS[part], "peak": 0.00123, "decay": 0.017, "sizes": [48, 80]},
        "parameters": 1_234_567 + len(part),
        "steps": STEPS[part],
        "seconds": 300.25,
        "job_seconds": job_seconds,
        "device": f"NVIDIA H200 {HOSTILE}",
        "software": {"torch": "2.9.1", "python": "3.11.13"},
        "seed": 4711,
        "curve": curve(part),
        "judged": judged,
        "figures": {"error_grey_levels": 1.2345, "levels": [0.625, 17.5]},
    }


def way(first: float) -> dict[str, float]:
    """Figures of one way, shares of 512 captions."""
    shares = {name: int(CAPTIONS * first) / CAPTIONS - k / 64 for k, name in enumerate(ATTRIBUTES)}
    return {
        **shares,
        "first_of_all": 300 / CAPTIONS,
        "right_first": 0.98765,
        "score": 31.25 * first,
        "shifted": 11.5,
        "fid": 4.0625 / first,
        "fid_error": 0.375,
        "difference_from_first": 3.5 * (1 - first),
        "own_measure": 77.125,
    }


def training() -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of all parts and the evaluation."""
    evaluation = {
        "captions": CAPTIONS,
        "device": "NVIDIA H200",
        "drawn": {"colour": 1.0, "shape": 0.998046875, "score": 35.875},
        "ways": {"fp32": way(0.984375), "bf16": way(0.96875), f"4 steps {HOSTILE}": way(0.5)},
        "bytes": BYTES,
    }
    return {part: facts(part, 321.75 + k) for k, part in enumerate(STEPS)}, evaluation


def write_samples(folder: Path) -> list[Path]:
    """Small grids, laid out as a training writes them."""
    draw = np.random.default_rng(0)

    def write(path: Path, rows: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (16 * rows, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for step in (250, 1000, 500):
        write(folder / "vae" / f"{step:06d}.png", 2)
        write(folder / "unet" / f"{step:06d}.png", 1)
    write(folder / "final" / "final.png", 3)
    write(folder / "final" / "ways.png", 3)
    return [folder / name for name in ("vae", "unet", "final")]
