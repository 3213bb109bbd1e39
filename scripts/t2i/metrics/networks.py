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
OPEN_CLIP_ARCHITECTURE = "ViT-H-14"


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
    _describe(published, folder, CLIP_ARCHITECTURE, {})


def convert_open_clip(published: Path, folder: Path) -> None:
    """Write OpenCLIP's ViT-H-14 (a pickle of tensors, read with weights_only) likewise.

    It was trained with the exact GELU. The caller has checked the digest of `published`.
    """
    state = torch.load(published, map_location="cpu", weights_only=True)
    save_file(
        {name: value.float().contiguous() for name, value in state.items()},
        folder / "model.safetensors",
    )
    _describe(published, folder, OPEN_CLIP_ARCHITECTURE, {"exact_gelu": True})


def _describe(published: Path, folder: Path, architecture: str, more: dict[str, bool]) -> None:
    config = open_clip.get_model_config(architecture)
    kept = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    (folder / "config.json").write_text(json.dumps({**kept, **more}, indent=2) + "\n")
    write_json(folder / "network.json", {"weights": "published", "source": sha256_file(published)})
