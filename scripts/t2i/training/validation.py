"""COCO's validation pictures as MLPerf's training benchmark resizes them."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from t2i.base.parallel import mapped


def resized(content: bytes, side: int) -> bytes:
    """A picture's file, resized to a square without regard of its shape, as JPEG.

    Bicubic, in the picture's own mode, with Pillow's default quality: what the published
    statistics are computed from.
    """
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def resized_images(
    archive: Path, table: str, side: int, threads: int
) -> Iterator[tuple[str, bytes]]:
    """Name and JPEG of each picture that a table such as `validation_table`'s names, in order.

    Raises ValueError, which names the archive and the picture, for one that is missing.
    """
    ids = [int(row["image_id"]) for row in csv.DictReader(io.StringIO(table), delimiter="\t")]
    with zipfile.ZipFile(archive) as pictures:
        inside = {Path(name).name: name for name in pictures.namelist()}

        def content(image: int) -> tuple[str, bytes]:
            name = f"COCO_val2014_{image:012d}.jpg"
            if name not in inside:
                raise ValueError(f"{archive}: has no {name}")
            return name, pictures.read(inside[name])

        def done(given: tuple[str, bytes]) -> tuple[str, bytes]:
            return given[0], resized(given[1], side)

        yield from mapped(done, map(content, ids), threads)
