"""The small CLIP that scores the embedded default, trained on the drawn pictures' captions."""

from __future__ import annotations

import t2i.compat  # noqa: F401

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor, nn

from t2i.clip import CLIP_SIDE, caption_embeddings, clip_network, image_embeddings, load_clip
from t2i.files import publish_folder, write_json
from t2i.pictures import captions, paint
from t2i.train_common import (
    Clock,
    adamw,
    half_precision,
    log,
    parameter_count,
    prepare,
    set_rate,
)
from t2i.train_data import (
    constant,
    draw,
    jittered,
    objects_of,
    training_scenes,
    validation_scenes,
)
from t2i.vocabulary import vocabulary_size, write_open_clip_merges


@dataclass(frozen=True)
class ClipSettings:
    """How the scorer is trained; movement in pixels, noise and recolouring in grey levels.

    At most `scenes` of either part of the picture set are used.
    """

    seconds: float = 45.0
    steps: int = 2500
    batch: int = 768
    peak: float = 1e-3
    pixels: float = 2.0
    size: float = 0.06
    levels: float = 20.0
    noise: float = 8.0
    scenes: int = 1792
    seed: int = 2


def architecture() -> dict[str, Any]:
    """The scorer's architecture in open_clip's words."""
    return {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": CLIP_SIDE,
            "layers": 3,
            "width": 96,
            "patch_size": 32,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocabulary_size(),
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }


def _degraded(pictures: Tensor, noise: float) -> Tensor:
    """Pictures (n, 3, s, s) in [0, 1], half of them blurred, with noise of up to `noise` levels."""
    side = pictures.shape[-1]
    small = nn.functional.interpolate(pictures, size=side // 2, mode="area")
    blurred = nn.functional.interpolate(small, size=side, mode="bilinear")
    column = torch.rand(len(pictures), 2, 1, 1, 1, device=pictures.device)
    mixed = torch.where(column[:, 0] < 0.5, pictures, blurred)
    return (mixed + torch.randn_like(mixed) * column[:, 1] * noise / 255).clamp(0, 1)


def _prepared(pictures: Tensor) -> Tensor:
    """open_clip's validation transform on the device (its resize is PIL's, but for rounding)."""
    large = nn.functional.interpolate(
        pictures, size=CLIP_SIDE, mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    mean, deviation = (
        constant(tuple(values), large.device)[:, None, None]
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (large - mean) / deviation


def train_clip(out: Path, device: str, settings: ClipSettings) -> None:
    """Train and write `out`/clip, with its figures in `out`/clip.json; nothing if it is there.

    Contrastive training as CLIP's: every picture against all captions of the batch, both ways.
    """
    if (out / "clip.json").exists():
        log("clip", "is there already")
        return
    prepare(device, settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    merges = out / "clip.merges.txt.gz"
    write_open_clip_merges(merges)
    shown = training_scenes()[: settings.scenes]
    objects = objects_of(shown, device)
    texts = [text for picture in shown for text in captions(picture)]
    ids = SimpleTokenizer(str(merges))(texts).view(len(shown), -1, 77).to(device)
    network = clip_network(architecture()).to(device).train().requires_grad_(True)
    optimizer = adamw([network], device, 0.05)
    log("clip", f"{parameter_count(network):.2f} M parameters, {settings}")
    clock = Clock(settings.steps, settings.seconds)
    count = min(settings.batch, len(shown))
    target = torch.arange(count, device=device)
    curve: list[list[float]] = []
    while clock.progress < 1:
        set_rate(optimizer, clock.rate(settings.peak, 100))
        rows = torch.randperm(len(shown), device=device)[:count]
        phrasing = torch.randint(ids.shape[1], (count,), device=device)
        drawn = draw(jittered(objects.rows(rows), settings.pixels, settings.size, settings.levels))
        pixels = _prepared(_degraded(drawn, settings.noise))
        with half_precision(device):
            image, text, scale = network(pixels, ids[rows, phrasing])
            logits = scale * image @ text.T
        logits = logits.float()
        cross_entropy = nn.functional.cross_entropy
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            network.logit_scale.clamp_(max=float(np.log(100.0)))
        clock.step += 1
        if clock.step % 250 == 0 or clock.step in (1, 50):
            right = (logits.argmax(dim=1) == target).float().mean().item()
            curve.append([clock.step, round(clock.elapsed, 2), round(loss.item(), 5), right])
            log(
                "clip",
                f"step {clock.step}, {clock.elapsed:.1f} s, loss {loss.item():.4f}, "
                f"{right:.1%} first of {count}, scale {scale.item():.1f}",
            )
    with publish_folder(out / "clip") as folder:
        weights = {
            name: value.to("cpu", torch.float16).contiguous()
            for name, value in network.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        write_json(folder / "config.json", architecture())
        write_json(folder / "network.json", {"weights": "drawn pictures of t2i-bench"})
        (folder / "merges.txt.gz").write_bytes(merges.read_bytes())
    merges.unlink()
    figures = {"steps": clock.step, "seconds": round(clock.elapsed, 1), "curve": curve}
    figures["parameters"] = parameter_count(network)
    figures["drawn"] = _ranking_of_drawn(out / "clip", device, settings.scenes)
    log("clip", f"done: {figures['drawn']}")
    write_json(out / "clip.json", figures)


def _ranking_of_drawn(folder: Path, device: str, scenes: int) -> dict[str, float]:
    """The written scorer's figures on validation pictures as PIL draws them."""
    shown = validation_scenes()[:scenes]
    images = np.stack([np.asarray(paint(picture)) for picture in shown])
    texts = [captions(picture)[n % len(captions(picture))] for n, picture in enumerate(shown)]
    return ranking(load_clip(folder, device), images, texts)


def ranking(network: Any, images: np.ndarray, texts: list[str]) -> dict[str, float]:
    """CLIP scores of images (n, height, width, 3) uint8 with their own and with other captions.

    `shifted` is the mean score with the next row's caption; `right_first` the share of all
    (image, other caption) pairs in which the own caption scores higher.
    """
    pictures = image_embeddings(network, images, 256)
    scores = 100 * pictures @ caption_embeddings(network, texts, 256).T
    own = np.diagonal(scores)
    different = ~np.eye(len(texts), dtype=bool)
    return {
        "score": float(own.mean()),
        "shifted": float(np.diagonal(np.roll(scores, -1, axis=1)).mean()),
        "right_first": float((own[:, None] > scores)[different].mean()),
        "first_of_all": float((scores.argmax(axis=1) == np.arange(len(texts))).mean()),
    }
