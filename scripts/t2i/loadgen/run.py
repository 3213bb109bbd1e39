"""One LoadGen test of a variant: its logs, latencies and facts in their own folder.

LoadGen runs in its own process. It waits in C++ for answers, cannot be asked to stop, and
an interpreter that ends while it waits crashes; so that process is ended by force when something
fails.
"""

from __future__ import annotations

import math
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t2i.base.files import file_table, publish_folder, sha256_file, write_json, write_text
from t2i.engine.manifest import read_manifest
from t2i.job.device import visible_gpus
from t2i.job.disk import DiskFullError, require_space
from t2i.job.machine import machine_facts
from t2i.job.software import software_versions
from t2i.loadgen.children import Child, LoadGenError, Parent
from t2i.loadgen.conf import audit_config, own_audit_config, own_settings, user_conf
from t2i.loadgen.logs import read_detail
from t2i.loadgen.pool import Worker, order, worker_pool
from t2i.mlperf import ACCURACY_LOG, AUDITS, DETAIL, TEST01_SAMPLES
from t2i.prompts.tokens import read_tokens

if TYPE_CHECKING:
    from t2i.loadgen.sut import SystemUnderTest

# A test that ends early for a rate measured too low is INVALID.
OFFLINE_SHARE = 1.2  # of the measured rate, as the size of Offline's one query
LOADGEN_SHARE = 1.1  # by which LoadGen itself makes that query larger
SERVER_SHARE = 0.9  # of the measured rate, as the load that Server starts with
PEAK_SHARE = 0.5  # the same for the search of the peak, which must start with a load it can bear
LATENCY_SHARE = 0.5  # of the measured latency: LoadGen makes queries for twice the time by it
WATCH_SECONDS = 0.5
SILENT_SECONDS = 60.0  # without a sign of life, after which LoadGen's process counts as stopped
START_SECONDS = 600.0  # in which a worker that is starting has to get any further
STALL_SECONDS = 30.0  # beyond the measured time of a batch, in which it has to be painted
IDLE_SECONDS = 900.0  # without a query or an answer; LoadGen writes tens of gigabytes at the end
RARE = 20.0  # times the mean distance of Server's queries, which may be far apart
RECORD_BYTES = 128  # of the accuracy log beside an image's digits
OTHER_BYTES = 1 << 26  # of all other files
MENDING = {
    "Ran out of generated queries": "set loadgen.target_latency lower or loadgen.qps higher",
    "Too many outstanding queries": "set loadgen.qps lower",
    "Initial lower bound does not satisfy": "set loadgen.qps lower",
}


@dataclass(frozen=True, kw_only=True)
class TestRequest:
    """A test that is to be run: names, files, and settings as in the configuration.

    `seeds` are the round's by the names of LoadGen's settings, `engine` is the engine's folder.
    `max_batchsize` None is the engine's batch size, `qps` (samples/s) and `target_latency` (ms)
    None are measured, `workers` None is one for each GPU and one on a CPU; `time`,
    `max_latency`, `batch_wait` and `stall` are seconds. `stall` None follows
    from the measured time of a batch. `given` names the settings that the configuration said. What
    `user_conf`, a file of the user's own, says of the scenario takes the place of the others;
    `min_query_count` None is `query_floor`'s. `audit_conf` is an audit.config of the user's own.
    """

    __test__ = False  # a name that pytest would take for its own

    run: str
    variant: str
    model: str
    scenario: str
    mode: str
    round: str
    seeds: dict[str, int]
    engine: Path
    tokens: Path
    latents: Path
    captions: Path
    count: int
    max_batchsize: int | None
    qps: float | None
    target_latency: float | None
    time: float
    samples_per_query: int
    max_latency: float
    batch_wait: float
    workers: int | None
    stall: float | None
    given: tuple[str, ...]
    user_conf: Path | None = None
    audit_conf: Path | None = None
    min_query_count: int | None = None


def run_test(request: TestRequest, folder: Path) -> None:
    """Run one LoadGen test and publish its folder whole, in place of an older one.

    Raises LoadGenError, which says what to do, when a worker fails, dies or stalls, or when
    LoadGen could not run the test as asked. A test that LoadGen calls INVALID is a result.
    """
    if request.user_conf is not None:
        own = own_settings(request.user_conf, request.scenario)
        given = (*request.given, *(name for name in own if name not in request.given))
        request = replace(request, **own, given=given, user_conf=None)
    manifest = read_manifest(request.engine)
    captions = len(read_tokens(request.tokens).first)
    if request.count > captions:
        raise LoadGenError(
            f"{request.tokens} has {captions} captions, fewer than the {request.count} samples "
            "that LoadGen is to use; lower loadgen.count"
        )
    with publish_folder(folder) as part:
        started = time.monotonic()
        child = Child(__name__, "LoadGen's process", [str(part.resolve())])
        try:
            child.send(_plain(request))
            outcome = child.answer(request.stall or SILENT_SECONDS)
        finally:
            child.close()
        _check_log(part / DETAIL)
        _check_whole(part / ACCURACY_LOG, request, outcome["image"])
        facts = {
            "schema": 1,
            **{key: getattr(request, key) for key in ("run", "variant", "scenario", "mode")},
            "round": request.round,
            "engine": manifest["digest"],
            "stand_in": manifest["stand_in"] is not None,
            "model": request.model,
            **outcome,
            "given": list(request.given),
            "machine": machine_facts(folder.parent),
            "software": software_versions(),
            "inputs": {
                name: sha256_file(getattr(request, name))
                for name in ("tokens", "latents", "captions")
            },
            "seconds": time.monotonic() - started,
            "files": file_table(part),
        }
        write_json(part / "run.json", facts)


def _plain(request: TestRequest) -> dict[str, Any]:
    return {
        key: str(value.resolve()) if isinstance(value, Path) else value
        for key, value in asdict(request).items()
    }


def _check_log(path: Path) -> None:
    """Raise LoadGenError for an error of LoadGen's that means that this was no test."""
    for error in read_detail(path).errors:
        for text, mending in MENDING.items():
            if text in str(error.value):
                raise LoadGenError(f"LoadGen: {error.value} ({mending})")


def _check_whole(log: Path, request: TestRequest, image: Sequence[int]) -> None:
    """Raise LoadGenError for a log of images that ends too early; LoadGen does not notice."""
    size = log.stat().st_size
    least = 2 * 3 * image[0] * image[1] * request.count if request.mode == "accuracy" else 0
    with log.open("rb") as handle:
        handle.seek(max(0, size - 16))
        end = handle.read().rstrip()
    if size and (size < least or not end.endswith(b"]")):
        raise LoadGenError(
            f"{log.name} is not whole: {size} bytes, of at least {least}; is the disk of "
            f"{log.parent.parent} full, or the size of files limited (ulimit -f)?"
        )
    if not size and request.mode in ("accuracy", "TEST01"):
        raise LoadGenError(f"{log.name} is empty; is the disk of {log.parent.parent} full?")


def _check_room(part: Path, request: TestRequest, side: int) -> None:
    """Raise before the test where its logs cannot fit on the disk, or below the limit of files."""
    images = {"accuracy": request.count, "TEST01": 2 * TEST01_SAMPLES}.get(request.mode, 0)
    needed = images * (2 * 3 * side**2 + RECORD_BYTES)
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit not in (resource.RLIM_INFINITY, -1) and limit < needed:
        raise LoadGenError(
            f"{part.parent}: the accuracy log needs {needed} bytes, files may have {limit} "
            "(ulimit -f); raise that limit"
        )
    try:
        require_space(part.parent, needed + OTHER_BYTES, "LoadGen's logs")
    except DiskFullError as error:
        raise LoadGenError(str(error)) from None


def expected(
    request: TestRequest, images_per_second: float, seconds_per_image: float, together: int
) -> tuple[float | None, float | None]:
    """The load (samples/s) and the latency of a query (ms) that LoadGen should expect.

    Given values count; else they follow from the bare rate of all workers, which paint `together`
    images at a time, and the time of one image alone. Each is None in scenarios that have no use
    for it.
    """
    if request.scenario in ("Offline", "Server"):
        if request.qps:
            return request.qps, None
        if request.mode == "FindPeakPerformance":
            return images_per_second * PEAK_SHARE, None
        if request.scenario == "Server":
            return images_per_second * SERVER_SHARE, None
        return _whole_batches(images_per_second * OFFLINE_SHARE, request.time, together), None
    seconds = seconds_per_image
    if request.scenario == "MultiStream":
        seconds = request.samples_per_query / images_per_second
    return None, request.target_latency or 1000 * seconds * LATENCY_SHARE


def _whole_batches(qps: float, time: float, together: int) -> float:
    """At least `qps`, so that no batch of Offline's query is padded: that would cost its time.

    LoadGen cuts the number of samples to a whole one.
    """
    samples = math.ceil(qps * time * LOADGEN_SHARE / together) * together
    return (samples + 0.25) / (time * LOADGEN_SHARE)


def _workers(asked: int | None, device: str) -> int:
    """How many workers there are: as many as GPUs, unless told."""
    if device != "cuda":
        return asked or 1
    gpus = len(visible_gpus())
    if asked and asked > gpus:
        raise LoadGenError(
            f"{asked} workers need a GPU each, and {gpus} can be used here (nvidia-smi and "
            f"CUDA_VISIBLE_DEVICES say); set loadgen.workers to {gpus} or less"
        )
    return asked or gpus


def _measure(request: TestRequest, part: Path) -> dict[str, Any]:
    """Start the workers and run the test; what is known only then, as in run.json."""
    manifest = read_manifest(request.engine)
    batch_size = request.max_batchsize or manifest["batch_size"]
    if request.scenario == "SingleStream":
        batch_size = 1
    device = "" if manifest["stand_in"] else manifest["device"]
    number = _workers(request.workers, device)
    worker_order = order(request.engine, request.tokens, request.latents, batch_size, request.count)
    with worker_pool(number, worker_order, device, request.stall or START_SECONDS) as workers:
        measured = {
            "images_per_second": sum(one.ready["images_per_second"] for one in workers),
            "seconds_per_image": max(one.ready["seconds_per_image"] for one in workers),
        }
        qps, target_latency = expected(request, **measured, together=batch_size * number)
        _check_room(part, request, workers[0].ready["side"])
        batch_seconds = max(batch_size / one.ready["images_per_second"] for one in workers)
        settings = {
            "count": request.count,
            "max_batchsize": batch_size,
            "qps": qps,
            "target_latency": target_latency,
            "time": request.time,
            "samples_per_query": request.samples_per_query,
            "max_latency": request.max_latency,
            "batch_wait": request.batch_wait,
            "workers": number,
            "stall": request.stall or batch_seconds + STALL_SECONDS,
        }
        least = _drive(request, settings, workers, part)
        side = workers[0].ready["side"]
        return {
            "settings": {**settings, "min_query_count": least},
            "measured": measured,
            "image": [side, side],
            "not_finite": sum(one.not_finite for one in workers),
            "devices": [one.ready["device"] for one in workers],
        }


def _drive(
    request: TestRequest, settings: Mapping[str, Any], workers: list[Worker], part: Path
) -> int:
    """Let LoadGen test the workers, with its logs in `part`; the min_query_count in effect."""
    import mlperf_loadgen as lg

    from t2i.loadgen.sut import SystemUnderTest
    from t2i.loadgen.test_object import test_settings

    write_text(
        part / "user.conf",
        user_conf(
            request.scenario,
            min_query_count=request.min_query_count,
            **{
                key: settings[key]
                for key in (
                    "count",
                    "time",
                    "qps",
                    "target_latency",
                    "samples_per_query",
                    "max_latency",
                )
            },
        ),
    )
    audit = part / "audit.config"
    if request.mode in AUDITS:
        own = request.audit_conf
        write_text(
            audit,
            own_audit_config(own, request.mode)
            if own
            else audit_config(request.mode, request.count),
        )
    asked = test_settings(part / "user.conf", request.scenario, request.mode, request.seeds)
    output = lg.LogOutputSettings()
    output.outdir = str(part)
    output.copy_summary_to_stdout = True
    log = lg.LogSettings()
    log.log_output = output
    log.enable_trace = False

    events: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    sut = SystemUnderTest(
        workers,
        settings["max_batchsize"],
        longest_wait=settings["batch_wait"] if request.scenario == "Server" else 0,
        ahead=request.scenario in ("Offline", "MultiStream"),
        stall=settings["stall"],
        fail=events.put,
    )
    under_test = lg.ConstructFastSUT(sut.issue, sut.flush)
    samples = lg.ConstructQSL(request.count, request.count, lambda _: None, lambda _: None)

    def start() -> None:
        try:
            lg.StartTestWithLogSettings(under_test, samples, asked, log, str(audit))
            events.put(None)
        except BaseException as error:
            events.put(error)

    threading.Thread(target=start, daemon=True).start()
    idle = IDLE_SECONDS + (RARE / settings["qps"] if request.scenario == "Server" else 0)
    if (error := _first_event(events, workers, sut, idle)) is not None:
        raise error
    sut.close()
    lg.DestroyFastSUT(under_test)
    lg.DestroyQSL(samples)
    np.save(part / "latencies.npy", sut.latencies())
    return int(asked.min_query_count)


def _first_event(
    events: queue.SimpleQueue[BaseException | None],
    workers: list[Worker],
    sut: SystemUnderTest,
    idle: float,
) -> BaseException | None:
    """Wait for the end of the test (None) or for what keeps it from ending.

    Nothing at all for `idle` seconds counts as such.
    """
    while True:
        if time.perf_counter() - sut.active > idle:
            return LoadGenError(f"LoadGen has stalled: no query and no answer for {idle:g} s")
        ended = [one.child for one in workers if one.child.process.poll() is not None]
        with suppress(queue.Empty):  # the thread that waits for that worker may know more
            return events.get(timeout=WATCH_SECONDS)
        for child in ended:
            raise child.death()


def main() -> None:
    """LoadGen's process: `python -m t2i.loadgen.run CONNECTION FOLDER`."""
    import os

    parent = Parent(int(sys.argv[1]))
    parent.give_signs()
    message = parent.receive()
    try:
        names = ("engine", "tokens", "latents", "captions", "audit_conf")
        paths = {key: Path(message[key]) for key in names if message[key] is not None}
        request = TestRequest(**{**message, **paths})
        outcome = _measure(request, Path(sys.argv[2]))
    except BaseException as error:
        expected = isinstance(error, LoadGenError)
        text = str(error) if expected else f"LoadGen's process failed: {traceback.format_exc()}"
        parent.send({"error": text})
        sys.stderr.flush()
        os._exit(1)
    parent.send(outcome)


if __name__ == "__main__":
    main()
