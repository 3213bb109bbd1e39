"""The system under test: LoadGen's queries as batches for workers, their images as responses.

LoadGen copies a response that it keeps before QuerySamplesComplete returns (loadgen.cc,
SampleComplete), so responses point into the workers' memory and nothing is copied here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mlperf_loadgen as lg
import numpy as np

from t2i.loadgen.children import LoadGenError
from t2i.loadgen.pool import Worker
from t2i.loadgen.worker import SLOTS


class Sample(NamedTuple):
    """One sample of a query: LoadGen's handle, its number in the data set, its query, its arrival
    (s)."""

    handle: int
    number: int
    query: int
    arrived: float


class Batcher:
    """Samples in the order of issue, cut into batches.

    A full batch goes at once, a short one when its oldest sample has waited `longest_wait` seconds
    or no more queries are to come.
    """

    def __init__(self, batch_size: int, longest_wait: float) -> None:
        """Nothing is waiting."""
        self._batch_size = batch_size
        self._longest_wait = longest_wait
        self._waiting: deque[Sample] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._flushed = False
        self._closed = False

    def add(self, samples: Sequence[Sample]) -> None:
        """Put samples at the end."""
        with self._changed:
            self._waiting.extend(samples)
            self._flushed = False
            self._changed.notify_all()

    def flush(self) -> None:
        """Say that no more samples come for now."""
        with self._changed:
            self._flushed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all waiting workers and make them stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[Sample]:
        """The next batch, as soon as there is one; empty once closed."""
        with self._changed:
            self._idle += 1
            while not self._closed and (delay := self._delay()) != 0:
                self._changed.wait(delay)
            self._idle -= 1
            return [] if self._closed else self._pop()

    def take_ahead(self) -> list[Sample]:
        """A batch for a worker that is still painting: empty where the idle ones take them all."""
        with self._changed:
            if self._delay() != 0 or len(self._waiting) <= self._idle * self._batch_size:
                return []
            return self._pop()

    def _delay(self) -> float | None:
        """Seconds until there is a batch; None when that depends on more samples."""
        if not self._waiting:
            return None
        if self._flushed or len(self._waiting) >= self._batch_size:
            return 0
        return max(0, self._waiting[0].arrived + self._longest_wait - time.perf_counter())

    def _pop(self) -> list[Sample]:
        number = min(self._batch_size, len(self._waiting))
        return [self._waiting.popleft() for _ in range(number)]


class SystemUnderTest:
    """Callbacks for LoadGen, and a thread for each worker that hands it batches.

    `fail` is called, from any thread, with what went wrong; the test cannot continue then.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        batch_size: int,
        longest_wait: float,
        ahead: bool,
        stall: float,
        fail: Callable[[BaseException], None],
    ) -> None:
        """Start serving; `ahead` gives a worker its next batch while it paints the one before."""
        self._batcher = Batcher(batch_size, longest_wait)
        self._ahead = SLOTS - 1 if ahead else 0
        self._stall = stall
        self._fail = fail
        self._lock = threading.Lock()
        self._issued: list[float] = []
        self._unanswered: list[int] = []
        self._answered: list[float] = []
        self.active = time.perf_counter()  # when a query last came or was answered
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in workers
        ]
        for thread in self._threads:
            thread.start()

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """LoadGen's callback: one query."""
        now = self.active = time.perf_counter()
        query = len(self._issued)
        with self._lock:
            self._issued.append(now)
            self._unanswered.append(len(ids))
            self._answered.append(np.nan)
        self._batcher.add([Sample(*pair, query, now) for pair in zip(ids, indices, strict=True)])

    def flush(self) -> None:
        """LoadGen's callback: no more queries."""
        self._batcher.flush()

    def close(self) -> None:
        """End the threads, once every query is answered."""
        self._batcher.close()
        for thread in self._threads:
            thread.join(self._stall)
            if thread.is_alive():
                raise LoadGenError(f"a worker's thread has not ended for {self._stall:g} s")

    def latencies(self) -> np.ndarray:
        """Seconds from issue to the last sample's answer of each query (queries,) float64."""
        seconds: np.ndarray = np.array(self._answered) - np.array(self._issued)
        return seconds

    def _serve(self, worker: Worker) -> None:
        try:
            sent: deque[list[Sample]] = deque()
            slot = 0
            while True:
                batch = self._batcher.take_ahead() if sent else self._batcher.take()
                if batch:
                    worker.paint(slot, [sample.number for sample in batch])
                    sent.append(batch)
                    slot = (slot + 1) % SLOTS
                    if len(sent) <= self._ahead:
                        continue
                elif not sent:
                    return
                painted = worker.painted(self._stall)
                self._complete(worker, painted, sent.popleft())
        except BaseException as error:
            self._fail(error)

    def _complete(self, worker: Worker, slot: int, batch: list[Sample]) -> None:
        pixels = worker.pixels[slot]
        address, size = pixels.ctypes.data, pixels[0].nbytes
        responses = [
            lg.QuerySampleResponse(sample.handle, address + n * size, size)
            for n, sample in enumerate(batch)
        ]
        now = self.active = time.perf_counter()
        with self._lock:
            for sample in batch:
                self._unanswered[sample.query] -= 1
                if self._unanswered[sample.query] == 0:
                    self._answered[sample.query] = now
        lg.QuerySamplesComplete(responses)
