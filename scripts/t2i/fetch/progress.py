"""One display for all the downloads of a run, however many jobs run.

How far they are is read off the disk, so the jobs need not talk to each other. One of them, who
holds a lock, does the talking; when it ends, another takes over.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from t2i.fetch.files import part_path
from t2i.fetch.table import Source
from t2i.job.disk import format_bytes, freed_bytes

LOCK = ".fetch.lock"
MEMORY = 20.0  # seconds over which the speed is taken


def bytes_here(sources: Iterable[Source], folder: Path) -> tuple[int, int]:
    """How many of the inputs are whole, and how many bytes of all of them have come."""
    whole = size = 0
    for source in sources:
        destination = folder / source.name
        try:
            size += destination.stat().st_size
            whole += 1
        except FileNotFoundError:
            size += freed_bytes(part_path(destination, source))
    return whole, size


class FetchProgress:
    """While the block runs, write a line to the terminal every `interval` seconds."""

    def __init__(
        self, sources: list[Source], folder: Path, terminal: TextIO, interval: float
    ) -> None:
        self.sources = sources
        self.folder = folder
        self.terminal = terminal
        self.interval = interval
        self._seen: deque[tuple[float, int]] = deque()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True, name="fetch-progress")

    def __enter__(self) -> FetchProgress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _talk(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as lock:
            while not self._end.wait(self.interval):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:  # another job speaks, or the file system has no locks
                    continue
                print(self.line(time.monotonic()), file=self.terminal)

    def line(self, now: float) -> str:
        """Files, bytes, speed and time left, as seen at the time `now` in seconds."""
        whole, size = bytes_here(self.sources, self.folder)
        total = sum(source.size or 0 for source in self.sources)
        self._seen.append((now, size))
        while now - self._seen[0][0] > MEMORY:
            self._seen.popleft()
        seconds, before = now - self._seen[0][0], self._seen[0][1]
        speed = (size - before) / seconds if seconds else 0.0
        text = f"fetch: {whole}/{len(self.sources)} files, {format_bytes(size)} of "
        text += f"{format_bytes(max(total, size))}, {format_bytes(int(speed))}/s"
        if speed > 0:
            minutes, rest = divmod(round(max(0, total - size) / speed), 60)
            text += f", {minutes}:{rest:02d} left"
        return text
