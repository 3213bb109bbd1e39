"""What a training of the miniature networks has written, checked before it is shown.

`parts` is everywhere the content of vae.json, clip.json and unet.json by part name, `evaluation`
that of evaluation.json. Shares are between 0 and 1, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from t2i.base.stats import wilson_interval

BOUND = 480.0  # seconds that the whole job of one part may take

LABEL = "Miniature trained on drawn pictures, not comparable with SDXL"
COMMAND = "snakemake train_micro --cores all --config device=cuda"

PARTS = {
    "vae": ("Autoencoder", "turns a picture of 128 pixels into latents of 16 and back"),
    "clip": ("CLIP scorer", "scores how well a picture and a caption belong together"),
    "unet": ("Text to image", "the text encoders and the UNet, which paint latents from captions"),
}
KEYS = (
    "settings",
    "parameters",
    "steps",
    "seconds",
    "job_seconds",
    "device",
    "software",
    "seed",
    "curve",
    "figures",
)

ATTRIBUTES = {
    "colour": "the object has the colour of the caption",
    "size": "the object has the size of the caption",
    "place": "the object is where the caption says",
    "background": "the background is that of the caption",
    "shape": "the object has the shape of the caption",
    "all": "colour, size, place and background are right together; the shape does not count",
}
SHARES = {
    **ATTRIBUTES,
    "first_of_all": "the picture's own caption scores highest of all captions",
}
MEASURES = {
    "right_first": "of all pairs of a picture and another's caption: its own caption scores higher",
    "score": "mean CLIP score of pictures and their own captions by the miniature scorer",
    "shifted": "the same with each picture given the next picture's caption",
    "fid": "Fréchet distance to the drawn pictures, features of a network with random weights",
    "fid_error": "standard error of that distance",
    "difference_from_first": "mean difference from the first way's pictures, in grey levels",
}
EXTRAS = {
    "least_difference_from_first": "the least of these differences of any one picture",
    "largest_difference_from_first": "the largest of these differences of any one picture",
    "difference_from_drawn": "mean difference from the drawn pictures, in grey levels",
}
MEANINGS = {**SHARES, **MEASURES, **EXTRAS}


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` samples; ValueError where it is none."""
    return wilson_interval(round(share * count), count)


def _need(value: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not a table of values")
    if missing := [key for key in keys if key not in value]:
        raise ValueError(f"{where} has no {', '.join(missing)}")


def _need_curve(rows: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(rows, Sequence) or not rows:
        raise ValueError(f"{where} is empty")
    for row in rows:
        _need(row, ("step", "seconds", *keys), f"a row of {where}")
    if any(after["step"] <= before["step"] for before, after in pairwise(rows)):
        raise ValueError(f"{where} is not in order of its steps")


def check(parts: Mapping[str, Mapping[str, Any]], evaluation: Mapping[str, Any]) -> None:
    """Raise ValueError, which says what is missing and where, unless everything needed is there."""
    _need(parts, tuple(PARTS), "the training")
    for name in PARTS:
        part = parts[name]
        _need(part, ("part", *KEYS), f"{name}.json")
        if part["part"] != name:
            raise ValueError(f"{name}.json is of the part {part['part']}")
        _need_curve(part["curve"], (), f"the curve of {name}.json")
    _need(parts["unet"], ("judged",), "unet.json")
    _need_curve(parts["unet"]["judged"], tuple(ATTRIBUTES), "judged of unet.json")
    where = "evaluation.json"
    _need(evaluation, ("captions", "device", "drawn", "ways", "bytes"), where)
    _need(evaluation["bytes"], ("all",), f"bytes of {where}")
    if not evaluation["ways"]:
        raise ValueError(f"{where} lists no variants")
    for name, figures in evaluation["ways"].items():
        _need(figures, (*SHARES, *MEASURES), f"the way {name} of {where}")
        for share in SHARES:
            try:
                share_interval(figures[share], evaluation["captions"])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{share} of the way {name} of {where}: {error}") from error


def columns(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of all figures of the drawn pictures and of the ways, those of the tables first."""
    rows = [evaluation["drawn"], *evaluation["ways"].values()]
    return list(dict.fromkeys([*SHARES, *MEASURES, *(name for row in rows for name in row)]))


def meanings(names: Sequence[str]) -> dict[str, str]:
    """What each of some figures means, those without an explanation left out."""
    return {name: MEANINGS[name] for name in names if name in MEANINGS}


def curve_names(curve: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a curve follows, in order of appearance, beside its steps and seconds."""
    names = dict.fromkeys(name for row in curve for name in row)
    return [name for name in names if name not in ("step", "seconds")]


def seconds_at(curve: Sequence[Mapping[str, Any]], step: float) -> float:
    """Seconds since the training began at a step, between two rows of the curve by a line."""
    steps, seconds = ([0.0, *(row[key] for row in curve)] for key in ("step", "seconds"))
    return float(np.interp(step, steps, seconds))
