"""Captions of the data set: MLPerf's sampling from COCO annotations, and its captions.tsv.

A caption file is tab separated with the columns of `Caption`; a field that holds a quotation
mark is quoted (eight of the official captions do). The 0-based row is the sample index.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import astuple, dataclass, fields
from operator import itemgetter
from pathlib import Path
from typing import Any

from t2i.base.files import decoded, read_text, sha256_bytes

SEED = 2023
DATASET_SIZE = 5000
QUOTED = re.compile(r'[\t\n\r"]')


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
    and caption, `images` the keys id, height, width, file_name and coco_url; a caption whose image
    is not among them is left out.
    Steps: mlcommons/inference, text_to_image/tools/coco.py.
    """
    import pandas as pd

    table = pd.DataFrame(annotations)[["id", "image_id"]]
    table = table.drop_duplicates(subset="image_id", keep="first").sort_values("id")
    table = table.sample(frac=1, random_state=SEED).head(count)
    return _rows([annotations[row] for row in table.index], images)


def validation_table(annotations: list[dict[str, Any]], count: int) -> str:
    """val2014_30k.tsv of MLPerf's training benchmark: one caption for each of `count` images.

    All captions shuffled by pandas with seed 2023, the first of each image, the first `count`,
    sorted by id. Columns stand as in the annotations.
    Steps: mlcommons/training, stable_diffusion/scripts/datasets/coco-split-resize.py.
    """
    import pandas as pd

    table = pd.DataFrame(annotations)
    table["caption"] = [text.replace("\n", "").strip() for text in table["caption"]]
    table = table.sample(frac=1, random_state=SEED).reset_index(drop=True)
    table = table.drop_duplicates(subset=["image_id"], keep="first")[:count]
    text: str = table.sort_values(by=["id"]).to_csv(sep="\t", index=False)
    return text


def chosen_captions(
    annotations: list[dict[str, Any]], images: list[dict[str, Any]], table: str
) -> list[Caption]:
    """The captions whose ids stand in the column `id` of a table such as `validation_table`'s.

    Raises ValueError when one of them is not among annotations and images.
    """
    import pandas as pd

    ids = pd.read_csv(io.StringIO(table), sep="\t")["id"].tolist()
    return calibration_captions(annotations, images, ids)


def calibration_captions(
    annotations: list[dict[str, Any]], images: list[dict[str, Any]], ids: list[int]
) -> list[Caption]:
    """The captions with the given ids, sorted by id, cleaned as those of `sample_captions`.

    Raises ValueError that names the ids which have no annotation, or none with an image.
    """
    wanted = set(ids)
    rows = _rows([entry for entry in annotations if entry["id"] in wanted], images)
    missing = sorted(wanted - {row.id for row in rows})
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} calibration captions are not among the annotations "
            f"and their images: {', '.join(map(str, missing))}"
        )
    return rows


def _rows(annotations: list[dict[str, Any]], images: list[dict[str, Any]]) -> list[Caption]:
    """Captions without line breaks and outer white space, beside their images, sorted by id."""
    facts = {image["id"]: image for image in images}
    rows = []
    for entry in sorted(annotations, key=itemgetter("id")):
        if (image := facts.get(entry["image_id"])) is not None:
            text = entry["caption"].replace("\n", "").strip()
            names = ("height", "width", "file_name", "coco_url")
            rows.append(
                Caption(entry["id"], entry["image_id"], text, *(image[name] for name in names))
            )
    return rows


def _caption(values: list[str], where: str) -> Caption:
    identifier, image, text, height, width, file_name, url = values
    try:
        return Caption(int(identifier), int(image), text, int(height), int(width), file_name, url)
    except ValueError as error:
        raise ValueError(
            f"{where}: id, image_id, height and width must be whole numbers"
        ) from error


def read_captions(path: Path) -> list[Caption]:
    """Read a captions.tsv; raises ValueError with file and line where it is malformed."""
    text = decoded(path.read_bytes(), path)
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
    """The text of a captions.tsv, which `read_captions` reads as it was.

    Python's own writer leaves a carriage return without quotes, at which its reader ends the row.
    """
    rows = [COLUMNS, *(astuple(caption) for caption in captions)]
    return "".join("\t".join(map(_field, row)) + "\n" for row in rows)


def _field(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if QUOTED.search(text) else text


def shown_line(index: int, caption: str) -> str:
    """A line of captions.txt, beside the images of a submission; its end is the only line break."""
    return f"{index}  {' '.join(caption.splitlines())}\n"


def verify_captions(text: str, digest: str) -> None:
    """Raise ValueError, which names both digests, unless a captions.tsv has the hex sha256."""
    actual = sha256_bytes(text.encode())
    if actual != digest:
        raise ValueError(
            f"the captions sampled from the annotations have sha256 {actual}, the published ones "
            f"{digest}; set `captions: published` to take those, or correct the table of inputs"
        )


def read_sample_ids(path: Path, what: str = "a sample index") -> list[int]:
    """Indices of the compliance images, or other ids, one in each line, in the file's order.

    `what` is the word for one of them. Raises ValueError for an invalid or duplicate line.
    """
    lines = read_text(path).split()
    if wrong := [line for line in lines if not line.isdecimal()]:
        raise ValueError(f"{path}: every line must be {what}, got {wrong}")
    ids = [int(line) for line in lines]
    if twice := sorted(number for number, count in Counter(ids).items() if count > 1):
        raise ValueError(f"{path}: {what} is listed twice: {', '.join(map(str, twice))}")
    return ids
