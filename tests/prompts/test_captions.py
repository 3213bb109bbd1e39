"""MLPerf's choice of captions from COCO annotations, and its caption file."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

import peers
from differences import caption_difference, made_up_annotations
from t2i.base.files import sha256_file
from t2i.micro.pictures import coco_annotations
from t2i.prompts import captions

HEADER = "\t".join(captions.COLUMNS)
ROW = "70\t2\tA star.\t64\t48\tone.png\thttp://one"
OPEN_QUOTE = ROW.replace("A star.", '"A star.')
EARLY_QUOTE = ROW.replace("A star.", '"A" star.')


@pytest.mark.parametrize("count", [1, 150, 5000])
def test_choice_of_captions(count: int) -> None:
    assert caption_difference(count) == 0


def test_choice_of_the_embedded_data_set() -> None:
    table = coco_annotations()
    rows = captions.sample_captions(table["annotations"], table["images"])
    expected = peers.sampled_captions(table["annotations"], table["images"], 5000)
    assert [astuple(row) for row in rows] == expected


def test_captions_survive_being_written(tmp_path: Path) -> None:
    rows = captions.sample_captions(*made_up_annotations())
    path = tmp_path / "captions.tsv"
    path.write_text(captions.format_captions(rows), encoding="utf-8", newline="")
    assert captions.read_captions(path) == rows


@pytest.mark.parametrize("sign", ["\r", "\n", "\r\n", "\v", "\f", "\x85", "\u2028", "\t", '"'])
def test_any_sign_in_a_caption_survives_and_breaks_no_line(tmp_path: Path, sign: str) -> None:
    rows = [
        captions.Caption(1, 2, f"A star{sign}of gold", 64, 48, "one.png", "http://one"),
        captions.Caption(3, 4, f"{sign}A sun{sign}", 64, 48, "two.png", "http://two"),
    ]
    path = tmp_path / "captions.tsv"
    path.write_text(captions.format_captions(rows), encoding="utf-8", newline="")
    assert captions.read_captions(path) == rows
    lines = [captions.shown_line(index, row.caption) for index, row in enumerate(rows)]
    assert len("".join(lines).splitlines()) == 2
    assert all(line.endswith("\n") for line in lines)


def test_ordinary_captions_are_written_as_pandas_writes_them() -> None:
    import pandas as pd

    rows = captions.sample_captions(*made_up_annotations())
    table = pd.DataFrame([astuple(row) for row in rows], columns=list(captions.COLUMNS))
    assert captions.format_captions(rows) == table.to_csv(sep="\t", index=False)


@pytest.mark.shared
def test_the_published_file(shared_data: Path) -> None:
    path = shared_data / "coco2014" / "captions_source.tsv"
    rows = captions.read_captions(path)
    assert len(rows) == captions.DATASET_SIZE
    assert captions.format_captions(rows).encode() == path.read_bytes()
    ids = [row.id for row in rows]
    assert ids == sorted(ids)
    assert (ids[0], ids[-1]) == (70, 829300)
    assert len({row.image_id for row in rows}) == len(rows)
    lengths = [len(row.caption) for row in rows]
    assert (min(lengths), max(lengths)) == (29, 164)


@pytest.mark.shared
def test_the_published_file_as_pandas_reads_it(shared_data: Path) -> None:
    import pandas as pd

    path = shared_data / "coco2014" / "captions_source.tsv"
    table = pd.read_csv(path, sep="\t")
    rows = [astuple(row) for row in captions.read_captions(path)]
    assert rows == list(table.itertuples(index=False, name=None))


@pytest.mark.shared
def test_the_quoted_captions(shared_data: Path) -> None:
    path = shared_data / "coco2014" / "captions_source.tsv"
    quoted = [row.caption for row in captions.read_captions(path) if '"' in row.caption]
    raw = [line for line in path.read_text(encoding="utf-8").splitlines() if '"' in line]
    assert len(quoted) == len(raw) == 8
    for caption, line in zip(quoted, raw, strict=True):
        assert line.split("\t")[2] == '"' + caption.replace('"', '""') + '"'


@pytest.mark.shared
def test_the_published_sample_ids(shared_data: Path) -> None:
    ids = captions.read_sample_ids(shared_data / "coco2014" / "sample_ids.txt")
    assert len(sha256_file(shared_data / "coco2014" / "sample_ids.txt")) == 64
    expected = np.random.RandomState(3234044599).choice(5000, 10)
    assert ids == expected.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: expected the columns id, image_id"),
        ("id\tcaption\n1\tx\n", r":1: expected the columns .* got \['id', 'caption'\]"),
        (f"{HEADER}\n{ROW}\n{ROW}\tmore\n", ":3: expected 7 fields, got 8"),
        (f"{HEADER}\n{ROW}\n\n", ":3: expected 7 fields, got 0"),
        (f"{HEADER}\n{ROW.replace('64', 'tall')}\n", ":2: id, image_id, height and width"),
        (f"{HEADER}\n{ROW}\n{OPEN_QUOTE}\n{ROW}\n", ":4: unexpected end"),
        (f"{HEADER}\n{EARLY_QUOTE}\n", ":2: .* expected after"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('star', 'caf' + chr(0xDCE9))}\n", ":3: .*UTF-8"),
    ],
)
def test_a_malformed_file_is_located(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "captions.tsv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"captions\.tsv{message}"):
        captions.read_captions(path)


@pytest.mark.parametrize(
    ("text", "message"), [("1\ntwo\n", "must be a sample index"), ("1\n2\n1\n", "is listed twice")]
)
def test_malformed_sample_ids(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sample_ids.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"sample_ids\.txt: .*{message}"):
        captions.read_sample_ids(path)
