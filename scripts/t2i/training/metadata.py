"""LAION's metadata, as MLPerf filtered it: addresses and captions of images with a licence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2i.base.files import publish

URL, CAPTION, LICENCE = "URL", "TEXT", "LICENSE"
ADDITIONAL = ("SAMPLE_ID", LICENCE, "NSFW", "similarity", "WIDTH", "HEIGHT")
UNKNOWN = "?"
ROWS_AT_ONCE = 65_536


class WrongMetadata(ValueError):
    """A part of the metadata is not what was expected."""


def filter_metadata(part: Path, outputs: Sequence[Path], rows: int) -> int:
    """Write a part's rows with a licence, `rows` to each output and the rest to the last one.

    Parquet in, Parquet out; memory holds one output at a time. Returns the number of rows kept.
    Raises WrongMetadata when columns are missing, or the rows do not fill just these outputs.
    """
    try:
        with pq.ParquetFile(part) as source:
            return _filter(source, part, outputs, rows)
    except (OSError, pa.ArrowException) as error:
        raise WrongMetadata(f"{part}: cannot be read ({error}); download it again") from error


def _filter(source: pq.ParquetFile, part: Path, outputs: Sequence[Path], rows: int) -> int:
    wanted = [URL, CAPTION, *ADDITIONAL]
    missing = [name for name in wanted if name not in source.schema_arrow.names]
    if missing:
        raise WrongMetadata(f"{part}: has no column {', '.join(missing)}")
    kept: int = sum(batch.num_rows for batch in _with_licence(source, [LICENCE]))
    needed = -(-kept // rows)
    if needed != len(outputs):
        raise WrongMetadata(
            f"{part}: {kept} rows have a licence, which makes {needed} pieces of {rows}; "
            f"training.data.metadata says {len(outputs)}"
        )
    for output, piece in zip(outputs, _pieces(source, wanted, rows), strict=True):
        with publish(output) as temporary:
            pq.write_table(piece, temporary)
    return kept


def _with_licence(source: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Rows of which the licence is known or not given; only `?` says that nobody knows."""
    for batch in source.iter_batches(ROWS_AT_ONCE, columns=columns):
        known = pc.not_equal(batch.column(LICENCE), UNKNOWN)
        yield batch.filter(pc.fill_null(known, True))


def _pieces(source: pq.ParquetFile, columns: list[str], rows: int) -> Iterator[pa.Table]:
    held = pa.Table.from_batches([], source.schema_arrow).select(columns)
    for batch in _with_licence(source, columns):
        held = pa.concat_tables([held, pa.Table.from_batches([batch]).select(columns)])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held.num_rows:
        yield held
