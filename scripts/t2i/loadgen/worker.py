"""A worker process: loads an engine on its own device and paints what it is asked for.

Pixels go through memory that both processes have mapped, in SLOTS slots of one batch each, so that
the next batch is queued while one is painted.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from t2i.engine.manifest import read_manifest
from t2i.engine.painter import load_painter
from t2i.job.device import cpu_name, describe_device, use_device
from t2i.loadgen.children import Parent

SLOTS = 2
LEAST_SECONDS, MOST_BATCHES = 1.0, 5  # of one measurement


def slots(memory: int, batch_size: int, side: int) -> np.ndarray:
    """The slots (SLOTS, batch_size, side, side, 3) uint8 in a memory file, which is made to fit."""
    shape = (SLOTS, batch_size, side, side, 3)
    os.ftruncate(memory, int(np.prod(shape)))
    return np.frombuffer(mmap.mmap(memory, 0), dtype=np.uint8).reshape(shape)


def keep_pace(start: float, number: int, per_second: float | None) -> None:
    """Wait until a stand-in's batch begun at `start` (s) is due; a model (None) has no pace."""
    if per_second is not None:
        time.sleep(max(0.0, start + number / per_second - time.perf_counter()))


def typical_seconds(paint: Callable[[], Any]) -> float:
    """Median time of one call, of a few."""
    taken: list[float] = []
    while len(taken) < MOST_BATCHES and sum(taken) < LEAST_SECONDS:
        start = time.perf_counter()
        paint()
        taken.append(time.perf_counter() - start)
    return median(taken)


def serve(parent: Parent, memory: int, order: dict[str, Any]) -> None:
    """Load, warm up, report readiness with the bare rates, then answer requests for ever.

    `order` has number (the worker's), engine, tokens and latents (paths), batch_size, count, and
    cores (those to run on, None for any).
    """
    if order["cores"] is not None:
        os.sched_setaffinity(0, order["cores"])
    engine = Path(order["engine"])
    manifest = read_manifest(engine)
    stand_in, batch_size = manifest["stand_in"], order["batch_size"]
    parent.send({"phase": "waiting for a device"})
    with nullcontext("") if stand_in else use_device(manifest["device"], manifest["threads"]) as to:
        parent.send({"phase": "loading the engine"})
        painter, _ = load_painter(engine, Path(order["tokens"]), Path(order["latents"]), to)
        parent.send({"phase": "warming up"})
        pixels = slots(memory, batch_size, painter.side)
        pixels[:] = 0  # every page is there before the clock runs
        full = [index % order["count"] for index in range(batch_size)]
        painter.paint(full, batch_size)
        per_second = stand_in["images_per_second"] if stand_in else None

        def paint(indices: Sequence[int]) -> None:
            start = time.perf_counter()
            painter.paint(indices, batch_size)
            keep_pace(start, len(indices), per_second)

        parent.send({"phase": "measuring"})
        batch_seconds = typical_seconds(lambda: paint(full))
        alone = batch_seconds if batch_size == 1 else typical_seconds(lambda: paint(full[:1]))
        described = (
            {"kind": "stand-in", "name": cpu_name(), "arch": platform.machine()}
            if stand_in
            else describe_device(manifest["device"])
        )
        ready = {
            "side": painter.side,
            "images_per_second": batch_size / batch_seconds,
            "seconds_per_image": alone,
            "device": described,
        }
        parent.send({"ready": ready})
        while True:
            request = parent.receive()
            indices = request["indices"]
            start = time.perf_counter()
            images = painter.paint(indices, batch_size)
            pixels[request["slot"], : len(indices)] = images.pixels
            keep_pace(start, len(indices), per_second)
            parent.send({"slot": request["slot"], "not_finite": int((~images.finite).sum())})


def main() -> None:
    """Run as `python -m t2i.loadgen.worker CONNECTION MEMORY ORDER`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    parent, order = Parent(int(sys.argv[1])), json.loads(sys.argv[3])
    try:
        serve(parent, int(sys.argv[2]), order)
    except BaseException:
        parent.send({"error": f"worker {order['number']} failed: {traceback.format_exc()}"})
        raise


if __name__ == "__main__":
    main()
