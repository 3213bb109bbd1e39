"""The pool of worker processes that one LoadGen test drives."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from t2i.loadgen import worker
from t2i.loadgen.children import Child, LoadGenError


class Worker:
    """One worker: what it said of itself when ready, and its slots of pixels.

    `pixels` (slots, batch, side, side, 3) uint8 is memory that the worker writes to.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        """Start it with an order as `t2i.loadgen.worker.serve` takes it."""
        self._batch_size: int = order["batch_size"]
        name = f"worker {order['number']}"
        self._memory = os.memfd_create(name)
        arguments = [str(self._memory), json.dumps(order)]
        self.child = Child(worker.__name__, name, arguments, [self._memory])
        self.phase = "starting"
        self._since = time.monotonic()
        self.not_finite = 0
        self.ready: dict[str, Any] = {}
        self.pixels = np.empty(0, dtype=np.uint8)

    def become_ready(self) -> bool:
        """Take the next message of a worker that is starting; whether it is ready now."""
        message = self.child.receive()
        before, self._since = self._since, time.monotonic()
        took = self._since - before
        print(f"{self.child.name}: {self.phase} took {took:.1f} s", file=sys.stderr)
        self.phase = message.get("phase", "ready")
        if "ready" not in message:
            return False
        self.ready = message["ready"]
        self.pixels = worker.slots(self._memory, self._batch_size, self.ready["side"])
        return True

    def paint(self, slot: int, indices: Sequence[int]) -> None:
        """Ask for the images of samples, at most a batch of them, in a slot."""
        self.child.send({"slot": slot, "indices": list(indices)})

    def painted(self, limit: float) -> int:
        """Wait for the next answer, `limit` seconds at most; the slot whose images are there.

        Answers come in the order of the requests. Raises LoadGenError.
        """
        message = self.child.receive(limit)
        self.not_finite += message["not_finite"]
        return int(message["slot"])

    def close(self) -> None:
        """End the process."""
        self.child.close()
        os.close(self._memory)


@contextmanager
def worker_pool(
    number: int, order: dict[str, Any], device: str, limit: float
) -> Iterator[list[Worker]]:
    """Workers that are ready, ended after the block.

    Several on a CPU get as many cores each as there are for one. Raises LoadGenError when one
    fails, or when none that is starting has got any further for `limit` seconds.
    """
    with ExitStack() as stack:
        workers = []
        for n in range(number):
            cores = _cores(n, number) if device == "cpu" and number > 1 else None
            started = Worker({**order, "number": n, "cores": cores})
            stack.callback(started.close)
            workers.append(started)
        starting = {started.child.connection: started for started in workers}
        while starting:
            heard = wait(list(starting), limit)
            if not heard:
                slow = ", ".join(f"{one.child.name} {one.phase}" for one in starting.values())
                raise LoadGenError(
                    f"no worker has made progress for {limit:g} s ({slow}); if it only takes "
                    "that long, raise loadgen.stall"
                )
            for connection in heard:
                if starting[connection].become_ready():  # type: ignore[index]
                    del starting[connection]  # type: ignore[arg-type]
        yield workers


def _cores(n: int, number: int) -> list[int]:
    """Cores of worker n of `number`: its own group where there are enough."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[n * len(cores) // number : (n + 1) * len(cores) // number] or cores


def order(engine: Path, tokens: Path, latents: Path, batch_size: int, count: int) -> dict[str, Any]:
    """The settings that every worker of a test gets (`t2i.loadgen.worker.serve`)."""
    return {
        "engine": str(engine),
        "tokens": str(tokens),
        "latents": str(latents),
        "batch_size": batch_size,
        "count": count,
    }
