"""An engine as diffusers' pipeline."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from t2i.engine.files import open_engine, read_weights
from t2i.engine.manifest import EngineError
from t2i.engine.prune import fit
from t2i.engine.variant import DTYPES
from t2i.engine.weights import (
    empty_network,
    fill_network,
    read_header,
)

NETWORKS = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}


def load_engine(folder: Path, device: str) -> tuple[StableDiffusionXLPipeline, dict[str, Any]]:
    """The verified and patched pipeline of an engine on a device, and the engine's manifest.

    Raises EngineError for what differs from the manifest, and for a stand-in.
    """
    manifest, expected = open_engine(folder)
    with ThreadPoolExecutor(1) as background:
        reading = background.submit(read_weights, folder, expected, device)
        networks = {
            name: empty_network(kind, folder / "weights" / name, DTYPES[manifest["dtype"]])
            for name, kind in NETWORKS.items()
        }
        if manifest["unet"] is not None:
            files = [path for path in expected if path.parent.name == "unet"]
            stored = [entry for path in files for entry in read_header(path)]
            fit(networks["unet"], {entry.name: entry.shape for entry in stored})
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            folder / "weights", **networks, local_files_only=True, add_watermarker=False
        )
        tensors = reading.result()
    for name, network in networks.items():
        fill_network(network, tensors[name])
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
