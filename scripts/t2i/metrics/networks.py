"""Scoring networks as published, converted once to safetensors, and their labels."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import json
from pathlib import Path

import open_clip
import torch
from open_clip.openai import load_openai_model
from safetensors.torch import save_file

from t2i.base.files import sha256_file, write_json

CLIP_ARCHITECTURE = "ViT-B-32-quickgelu"


def convert_inception(published: Path, folder: Path) -> None:
    """Write pytorch-fid's weights (a pickle of tensors, read with weights_only) as safetensors.

    The caller has checked the digest of `published`; nothing but tensors is accepted in it.
    """
    state = torch.load(published, map_location="cpu", weights_only=True)
    tensors = {name: value.contiguous() for name, value in state.items()}
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "network.json", {"weights": "published", "source": sha256_file(published)})


def convert_clip(published: Path, folder: Path) -> None:
    """Write OpenAI's CLIP (a TorchScript archive) as open_clip's config and safetensors, float32.

    TorchScript archives can hold code: the caller has checked the digest of `published`.
    """
    state = load_openai_model(str(published), precision="fp32", device="cpu").state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors"
    )
    config = open_clip.get_model_config(CLIP_ARCHITECTURE)
    kept = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    (folder / "config.json").write_text(json.dumps(kept, indent=2) + "\n")
    write_json(folder / "network.json", {"weights": "published", "source": sha256_file(published)})
