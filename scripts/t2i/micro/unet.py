"""The micro SDXL's UNet and its two text encoders, trained together on drawn pictures' latents."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2i.base.files import write_text
from t2i.fetch.needed import TOKENIZERS
from t2i.micro.data import (
    CaptionTokens,
    caption_tokens,
    draw,
    jittered,
    objects_of,
    training_scenes,
)
from t2i.micro.model import micro_text_encoders, micro_unet
from t2i.micro.pictures import SIDE
from t2i.micro.trainer import Losses, Recipe, Trainer, half_precision, save_half
from t2i.micro.vae import encode, load_vae
from t2i.micro.vocabulary import write_small_tokenizer

NETWORKS = ("unet", "text_encoder", "text_encoder_2")
TIMES = 1000
BANDS = 4  # of timesteps, for the losses' curves


@dataclass(frozen=True)
class UnetRecipe(Recipe):
    """How the UNet and the text encoders are trained.

    `repeats` samples of a batch share a caption, at different timesteps. `variants` pictures of
    each scene are encoded, moved by up to `pixels` and scaled by up to `size`. Prompts are left
    out of a share `dropout`. The loss has a signal-to-noise ratio of at most `gamma` for weight.
    """

    steps: int = 2000
    batch: int = 1024
    peak: float = 1e-3
    seed: int = 3
    warm_up: int = 200
    decay: float = 0.01
    average: float = 0.999
    repeats: int = 4
    dropout: float = 0.1
    gamma: float = 5.0
    variants: int = 8
    pixels: float = 1.0
    size: float = 0.02


def alphas_cumulative(device: str) -> Tensor:
    """Cumulative products (1000,) float32 of SDXL's noise schedule (scaled linear)."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, TIMES, dtype=torch.float64)
    return (1 - roots.square()).cumprod(0).float().to(device)


def write_model_frame(model: Path, shipped: Path) -> None:
    """Write a model's tokenizers, scheduler and index; `shipped` holds SDXL's own small files."""
    for name in TOKENIZERS:
        write_small_tokenizer(model / name, {p.name: p for p in (shipped / name).iterdir()})
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(model / name, (shipped / name).read_text(encoding="utf-8"))


def latent_table(vae: Path, device: str, recipe: UnetRecipe) -> Tensor:
    """Latents (scenes, variants, 4, 16, 16) of the training scenes by the written autoencoder."""
    network = load_vae(vae, device)
    objects = objects_of(training_scenes()[: recipe.scenes], device)
    torch.manual_seed(recipe.seed)
    rows = [encode(network, draw(objects))]
    for _ in range(recipe.variants - 1):
        rows.append(encode(network, draw(jittered(objects, recipe.pixels, recipe.size, 0.0))))
    return torch.stack(rows, dim=1)


class DenoisingTask:
    """Noise to be found in noisy latents, from their captions: SDXL's training objective."""

    def __init__(self, networks: list[Any], model: Path, device: str, recipe: UnetRecipe) -> None:
        self.unet, self.text, self.text_2 = networks
        self.device, self.recipe = device, recipe
        shown = training_scenes()[: recipe.scenes]
        self.tokens: CaptionTokens = caption_tokens(shown, model, device)
        self.latents = latent_table(model / "vae", device, recipe)
        self.alphas = alphas_cumulative(device)
        snr = self.alphas / (1 - self.alphas)
        self.weights = snr.clamp(max=recipe.gamma) / snr
        side = float(SIDE)
        self.sizes = torch.tensor([[side, side, 0.0, 0.0, side, side]], device=device)

    def encode_prompts(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate states (n, 77, d) of both encoders, and the second's pooled output (n, p)."""
        with half_precision(self.device):
            states = self.text(first, output_hidden_states=True).hidden_states[-2]
            output = self.text_2(second, output_hidden_states=True)
        hidden = torch.cat([states.float(), output.hidden_states[-2].float()], dim=-1)
        return hidden, output.text_embeds.float()

    def losses(self) -> Losses:
        """Loss of random scenes, phrasings, timesteps and noise, and errors by band of timesteps.

        The loss is weighted by min-SNR (Hang et al., 2023). A left out prompt is the benchmark's
        negative prompt or the empty one.
        """
        recipe, device, tokens = self.recipe, self.device, self.tokens
        count = recipe.batch
        captions = max(1, count // recipe.repeats)
        rows = torch.randint(len(self.latents), (captions,), device=device)
        phrasing = torch.randint(tokens.first.shape[1], (captions,), device=device)
        hidden, pooled = self.encode_prompts(
            torch.cat([tokens.first[rows, phrasing], tokens.without_first]),
            torch.cat([tokens.second[rows, phrasing], tokens.without_second]),
        )
        samples = torch.arange(count, device=device)
        slot = samples % captions
        variant = torch.randint(self.latents.shape[1], (count,), device=device)
        clean = self.latents[rows[slot], variant]
        without = captions + torch.randint(2, (count,), device=device)
        dropped = torch.rand(count, device=device) < recipe.dropout
        slot = torch.where(dropped, without, slot)
        # Evenly spread timesteps, in order: the loss depends strongly on them.
        spread = (samples + torch.rand(count, device=device)) / count
        times = (spread * TIMES).long().clamp(max=TIMES - 1)
        noise = torch.randn_like(clean)
        alpha = self.alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        added = {
            "text_embeds": pooled.index_select(0, slot),
            "time_ids": self.sizes.expand(count, -1),
        }
        given = (
            noisy.contiguous(memory_format=torch.channels_last),
            times,
            hidden.index_select(0, slot),
            added,
        )
        predicted = self.predicted(self.unet, *given)
        error = (predicted - self.wanted(noise, *given)).square().mean(dim=(1, 2, 3))
        bands = error.view(BANDS, -1).mean(dim=1)
        named = {f"band_{number}": bands[number] for number in range(BANDS)}
        return {"loss": (error * self.weights[times]).mean(), **named}

    def predicted(
        self, unet: Any, noisy: Tensor, times: Tensor, hidden: Tensor, added: dict[str, Tensor]
    ) -> Tensor:
        """The noise (n, 4, h, w) float32 that a UNet finds."""
        with half_precision(self.device):
            found = unet(noisy, times, hidden, added_cond_kwargs=added, return_dict=False)[0]
        noise: Tensor = found.float()
        return noise

    def wanted(
        self, noise: Tensor, noisy: Tensor, times: Tensor, hidden: Tensor, added: dict[str, Tensor]
    ) -> Tensor:
        """The noise that the UNet shall find: that which was added."""
        return noise


def train_unet(
    recipe: UnetRecipe,
    device: str,
    model: Path,
    checkpoint: Path,
    samples: Path,
    look: Callable[[list[Any]], tuple[dict[str, float], Tensor]],
) -> dict[str, Any]:
    """Train, write UNet and text encoders below `model`, and return the facts of the training.

    `model` holds the autoencoder and `write_model_frame`'s files. `look` is given the averaged
    networks now and then, and returns figures and pictures, which `samples` gets.
    """
    torch.manual_seed(recipe.seed)
    unet = micro_unet().to(device, memory_format=torch.channels_last)
    networks: list[Any] = [unet, *(network.to(device) for network in micro_text_encoders())]
    trainer = Trainer(networks, recipe, device)
    task = DenoisingTask(networks, model, device, recipe)
    trainer.train(task.losses, checkpoint, lambda: look(trainer.averages))
    trainer.write_pictures(samples)
    for name, network in zip(NETWORKS, trainer.averages, strict=True):
        save_half(network, model / name)
    return {**trainer.figures(), "figures": trainer.looks[-1]}
