"""The project's own captioned picture set: drawn scenes with one object, in COCO's format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from t2i.datasets import CAPTIONS

SEED = 20141
COUNT = CAPTIONS["pictures"]
SIDE = 64
OVERSAMPLING = 4
COMPLIANCE_IDS = 10

COLOURS = {
    "red": (208, 40, 48),
    "orange": (240, 140, 24),
    "yellow": (244, 212, 48),
    "green": (40, 152, 72),
    "blue": (40, 88, 200),
    "purple": (128, 56, 168),
    "black": (24, 24, 28),
    "white": (248, 248, 248),
}
BACKGROUNDS = {
    "grey": (144, 148, 152),
    "sky blue": (160, 208, 240),
    "sand": (228, 212, 176),
    "dark green": (24, 72, 56),
}
SHAPES = ("circle", "square", "triangle", "star")
SIZES = {"small": 0.13, "large": 0.24}
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
)


@dataclass(frozen=True)
class Scene:
    """What one picture shows; each field is a key of the tables above."""

    shape: str
    colour: str
    size: str
    place: str
    background: str


def scene(index: int) -> Scene:
    """The scene of a picture, a function of its index alone."""
    draw = np.random.default_rng([SEED, index])

    def pick(names: Any) -> str:
        return str(draw.choice(list(names)))

    return Scene(pick(SHAPES), pick(COLOURS), pick(SIZES), pick(PLACES), pick(BACKGROUNDS))


def paint(picture: Scene, side: int = SIDE) -> Image.Image:
    """Draw a scene as an RGB image of `side` pixels, smoothed by oversampling."""
    large = side * OVERSAMPLING
    image = Image.new("RGB", (large, large), BACKGROUNDS[picture.background])
    draw = ImageDraw.Draw(image)
    x, y = (coordinate * large for coordinate in PLACES[picture.place])
    radius = SIZES[picture.size] * large
    colour = COLOURS[picture.colour]
    if picture.shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[picture.shape]
        angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
        angles += np.pi / 4 if picture.shape == "square" else 0
        radii = np.where(np.arange(corners) % 2, 0.45, 1.0) if picture.shape == "star" else 1.0
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
            caption = PHRASES[phrase].format(**vars(scene(index)))
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
