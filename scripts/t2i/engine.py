"""Engines: what a variant is built into once, before any image is generated.

An engine is a folder: `weights/` in diffusers' layout at the variant's number format, perhaps
`patch.py`, and `engine.json`, which names every file's digest and everything else that pixels
depend on. The digest over that is the engine's identity.
"""

from __future__ import annotations

import t2i.compat  # noqa: F401

import importlib.util
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from t2i.files import read_json, sha256_file, sha256_json, write_json

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class EngineError(RuntimeError):
    """An engine cannot be built or is not what its manifest says."""


@dataclass(frozen=True)
class Variant:
    """How a model is run. `patch` is `path.py:function` or None; the rest is as in the config."""

    dtype: str
    batch_size: int
    threads: int
    device: str
    patch: str | None
    steps: int
    guidance: float


def build_engine(model: Path, folder: Path, variant: Variant) -> dict[str, Any]:
    """Build a variant's engine in `folder` from a model in diffusers' layout; return its manifest.

    Weights are cast tensor by tensor, which gives what loading at that number format gives. The
    fp16 files of a model that has them are used for fp16, as the reference does.
    """
    weights = folder / "weights"
    for source in sorted(_model_files(model, variant.dtype)):
        name = source.relative_to(model).as_posix().replace(".fp16.safetensors", ".safetensors")
        target = weights / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".safetensors":
            _cast_file(source, target, DTYPES[variant.dtype])
        else:
            shutil.copyfile(source, target)
    patch = None
    if variant.patch is not None:
        path, _, function = variant.patch.rpartition(":")
        shutil.copyfile(path, folder / "patch.py")
        patch = {"function": function, "sha256": sha256_file(folder / "patch.py")}
    identity = {
        **asdict(variant),
        "patch": patch,
        "weights": {
            path.relative_to(weights).as_posix(): {
                "size": path.stat().st_size,
                "sha256": sha256_file(path),
            }
            for path in sorted(weights.rglob("*"))
            if path.is_file()
        },
    }
    manifest = {"schema": 1, "digest": sha256_json(identity), **identity}
    write_json(folder / "engine.json", manifest)
    return manifest


def _model_files(model: Path, dtype: str) -> list[Path]:
    """Files of the model that the number format uses: one safetensors file for each network.

    fp16 takes the fp16 weights and every other format the full ones; what there is but one of
    serves all.
    """
    files = [path for path in model.rglob("*") if path.is_file() and path.name[0] != "."]
    half = {path for path in files if path.name.endswith(".fp16.safetensors")}
    plain = {path for path in files if path.suffix == ".safetensors"} - half
    chosen = half if half and (dtype == "fp16" or not plain) else plain
    if not chosen:
        raise EngineError(f"{model}: there are no safetensors weights for {dtype}")
    return [path for path in files if path.suffix in (".json", ".txt")] + sorted(chosen)


def _cast_file(source: Path, target: Path, dtype: torch.dtype) -> None:
    """Write a safetensors file with its floating tensors as `dtype`; link it when they are."""
    with safe_open(source, "pt") as handle:
        dtypes = {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118
    if dtypes <= {{torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]}:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
        return
    tensors = load_file(source)
    save_file(
        {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in tensors.items()
        },
        target,
        metadata={"format": "pt"},
    )


def verify_engine(folder: Path) -> dict[str, Any]:
    """An engine's manifest, once every file of it has the digest named there.

    Raises EngineError that names the file which does not.
    """
    manifest: dict[str, Any] = read_json(folder / "engine.json")
    expected = {f"weights/{name}": facts["sha256"] for name, facts in manifest["weights"].items()}
    if manifest["patch"] is not None:
        expected["patch.py"] = manifest["patch"]["sha256"]
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            state = "has changed" if path.is_file() else "is missing"
            raise EngineError(
                f"{path} {state} since the engine was built; delete {folder}, run again"
            )
    return manifest


def load_engine(folder: Path, device: str) -> tuple[StableDiffusionXLPipeline, dict[str, Any]]:
    """The verified and patched pipeline of an engine on a device, and the engine's manifest."""
    manifest = verify_engine(folder)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder / "weights",
        torch_dtype=DTYPES[manifest["dtype"]],
        use_safetensors=True,
        local_files_only=True,
        add_watermarker=False,
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    if manifest["patch"] is not None:
        pipeline = _patched(pipeline, folder / "patch.py", manifest["patch"]["function"])
    return pipeline, manifest


def _patched(pipeline: Any, path: Path, function: str) -> Any:
    spec = importlib.util.spec_from_file_location("t2i_patch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook = getattr(module, function, None)
    if hook is None:
        raise EngineError(f"patch: {path} has no function {function!r}")
    patched = hook(pipeline)
    if not isinstance(patched, StableDiffusionXLPipeline):
        raise EngineError(
            f"patch: {function} must return the pipeline, it returned {type(patched).__name__}"
        )
    return patched
