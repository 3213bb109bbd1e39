"""Engines: what a variant is built into once, before any image is generated.

An engine is a folder: `weights/` in diffusers' layout at the variant's number format, perhaps
`patch.py`, and `engine.json`, which names every file's digest (`t2i.weights.digest_files`) and
everything else that pixels depend on. The digest over that is the engine's identity.
"""

from __future__ import annotations

import t2i.compat  # noqa: F401

import importlib.util
import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from t2i.disk import require_space
from t2i.engine_manifest import EngineError, read_manifest, refusal
from t2i.files import read_json, sha256_json, write_json
from t2i.weights import (
    Stored,
    WeightsError,
    digest_files,
    empty_network,
    fill_network,
    load_files,
    read_header,
)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NETWORKS = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}
OTHERS = {
    "scheduler": EulerDiscreteScheduler,
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
}
PICKLES = {".bin", ".ckpt", ".pkl", ".pt", ".pth"}


@dataclass(frozen=True)
class Variant:
    """How a model is run. `patch` is `path.py:function` or None; the rest is as in the config.

    With `stand_in` (`side` in pixels, `images_per_second`) there is no model: `t2i.stand_in`.
    """

    dtype: str
    batch_size: int
    threads: int
    device: str
    patch: str | None
    steps: int
    guidance: float
    stand_in: dict[str, Any] | None = None


def build_engine(model: Path, folder: Path, variant: Variant) -> dict[str, Any]:
    """Build a variant's engine in `folder` from a model in diffusers' layout; return its manifest.

    Weights are cast tensor by tensor, which gives what loading at that number format gives. The
    fp16 files of a model that has them are used for fp16, as the reference does. A stand-in's
    engine has no weights.
    """
    weights, dtype = folder / "weights", DTYPES[variant.dtype]
    sources = [] if variant.stand_in else _model_files(model, variant.dtype)
    targets = {
        source: weights / source.relative_to(model).with_name(source.name.replace(".fp16.", "."))
        for source in sources
    }
    require_space(folder, sum(_bytes_written(path, folder, dtype) for path in targets), str(folder))
    weights.mkdir(exist_ok=True)
    for source, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".safetensors":
            _cast_file(source, target, dtype)
        else:
            shutil.copyfile(source, target)
    patch = None
    if variant.patch is not None:
        path, _, function = variant.patch.rpartition(":")
        shutil.copyfile(path, folder / "patch.py")
        digest = digest_files([folder / "patch.py"])[folder / "patch.py"]
        patch = {"function": function, "digest": digest}
    files = sorted(targets.values())
    identity = {
        **asdict(variant),
        "patch": patch,
        "weights": {
            path.relative_to(weights).as_posix(): {"size": path.stat().st_size, "digest": digest}
            for path, digest in digest_files(files).items()
        },
    }
    manifest = {"schema": 1, "digest": sha256_json(identity), **identity}
    write_json(folder / "engine.json", manifest)
    return manifest


def _model_files(model: Path, dtype: str) -> list[Path]:
    """Files of the model that the number format uses; raises EngineError for another kind of model.

    For each network fp16 takes the fp16 weights and every other format the full ones; what there
    is but one of serves all.
    """
    index = read_json(model / "model_index.json")
    wanted = {name: kind.__name__ for name, kind in {**NETWORKS, **OTHERS}.items()}
    found = {name: value[1] for name, value in index.items() if isinstance(value, list)}
    found = {name: kind for name, kind in found.items() if kind is not None}
    if index.get("_class_name") != StableDiffusionXLPipeline.__name__ or found != wanted:
        differing = sorted({name for name, _ in found.items() ^ wanted.items()})
        raise EngineError(
            f"{model}/model_index.json: expected a StableDiffusionXLPipeline with "
            + ", ".join(f"{name} {kind}" for name, kind in wanted.items())
            + f"; it differs in {', '.join(differing) or '_class_name'}"
        )
    chosen = [model / "model_index.json"]
    for name in wanted:
        files = sorted(path for path in (model / name).glob("[!.]*") if path.is_file())
        chosen += [path for path in files if path.suffix in (".json", ".txt")]
        if name in NETWORKS:
            chosen += _weights_files(model / name, files, dtype)
    return chosen


def _weights_files(folder: Path, files: list[Path], dtype: str) -> list[Path]:
    half = [path for path in files if path.name.endswith(".fp16.safetensors")]
    plain = [path for path in files if path.suffix == ".safetensors" and path not in half]
    chosen = half if half and (dtype == "fp16" or not plain) else plain
    if not chosen:
        pickles = [path.name for path in files if path.suffix in PICKLES]
        why = f"; {', '.join(pickles)} could run code and is not read" if pickles else ""
        raise EngineError(f"{folder}: there are no safetensors weights for {dtype}{why}")
    return chosen


def _cast_types(source: Path, dtype: torch.dtype) -> list[tuple[Stored, torch.dtype]]:
    """Each tensor of a file with the type it will have: `dtype` for all floating ones."""
    return [
        (stored, dtype if stored.dtype.is_floating_point else stored.dtype)
        for stored in read_header(source)
    ]


def _bytes_written(source: Path, folder: Path, dtype: torch.dtype) -> int:
    """Bytes that a file of the model will take in an engine's folder; a link takes none."""
    size = source.stat().st_size
    if source.suffix != ".safetensors":
        return size
    types = _cast_types(source, dtype)
    if any(stored.dtype != kind for stored, kind in types):
        return sum(math.prod(stored.shape) * kind.itemsize for stored, kind in types)
    return 0 if source.stat().st_dev == folder.stat().st_dev else size


def _cast_file(source: Path, target: Path, dtype: torch.dtype) -> None:
    """Write a safetensors file with its floating tensors as `dtype`; link it when they are."""
    if all(stored.dtype == kind for stored, kind in _cast_types(source, dtype)):
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
        return
    tensors = {}
    with safe_open(source, "pt") as handle:
        for name in handle.keys():  # noqa: SIM118
            value = handle.get_tensor(name)
            tensors[name] = value.to(dtype) if value.is_floating_point() else value
    save_file(tensors, target, metadata={"format": "pt"})


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[Path, str]]:
    """An engine's manifest, and the digest that each of its files must have."""
    manifest = read_manifest(folder)
    digests = {
        folder / "weights" / name: facts["digest"] for name, facts in manifest["weights"].items()
    }
    if manifest["patch"] is not None:
        digests[folder / "patch.py"] = manifest["patch"]["digest"]
    for path in digests:
        if not path.is_file():
            raise refusal(path, folder)
    return manifest, digests


def _compare(folder: Path, found: dict[Path, str], expected: dict[Path, str]) -> None:
    for path, digest in found.items():
        if digest != expected[path]:
            raise refusal(path, folder)


def verify_engine(folder: Path) -> dict[str, Any]:
    """An engine's manifest, once every file of it has the digest named there.

    Raises EngineError that names the file which does not.
    """
    manifest, expected = _manifest(folder)
    _compare(folder, digest_files(expected), expected)
    return manifest


def load_engine(folder: Path, device: str) -> tuple[StableDiffusionXLPipeline, dict[str, Any]]:
    """The verified and patched pipeline of an engine on a device, and the engine's manifest.

    Every byte is hashed at every start, on its way to the device: a note of an earlier check would
    not see a disk that returns other bits. Raises EngineError for what differs from the manifest,
    and for a stand-in, which has no pipeline.
    """
    manifest, expected = _manifest(folder)
    if manifest["stand_in"] is not None:
        raise EngineError(
            f"{folder} is a stand-in without a model; t2i.painters draws its pictures"
        )
    weights = [path for path in expected if path.suffix == ".safetensors"]
    weights.sort(key=lambda path: path.stat().st_size, reverse=True)
    _compare(folder, digest_files(expected.keys() - set(weights)), expected)
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(load_files, weights, device)
        networks = {
            name: empty_network(kind, folder / "weights" / name, DTYPES[manifest["dtype"]])
            for name, kind in NETWORKS.items()
        }
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            folder / "weights", **networks, local_files_only=True, add_watermarker=False
        )
        try:
            tensors, digests = loading.result()
        except WeightsError:
            verify_engine(folder)  # a file that has changed is called that, not merely damaged
            raise
    _compare(folder, digests, expected)
    for name, network in networks.items():
        fill_network(
            network,
            {path: tensors[path] for path in sorted(weights) if path.parent.name == name},
        )
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
