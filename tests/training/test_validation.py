"""MLPerf's validation captions and pictures beside its published steps, done here by pandas."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mutations import Edit
from t2i.prompts import captions
from t2i.training import validation

COUNT = 40


def annotations() -> list[dict]:
    random = np.random.default_rng(2)
    texts = ["a dog\n", " a 'quoted' \"cat\"", "tab\there", "été", "a\nb"]
    ids = random.permutation(1000)[:200]
    return [
        {"image_id": int(random.integers(1, 80)), "id": int(key), "caption": texts[n % 5] + str(n)}
        for n, key in enumerate(ids)
    ]


def published_steps(path: Path) -> None:
    """The reference's steps (coco-split-resize.py), from a file to a file."""
    df = pd.DataFrame(annotations())
    df["caption"] = df["caption"].apply(lambda x: x.replace("\n", "").strip())
    df = df.sample(frac=1, random_state=2023).reset_index(drop=True)
    df = df.drop_duplicates(subset=["image_id"], keep="first")
    df = df[:COUNT]
    df = df.sort_values(by=["id"])
    df.to_csv(path, sep="\t", index=False)


def test_the_table_is_the_published_one_byte_for_byte(tmp_path: Path) -> None:
    published_steps(tmp_path / "wanted.tsv")
    table = captions.validation_table(annotations(), COUNT)
    assert table.encode() == (tmp_path / "wanted.tsv").read_bytes()
    rows = pd.read_csv(io.StringIO(table), sep="\t")
    assert list(rows.columns) == ["image_id", "id", "caption"]
    assert len(rows) == COUNT
    assert rows["image_id"].is_unique
    assert rows["id"].is_monotonic_increasing


@pytest.mark.parametrize(
    "edit",
    [
        Edit("the last caption", captions, "validation_table", 'keep="first"', 'keep="last"'),
        Edit("another seed", captions, "validation_table", "random_state=SEED", "random_state=1"),
        Edit("not sorted", captions, "validation_table", '.sort_values(by=["id"])', ""),
        Edit("not stripped", captions, "validation_table", ".strip()", ""),
    ],
    ids=str,
)
def test_other_steps_give_another_table(edit: Edit, tmp_path: Path, monkeypatch) -> None:
    edit.apply(monkeypatch)
    with pytest.raises(AssertionError):
        test_the_table_is_the_published_one_byte_for_byte(tmp_path)


def test_captions_stand_beside_their_images() -> None:
    table = captions.validation_table(annotations(), COUNT)
    images = [
        {"id": n, "height": n, "width": 2, "file_name": f"{n}.jpg", "coco_url": f"u{n}"}
        for n in range(80)
    ]
    rows = captions.chosen_captions(annotations(), images, table)
    wanted = pd.read_csv(io.StringIO(table), sep="\t")
    assert [row.id for row in rows] == wanted["id"].tolist()
    assert [row.caption for row in rows] == wanted["caption"].tolist()
    assert all(row.height == row.image_id for row in rows)
    with pytest.raises(ValueError, match="not among the annotations"):
        captions.chosen_captions(annotations(), images[:5], table)


def photograph(seed: int, mode: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_are_resized_as_published(threads: int, tmp_path: Path) -> None:
    archive = tmp_path / "val2014.zip"
    contents = {7: photograph(7, "RGB"), 3: photograph(3, "L")}
    with zipfile.ZipFile(archive, "w") as pictures:
        for image, content in contents.items():
            pictures.writestr(f"val2014/COCO_val2014_{image:012}.jpg", content)
    table = "image_id\tid\tcaption\n7\t1\ta\n3\t2\tb\n"
    rows = list(validation.resized_images(archive, table, 512, threads))
    for (name, content), image in zip(rows, (7, 3), strict=True):
        path = tmp_path / f"COCO_val2014_{image:012}.jpg"
        # The reference's steps, from a file to a file.
        picture = Image.open(io.BytesIO(contents[image]))
        picture.resize((512, 512), resample=Image.Resampling.BICUBIC).save(path)
        assert name == path.name
        assert content == path.read_bytes()
    with pytest.raises(ValueError, match="has no COCO_val2014_000000000009.jpg"):
        list(validation.resized_images(archive, "image_id\tid\tcaption\n9\t1\ta\n", 512, 1))
