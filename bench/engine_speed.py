"""How fast images are made: diffusers as MLPerf's reference calls it, diffusers compiled, and ours.

One process, one run, the same weights for all: SDXL's real configuration with random weights, or a
folder in diffusers' layout (--model). Contenders paint in turn, three at a time for the sake of
memory, --repeats times; medians count, and the spread is beside. On a CPU the miniature in models/
takes SDXL's place, and nothing compiles.

reference    diffusers' pipeline at fp16, one image at a time
inductor     the same at our batch size, backend: inductor: transformer blocks compiled by torch
compiled     the same: torch.compile of the whole UNet and the decoder, NHWC, fused QKV
native fp16  backend: native at fp16 with the decoder in bf16
native bf16  backend: native at bf16
cache        native bf16 with DeepCache, every second step a deep one
single       native bf16, one image at a time, as in SingleStream
fp8          native with fp8 products, calibrated on four captions
fp8 cache    the same with DeepCache
fp8 single   the same as fp8, one image at a time

An image that is not finite or has one colour ends the run. The result says where another process
used the GPU, where heat or the power supply held a clock down, and whose images depend on their
place in the batch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contenders import NAMES, SDXL, STEPS, Bench, Diffusers, contender, random_network

TOGETHER = 3  # contenders in memory at once


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="diffusers' layout; random weights unless given")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--batch", type=int, default=8, help="images painted together")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each contender")
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--json", type=Path, help="write all that was measured, for a config's `engine_speed`"
    )
    return parser.parse_args()


@dataclass
class Result:
    """What was measured of a contender; seconds, watts and milliseconds, each by median."""

    name: str
    images: int  # of one call
    build: float = 0.0  # from loaded weights to the first call
    first: float = 0.0  # the first call, with all that is compiled
    memory: float = 0.0  # bytes at most, beside the other contenders'
    error: float = 0.0  # of the final latents, relative to fp32's
    busy: float = 0.0  # milliseconds of a UNet's pass in which the GPU worked, not waited
    seconds: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / statistics.median(self.seconds)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as plain values, with the rate."""
        return {**asdict(self), "images_per_second": self.rate}


def check(images: Any, name: str) -> None:
    """End the run for images that are not finite or have one colour."""
    flat = images.pixels.reshape(len(images.pixels), -1)
    if not images.finite.all() or (flat.min(axis=1) == flat.max(axis=1)).any():
        sys.exit(f"{name}: an image is not finite or has one colour; nothing was measured")


class Driver:
    """What nvidia-smi says while something runs."""

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self.remarks: set[str] = set()
        command = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
        if cuda and len(subprocess.check_output(command, text=True).split()) > 1:
            self.remarks.add("another process used the GPU")

    @contextmanager
    def watched(self, watts: list[float]) -> Iterator[None]:
        """Append the mean power while the block runs, and note a clock that was held down."""
        if not self._cuda:
            yield
            return
        import torch

        from t2i.job.usage import GpuWatch

        gpu = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        with GpuWatch(gpu, milliseconds=100) as watch:
            yield
        if facts := watch.facts:
            watts.append(facts["watts"])
            self.remarks |= set(facts["held_down"])


def measure(bench: Bench, options: argparse.Namespace) -> tuple[list[Result], Driver]:
    """Every contender's result, painted in turn."""
    driver = Driver(bench.cuda)
    exact = _exact_latents(bench)
    results, names = [], options.contenders
    for first in range(0, len(names), TOGETHER):
        results += _in_turn(bench, options, driver, names[first : first + TOGETHER], exact)
        bench.free()
    return results, driver


def _in_turn(
    bench: Bench, options: argparse.Namespace, driver: Driver, names: list[str], exact: Any
) -> list[Result]:
    """Results of some contenders, all of which are in memory at once."""
    import torch

    from t2i.engine.loop import decoded_together

    running = []
    for name in names:
        before = torch.cuda.memory_allocated() if bench.cuda else 0
        begin = time.perf_counter()
        painter, size = contender(bench, name, options.batch)
        result = Result(name, size, build=time.perf_counter() - begin)
        if bench.cuda:
            torch.cuda.reset_peak_memory_stats()
        images: list[Any] = []
        result.first = bench.seconds(lambda: images.append(painter.paint()))  # noqa: B023
        check(images[0], name)
        if size > 1 and (painter.paint(1).pixels[:-1] != images[0].pixels[1:]).any():
            driver.remarks.add(f"{name}: an image's bytes depend on its place in the batch")
        if bench.cuda:
            result.memory = torch.cuda.max_memory_allocated() - before
        difference = painter.latents().float() - exact
        result.error = float(difference.norm() / exact.norm())
        running.append((result, painter))
        print(f"{name}: ready after {result.build + result.first:.1f} s", flush=True)
    for _ in range(options.repeats):
        for result, painter in running:
            with driver.watched(result.watts):
                result.seconds.append(bench.seconds(painter.paint))
    for result, painter in running:
        parts = painter.parts()
        result.busy = bench.busy(parts["UNet"])
        for part, call in parts.items():
            call()
            times = [bench.seconds(call) for _ in range(max(3, options.repeats))]
            result.parts[part] = 1000 * statistics.median(times)
        if "VAE" in result.parts:  # that of a batch
            result.parts["VAE"] *= result.images / decoded_together(result.images)
    return [result for result, _ in running]


def _exact_latents(bench: Bench) -> Any:
    """Final latents of the first sample, by diffusers at fp32."""
    import torch

    latents = Diffusers(bench, 1, torch.float32).latents().float()
    bench.free()
    return latents


def table(results: list[Result], unet_flops: float, matmul: float) -> str:
    """The results as a Markdown table."""
    from t2i.report.speed import row_of

    lines = [
        "| contender | images | img/s | spread | times | s a call | UNet ms | GPU busy ms | "
        "UNet TFLOP/s | text / once / VAE ms an image | GB | J an image | first call s | error |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        seconds = statistics.median(result.seconds)
        row = row_of(result.facts, results[0].facts)
        unet = result.parts["UNet"]
        others = " / ".join(
            f"{result.parts[part] / result.images:.1f}"
            for part in ("text", "once", "VAE")
            if part in result.parts
        )
        lines.append(
            f"| {result.name} | {result.images} | {result.rate:.3f} | {row['spread']:.1%} | "
            f"{row['ratio']:.2f} | {seconds:.3f} | {unet:.1f} | {result.busy:.1f} | "
            f"{2 * result.images * unet_flops / unet / 1e9:.3g} | {others or '-'} | "
            f"{result.memory / 1e9:.1f} | {row['joules'] or 0:.0f} | "
            f"{result.first:.1f} | {result.error:.4f} |"
        )
    lines.append(f"\nOne large product of the same run: {matmul / 1e12:.3g} TFLOP/s.")
    return "\n".join(lines)


def unet_flops(bench: Bench) -> float:
    """FLOPs of the UNet for one row, counted by torch on tensors without memory."""
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    folder = bench.folder or SDXL
    with torch.device("meta"), torch.inference_mode():
        unet = random_network(UNet2DConditionModel, folder / "unet")
        config = unet.config
        added = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        with FlopCounterMode(display=False) as counter:
            unet(
                torch.empty(1, 4, *bench.latent.shape[2:]),
                torch.empty(()),
                torch.empty(1, 77, config.cross_attention_dim),
                added_cond_kwargs={
                    "text_embeds": torch.empty(1, added),
                    "time_ids": torch.empty(1, 6),
                },
            )
    return float(counter.get_total_flops())


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    options = arguments()
    import t2i.job.torch_shim  # noqa: F401

    import torch
    from diffusers.utils import logging

    from t2i.job.device import describe_device
    from t2i.job.software import software_versions
    from t2i.report.speed import write_speed

    logging.set_verbosity_error()
    bench = Bench(options)
    device, software = describe_device(options.device), software_versions()
    flops, matmul = unet_flops(bench), bench.matmul_rate()
    results, driver = measure(bench, options)
    title = f"{bench.label}, {STEPS} steps, batches of {options.batch}, {device['name']}"
    print(f"\n{title}, torch {torch.__version__}\n\n{table(results, flops, matmul)}")
    if driver.remarks:
        print(f"Take these numbers with care: {', '.join(sorted(driver.remarks))}.")
    if options.json is not None:
        facts = {
            "repeats": options.repeats,
            "model": bench.label,
            "device": device,
            "software": software,
            "matmul_flops": matmul,
            "unet_flops": flops,
            "remarks": sorted(driver.remarks),
            "results": [result.facts for result in results],
        }
        write_speed(options.json, facts)


if __name__ == "__main__":
    main()
