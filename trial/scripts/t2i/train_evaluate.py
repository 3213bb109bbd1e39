"""How well the trained miniature paints, by the pixel judge, the CLIP scorer and FID."""

from __future__ import annotations

import t2i.compat  # noqa: F401

import importlib.metadata
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPTokenizer

from t2i.clip import load_clip
from t2i.datasets import NEGATIVE_PROMPT
from t2i.fid import Moments, frechet_distance, moments
from t2i.files import publish, read_json, write_json
from t2i.inception import image_features, inception_network
from t2i.judge import shares_right
from t2i.latents import draw_latent
from t2i.micro import randomise
from t2i.pictures import SIDE, Scene, captions, paint
from t2i.prompt_tokens import PromptTokens
from t2i.sampling import generate, to_uint8
from t2i.tokens import tokenize
from t2i.train_clip import ranking
from t2i.train_common import log
from t2i.train_data import validation_scenes
from t2i.train_unet import LATENT_SIDE, Trainer

COLUMNS = 16


@dataclass(frozen=True)
class Sampling:
    """One way to sample; `state` is the text encoders' hidden state, the benchmark's is -2."""

    steps: int = 20
    guidance: float = 8.0
    dtype: torch.dtype = torch.float32
    batch: int = 512
    negative: str = NEGATIVE_PROMPT
    zeroed: bool = False
    state: int = -2
    scheduler: tuple[tuple[str, Any], ...] = ()


VARIANTS = {
    "fp32": Sampling(batch=64),
    "bf16": Sampling(dtype=torch.bfloat16),
    "guidance 4": Sampling(guidance=4.0),
    "guidance 1": Sampling(guidance=1.0),
    "8 steps": Sampling(steps=8),
    "4 steps": Sampling(steps=4),
    "zeroed negative": Sampling(zeroed=True),
    "empty negative": Sampling(negative=""),
    "last text state": Sampling(state=-1),
    "trailing": Sampling(scheduler=(("timestep_spacing", "trailing"),)),
    "linspace": Sampling(scheduler=(("timestep_spacing", "linspace"),)),
    "steps_offset 0": Sampling(scheduler=(("steps_offset", 0),)),
}


def shown_captions(shown: list[Scene]) -> list[str]:
    """One caption for each scene, the phrasings in turn."""
    texts = [captions(picture) for picture in shown]
    return [row[number % len(row)] for number, row in enumerate(texts)]


def prompt_tokens(model: Path, texts: list[str], negative: str) -> PromptTokens:
    """Tokens of captions and a negative prompt by a model's tokenizers."""
    folders = model / "tokenizer", model / "tokenizer_2"
    ids, empty = tokenize(texts, *folders), tokenize([negative], *folders)
    return PromptTokens(ids.first, ids.second, empty.first[0], empty.second[0])


def fixed_latent() -> np.ndarray:
    """The part (1, 4, 16, 16) of the embedded data set's latent from which all images start."""
    return np.ascontiguousarray(draw_latent()[:, :, :LATENT_SIDE, :LATENT_SIDE])


def grid(images: np.ndarray, columns: int = COLUMNS) -> Image.Image:
    """Images (n, s, s, 3) uint8 side by side, in rows of `columns`; a rest that fills none goes."""
    rows = len(images) // columns
    side = images.shape[1]
    whole = images[: rows * columns].reshape(rows, columns, side, side, 3)
    return Image.fromarray(whole.transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3))


def save_png(path: Path, image: Image.Image) -> None:
    """Publish an image as PNG."""
    with publish(path) as part:
        image.save(part, format="PNG")


class Looker:
    """Judges the averaged networks of a training by some validation captions, and keeps samples."""

    def __init__(self, out: Path, device: str, count: int) -> None:
        self.out, self.device = out, device
        self.shown = validation_scenes()[:count]
        self.pipeline: Any = None
        self.samples = out / "training.png"

    def __call__(self, trainer: Trainer) -> dict[str, float]:
        """Shares right at guidance 8 with 20 steps; one more row of samples in training.png."""
        began = time.monotonic()
        model = self.out / "model"
        if self.pipeline is None:
            self.tokens = prompt_tokens(model, shown_captions(self.shown), NEGATIVE_PROMPT)
            unet, text, text_2 = trainer.averages
            self.pipeline = StableDiffusionXLPipeline(
                AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32),
                text,
                text_2,
                CLIPTokenizer.from_pretrained(model / "tokenizer"),
                CLIPTokenizer.from_pretrained(model / "tokenizer_2"),
                unet,
                EulerDiscreteScheduler.from_pretrained(model / "scheduler"),
                add_watermarker=False,
            ).to(self.device)
            self.pipeline.set_progress_bar_config(disable=True)
        count = len(self.shown)
        images = generate(
            self.pipeline, self.tokens, range(count), fixed_latent(), count, 20, 8.0
        ).pixels
        figures = shares_right(images, self.shown)
        row = np.asarray(grid(images[:COLUMNS], min(count, COLUMNS)))
        if self.samples.exists():
            with Image.open(self.samples) as before:
                row = np.concatenate([np.asarray(before), row])
        save_png(self.samples, Image.fromarray(row))
        log("judge", f"{_percent(figures)} ({time.monotonic() - began:.1f} s)")
        return figures


def _percent(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1%}" for name, value in figures.items())


@cache
def _pipeline(model: Path, device: str, dtype: torch.dtype) -> Any:
    """The written model, loaded as an engine loads it."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        model,
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        add_watermarker=False,
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sample(out: Path, device: str, way: Sampling, texts: list[str]) -> np.ndarray:
    """Images (n, 128, 128, 3) uint8 of the written model, sampled in one of the ways."""
    model = out / "model"
    pipeline = _pipeline(model, device, way.dtype)
    shipped = EulerDiscreteScheduler.from_pretrained(model / "scheduler")
    pipeline.scheduler = EulerDiscreteScheduler.from_config(shipped.config, **dict(way.scheduler))
    tokens = prompt_tokens(model, texts, way.negative)
    batches = [
        range(first, min(first + way.batch, len(texts)))
        for first in range(0, len(texts), way.batch)
    ]
    if way.state == -2 and not way.zeroed:
        latent, size = fixed_latent(), min(way.batch, len(texts))
        sampler = (size, way.steps, way.guidance)
        return np.concatenate(
            [generate(pipeline, tokens, batch, latent, *sampler).pixels for batch in batches]
        )
    return np.concatenate([_wrong(pipeline, tokens, batch, way) for batch in batches])


def _wrong(pipeline: Any, tokens: PromptTokens, batch: range, way: Sampling) -> np.ndarray:
    """Images whose text states are wrong, made as `generate` makes right ones."""

    def encoded(first: np.ndarray, second: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        ids, ids_2 = (torch.from_numpy(v).to(pipeline.unet.device) for v in (first, second))
        output = pipeline.text_encoder(ids, output_hidden_states=True)
        output_2 = pipeline.text_encoder_2(ids_2, output_hidden_states=True)
        states = [output.hidden_states[way.state], output_2.hidden_states[way.state]]
        return torch.cat(states, dim=-1), output_2.text_embeds

    count = len(batch)
    with torch.inference_mode():
        rows = list(batch)
        positive, pooled = encoded(tokens.first[rows], tokens.second[rows])
        negative, negative_pooled = (
            value.repeat(count, *[1] * (value.ndim - 1)) * (0.0 if way.zeroed else 1.0)
            for value in encoded(tokens.negative_first[None], tokens.negative_second[None])
        )
        latent = torch.from_numpy(fixed_latent()).to(pipeline.unet.device, pipeline.unet.dtype)
        images = pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=negative_pooled,
            num_inference_steps=way.steps,
            guidance_scale=way.guidance,
            latents=latent.repeat(count, 1, 1, 1),
            output_type="pt",
        ).images
    return to_uint8(images).pixels


def evaluate(out: Path, device: str, count: int, ways: list[str]) -> dict[str, Any]:
    """Judge `count` validation captions for each way to sample; write `out`/evaluation.json.

    FID is the distance from the same scenes as PIL draws them, by Inception with random weights.
    """
    shown = validation_scenes()[:count]
    texts = shown_captions(shown)
    scorer = load_clip(out / "clip", device)
    inception = randomise(inception_network(), seed=10, gain=2**0.5).to(device)
    drawn = np.stack([np.asarray(paint(picture)) for picture in shown])
    reference: Moments = moments(image_features(inception, drawn, 64))
    results: dict[str, Any] = {
        "drawn": {**shares_right(drawn, shown), **ranking(scorer, drawn, texts)}
    }
    log("evaluate", f"drawn: {results['drawn']}")
    rows = []
    first: np.ndarray | None = None
    for name in ways:
        began = time.monotonic()
        images = _sample(out, device, VARIANTS[name], texts)
        seconds = time.monotonic() - began
        first = images if first is None else first
        figures = {**shares_right(images, shown), **ranking(scorer, images, texts)}
        fid, influence = frechet_distance(image_features(inception, images, 64), reference)
        figures |= {
            "fid": fid,
            "fid_error": float(influence.std() / len(influence) ** 0.5),
            "difference_from_first": float(np.abs(images.astype(np.int16) - first).mean()),
            "difference_from_drawn": float(np.abs(images.astype(np.int16) - drawn).mean()),
            "seconds": round(seconds, 2),
        }
        results[name] = figures
        rows.append(images[:COLUMNS])
        log("evaluate", f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        if len(rows) == 1:
            save_png(out / "samples.png", grid(images[:128], min(count, COLUMNS)))
            log("evaluate", f"samples.png: {texts[:COLUMNS]}")
        save_png(out / "ways.png", grid(np.concatenate(rows), min(count, COLUMNS)))
        write_json(out / "evaluation.json", results)
    return results


def file_sizes(out: Path) -> dict[str, int]:
    """Bytes of every file of the model and the scorer."""
    files = [path for part in ("model", "clip") for path in (out / part).rglob("*")]
    return {str(path.relative_to(out)): path.stat().st_size for path in files if path.is_file()}


def write_card(out: Path, settings: dict[str, Any], device: str) -> None:
    """Write `out`/card.json: figures, curves, settings, sizes and software of a training."""
    sizes = file_sizes(out)
    packages = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow")
    parts = {name: read_json(out / f"{name}.json") for name in ("vae", "clip", "unet")}
    card = {
        "data": f"drawn scenes of t2i-bench, {SIDE} x {SIDE} pixels",
        "settings": settings,
        "bytes": {"all": sum(sizes.values()), **sizes},
        "software": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
            "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        },
        **parts,
        "evaluation": read_json(out / "evaluation.json"),
    }
    write_json(out / "card.json", card)
    log("card", f"{sum(sizes.values()) / 1e6:.2f} MB in {len(sizes)} files")
