"""Captions of the data set: MLPerf's sampling from COCO annotations, and its captions.tsv.

A caption file is tab separated with the columns of `Caption`; a field that holds a quotation
mark is quoted (eight of the official captions do). The 0-based row is the sample index.
"""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

SEED = 2023
DATASET_SIZE = 5000


@dataclass(frozen=True)
class Caption:
    """One row of captions.tsv; sizes are in pixels."""

    id: int
    image_id: int
    caption: str
    height: int
    width: int
    file_name: str
    coco_url: str


COLUMNS = tuple(field.name for field in fields(Caption))


def sample_captions(
    annotations: list[dict[str, Any]], images: list[dict[str, Any]], count: int = DATASET_SIZE
) -> list[Caption]:
    """Choose one caption for each of `count` images, as MLPerf's data set was made.

    The first caption of every image in the file's order, sorted by caption id, shuffled by pandas
    with seed 2023, the first `count`, sorted by id again. `annotations` need the keys id, image_id
    and caption, `images` the keys id, height, width, file_name and coco_url.
    Steps: mlcommons/inference, text_to_image/tools/coco.py.
    """
    import pandas as pd

    table = pd.DataFrame(annotations)[["id", "image_id", "caption"]]
    table = table.drop_duplicates(subset="image_id", keep="first").sort_values("id")
    table = table.sample(frac=1, random_state=SEED).head(count)
    table["caption"] = table["caption"].str.strip().str.replace("\n", "", regex=False)
    pictures = pd.DataFrame(images)[["id", "height", "width", "file_name", "coco_url"]]
    table = table.merge(pictures.rename(columns={"id": "image_id"}), on="image_id", how="inner")
    rows = table.sort_values("id")[list(COLUMNS)].itertuples(index=False)
    return [_caption(list(row), f"annotation {row[0]}") for row in rows]


def _caption(values: list[Any], where: str) -> Caption:
    identifier, image, text, height, width, file_name, url = values
    try:
        return Caption(
            int(identifier), int(image), str(text), int(height), int(width), file_name, url
        )
    except ValueError as error:
        raise ValueError(
            f"{where}: id, image_id, height and width must be whole numbers"
        ) from error


def read_captions(path: Path) -> list[Caption]:
    """Read a captions.tsv; raises ValueError with file and line where it is malformed."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 ({error.reason})") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    captions: list[Caption] = []
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"{path}:1: expected the columns {', '.join(COLUMNS)}, got {header}")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if len(row) != len(COLUMNS):
                raise ValueError(f"{where}: expected {len(COLUMNS)} fields, got {len(row)}")
            captions.append(_caption(row, where))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}") from error
    return captions


def format_captions(captions: list[Caption]) -> str:
    """The text of a captions.tsv."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(COLUMNS)
    writer.writerows(astuple(caption) for caption in captions)
    return buffer.getvalue()


def read_sample_ids(path: Path) -> list[int]:
    """The sample indices of the compliance images, in the file's order.

    Raises ValueError when a line is no index or an index stands twice.
    """
    lines = path.read_text(encoding="utf-8").split()
    if not all(line.isdecimal() for line in lines):
        raise ValueError(f"{path}: every line must be a sample index, got {lines}")
    ids = [int(line) for line in lines]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path}: an index stands twice in {ids}")
    return ids
