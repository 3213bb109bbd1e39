"""Where the start of a job goes, from the interpreter to its second batch.

Each run is a process of its own, on an engine that a run of the workflow has built:

    python bench/start_speed.py --engine results/fast/fp8/engine --tokens T.npz --latents L.npy

Prints the seconds of each phase, of a native engine, and, with --calls, the functions in which
loading and the first batch spend them. "to first step" ends when the UNet is first run.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import io
import json
import pstats
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, required=True, help="folder of a built engine")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--latents", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=2, help="processes, one after the other")
    parser.add_argument("--calls", type=int, default=0, help="functions to name for each phase")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def largest(profile: cProfile.Profile, number: int) -> str:
    """The functions with the most time in and below them."""
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(number)
    return text.getvalue()


class Told:
    """A network that says once when it is first run."""

    def __init__(self, network: Any, say: Callable[[], None]) -> None:
        self._network, self._say = network, say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, *inputs: Any) -> Any:
        """What the network gives."""
        say, self._say = self._say, lambda: None
        say()
        return self._network(*inputs)


def phases(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of each phase of this process."""
    found, last = {}, START

    def done(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        found[name] = now - last
        last = now

    from t2i.engine.manifest import read_manifest
    from t2i.job.device import use_device

    manifest = read_manifest(options.engine)
    size = manifest["batch_size"]
    done("interpreter")
    with use_device(manifest["device"], manifest["threads"]) as device:
        done("torch and device")
        for module in ("networks", "loop", "kernels.table", "fp8.parts", "painter"):
            importlib.import_module(f"t2i.engine.{module}")
        done("imports")
        from t2i.engine.painter import load_painter

        watched = cProfile.Profile()
        loading = (options.engine, options.tokens, options.latents, device)
        painter, _ = watched.runcall(load_painter, *loading)
        done("engine")
        painter.loop.unet = Told(painter.loop.unet, lambda: done("to first step"))
        first = cProfile.Profile()
        first.runcall(painter.paint, range(size), size)
        done("first batch")
        painter.paint(range(size), size)
        done("second batch")
    if options.calls:
        print(largest(watched, options.calls), largest(first, options.calls), file=sys.stderr)
    return found


def main() -> None:
    """Run the processes and print a row for each."""
    options = arguments()
    if options.child:
        print(json.dumps(phases(options)))
        return
    for run in range(options.runs):
        command = [sys.executable, __file__, "--child", "--calls", str(options.calls)]
        for name in ("engine", "tokens", "latents"):
            command += [f"--{name}", str(getattr(options, name))]
        begin = time.perf_counter()
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        whole = time.perf_counter() - begin
        told = json.loads(answer.stdout.splitlines()[-1])
        if not run:
            print("  ".join(f"{name:>16}" for name in (*told, "process")))
        print("  ".join(f"{seconds:16.2f}" for seconds in (*told.values(), whole)), flush=True)


if __name__ == "__main__":
    main()
