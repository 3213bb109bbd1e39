"""What the first and last bytes of an accuracy log show: records, their indices and pixels.

Sources: truncate_accuracy_log.py, and loadgen/logging.cc for the form of a record
(mlcommons/inference at b66003e1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2i.loadgen.accuracy_log import ELLIPSIS

LARGEST_LOG = 10240
OPENING = rb'\{ "seq_id" : (\d{1,19}), "qsl_idx" : (\d{1,19}), "data" : "'
RECORD = re.compile(OPENING + rb'([0-9A-F]*)("?)')
BETWEEN = re.compile(rb"^ \},?\n$")


@dataclass(frozen=True)
class Shown:
    """A record of which an end is to be seen: its indices and the image's first bytes."""

    seq_id: int
    qsl_idx: int
    data: bytes


def read_truncated(path: Path) -> list[Shown]:
    """The records that begin in a truncated log, or in a whole one that is short.

    Raises ValueError for anything that LoadGen does not write.
    """
    content = path.read_bytes()
    if len(content) > LARGEST_LOG:
        raise ValueError(f"{path.name}: {len(content)} bytes; expected at most {LARGEST_LOG}")
    head, ellipsis, tail = content.partition(ELLIPSIS)
    if not head.startswith(b"[\n"):
        raise ValueError(f"{path.name}: begins with {head[:20]!r}, not as LoadGen's log does")
    records = list(_records(path, head[2:] if ellipsis else head[2:].removesuffix(b"]\n")))
    if ellipsis:
        end = re.match(rb'[0-9A-F]*(" \},?\n)?', tail)
        assert end is not None
        records += _records(path, tail[end.end() :].removesuffix(b"]\n"))
    return records


def _records(path: Path, text: bytes) -> Iterator[Shown]:
    place = 0
    while place < len(text):
        match = RECORD.match(text, place)
        if match is None:
            rest = text[place:]
            if len(rest) < 64 and rest.startswith(b'{ "seq_id"'[: len(rest)]):
                return  # a record of which the cut has left less than its data
            raise ValueError(f"{path.name}: {rest[:40]!r} is not a LoadGen record")
        digits = match[3]
        yield Shown(
            int(match[1]), int(match[2]), bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
        )
        place = match.end()
        if not match[4]:
            if place < len(text):
                raise ValueError(f"{path.name}: {text[place : place + 20]!r} are not hex digits")
            return
        between = text[place : place + 4].split(b"\n")[0] + b"\n"
        if place < len(text) and not BETWEEN.match(between):
            raise ValueError(f"{path.name}: {text[place : place + 20]!r} after a record")
        place += len(between)


def wrong_indices(records: list[Shown], count: int, issued: list[int] | None) -> Iterator[str]:
    """What is wrong with the indices of the records of a data set of `count` samples.

    `issued` are the samples in the order in which an accuracy run issued them (None: not known).
    """
    for name in ("seq_id", "qsl_idx"):
        values = [getattr(record, name) for record in records]
        if name == "seq_id" or issued is not None:  # another test may issue a sample again
            twice = sorted({value for value in values if values.count(value) > 1})
            yield from (f"{name} {value} is there twice" for value in twice)
    for record in records:
        if record.qsl_idx >= count:
            yield f"qsl_idx {record.qsl_idx} is beyond the {count} samples"
        elif issued is not None and issued[record.seq_id : record.seq_id + 1] != [record.qsl_idx]:
            yield (
                f"query {record.seq_id} is sample {record.qsl_idx}; by the detail log it was "
                f"{issued[record.seq_id] if record.seq_id < len(issued) else 'never issued'}"
            )


def wrong_pixels(
    records: list[Shown], images: Mapping[int, np.ndarray], others: list[Shown]
) -> Iterator[str]:
    """Records whose pixels are not those of the sample's image, or of another log's record."""
    known = {record.qsl_idx: record.data for record in others}
    for record in records:
        seen = [("its PNG", images[record.qsl_idx].tobytes())] if record.qsl_idx in images else []
        if record.qsl_idx in known:
            seen.append(("the accuracy run's log", known[record.qsl_idx]))
        for where, pixels in seen:
            common = min(len(pixels), len(record.data))
            if pixels[:common] != record.data[:common]:
                yield f"sample {record.qsl_idx}: other pixels than in {where}"
