"""The small CLIP that scores the embedded default, trained on the drawn pictures' captions."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor, nn

from t2i.base.embedded import TRAINED
from t2i.base.files import publish_folder, write_json
from t2i.metrics.clip import (
    CLIP_SIDE,
    SCALE,
    caption_embeddings,
    clip_network,
    image_embeddings,
    load_clip,
)
from t2i.micro.data import (
    constant,
    draw,
    jittered,
    objects_of,
    shown_captions,
    training_captions,
    training_scenes,
    validation_scenes,
)
from t2i.micro.model import micro_clip_config
from t2i.micro.pictures import paint
from t2i.micro.trainer import Losses, Recipe, Trainer, half_precision
from t2i.micro.vocabulary import write_open_clip_merges

MERGES = "merges.txt.gz"
LARGEST_SCALE = 100.0  # of the logits, as CLIP's own training has it


@dataclass(frozen=True)
class ClipRecipe(Recipe):
    """How the scorer is trained: movement in pixels, recolouring and noise in grey levels."""

    steps: int = 800
    batch: int = 768
    peak: float = 1e-3
    seed: int = 2
    decay: float = 0.05
    pixels: float = 2.0
    size: float = 0.06
    levels: float = 20.0
    noise: float = 8.0


def degraded(pictures: Tensor, noise: float) -> Tensor:
    """Pictures (n, 3, s, s) in [0, 1], half of them blurred, with noise of up to `noise` levels.

    Generated pictures are neither as sharp nor as clean as drawn ones.
    """
    side = pictures.shape[-1]
    small = nn.functional.interpolate(pictures, size=side // 2, mode="area")
    blurred = nn.functional.interpolate(small, size=side, mode="bilinear")
    column = torch.rand(len(pictures), 2, 1, 1, 1, device=pictures.device)
    mixed = torch.where(column[:, 0] < 0.5, pictures, blurred)
    return (mixed + torch.randn_like(mixed) * column[:, 1] * noise / 255).clamp(0, 1)


def prepared(pictures: Tensor) -> Tensor:
    """open_clip's validation transform of pictures (n, 3, s, s) in [0, 1], on their device."""
    large = nn.functional.interpolate(
        pictures, size=CLIP_SIDE, mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    mean, deviation = (
        constant(tuple(values), large.device)[:, None, None]
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (large - mean) / deviation


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's loss of unit embeddings (n, d), and the share of images whose caption comes first.

    Each image is compared with all captions of the batch, and each caption with all images.
    """
    logits = (scale.clamp(max=LARGEST_SCALE) * image @ text.T).float()
    target = torch.arange(len(logits), device=logits.device)
    entropy = nn.functional.cross_entropy
    loss = (entropy(logits, target) + entropy(logits.T, target)) / 2
    return loss, (logits.argmax(dim=1) == target).float().mean()


def train_clip(recipe: ClipRecipe, device: str, folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Train, write the scorer to `folder` as fp16, and return the facts of the training."""
    torch.manual_seed(recipe.seed)
    network = clip_network(micro_clip_config()).to(device).train().requires_grad_(True)
    trainer = Trainer([network], recipe, device)
    shown = training_scenes()[: recipe.scenes]
    objects = objects_of(shown, device)
    with publish_folder(folder) as part:
        write_open_clip_merges(part / MERGES)
        texts = training_captions(shown)
        ids = SimpleTokenizer(str(part / MERGES))(texts).view(len(shown), -1, 77).to(device)
        count = min(recipe.batch, len(shown))

        def losses() -> Losses:
            # A random order by sorting: torch draws permutations on the CPU.
            rows = torch.rand(len(shown), device=device).argsort()[:count]
            phrasing = torch.randint(ids.shape[1], (count,), device=device)
            drawn = draw(jittered(objects.rows(rows), recipe.pixels, recipe.size, recipe.levels))
            with half_precision(device):
                image, text, scale = network(
                    prepared(degraded(drawn, recipe.noise)), ids[rows, phrasing]
                )
                loss, right = contrastive_loss(image, text, scale)
            return {"loss": loss, "right": right}

        trainer.train(losses, checkpoint)
        weights = {
            name: value.to("cpu", torch.float16).contiguous()
            for name, value in trainer.averages[0].state_dict().items()
        }
        save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
        write_json(part / "config.json", micro_clip_config())
        write_json(part / "network.json", {"weights": TRAINED})
    return {**trainer.figures(), "figures": _ranking_of_drawn(folder, device, recipe.scenes)}


def _ranking_of_drawn(folder: Path, device: str, scenes: int) -> dict[str, float]:
    """The written scorer's figures on validation pictures as PIL draws them."""
    shown = validation_scenes()[:scenes]
    images = np.stack([np.asarray(paint(picture)) for picture in shown])
    return ranking(load_clip(folder, device), images, shown_captions(shown))


def ranking(network: Any, images: np.ndarray, texts: list[str]) -> dict[str, float]:
    """CLIP scores of images (n, height, width, 3) uint8 with their own and with other captions.

    `score` is the mean with the own caption, `shifted` that with the next row's; `right_first` the
    share of all (image, other caption) pairs in which the own caption scores higher;
    `first_of_all` the share of images whose own caption is the highest of all.
    """
    batch = min(256, len(texts))
    pictures = image_embeddings(network, images, batch)
    scores = SCALE * pictures @ caption_embeddings(network, texts, batch).T
    own = np.diagonal(scores)
    different = ~np.eye(len(texts), dtype=bool)
    return {
        "score": float(own.mean()),
        "shifted": float(np.diagonal(np.roll(scores, -1, axis=1)).mean()),
        "right_first": float((own[:, None] > scores)[different].mean()),
        "first_of_all": float((scores.argmax(axis=1) == np.arange(len(texts))).mean()),
    }
