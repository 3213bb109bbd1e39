"""How well the trained miniature paints, by the pixel judge, the CLIP scorer and FID."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPTokenizer

from t2i.engine.latents import draw_latent
from t2i.engine.reference import generate
from t2i.fetch.needed import TOKENIZERS
from t2i.job.device import describe_device
from t2i.metrics.clip import load_clip
from t2i.metrics.fid import frechet_distance, moments
from t2i.metrics.inception import image_features, load_inception
from t2i.micro.clip import ranking
from t2i.micro.data import shown_captions, validation_scenes
from t2i.micro.grids import GRID_COLUMNS, grid, save_png
from t2i.micro.judge import shares_right
from t2i.micro.model import LATENT_SIDE
from t2i.micro.pictures import paint
from t2i.micro.unet import NETWORKS
from t2i.mlperf import NEGATIVE_PROMPT
from t2i.prompts.tokenizer import tokenize
from t2i.prompts.tokens import PromptTokens

LOG = logging.getLogger(__name__)
STEPS, GUIDANCE = 20, 8.0
LOOKED_AT = 256  # captions that are judged now and then during training
Fault = Callable[[Any], Any]


@dataclass(frozen=True)
class Way:
    """One way to sample; `fault` names a function that spoils the pipeline, `batch` its images."""

    steps: int = STEPS
    guidance: float = GUIDANCE
    dtype: torch.dtype = torch.float32
    batch: int = 512
    fault: str | None = None


WAYS = {
    "fp32": Way(batch=64),
    "bf16": Way(dtype=torch.bfloat16),
    "guidance 4": Way(guidance=4.0),
    "guidance 1": Way(guidance=1.0),
    "8 steps": Way(steps=8),
    "4 steps": Way(steps=4),
    "trailing": Way(fault="trailing_spacing"),
    "linspace": Way(fault="linspace_spacing"),
    "steps_offset 0": Way(fault="steps_offset_0"),
    "last text state": Way(fault="last_text_state"),
    "zeroed negative": Way(fault="zeroed_negative"),
    "shuffled captions": Way(fault="shuffled_captions"),
}


def prompt_tokens(model: Path, texts: list[str]) -> PromptTokens:
    """Tokens of captions and of the benchmark's negative prompt by a model's tokenizers."""
    folders = model / "tokenizer", model / "tokenizer_2"
    ids, empty = tokenize(texts, *folders), tokenize([NEGATIVE_PROMPT], *folders)
    return PromptTokens(ids.first, ids.second, empty.first[0], empty.second[0])


def paint_captions(pipeline: Any, tokens: PromptTokens, count: int, way: Way) -> np.ndarray:
    """Images (count, 128, 128, 3) uint8 of the first captions, from the data set's one latent."""
    latent = np.ascontiguousarray(draw_latent()[:, :, :LATENT_SIDE, :LATENT_SIDE])
    size = min(way.batch, count)
    batches = [range(first, min(first + size, count)) for first in range(0, count, size)]
    sampler = (size, way.steps, way.guidance)
    return np.concatenate(
        [generate(pipeline, tokens, batch, latent, *sampler).pixels for batch in batches]
    )


class Onlooker:
    """Judges the networks of a training by some validation captions."""

    def __init__(self, model: Path, device: str, scenes: int) -> None:
        self.model, self.device = model, device
        self.shown = validation_scenes()[: min(scenes, LOOKED_AT)]
        self.tokens = prompt_tokens(model, shown_captions(self.shown))

    def __call__(self, networks: list[Any]) -> tuple[dict[str, float], torch.Tensor]:
        """Shares right at guidance 8 with 20 steps, and a row of the pictures."""
        pipeline = StableDiffusionXLPipeline(
            vae=AutoencoderKL.from_pretrained(self.model / "vae", variant="fp16"),
            scheduler=EulerDiscreteScheduler.from_pretrained(self.model / "scheduler"),
            **{name: CLIPTokenizer.from_pretrained(self.model / name) for name in TOKENIZERS},
            **dict(zip(NETWORKS, networks, strict=True)),
            add_watermarker=False,
        )
        pipeline.to(self.device).set_progress_bar_config(disable=True)
        images = paint_captions(pipeline, self.tokens, len(self.shown), Way())
        return shares_right(images, self.shown), torch.from_numpy(images[:GRID_COLUMNS])


def _pipeline(model: Path, device: str, dtype: torch.dtype) -> Any:
    """The written model at a number format."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        model, variant="fp16", torch_dtype=dtype, local_files_only=True, add_watermarker=False
    )
    pipeline.to(device).set_progress_bar_config(disable=True)
    return pipeline


def evaluate(
    models: Path, inception: Path, device: str, count: int, faults: dict[str, Fault], samples: Path
) -> dict[str, Any]:
    """Figures of `count` validation captions, drawn and painted in each way.

    `models` holds micro-sdxl and micro-clip; `faults` are the functions that ways name. FID is the
    distance from the same scenes as PIL draws them. `samples` gets final.png and ways.png.
    """
    shown = validation_scenes()[:count]
    texts = shown_captions(shown)
    model = models / "micro-sdxl"
    tokens = prompt_tokens(model, texts)
    scorer, network = load_clip(models / "micro-clip", device), load_inception(inception, device)
    drawn = np.stack([np.asarray(paint(picture)) for picture in shown])
    batch = min(64, count)
    reference = moments(image_features(network, drawn, batch))
    results: dict[str, Any] = {}
    painted: list[np.ndarray] = []
    for name, way in WAYS.items():
        pipeline = _pipeline(model, device, way.dtype)
        if way.fault is not None:
            pipeline = faults[way.fault](pipeline)
        images = paint_captions(pipeline, tokens, count, way)
        painted.append(images)
        fid, influence = frechet_distance(image_features(network, images, batch), reference)
        difference = np.abs(images.astype(np.int16) - painted[0]).mean(axis=(1, 2, 3))
        results[name] = {
            **shares_right(images, shown),
            **ranking(scorer, images, texts),
            "fid": fid,
            "fid_error": float(influence.std() / len(influence) ** 0.5),
            "difference_from_first": float(difference.mean()),
            "least_difference_from_first": float(difference.min()),
            "largest_difference_from_first": float(difference.max()),
            "difference_from_drawn": float(np.abs(images.astype(np.int16) - drawn).mean()),
        }
        LOG.info("%s: %s", name, {k: round(v, 4) for k, v in results[name].items()})
    first = [images[:GRID_COLUMNS] for images in painted]
    save_png(samples / "ways.png", grid(np.concatenate(first), len(first[0])))
    save_png(samples / "final.png", _whole_rows(painted[0]))
    return {
        "captions": count,
        "device": describe_device(device)["name"],
        "drawn": {**shares_right(drawn, shown), **ranking(scorer, drawn, texts)},
        "ways": results,
        "bytes": file_sizes(models),
    }


def _whole_rows(images: np.ndarray) -> Image.Image:
    """As many of the first 128 images as fill rows."""
    columns = min(GRID_COLUMNS, len(images))
    return grid(images[: min(128, len(images)) // columns * columns])


def file_sizes(models: Path) -> dict[str, int]:
    """Bytes of every file below `models`, and of `all`."""
    files = sorted(path for path in models.rglob("*") if path.is_file())
    sizes = {path.relative_to(models).as_posix(): path.stat().st_size for path in files}
    return {"all": sum(sizes.values()), **sizes}
