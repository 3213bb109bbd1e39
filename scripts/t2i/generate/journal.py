"""The images of a shard that is being made: what a killed job had finished is taken up again.

Beside the tar lie two files of the job: its bytes so far, and a journal with a line for each batch.
A line holds the batch's samples, the sha256 of its bytes, and a digest over the line before it and
itself. The first line follows on what the images are made from (`origin`), so a journal of another
engine, code or device has no line that fits. A job copies the batches of an earlier one while it
verifies them: whatever a process of before still does, it does in files of its own.
"""

from __future__ import annotations

import glob
import io
import json
import secrets
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from t2i.base.files import settle, sha256_bytes, sha256_json
from t2i.generate.shard import Sample, add_samples, archive_facts

LINES, BYTES = ".journal", ".unfinished"


def journals(tar: Path) -> list[Path]:
    """The journals of jobs that have begun this tar and not finished it."""
    return sorted(tar.parent.glob(f".{glob.escape(tar.name)}.*{LINES}"))


def remove(journal: Path) -> None:
    """Remove a journal and the bytes that it is of: these first, which nothing else would name."""
    for path in (journal.with_suffix(BYTES), journal):
        path.unlink(missing_ok=True)


class Journal:
    """A tar in the making; `samples` are those it holds, `seconds` what they took in all jobs."""

    def __init__(self, path: Path, origin: Mapping[str, Any], files: ExitStack) -> None:
        """Begin new files; `path` is the journal's."""
        self.samples: list[Sample] = []
        self.seconds = 0.0
        self.path = path
        self.part = path.with_suffix(BYTES)
        self._since = time.monotonic()
        self._last = sha256_json(dict(origin))
        self._lines = files.enter_context(path.open("x", encoding="utf-8"))
        self._bytes: BinaryIO = files.enter_context(self.part.open("xb"))

    def add(self, rows: Iterable[tuple[int, int, np.ndarray, bool]], threads: int = 1) -> None:
        """Append a batch; rows and threads as `t2i.generate.shard.add_samples` has them.

        A kill loses what is not added. Only a loss of power can lose more, and nothing wrong is
        taken up then: the bytes would not be those of their line.
        """
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            samples = add_samples(archive, rows, threads)
            size = content.tell()  # without the end of an archive, which is for `finish`
        self._append(samples, content.getvalue()[:size], time.monotonic() - self._since)

    def _append(self, samples: Sequence[Sample], content: bytes, seconds: float) -> None:
        self._bytes.write(content)
        self._bytes.flush()
        line = {
            "samples": [asdict(sample) for sample in samples],
            "size": len(content),
            "sha256": sha256_bytes(content),
            "seconds": seconds,
        }
        self._last = _digest(self._last, line)
        self._lines.write(json.dumps({**line, "digest": self._last}) + "\n")
        self._lines.flush()
        self.samples += samples
        self.seconds += seconds
        self._since = time.monotonic()

    def take_up(self, earlier: Path) -> None:
        """Copy the batches of an earlier job, up to the first that is not as it was written."""
        with earlier.with_suffix(BYTES).open("rb") as content:
            for line in _sound_lines(earlier, self._last):
                batch = content.read(line["size"])
                if sha256_bytes(batch) != line["sha256"]:
                    return
                samples = [Sample(**sample) for sample in line["samples"]]
                self._append(samples, batch, line["seconds"])

    def finish(self, tar: Path) -> dict[str, Any]:
        """Give the tar its name; its size and sha256, for the manifest."""
        with tarfile.open(fileobj=self._bytes, mode="w"):
            pass  # the end of an archive, after what there is
        self._bytes.flush()
        facts = archive_facts(self.part)
        settle(self.part, tar)
        remove(self.path)
        return facts


def _digest(last: str, line: Mapping[str, Any]) -> str:
    return sha256_json({**line, "after": last})


def _sound_lines(journal: Path, origin: str) -> Iterator[dict[str, Any]]:
    """The lines of a journal, each without its digest, up to the first that does not fit."""
    last = origin
    with journal.open(encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                line = dict(json.loads(text))
                digest = line.pop("digest")
                sound = digest == _digest(last, line)
            except (KeyError, TypeError, ValueError, RecursionError):
                return
            if not sound:
                return
            last = digest
            yield line


def _count(journal: Path, origin: Mapping[str, Any]) -> int:
    """Number of sound lines; 0 where something else has the name of one of its two files."""
    pair = journal, journal.with_suffix(BYTES)
    if any(path.is_symlink() or not path.is_file() for path in pair):
        return 0
    return sum(1 for _ in _sound_lines(journal, sha256_json(dict(origin))))


@contextmanager
def begin(tar: Path, origin: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a tar, with what earlier jobs of the same `origin` have finished of it.

    It stays where the block fails, for the next job. Journals of anything else are removed.
    """
    tar.parent.mkdir(parents=True, exist_ok=True)
    earlier = journals(tar)
    counts = {path: _count(path, origin) for path in earlier}
    with ExitStack() as files:
        path = tar.with_name(f".{tar.name}.{secrets.token_hex(6)}{LINES}")
        journal = Journal(path, origin, files)
        best = max(earlier, key=lambda path: counts[path], default=None)
        if best is not None and counts[best]:
            try:
                journal.take_up(best)
            except OSError as error:
                print(f"{best}: not taken up ({error})", file=sys.stderr)
        for path in earlier:
            remove(path)
        yield journal
