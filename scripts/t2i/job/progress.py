"""How far a shard has come: a line in its log and on the terminal now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

INTERVAL = 5.0  # seconds between lines on a terminal


class Progress:
    """Counts finished images and reports count, rate and time left.

    Every update writes a line to stderr (the log); if `terminal` is one, a line at most every
    five seconds goes there too.
    """

    def __init__(self, label: str, total: int, terminal: TextIO, done: int = 0) -> None:
        """`done` of the `total` images were there before and count in no rate."""
        self.label = label
        self.total = total
        self.terminal = terminal
        self.before = self.done = done
        self.start = self.shown = time.monotonic()
        self._last = 0.0
        self._first: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def steady_rate(self) -> float:
        """Images a second after the first update, before which a model warms up.

        With a single update, images a second from the start; 0 without any.
        """
        images, seconds = self._first or (self.before, 0.0)
        if images == self.done:
            images, seconds = self.before, 0.0
        return (self.done - images) / max(self._last - seconds, 1e-9)

    def update(self, count: int) -> None:
        """Count `count` more images as finished."""
        self.done += count
        self._last = self.seconds
        if self._first is None:
            self._first = self.done, self._last
        rate = (self.done - self.before) / max(self.seconds, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        minutes, seconds = divmod(round(left), 60)
        line = (
            f"{self.label}: {self.done}/{self.total} images, {rate:.2f} images/s, "
            f"{minutes}:{seconds:02d} left"
        )
        print(line, file=sys.stderr)
        now = time.monotonic()
        finished = self.done == self.total
        if self.terminal.isatty() and (finished or now - self.shown >= INTERVAL):
            print(line, file=self.terminal)
            self.shown = now
