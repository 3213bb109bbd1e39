"""What the loop runs: SDXL's networks as tensors and configurations, read without diffusers.

Importing diffusers and transformers takes longer than reading the weights. A patch wants their
pipeline, and gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t2i.base.files import read_json
from t2i.engine import unet, vae
from t2i.engine.files import open_engine, read_weights
from t2i.engine.manifest import EngineError, read_manifest
from t2i.engine.reference import encode_prompts
from t2i.engine.schedule import Schedule, schedule, scheduled
from t2i.engine.text import TextEncoder
from t2i.engine.weights import joined

Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Network(NamedTuple):
    """A network's tensors by diffusers' names, and its configuration with what it left out."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Networks:
    """SDXL's networks. They may be taken apart, so that they serve once.

    `encode` is as `t2i.engine.reference.encode_prompts`, without the pipeline; `schedule` gives
    the steps for a number of them.
    """

    unet: Network
    vae: Network
    encode: Encode
    schedule: Callable[[int], Schedule]


def load_networks(folder: Path, device: str) -> tuple[Networks, dict[str, Any]]:
    """The verified and patched networks of an engine on a device, and the engine's manifest.

    Raises EngineError for what differs from the manifest, WeightsError for weights that are not
    SDXL's.
    """
    if read_manifest(folder)["patch"] is not None:
        from t2i.engine.load import load_engine

        pipeline, manifest = load_engine(folder, device)
        return networks_of(pipeline), manifest
    manifest, expected = open_engine(folder)
    files = read_weights(folder, expected, device)

    def config(name: str, file: str = "config.json") -> dict[str, Any]:
        told: dict[str, Any] = read_json(folder / "weights" / name / file)
        return told

    def network(name: str, defaults: Mapping[str, Any]) -> Network:
        return Network(joined(files[name]), {**defaults, **config(name)})

    names = ("text_encoder", "text_encoder_2")
    first, second = (TextEncoder(joined(files[name]), config(name)) for name in names)
    planned = config("scheduler", "scheduler_config.json")

    def encode(ids: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = first(ids)
        states_2, pooled = second(ids_2)
        assert pooled is not None
        return torch.cat([states, states_2], dim=-1), pooled

    return Networks(
        network("unet", unet.DEFAULTS),
        network("vae", vae.DEFAULTS),
        encode,
        lambda steps: schedule(planned, steps),
    ), manifest


def networks_of(pipeline: Any) -> Networks:
    """Those of diffusers' pipeline, which cannot be used afterwards.

    Raises EngineError if a patch changed code of the pipeline that the loop does not call.
    """
    check_unpatched(pipeline)
    parts = {
        name: Network(dict(network.state_dict()), network.config)
        for name, network in (("unet", pipeline.unet), ("vae", pipeline.vae))
    }
    pipeline.unet = pipeline.vae = None  # what is copied into another form needs no second place
    return Networks(
        parts["unet"],
        parts["vae"],
        lambda first, second: encode_prompts(pipeline, first, second),
        lambda steps: scheduled(pipeline.scheduler, steps),
    )


def check_unpatched(pipeline: Any) -> None:
    """Raise EngineError if a patch changed code of the pipeline that the loop does not call.

    Weights, the scheduler and the text encoders may be patched.
    """
    from diffusers import StableDiffusionXLPipeline

    changed = []
    if type(pipeline) is not StableDiffusionXLPipeline:
        changed.append("the pipeline's class")
    for name in ("unet", "vae"):
        for path, module in getattr(pipeline, name).named_modules(prefix=name):
            hooks = module._forward_hooks or module._forward_pre_hooks
            own = "forward" in vars(module)
            if hooks or own or not type(module).__module__.startswith(("diffusers.", "torch.")):
                changed.append(f"{path} ({type(module).__name__})")
    if changed:
        raise EngineError(
            f"patch: it changes {', '.join(changed[:3])}{', ...' * (len(changed) > 3)}, which "
            "backend native does not call; use backend: reference, or change weights, the "
            "scheduler or the text encoders only"
        )
