"""LoadGen's accuracy log: images as hex digits, one JSON record each, 31 GB for the data set.

LoadGen 6.0.17 writes `[`, records such as `{ "seq_id" : 0, "qsl_idx" : 2, "data" : "0A1B" }` with
commas between them, and `]`; any other spacing and order of keys is read as well. A file is read
once from front to back; one record of it is in memory.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from t2i.base.files import publish, sha256_bytes

CHUNK = 1 << 21  # bytes read at once
AROUND = 1 << 10  # bytes of a record or between two of them that are not the image's digits
LONGEST = 1 << 26  # bytes of a record where the image's size is not known
MOST_PROBLEMS = 100  # after so many the rest of a file is only hashed
LISTED = 10  # indices or problems in a message
SHOWN = 40  # bytes of a wrong place that a message quotes
VIEWABLE = 4096  # bytes of head and tail in a truncated log
ELLIPSIS = b"\n\n...\n\n"  # between them
WHITESPACE = b" \t\r\n"
DATA_KEY = re.compile(rb'"data"\s*:\s*"')
NO_DIGIT = re.compile(rb"[^0-9A-Fa-f]")
KEYS = {"seq_id", "qsl_idx", "data"}
WHAT = {
    "json": "the accuracy log is a whole JSON list of LoadGen's records",
    "hex": "every image in the accuracy log is an even number of hex digits",
    "bytes": "every image in the accuracy log has the bytes of its size",
    "twice": "the accuracy log has no sample twice",
    "missing": "every sample has an image in the accuracy log",
    "beyond": "every image in the accuracy log belongs to a sample of the data set",
}


@dataclass(frozen=True)
class Entry:
    """One record. `record` counts from 0, `position` is the file's byte where it begins.

    `data` is the raw answer (an image's uint8 pixels, height x width x 3), `sha256` its hex digest.
    """

    record: int
    position: int
    seq_id: int
    qsl_idx: int
    data: bytes
    sha256: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with a log, where, and what kind of thing it is: a key of `WHAT`."""

    kind: str
    text: str


class _Window:
    """The part of a file that is looked at. What was read is hashed in a thread meanwhile."""

    def __init__(self, handle: BinaryIO, pool: ThreadPoolExecutor) -> None:
        self.data = bytearray()
        self.position = 0  # in the file, of the first byte of `data`
        self.ended = False
        self._handle, self._pool = handle, pool
        self._digest = hashlib.sha256()
        self._hashing: Future[None] = pool.submit(self._digest.update, b"")

    def grow(self) -> bool:
        """Read one more chunk; False at the end of the file."""
        chunk = self._handle.read(CHUNK)
        self._hashing.result()  # else a slow processor would let chunks pile up
        self._hashing = self._pool.submit(self._digest.update, chunk)
        self.data += chunk
        self.ended = not chunk
        return not self.ended

    def drop(self, count: int) -> None:
        """Leave the first bytes behind."""
        del self.data[:count]
        self.position += count

    def find(self, wanted: bytes, limit: int) -> int:
        """Offset of a byte among the next `limit` ones, -1 if it is not there."""
        searched = 0
        while (place := self.data.find(wanted, searched, limit)) < 0:
            searched = len(self.data)
            if searched >= limit or not self.grow():
                return -1
        return place

    def rest(self) -> tuple[str, int]:
        """Hex sha256 and bytes of the whole file, whose rest is read now."""
        self.drop(len(self.data))
        while self.grow():
            self.drop(len(self.data))
        self._hashing.result()
        return self._digest.hexdigest(), self.position


class AccuracyLog:
    """One pass over an accuracy log.

    With `image_bytes` every image must have so many bytes. With `count` the indices must be each
    of 0 ... count - 1, and only the first record of an index is yielded, as the official script
    takes it; `repeats` lets later ones of the same pixels pass. After `entries()` is exhausted,
    `problems` holds what was wrong, `sha256` and `size` (bytes) describe the file, `records`
    counts its records, and `repeats` those of an earlier one's index and pixels.
    """

    def __init__(
        self,
        path: Path,
        image_bytes: int | None = None,
        count: int | None = None,
        repeats: bool = False,
    ) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.sha256 = ""
        self.size = self.records = self.repeats = 0
        self._image_bytes, self._count, self._repeats = image_bytes, count, repeats
        self._longest = LONGEST if image_bytes is None else 2 * image_bytes + AROUND
        self._first: dict[int, tuple[int, str]] = {}  # record and digest by index

    def entries(self) -> Iterator[Entry]:
        """The sound records in the file's order; raises OSError for a file that cannot be read."""
        with self.path.open("rb", buffering=0) as handle, ThreadPoolExecutor(1) as pool:
            window = _Window(handle, pool)
            length = 1
            while self._reaches_record(window, after_whole=length > 0):
                length = self._length(window)
                entry = self._entry(window, length) if length else None
                window.drop(length)
                self.records += 1
                if entry is not None and self._is_first(entry):
                    yield entry
            self.sha256, self.size = window.rest()
        missing = [index for index in range(self._count or 0) if index not in self._first]
        if missing:
            listed = ", ".join(map(str, missing[:LISTED])) + ", ..." * (len(missing) > LISTED)
            self._report(
                "missing", f"{len(missing)} of {self._count} samples have no image: {listed}"
            )

    def verified(self) -> Iterator[Entry]:
        """Like `entries`, but raises ValueError at the end, which lists all that is wrong.

        Nothing is yielded after the first wrong thing, so that no work is wasted.
        """
        for entry in self.entries():
            if not self.problems:
                yield entry
        if self.problems:
            listed = "; ".join(problem.text for problem in self.problems[:LISTED])
            more = "; ..." * (len(self.problems) > LISTED)
            raise ValueError(f"{self.path}: {listed}{more}; run LoadGen's accuracy mode again")

    def _report(self, kind: str, text: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(kind, text))

    def _reaches_record(self, window: _Window, after_whole: bool) -> bool:
        """Go to the next record; returns whether there is one. Checks the bytes before it.

        After a damaged record these bytes may be anything: the damage was reported.
        """
        position, marks = window.position, b""
        while (length := window.data.find(b"{")) < 0:
            marks = (marks + window.data.translate(None, WHITESPACE))[:SHOWN]
            window.drop(len(window.data))
            if not window.grow():
                break
        else:
            marks = (marks + window.data[:length].translate(None, WHITESPACE))[:SHOWN]
            window.drop(length)
        there = length >= 0
        expected = {(True, True): b"[", (True, False): b"[]", (False, True): b","}.get(
            (not self.records, there), b"]"
        )
        if after_whole and marks != expected:
            self._report(
                "json",
                f"byte {position}: expected {expected.decode()} "
                + (f"before record {self.records}" if there else "at the end, the log is cut off")
                + f", found {bytes(marks)!r}",
            )
        return there and len(self.problems) < MOST_PROBLEMS

    def _length(self, window: _Window) -> int:
        """Bytes of the record at the window; 0 for one without an end, which is left behind."""
        where = f"record {self.records} at byte {window.position}"
        end = window.find(b"}", self._longest)
        another = window.data.find(b"{", 1, end if end > 0 else self._longest)
        if another > 0:
            place = window.position + another
            self._report("json", f"{where} is cut off: another one begins at byte {place}")
            window.drop(another)
            return 0
        if end > 0:
            return end + 1
        if len(window.data) < self._longest:
            self._report("json", f"{where} is cut off: the file ends inside it")
        else:
            self._report("json", f"{where} is longer than {self._longest} bytes")
        window.drop(len(window.data))
        return 0

    def _entry(self, window: _Window, length: int) -> Entry | None:
        """The record of this length at the window, None for a damaged one."""
        data, where = window.data, f"record {self.records} at byte {window.position}"
        key = DATA_KEY.search(data, 0, length)
        start = key.end() if key else length
        stop = data.find(b'"', start, length)
        if stop < 0:
            self._report("json", f'{where} has no "data" between quotation marks')
            return None
        try:
            pairs = json.loads((data[:start] + data[stop:length]).decode(), object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            self._report("json", f"{where} is not JSON ({error}; the image's digits left out)")
            return None
        fields = dict(pairs)
        numbers = [fields.get("seq_id"), fields.get("qsl_idx")]
        if (
            len(fields) != len(pairs)
            or fields.keys() - {"token_count"} != KEYS
            or not all(type(number) is int and number >= 0 for number in numbers)
        ):
            self._report("json", f"{where} is not LoadGen's: expected seq_id, qsl_idx and data")
            return None
        try:
            with memoryview(data) as view, view[start:stop] as digits:
                image = binascii.unhexlify(digits)
        except binascii.Error:
            wrong = NO_DIGIT.search(data, start, stop)
            if wrong:
                what = f"no hex digit at byte {window.position + wrong.start()}"
            else:
                what = f"an odd number of hex digits ({stop - start})"
            self._report("hex", f"{where}, index {fields['qsl_idx']}: {what}")
            return None
        if self._image_bytes not in (None, len(image)):
            what = f"{len(image)} bytes, expected {self._image_bytes}"
            self._report("bytes", f"{where}, index {fields['qsl_idx']}: {what}")
            return None
        return Entry(
            self.records,
            window.position,
            fields["seq_id"],
            fields["qsl_idx"],
            image,
            sha256_bytes(image),
        )

    def _is_first(self, entry: Entry) -> bool:
        """Whether this is the data set's first record of its index."""
        if self._count is None:
            return True
        index, where = entry.qsl_idx, f"record {entry.record} at byte {entry.position}"
        if index >= self._count:
            what = f"index {index} is beyond the {self._count} samples"
            self._report("beyond", f"{where}: {what}")
            return False
        record, digest = self._first.setdefault(index, (entry.record, entry.sha256))
        if record == entry.record:
            return True
        if digest == entry.sha256 and self._repeats:
            self.repeats += 1
        else:
            pixels = "the pixels of" if digest == entry.sha256 else "other pixels than"
            self._report(
                "twice",
                f"{where}: index {index} again, with {pixels} record {record}, "
                "the one that the official script takes",
            )
        return False


def read_log(path: Path, image_bytes: int | None = None) -> Iterator[Entry]:
    """All records of a log in the file's order, the same index as often as it comes.

    Raises ValueError as `AccuracyLog.verified` does.
    """
    return AccuracyLog(path, image_bytes).verified()


def truncate(source: Path, target: Path) -> None:
    """Publish at `target` the part of a log that a submission shows; `source` is left as it is.

    The first and last 4096 bytes with an ellipsis between them; a log of fewer bytes stays whole.
    Only these bytes are read. Form: tools/submission/truncate_accuracy_log.py (mlcommons/inference
    at b66003e1).
    """
    with source.open("rb") as handle:
        shown = handle.read(VIEWABLE)
        if len(shown) == VIEWABLE:
            handle.seek(-VIEWABLE, os.SEEK_END)
            shown += ELLIPSIS + handle.read()
    with publish(target) as part:
        part.write_bytes(shown)


def hash_line(sha256: str) -> str:
    """What a submission's accuracy.txt says of the log before it was truncated."""
    return f"\nhash={sha256}\n"


def accuracy_text(fid: float, clip: float, sha256: str) -> str:
    """An accuracy.txt: the scores between single quotes and the log's digest.

    The submission checker reads digits and a point from each score, so there are no exponents.
    """
    scores = {"FID_SCORE": fid, "CLIP_SCORE": clip}
    plain = {name: np.format_float_positional(score, trim="0") for name, score in scores.items()}
    return f"Accuracy Results: {plain}\n{hash_line(sha256)}"
