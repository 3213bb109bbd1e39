"""A judge of drawn and generated pictures that sees pixels alone and knows nothing of the models.

It takes the border for the background and anything that deviates from it for the object.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from t2i.compliance.variant import CAPTIONED
from t2i.micro.pictures import BACKGROUNDS, COLOURS, PLACES, Scene

BORDER = 3  # pixels
DEVIATION = 50.0  # distance in RGB from which a pixel is not background
LEAST_AREA = 0.004  # share of the picture; the smallest drawn star covers 0.018
LARGE_FROM = 0.31  # extent of the object by the picture's side
SHAPES_UP_TO = {"star": 0.455, "triangle": 0.65, "circle": 0.89, "square": np.inf}


@dataclass(frozen=True)
class Finding:
    """What a picture shows, in the words of `Scene`; None where there is no object."""

    shape: str | None
    colour: str | None
    size: str | None
    place: str | None
    background: str


ATTRIBUTES = tuple(field.name for field in fields(Finding))


def _nearest(value: Any, table: dict[str, Any]) -> str:
    names = list(table)
    distances = np.linalg.norm(np.asarray([table[name] for name in names]) - value, axis=1)
    return names[int(distances.argmin())]


def _neighbours(mask: np.ndarray) -> np.ndarray:
    """How many of the nine pixels around each pixel are set."""
    padded = np.pad(mask.astype(np.int64), 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    counts: np.ndarray = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return counts


def _without_specks(mask: np.ndarray) -> np.ndarray:
    kept: np.ndarray = mask & (_neighbours(mask) >= 5)
    return kept


def judge(image: np.ndarray) -> Finding:
    """What an image (height, width, 3) uint8 shows, a square one of any side.

    Background: the border's median colour. Object: the pixels that deviate from it, specks left
    out; its colour is their median, its place their centroid, its size the larger side of their
    bounding box, its shape the share of the box that they fill.
    """
    pixels = image.astype(np.float64)
    side = image.shape[0]
    inner = np.zeros(image.shape[:2], dtype=bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    around = np.median(pixels[~inner], axis=0)
    background = _nearest(around, BACKGROUNDS)
    distance = np.linalg.norm(pixels - around, axis=2)
    mask = _without_specks(distance > DEVIATION)
    if mask.mean() < LEAST_AREA:
        return Finding(None, None, None, None, background)
    core = mask & (_neighbours(mask) == 9)
    middle = np.median(pixels[core if core.any() else mask], axis=0)
    # The outline is half way between the two colours, blurred or not.
    mask = _without_specks(distance > max(DEVIATION, np.linalg.norm(middle - around) / 2))
    if not mask.any():
        return Finding(None, None, None, None, background)
    colour = _nearest(middle, COLOURS)
    rows, columns = np.nonzero(mask)
    place = _nearest(((columns.mean() + 0.5) / side, (rows.mean() + 0.5) / side), PLACES)
    # A few stray pixels far away must not stretch the box.
    low = np.percentile([rows, columns], 0.5, axis=1)
    high = np.percentile([rows, columns], 99.5, axis=1)
    extent = (high - low + 1) / side
    size = "large" if extent.max() > LARGE_FROM else "small"
    filled = mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1))
    shape = next(name for name, limit in SHAPES_UP_TO.items() if filled < limit)
    return Finding(shape, colour, size, place, background)


def shares_right(images: np.ndarray, shown: list[Scene]) -> dict[str, float]:
    """Share of images (n, side, side, 3) uint8 in which each attribute is found as captioned.

    `all` counts images with colour, size, place and background right together.
    """
    judged = [judge(image) for image in images]
    right = {
        name: np.asarray(
            [getattr(a, name) == getattr(b, name) for a, b in zip(judged, shown, strict=True)]
        )
        for name in ATTRIBUTES
    }
    captioned = np.logical_and.reduce([right[name] for name in CAPTIONED])
    return {name: float(np.mean(values)) for name, values in {**right, "all": captioned}.items()}
