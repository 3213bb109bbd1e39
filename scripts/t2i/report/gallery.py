"""Pictures of samples for the report: small ones embedded, and all of each in a file beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from t2i.base.images import encode_png
from t2i.generate.shard import read_shard

MICRO = 128  # images up to this side are kept losslessly and enlarged by the browser to it
# Longest side in px and WebP quality to try, until the picture fits its share of the page.
STEPS = ((256, 80), (256, 60), (192, 60), (128, 60), (96, 50), (64, 40), (32, 30))


@dataclass(frozen=True)
class Thumbnail:
    """A picture's data URI, its size on the page in CSS px, and whether pixels stay sharp.

    `full` is the address of the whole picture, relative to the page.
    """

    source: str
    width: int
    height: int
    pixelated: bool
    full: str = ""


def data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """An image as a data URI, in one of Pillow's formats with its options."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thumbnail(image: Image.Image, budget: int) -> Thumbnail:
    """The best picture of `image` whose data URI has at most `budget` characters.

    Images of at most 128 px are kept as PNG if they fit; larger ones become WebP of at most 256 px.
    If even the smallest and coarsest picture does not fit, that one is returned.
    """
    longest = max(image.size)
    if longest <= MICRO:
        source = data_uri(image, "png", optimize=True)
        if len(source) <= budget:
            width, height = (round(side * MICRO / longest) for side in image.size)
            return Thumbnail(source, width, height, pixelated=True)
    for side, quality in STEPS:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        source = data_uri(small, "webp", quality=quality, method=6)
        if len(source) <= budget:
            break
    scale = min(256, max(longest, MICRO)) / longest
    width, height = (round(side * scale) for side in image.size)
    return Thumbnail(source, width, height, pixelated=False)


def write_pictures(
    shards: Collection[tuple[Path, Path]], indices: Collection[int], budget: int, folder: Path
) -> dict[int, Thumbnail]:
    """Write the samples `indices` of one variant to INDEX.png in a folder; thumbnails by index.

    `shards` are pairs of a tar and its manifest; `budget` bounds a data URI in characters. The
    addresses are `images/` and the folder's name. Raises DamagedShard when an image does not match
    its manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for tar, manifest in shards:
        for sample, pixels in read_shard(tar, manifest, indices):
            name = f"{sample.index:05d}.png"
            (folder / name).write_bytes(encode_png(pixels))
            small = thumbnail(Image.fromarray(pixels), budget)
            made[sample.index] = replace(small, full=f"images/{quote(folder.name)}/{name}")
    return made
