"""The project's own captioned picture set: drawn scenes with one object, in COCO's format.

Every combination of shape, colour, size, place and background is one scene. The first `COUNT`
scenes are the validation part, which is the embedded data set; the others are for training.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from t2i.base.datasets import CAPTIONS

SEED = 20141
COUNT = CAPTIONS["pictures"]
SIDE = 128
OVERSAMPLING = 4
COMPLIANCE_IDS = 10

# Near the corners of the colour cube, where strong guidance cannot turn one into another.
COLOURS = {
    "red": (224, 32, 32),
    "green": (24, 184, 40),
    "blue": (32, 48, 224),
    "yellow": (240, 224, 32),
    "magenta": (224, 32, 208),
    "cyan": (32, 208, 224),
    "black": (16, 16, 16),
    "white": (248, 248, 248),
}
# Inside the colour cube, far from every object's colour.
BACKGROUNDS = {
    "grey": (128, 128, 128),
    "lilac": (184, 152, 232),
    "mint": (152, 232, 176),
    "brown": (120, 64, 24),
}
# The circumscribed circle's radius by that of the circle, so that all shapes look equally large.
SHAPES = {"circle": 1.0, "square": 0.9 * 2**0.5, "triangle": 1.1, "star": 1.05}
INNER_STAR = 0.38
SIZES = {"small": 0.12, "large": 0.22}
PLACES = {
    "in the top left corner": (0.28, 0.28),
    "at the top": (0.5, 0.28),
    "in the top right corner": (0.72, 0.28),
    "on the left": (0.28, 0.5),
    "in the middle": (0.5, 0.5),
    "on the right": (0.72, 0.5),
    "in the bottom left corner": (0.28, 0.72),
    "at the bottom": (0.5, 0.72),
    "in the bottom right corner": (0.72, 0.72),
}
PHRASES = (
    "A {size} {colour} {shape} {place} on a {background} background.",
    "A picture of a {size} {colour} {shape} {place}, the background is {background}.",
    "There is a {size} {shape} that is {colour} {place} of a {background} picture.",
    "A {background} background with a {size} {colour} {shape} {place}.",
    "The {colour} {shape} {place} is {size}, and all around it is {background}.",
    "Against {background}, one {size} {colour} {shape} {place}.",
    "This drawing shows a {size} {shape}, {colour} in colour, {place} of a {background} sheet.",
    "Everything is {background} except for a {size} {colour} {shape} {place}.",
)


@dataclass(frozen=True)
class Scene:
    """What one picture shows; each field is a key of the tables above."""

    shape: str
    colour: str
    size: str
    place: str
    background: str


@cache
def scenes() -> tuple[Scene, ...]:
    """All combinations once, in an order that looks random and is the same on every machine."""
    tables = (SHAPES, COLOURS, SIZES, PLACES, BACKGROUNDS)
    combinations = [Scene(*names) for names in itertools.product(*tables)]

    def position(picture: Scene) -> bytes:
        return hashlib.sha256(f"{SEED} {picture}".encode()).digest()

    return tuple(sorted(combinations, key=position))


def scene(index: int) -> Scene:
    """The scene of a picture, a function of its index alone."""
    return scenes()[index]


def captions(picture: Scene) -> list[str]:
    """A scene's captions, one for each phrasing."""
    return [phrase.format(**vars(picture)) for phrase in PHRASES]


def paint(picture: Scene, side: int = SIDE) -> Image.Image:
    """Draw a scene as an RGB image of `side` pixels, smoothed by oversampling."""
    large = side * OVERSAMPLING
    image = Image.new("RGB", (large, large), BACKGROUNDS[picture.background])
    draw = ImageDraw.Draw(image)
    # PIL counts from the middle of the first pixel.
    x, y = (coordinate * large - 0.5 for coordinate in PLACES[picture.place])
    radius = SIZES[picture.size] * SHAPES[picture.shape] * large
    colour = COLOURS[picture.colour]
    if picture.shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[picture.shape]
        angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
        angles += np.pi / 4 if picture.shape == "square" else 0
        star = picture.shape == "star"
        radii = np.where(np.arange(corners) % 2, INNER_STAR, 1.0) if star else 1.0
        points = np.stack(
            [x + radius * radii * np.cos(angles), y + radius * radii * np.sin(angles)]
        )
        draw.polygon([(float(a), float(b)) for a, b in points.T], fill=colour)
    return image.resize((side, side), Image.Resampling.BOX)


def file_name(index: int) -> str:
    """Name of a picture's file."""
    return f"picture_{index:012d}.png"


def coco_annotations(count: int = COUNT) -> dict[str, Any]:
    """The picture set's captions in COCO's annotation format, two for each picture.

    Ids are shuffled, as in COCO, so that an image's first caption in the file is not its lowest.
    """
    draw = np.random.default_rng([SEED, count])
    caption_ids = iter((draw.permutation(2 * count) + 1).tolist())
    images = []
    annotations = []
    for index in range(count):
        image = {"id": index + 1, "file_name": file_name(index), "height": SIDE, "width": SIDE}
        images.append({**image, "coco_url": "", "license": 1})
        for phrase in draw.choice(len(PHRASES), size=2, replace=False):
            caption = captions(scene(index))[phrase]
            annotations.append(
                {"id": next(caption_ids), "image_id": index + 1, "caption": f"{caption}\n"}
            )
    return {
        "info": {"description": "drawn picture set of t2i-bench", "version": "1"},
        "licenses": [{"id": 1, "name": "CC0-1.0", "url": ""}],
        "images": images,
        "annotations": annotations,
    }


def compliance_ids() -> list[int]:
    """Ten sample indices below 64, so that the embedded default holds them all."""
    draw = np.random.default_rng([SEED, 64])
    return [int(index) for index in draw.choice(64, size=COMPLIANCE_IDS, replace=False)]
