"""A run in few lines: stages as they end, what fails, and now and then how far the jobs are.

On a terminal the last line is rewritten every second. Elsewhere a line is added every minute.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from t2i.job.status import duration, last_words

LIVE, PLAIN = 1.0, 60.0  # seconds between lines on how far jobs are
SHOWN = 3  # jobs in such a line
CLEAR = "\r\x1b[2K"
LOGS = Path("logs")


class Display:
    """Writes to `stream`; `plan` begins it, `close` ends it."""

    def __init__(self, stream: TextIO, logs: Path = LOGS) -> None:
        self._stream, self._logs = stream, logs
        self._live = stream.isatty()
        self._lock = threading.Lock()
        self._planned: dict[str, int] = {}
        self._finished: Counter[str] = Counter()
        self._begun = time.time()
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None

    def plan(self, jobs: Mapping[str, int]) -> None:
        """The jobs by rule; a run that finds out more plans again, and says the new number."""
        planned = {rule: count for rule, count in jobs.items() if rule != "total"}
        first = not self._planned
        self._planned = planned
        self.say(f"{sum(planned.values())} jobs of {len(planned)} stages")
        if first:
            self._begun = time.time()
            self._ticker = threading.Thread(target=self._tick, daemon=True, name="display")
            self._ticker.start()

    def finish(self, rule: str) -> None:
        """Count a finished job; the last one of a stage is told."""
        self._finished[rule] += 1
        if rule == "all":
            self.close()  # results follow, which others print
        elif self._finished[rule] == self._planned.get(rule):
            self.say(f"{self._time()}  {rule}: {self._finished[rule]} done")

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            print(f"{CLEAR if self._live else ''}{text}", file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the terminal to others; a second time does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._live:
            with self._lock:
                print(CLEAR, end="", file=self._stream, flush=True)

    def progress(self) -> str:
        """One line on how far the run and its jobs are."""
        counts = f"{self._finished.total()} of {sum(self._planned.values())} jobs"
        words = last_words(self._logs, self._begun, time.time())
        left = (line for _, _, line in words if line.endswith(" left"))
        running = [line for line in left if not line.endswith(" 0:00 left")][:SHOWN]
        return "; ".join([f"{self._time()}  {counts}", *running])

    def _time(self) -> str:
        return duration(time.time() - self._begun)

    def _tick(self) -> None:
        while not self._closed.wait(LIVE if self._live else PLAIN):
            line = self.progress()
            if self._live:
                width = shutil.get_terminal_size().columns - 1
                with self._lock:
                    print(f"{CLEAR}{line[:width]}", end="", file=self._stream, flush=True)
            else:
                self.say(line)
