"""Engines: what a variant is built into once, before any image is generated.

An engine is a folder: `weights/` in diffusers' layout at the variant's number format, perhaps
`patch.py`, and `engine.json`, which names every file's digest
(`t2i.engine.weights.digest_files`) and everything else that pixels depend on. The digest over that
is the engine's identity.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from t2i.base.files import read_json, sha256_json, write_json
from t2i.engine.fp8.scales import read_scales
from t2i.engine.load import NETWORKS
from t2i.engine.manifest import SCALES, SCHEMA, EngineError, without_defaults
from t2i.engine.prune import fit
from t2i.engine.variant import DTYPES, Variant
from t2i.engine.weights import (
    Stored,
    digest_files,
    empty_network,
    fitted,
    read_header,
)
from t2i.job.disk import require_space

OTHERS = {
    "scheduler": EulerDiscreteScheduler,
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
}
PICKLES = {".bin", ".ckpt", ".pkl", ".pt", ".pth"}


def build_engine(
    model: Path,
    folder: Path,
    variant: Variant,
    unet: Path | None = None,
    scales: Path | None = None,
) -> dict[str, Any]:
    """Build a variant's engine in `folder` from a model in diffusers' layout; return its manifest.

    Weights are cast tensor by tensor, which gives what loading at that number format gives. The
    fp16 files of a model that has them are used for fp16, as the reference does. A stand-in's
    engine has no weights. `unet` is another UNet's file, which takes the place of the model's;
    `scales` are those of an fp8 variant (`t2i.engine.fp8.scales`), which become part of it.
    """
    weights, dtype = folder / "weights", DTYPES[variant.dtype]
    sources = [] if variant.stand_in else _model_files(model, variant.dtype)
    targets = {
        source: weights / source.relative_to(model).with_name(source.name.replace(".fp16.", "."))
        for source in sources
    }
    if unet is not None:
        _check_unet(unet, model)
        own = weights / "unet"
        targets = {
            source: target
            for source, target in targets.items()
            if target.parent != own or target.suffix != ".safetensors"
        }
        targets[unet] = own / "diffusion_pytorch_model.safetensors"
    _check_networks(model, targets)
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
    fp8 = None
    if variant.fp8 is not None:
        assert scales is not None
        read_scales(scales)
        shutil.copyfile(scales, folder / SCALES)
        fp8 = {**variant.fp8, "scales": digest_files([folder / SCALES])[folder / SCALES]}
    files = sorted(targets.values())
    identity = {
        **without_defaults({**asdict(variant), "patch": patch, "fp8": fp8}),
        "weights": {
            path.relative_to(weights).as_posix(): {"size": path.stat().st_size, "digest": digest}
            for path, digest in digest_files(files).items()
        },
    }
    manifest = {"schema": SCHEMA, "digest": sha256_json(identity), **identity}
    write_json(folder / "engine.json", manifest)
    return manifest


def _check_networks(model: Path, sources: Iterable[Path]) -> None:
    """Raise WeightsError where a model's files do not fit their networks.

    Before hours are spent: the loop asks for the tensors that it knows, and for no shape.
    """
    shapes: dict[Path, dict[Path, dict[str, Stored]]] = {}
    for path in sources:
        if path.suffix == ".safetensors":
            entries = {entry.name: entry for entry in read_header(path)}
            shapes.setdefault(path.parent, {})[path] = entries
    for name, kind in NETWORKS.items():
        if files := shapes.get(model / name):
            fitted(empty_network(kind, model / name, torch.float32), files)


def _check_unet(unet: Path, model: Path) -> None:
    """Raise EngineError where a file is no UNet for the model, whole or pruned."""
    network = empty_network(UNet2DConditionModel, model / "unet", torch.float32)
    shapes = {stored.name: tuple(stored.shape) for stored in read_header(unet)}
    try:
        fit(network, shapes)
    except KeyError as error:
        raise EngineError(f"{unet} is no UNet for {model}: it has no {error.args[0]}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        has, needs = shapes.get(name, "no such tensor"), wanted.get(name, "no such tensor")
        if has != needs:
            raise EngineError(f"{unet} is no UNet for {model}: {name}: {has}, needed {needs}")


def _model_files(model: Path, dtype: str) -> list[Path]:
    """Files of the model that the number format uses; raises EngineError for another kind of model.

    For each network fp16 takes the fp16 weights and every other format the full ones; if only one
    precision exists, every dtype uses it.
    """
    index = read_json(model / "model_index.json")
    wanted = {name: kind.__name__ for name, kind in {**NETWORKS, **OTHERS}.items()}
    classes = {name: value[1] for name, value in index.items() if isinstance(value, list)}
    classes = {name: kind for name, kind in classes.items() if kind is not None}
    if index.get("_class_name") != StableDiffusionXLPipeline.__name__ or classes != wanted:
        differing = sorted({name for name, _ in classes.items() ^ wanted.items()})
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
