"""Requests for LoadGen tests of a stand-in, of the smallest kind, and what they leave behind."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import json
from pathlib import Path

import numpy as np

from t2i import mlperf
from t2i.engine.build import build_engine
from t2i.engine.variant import Variant
from t2i.loadgen.run import TestRequest
from t2i.prompts.tokens import PromptTokens, write_tokens

LOGS = {
    f"mlperf_log_{name}" for name in ("summary.txt", "detail.txt", "accuracy.json", "trace.json")
}


def write_stand_in(folder: Path, side: int, per_second: float, batch_size: int = 2) -> Path:
    """A stand-in's engine in a new folder."""
    folder.mkdir()
    told = {"side": side, "images_per_second": per_second}
    variant = Variant("fp32", batch_size, 1, "cpu", 1, 8.0, stand_in=told)
    build_engine(Path("no model"), folder, variant)
    return folder


def write_inputs(folder: Path, tokens: PromptTokens | None = None) -> None:
    """Tokens, latents and captions in a folder; eight prompts that say nothing by default."""
    rows = np.zeros((8, 77), dtype=np.int64)
    write_tokens(folder / "tokens.npz", tokens or PromptTokens(rows, rows, rows[0], rows[0]))
    np.save(folder / "latents.npy", np.zeros((1, 4, 128, 128), dtype=np.float32))
    (folder / "captions.tsv").write_text("eight captions\n")


def request_for(engine: Path, inputs: Path, scenario: str, mode: str) -> TestRequest:
    """A test of seven samples that takes a moment."""
    return TestRequest(
        run="try",
        variant="fp32",
        model="none",
        scenario=scenario,
        mode=mode,
        round="v6.0",
        seeds=mlperf.ROUNDS["v6.0"].seeds,
        engine=engine,
        tokens=inputs / "tokens.npz",
        latents=inputs / "latents.npy",
        captions=inputs / "captions.tsv",
        count=7,
        max_batchsize=None,
        qps=None,
        target_latency=None,
        time=0.1,
        samples_per_query=3,
        max_latency=20.0,
        batch_wait=0.02,
        workers=None,
        stall=60.0,
        given=("time",),
    )


def stand_in_test(folder: Path) -> TestRequest:
    """An Offline performance test of a quick stand-in of 16 pixels, with its files in a folder."""
    write_inputs(folder)
    engine = write_stand_in(folder / "engine", 16, 1000.0)
    return request_for(engine, folder, "Offline", "performance")


def logged_images(folder: Path, side: int) -> dict[int, list[np.ndarray]]:
    """Images (side, side, 3) uint8 of the accuracy log by sample index, in the order logged."""
    found: dict[int, list[np.ndarray]] = {}
    for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text()):
        pixels = np.frombuffer(bytes.fromhex(entry["data"]), dtype=np.uint8)
        found.setdefault(entry["qsl_idx"], []).append(pixels.reshape(side, side, 3))
    return found
