"""CLIP scores: 100 times the cosine between an image and its caption (open_clip, ViT-B/32)."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from t2i.metrics.inception import padded_batches
from t2i.metrics.resize import resized

CLIP_SIDE = 224
SCALE = 100.0


def clip_network(config: dict[str, Any]) -> Any:
    """An open_clip model of the given architecture, evaluation mode, float32.

    `config` holds embed_dim, vision_cfg, text_cfg, and `exact_gelu: true` for weights that were
    trained with the exact GELU. OpenAI's were trained with QuickGELU, whatever open_clip's own
    `quick_gelu` says; with the other they score differently without any error.
    """
    given = dict(config)
    exact = given.pop("exact_gelu", False)
    model = open_clip.CLIP(**{**given, "quick_gelu": not exact})
    model.tokenize = open_clip.tokenize
    return model.eval().requires_grad_(False)


def load_clip(folder: Path, device: str) -> Any:
    """The model in `folder`: config.json, model.safetensors, and merges.txt.gz if it has its own.

    The merges are those of its tokenizer; without the file it is CLIP's.
    """
    model = clip_network(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    if (merges := folder / "merges.txt.gz").exists():
        model.tokenize = SimpleTokenizer(str(merges))
    return model.to(device)


def preprocess(image: np.ndarray) -> Tensor:
    """open_clip's validation transform: an image (height, width, 3) uint8 to (3, 224, 224).

    Bicubic resize of the shorter side with PIL's antialiasing, centre crop, normalisation.
    """
    tensor: Tensor = image_transform(CLIP_SIDE, is_train=False)(Image.fromarray(image))
    return tensor


def preprocess_square(images: Tensor) -> Tensor:
    """Square images (n, size, size, 3) uint8 as `preprocess` gives them, computed on their device.

    (n, 3, 224, 224) float32, the same bits: each of the 256 values of a channel is looked up.
    """
    rows = resized(images, CLIP_SIDE).permute(0, 3, 1, 2).long()
    table = _channel_values(images.device)
    return torch.stack([table[channel][rows[:, channel]] for channel in range(3)], dim=1)


@cache
def _channel_values(device: torch.device) -> Tensor:
    """What becomes of each value of a channel, (3, 256) float32."""
    grey = np.arange(CLIP_SIDE**2).reshape(CLIP_SIDE, CLIP_SIDE) % 256
    values = preprocess(np.stack([grey.astype(np.uint8)] * 3, axis=-1))
    return values.flatten(1)[:, :256].to(device)


def caption_embeddings(model: Any, captions: list[str], batch_size: int) -> np.ndarray:
    """Unit embeddings (n, d) float32 of captions, cut at 77 tokens as open_clip does."""
    tokens = model.tokenize(captions).numpy()
    device = model.logit_scale.device
    rows = []
    with torch.inference_mode():
        for batch, count in padded_batches(tokens, batch_size):
            encoded = model.encode_text(torch.from_numpy(batch).to(device))
            rows.append(nn.functional.normalize(encoded, dim=-1)[:count])
    embeddings: np.ndarray = torch.cat(rows).cpu().numpy()
    return embeddings


def image_embeddings(model: Any, images: Iterable[np.ndarray], batch_size: int) -> np.ndarray:
    """Unit embeddings (n, d) float32 of images (height, width, 3) uint8."""
    inputs = torch.stack([preprocess(image) for image in images])
    return input_embeddings(model, inputs, batch_size)


def input_embeddings(model: Any, inputs: Tensor, batch_size: int) -> np.ndarray:
    """Unit embeddings (n, d) float32 of images as `preprocess` gives them, (n, 3, 224, 224)."""
    device = model.logit_scale.device
    rows = []
    with torch.inference_mode():
        for batch in inputs.split(batch_size):
            missing = batch_size - len(batch)
            padded = torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)])
            encoded = model.encode_image(padded.to(device))
            rows.append(nn.functional.normalize(encoded, dim=-1)[: len(batch)])
    embeddings: np.ndarray = torch.cat(rows).cpu().numpy()
    return embeddings


def clip_scores(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """CLIP scores (n,) float32 of unit embeddings (n, d): 100 x cosine, not clamped at 0."""
    scores: np.ndarray = SCALE * (images * captions).sum(axis=1, dtype=np.float32)
    return scores
