"""The filter of LAION's metadata, beside the published steps in pandas."""

import random
from pathlib import Path

import pandas as pd
import pytest

from laion import metadata_row, write_part
from t2i.training import metadata
from t2i.training.metadata import WrongMetadata, filter_metadata

ROWS = 1000
KEPT = 754


@pytest.fixture(scope="module")
def part(tmp_path_factory) -> Path:
    drawn = random.Random(1)
    rows = [
        metadata_row(number, f"http://host/{number}.jpg", drawn.choice(["?", "cc-by", "x", None]))
        for number in range(ROWS)
    ]
    return write_part(tmp_path_factory.mktemp("metadata"), 0, rows)


def wanted(part: Path) -> pd.DataFrame:
    table = pd.read_parquet(part)
    return table[table["LICENSE"] != "?"].reset_index(drop=True)


def outputs(folder: Path, count: int) -> list[Path]:
    return [folder / f"{number:05d}.parquet" for number in range(count)]


@pytest.mark.parametrize("at_once", [7, 64, 65_536])
@pytest.mark.parametrize("rows", [250, KEPT, 10_000])
def test_pieces_are_the_rows_that_pandas_keeps(rows, at_once, part, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(metadata, "ROWS_AT_ONCE", at_once)
    expected = wanted(part)
    assert len(expected) == KEPT
    pieces = outputs(tmp_path, -(-KEPT // rows))
    assert filter_metadata(part, pieces, rows) == KEPT
    found = [pd.read_parquet(path) for path in pieces]
    assert [len(piece) for piece in found[:-1]] == [rows] * (len(pieces) - 1)
    together = pd.concat(found, ignore_index=True)
    pd.testing.assert_frame_equal(together, expected[list(together.columns)])
    assert set(together.columns) == set(expected.columns)


@pytest.mark.parametrize("count", [3, 5])
def test_pieces_that_the_rows_do_not_fill_are_refused(count: int, part, tmp_path: Path) -> None:
    message = f"{KEPT} rows have a licence, which makes 4 pieces of 250; .* says {count}"
    with pytest.raises(WrongMetadata, match=message):
        filter_metadata(part, outputs(tmp_path, count), 250)
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    row = metadata_row(0, "http://host/0.jpg", "x")
    del row["NSFW"], row["TEXT"]
    with pytest.raises(WrongMetadata, match="has no column TEXT, NSFW"):
        filter_metadata(write_part(tmp_path, 0, [row]), outputs(tmp_path, 1), 10)


@pytest.mark.parametrize("what", ["footer", "end", "data"])
def test_a_damaged_part_makes_nothing(what: str, part, tmp_path: Path) -> None:
    content = bytearray(part.read_bytes())
    if what == "footer":
        content[-20] ^= 0xFF
    elif what == "end":
        del content[len(content) // 2 :]
    else:
        content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    damaged = tmp_path / "part-00000.parquet"
    damaged.write_bytes(content)
    with pytest.raises(WrongMetadata, match=r"part-00000.parquet: cannot be read"):
        filter_metadata(damaged, outputs(tmp_path, 4), 250)
    assert list(tmp_path.iterdir()) == [damaged]
