"""Loading an engine: every byte is verified while it goes to the device."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from diffusers import (
    StableDiffusionXLPipeline,
)

from t2i.engine.manifest import SCALES, EngineError, read_manifest, refusal
from t2i.engine.prune import fit
from t2i.engine.variant import DTYPES, NETWORKS
from t2i.engine.weights import (
    WeightsError,
    digest_files,
    empty_network,
    fill_network,
    load_files,
    read_header,
)


def load_engine(folder: Path, device: str) -> tuple[StableDiffusionXLPipeline, dict[str, Any]]:
    """The verified and patched pipeline of an engine on a device, and the engine's manifest.

    Every byte is hashed at every start, on its way to the device: a note of an earlier check would
    not see a disk that returns other bits. Raises EngineError for what differs from the manifest,
    and for a stand-in, which has no pipeline.
    """
    manifest, expected = _manifest(folder)
    if manifest["stand_in"] is not None:
        raise EngineError(
            f"{folder} is a stand-in without a model; t2i.engine.painter draws its pictures"
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
        if manifest["unet"] is not None:
            files = [path for path in weights if path.parent.name == "unet"]
            stored = [entry for path in files for entry in read_header(path)]
            fit(networks["unet"], {entry.name: entry.shape for entry in stored})
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


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[Path, str]]:
    """An engine's manifest, and the digest that each of its files must have."""
    manifest = read_manifest(folder)
    digests = {
        folder / "weights" / name: facts["digest"] for name, facts in manifest["weights"].items()
    }
    if manifest["patch"] is not None:
        digests[folder / "patch.py"] = manifest["patch"]["digest"]
    if manifest["fp8"] is not None:
        digests[folder / SCALES] = manifest["fp8"]["scales"]
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
