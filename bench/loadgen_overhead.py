"""What LoadGen and our system under test cost, against the bare painter.

Runs Offline and SingleStream through t2i.loadgen.run with one worker, and the same painter in a
process of its own without either, in turns, so that a change of the machine's speed meets both:

Offline       samples per second, as LoadGen says, and as a share of the bare painter's
SingleStream  median milliseconds of a query, and what they are above the bare painter's

With --workers N, Offline runs also with N workers, each on a GPU of its own, and SingleStream not:
samples per second, and how many times those of one worker, LoadGen beside LoadGen.

A stand-in paces itself, so that both are known beforehand; an engine is loaded for every line.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024, help="of the stand-in's pictures")
    parser.add_argument("--rate", type=float, default=20.0, help="of the stand-in, images/s")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--engine", type=Path, help="folder of a built engine, not a stand-in")
    parser.add_argument("--tokens", type=Path, help="tokens file for --engine")
    parser.add_argument("--latents", type=Path, help="latents file for --engine")
    parser.add_argument("--count", type=int, default=64, help="samples of the data set")
    parser.add_argument("--time", type=float, default=10.0, help="seconds of each measurement")
    parser.add_argument("--repeat", type=int, default=3, help="turns")
    parser.add_argument("--workers", type=int, default=1, help="for a second run of Offline")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)  # batch size: a child
    return parser.parse_args()


def write_stand_in(folder: Path, options: argparse.Namespace) -> None:
    """A stand-in's engine, tokens and latents."""
    import numpy as np

    from t2i.engine.build import build_engine
    from t2i.engine.variant import Variant
    from t2i.prompts.tokens import PromptTokens, write_tokens

    told = {"side": options.side, "images_per_second": options.rate}
    build_engine(
        folder, folder, Variant("fp32", options.batch_size, 1, "cpu", 1, 8.0, stand_in=told)
    )
    rows = np.zeros((options.count, 77), dtype=np.int64)
    write_tokens(folder / "tokens.npz", PromptTokens(rows, rows, rows[0], rows[0]))
    np.save(folder / "latents.npy", np.zeros((1, 4, 128, 128), dtype=np.float32))


def bare(options: argparse.Namespace) -> list[float]:
    """Seconds of each batch of the painter alone, once warm; a child's part."""
    from contextlib import nullcontext

    from t2i.engine.manifest import read_manifest
    from t2i.engine.painter import load_painter
    from t2i.job.device import use_device
    from t2i.loadgen.worker import keep_pace

    manifest = read_manifest(options.engine)
    stand_in = manifest["stand_in"]
    with nullcontext("") if stand_in else use_device(manifest["device"], manifest["threads"]) as to:
        painter, _ = load_painter(options.engine, options.tokens, options.latents, to)
        rate = stand_in["images_per_second"] if stand_in else None
        painter.paint(range(options.bare), options.bare)
        taken: list[float] = []
        while sum(taken) < options.time:
            first = len(taken) * options.bare % (options.count - options.bare + 1)
            start = time.perf_counter()
            painter.paint(range(first, first + options.bare), options.bare)
            keep_pace(start, options.bare, rate)
            taken.append(time.perf_counter() - start)
        return taken


def bare_seconds(options: argparse.Namespace, batch_size: int) -> list[float]:
    """The same, in its own process."""
    command = [sys.executable, __file__, "--bare", str(batch_size), "--time", str(options.time)]
    for name in ("engine", "tokens", "latents", "count"):
        command += [f"--{name}", str(getattr(options, name))]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: list[float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def loadgen(options: argparse.Namespace, scenario: str, folder: Path, workers: int = 1) -> Path:
    """The folder of one performance test."""
    from t2i.loadgen.run import TestRequest, run_test
    from t2i.mlperf import ROUNDS

    request = TestRequest(
        run="bench",
        variant="bench",
        model="bench",
        scenario=scenario,
        mode="performance",
        round="v6.1",
        seeds=ROUNDS["v6.1"].seeds,
        engine=options.engine,
        tokens=options.tokens,
        latents=options.latents,
        captions=options.tokens,
        count=options.count,
        max_batchsize=None,
        qps=None,
        target_latency=None,
        time=options.time,
        samples_per_query=8,
        max_latency=20.0,
        batch_wait=0.5,
        workers=workers,
        stall=600.0,
        given=(),
    )
    run_test(request, folder / scenario)
    return folder / scenario


def offline_rate(options: argparse.Namespace, folder: Path, workers: int) -> float:
    """Samples per second of Offline, as LoadGen says."""
    summary = loadgen(options, "Offline", folder, workers) / "mlperf_log_summary.txt"
    found = re.search(r"Samples per second: ([\d.]+)", summary.read_text())
    assert found is not None
    return float(found[1])


def measure(options: argparse.Namespace, batch_size: int, folder: Path) -> dict[str, float]:
    """One turn: bare and with LoadGen, Offline and then SingleStream or more workers."""
    import numpy as np

    batches = bare_seconds(options, batch_size)
    bare_rate = batch_size * len(batches) / sum(batches)
    rate = offline_rate(options, folder, 1)
    found = {"bare images/s": bare_rate, "Offline images/s": rate, "share": rate / bare_rate}
    if options.workers > 1:
        more = offline_rate(options, folder, options.workers)
        return {**found, f"{options.workers} workers": more, "times one": more / rate}
    alone = statistics.median(bare_seconds(options, 1))
    queries = np.load(loadgen(options, "SingleStream", folder) / "latencies.npy")
    return {
        **found,
        "bare ms": 1000 * alone,
        "SingleStream ms": 1000 * float(np.median(queries)),
        "added ms": 1000 * (float(np.median(queries)) - alone),
    }


def show(values: dict[str, Any]) -> None:
    """One line of the table."""
    print("  ".join(f"{value:>16.4f}" for value in values.values()), flush=True)


def main() -> None:
    """Measure in turns and print a table."""
    from t2i.base.files import read_json

    options = arguments()
    if options.bare:
        print(json.dumps(bare(options)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.engine is None:
            write_stand_in(folder, options)
            options.engine = folder
            options.tokens, options.latents = folder / "tokens.npz", folder / "latents.npy"
        batch_size = read_json(options.engine / "engine.json")["batch_size"]
        turns = []
        for _ in range(options.repeat):
            turns.append(measure(options, batch_size, folder))
        print("  ".join(f"{key:>16}" for key in turns[0]))
        for turn in turns:
            show(turn)
        print("median")
        show({key: statistics.median(turn[key] for turn in turns) for key in turns[0]})


if __name__ == "__main__":
    main()
