"""The published checkpoint of Stable Diffusion v2: autoencoder and text encoder, converted once."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_vae_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from t2i.base.files import write_json

ENCODER = "cond_stage_model.model."
LAYERS = 23  # of 24: the reference stops before the last
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": LAYERS,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77,
    "projection_dim": 512,
    "vocab_size": 49408,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 0,
}
_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_WHOLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


class Ignored:
    """What stands in for an object of the checkpoint's training; nothing of it is run."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


# Lightning pickles its callbacks' states by their class.
IGNORED = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a published checkpoint by name.

    The caller has checked the digest; nothing but tensors and plain values is accepted in it.
    """
    with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
        state = torch.load(path, map_location="cpu", weights_only=True)
    tensors: dict[str, Tensor] = state["state_dict"]
    return tensors


def text_encoder_tensors(state: dict[str, Tensor], layers: int = LAYERS) -> dict[str, Tensor]:
    """Tensors of open_clip's text tower under transformers' names, its first `layers` layers."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(ENCODER):
            continue
        own = name.removeprefix(ENCODER)
        if own in _WHOLE:
            found[f"text_model.{_WHOLE[own]}"] = value
        match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", own)
        if match is None or int(match[1]) >= layers:
            continue
        prefix = f"text_model.encoder.layers.{match[1]}"
        if match[2] == "attn.in_proj":
            for part, values in zip("qkv", value.chunk(3), strict=True):
                found[f"{prefix}.self_attn.{part}_proj.{match[3]}"] = values
        else:
            found[f"{prefix}.{_PARTS[match[2]]}.{match[3]}"] = value
    return found


def _save(folder: Path, name: str, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: value.float().contiguous().clone() for key, value in tensors.items()}
    save_file(whole, folder / name, metadata={"format": "pt"})
    write_json(folder / "config.json", config)


def convert_frozen(
    state: dict[str, Tensor], folder: Path, vae: dict[str, Any], text: dict[str, Any]
) -> None:
    """Write `vae` and `text_encoder` in diffusers' layout, float32; the UNet is left out.

    `vae` and `text` are their configurations. Raises RuntimeError when tensors do not fit them.
    """
    network = AutoencoderKL(**vae)
    converted = convert_ldm_vae_checkpoint(state, network.config)
    network.load_state_dict(converted)
    described = {**vae, "_class_name": "AutoencoderKL"}
    _save(folder / "vae", "diffusion_pytorch_model.safetensors", converted, described)
    tensors = text_encoder_tensors(state, text["num_hidden_layers"])
    _save(folder / "text_encoder", "model.safetensors", tensors, text)
