"""How fast an engine of SDXL's full size reaches the GPU, against plain reading and diffusers.

Makes SDXL with random weights in the published layout (once, in --folder: 21 GB for both number
formats), builds its engines, and loads each in processes of their own, one reader at a time:

plain        its weights files in pieces of 64 MiB into a page-locked buffer and on to the GPU
safetensors  safetensors' own load_file, to the GPU
engine       t2i.engine.load.load_engine: verified, as networks, in a pipeline
diffusers    StableDiffusionXLPipeline.from_pretrained and .to, which verifies nothing
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SDXL = ROOT / "config" / "models" / "sdxl-base-1.0"
MICRO = ROOT / "models" / "micro-sdxl"
READERS = ("plain", "safetensors", "engine", "diffusers")
PIECE = 1 << 26
sys.path.insert(0, str(ROOT / "scripts"))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(tempfile.gettempdir(), "t2i-load-speed")
    parser.add_argument("--folder", type=Path, default=folder, help="for the models")
    parser.add_argument("--dtypes", nargs="+", default=["fp16", "fp32"], choices=["fp16", "fp32"])
    parser.add_argument("--readers", nargs="+", default=READERS, choices=READERS)
    parser.add_argument("--repeat", type=int, default=2, help="processes for each; the best counts")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--small", action="store_true", help="a micro SDXL, to try the script")
    parser.add_argument("--cold", action="store_true", help="drop files from the page cache first")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)  # engine and reader: a child
    return parser.parse_args()


def write_tokenizer(folder: Path) -> None:
    """A vocabulary of CLIP's size with merges that mean nothing: the real one needs open_clip."""
    from t2i.prompts.tokenizer import MERGES, byte_alphabet

    alphabet = byte_alphabet()
    symbols = alphabet + [f"{symbol}</w>" for symbol in alphabet]
    pairs = [(first, second) for first in alphabet for second in symbols][:MERGES]
    tokens = [*symbols, *map("".join, pairs), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = "".join(f"{first} {second}\n" for first, second in pairs)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")


def write_model(folder: Path, dtype: str, small: bool, device: str) -> None:
    """SDXL's configs and random weights, with the names of the published files and tensors."""
    import t2i.job.torch_shim  # noqa: F401

    import torch
    from safetensors.torch import save_file

    from t2i.engine.load import NETWORKS
    from t2i.engine.variant import DTYPES
    from t2i.engine.weights import empty_network

    without = shutil.ignore_patterns("*.safetensors", "reference_images")
    shutil.copytree(MICRO if small else SDXL, folder, ignore=without, dirs_exist_ok=True)
    if not small:
        for name in ("tokenizer", "tokenizer_2"):
            write_tokenizer(folder / name)
    generator = torch.Generator(device).manual_seed(0)
    for name, kind in NETWORKS.items():
        network = empty_network(kind, folder / name, DTYPES[dtype])
        prefix = "text_model." if name == "text_encoder" else ""
        tensors = {
            prefix + key: torch.empty(value.shape, dtype=DTYPES[dtype], device=device).normal_(
                0, 0.02, generator=generator
            )
            for key, value in network.state_dict().items()
        }
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        suffix = ".fp16.safetensors" if dtype == "fp16" else ".safetensors"
        save_file(tensors, folder / name / f"{stem}{suffix}", metadata={"format": "pt"})


def prepare(folder: Path, dtype: str, small: bool, device: str) -> Path:
    """The engine of a number format, made if it is not there yet."""
    from t2i.engine.build import build_engine
    from t2i.engine.variant import Variant

    size = "small" if small else "full"
    model, engine = folder / f"{size}-{dtype}-model", folder / f"{size}-{dtype}-engine"
    if not (model / "complete").exists():
        write_model(model, dtype, small, device)
        (model / "complete").touch()
    if not (engine / "engine.json").exists():
        shutil.rmtree(engine, ignore_errors=True)
        engine.mkdir()
        build_engine(model, engine, Variant(dtype, 4, 1, device, 20, 8.0))
    return engine


def weights_files(engine: Path) -> list[Path]:
    """The engine's files of weights, largest first."""
    files = (engine / "weights").rglob("*.safetensors")
    return sorted(files, key=lambda path: path.stat().st_size, reverse=True)


def warm(engine: Path) -> None:
    """Read all weights once, so that they lie in the page cache."""
    buffer = bytearray(PIECE)
    for path in weights_files(engine):
        with path.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass


def drop(engine: Path) -> None:
    """Take all weights out of the page cache, as far as the kernel complies."""
    for path in weights_files(engine):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def private_memory() -> int:
    """Bytes of this process that no file backs: RssAnon and RssShmem."""
    status = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    return sum(int(fields[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))


def reader(name: str, engine: Path, device: str) -> Callable[[], Any]:
    """What is timed: a call that returns what it loaded."""
    import t2i.job.torch_shim  # noqa: F401

    import torch

    files = weights_files(engine)
    if name == "plain":
        buffer = torch.empty(PIECE, dtype=torch.uint8, pin_memory=device == "cuda")
        target = torch.empty(
            sum(path.stat().st_size for path in files), dtype=torch.uint8, device=device
        )
        target.zero_()

        def plain() -> Any:
            place = 0
            for path in files:
                with path.open("rb", buffering=0) as handle:
                    while count := handle.readinto(memoryview(buffer.numpy())):
                        target[place : place + count].copy_(buffer[:count])
                        place += count
            return target

        return plain
    if name == "safetensors":
        from safetensors.torch import load_file

        return lambda: [load_file(path, device=device) for path in files]
    from t2i.engine.build import StableDiffusionXLPipeline
    from t2i.engine.load import load_engine
    from t2i.engine.variant import DTYPES

    if name == "engine":
        return lambda: load_engine(engine, device)[0]
    dtype = DTYPES[json.loads((engine / "engine.json").read_text())["dtype"]]
    return lambda: StableDiffusionXLPipeline.from_pretrained(
        engine / "weights",
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        add_watermarker=False,
    ).to(device)


def check(pipeline: Any, engine: Path) -> int:
    """Compare every parameter with its file's tensor, bit by bit; return how many there are."""
    import torch
    from safetensors import safe_open

    compared = 0
    for path in weights_files(engine):
        state = getattr(pipeline, path.parent.name).state_dict()
        with safe_open(path, "pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                key = name if name in state else name.removeprefix("text_model.")
                loaded, stored = state.pop(key), handle.get_tensor(name)
                bits = {2: torch.int16, 4: torch.int32}[stored.itemsize]
                if not torch.equal(loaded.view(bits), stored.to(loaded.device).view(bits)):
                    raise SystemExit(f"{path}: {name} was not loaded as it is stored")
                compared += 1
        if state:
            raise SystemExit(f"{path}: without {', '.join(state)}")
    return compared


def measure(engine: Path, name: str, device: str, cold: bool) -> dict[str, Any]:
    """Load once and say how long it took, and the most memory it held meanwhile."""
    import torch

    torch.empty(1, device=device)  # the GPU's context exists before the clock starts
    load = reader(name, engine, device)
    if cold:
        drop(engine)
    before = peak = private_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, private_memory())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    loaded = load()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    peak = max(peak, private_memory())
    pinned = torch.cuda.host_memory_stats() if device == "cuda" else {}
    return {
        "seconds": seconds,
        "private_before": before,
        "private_peak": peak,
        "pinned_peak": pinned.get("allocated_bytes.peak", 0),
        "gpu": torch.cuda.memory_allocated() if device == "cuda" else 0,
        "tensors_equal": check(loaded, engine) if name in ("engine", "diffusers") else None,
    }


def child(engine: Path, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One measurement in its own process."""
    command = [sys.executable, __file__, "--measure", str(engine), name, "--device", options.device]
    command += ["--cold"] if options.cold else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Make what is missing, measure, print a table."""
    options = arguments()
    if options.measure:
        engine, name = options.measure
        print(json.dumps(measure(Path(engine), name, options.device, options.cold)))
        return
    results = []
    print(
        "dtype reader         s   GB/s of plain  private peak (more)  pinned   GPU  equal tensors"
    )
    for dtype in options.dtypes:
        start = time.perf_counter()
        engine = prepare(options.folder, dtype, options.small, options.device)
        sizes = [path.stat().st_size for path in weights_files(engine)]
        warm(engine)
        print(
            f"{dtype}: {sum(sizes) / 1e9:.2f} GB, largest file {max(sizes) / 1e9:.2f} GB, "
            f"ready after {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        plain = None
        for name in options.readers:
            runs = [child(engine, name, options) for _ in range(options.repeat)]
            best = min(runs, key=lambda run: run["seconds"])
            rate = sum(sizes) / best["seconds"]
            plain = rate if name == "plain" else plain
            peak = max(run["private_peak"] for run in runs)
            more = max(run["private_peak"] - run["private_before"] for run in runs)
            pinned = max(run["pinned_peak"] for run in runs)
            share = f"{rate / plain:8.2f}" if plain else "       -"
            print(
                f"{dtype:5} {name:11} {best['seconds']:6.2f} {rate / 1e9:6.2f} {share}  "
                f"{peak / 1e9:9.2f} GB ({more / 1e9:.2f}) {pinned / 1e9:7.2f} "
                f"{best['gpu'] / 1e9:5.1f}  {best['tensors_equal'] or '-'}",
                flush=True,
            )
            results.append(
                {
                    "dtype": dtype,
                    "reader": name,
                    "bytes": sum(sizes),
                    "largest_file": max(sizes),
                    "of_plain": rate / plain if plain else None,
                    "private_peak_of_largest_file": peak / max(sizes),
                    "runs": runs,
                }
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
