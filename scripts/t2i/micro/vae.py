"""The micro SDXL's autoencoder, trained on drawn objects of any place, size and colour."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from t2i.micro.data import (
    draw,
    objects_of,
    random_objects,
    training_scenes,
    validation_scenes,
)
from t2i.micro.grids import GRID_COLUMNS, to_pixels
from t2i.micro.model import LATENT_SIDE, SCALING, micro_vae
from t2i.micro.trainer import Losses, Recipe, Trainer, half_precision, load_half, save_half


@dataclass(frozen=True)
class VaeRecipe(Recipe):
    """How the autoencoder is trained; `kl` and `edges` weigh the loss's parts.

    A share `free` of the colours is any at all, the others are the picture set's, moved by up to
    `levels` grey levels. An object's pixels count 1 + `weight` times: it covers little.
    """

    steps: int = 3400
    batch: int = 64
    peak: float = 2e-3
    seed: int = 1
    kl: float = 3e-4
    edges: float = 1.0
    weight: float = 4.0
    free: float = 0.1
    levels: float = 8.0


def vae_losses(
    made: Tensor, mean: Tensor, logvar: Tensor, drawn: Tensor, recipe: VaeRecipe
) -> Losses:
    """Weighted loss of pictures (n, 3, h, w) in [-1, 1], and its parts.

    `error` is the mean absolute error, an object's pixels weighted; `edges` that of differences
    between neighbours; `kl` the posterior's divergence from a standard normal, per latent value.
    """
    difference = made - drawn
    unlike = (drawn - drawn[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.05
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    error = (difference.abs() * (1 + recipe.weight * unlike)).mean()
    edges = across + down
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    loss = error + recipe.edges * edges + recipe.kl * kl
    return {"loss": loss, "error": error, "edges": edges, "kl": kl}


def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Scaled latents (n, 4, h, w), the posterior's mean, of pictures (n, 3, 8h, 8w) in [0, 1]."""
    with torch.no_grad():
        rows = [
            vae.encode(2 * batch - 1).latent_dist.mean * vae.config.scaling_factor
            for batch in pictures.split(256)
        ]
    return torch.cat(rows)


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures (n, 3, 8h, 8w) float32 in [0, 1] of scaled latents, in the network's format."""
    with torch.no_grad():
        rows = [
            vae.decode((batch / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
            for batch in latents.split(128)
        ]
    return (torch.cat(rows).float() / 2 + 0.5).clamp(0, 1)


def normalise(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Rescale the latents so that each channel has mean 0 and, scaled by SDXL's factor, variance 1.

    The affine map goes into the 1 x 1 convolutions on both sides of the latents, so that pictures
    do not change. `pictures` (n, 3, h, w) in [0, 1] are what is measured.
    """
    latents = encode(vae, pictures) / SCALING
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    factor = 1 / (SCALING * deviation)
    with torch.no_grad():
        quant, post = vae.quant_conv, vae.post_quant_conv
        quant.weight[:4] *= factor[:, None, None, None]
        quant.bias[:4] = (quant.bias[:4] - mean) * factor
        quant.bias[4:] += 2 * factor.log()
        post.bias += post.weight[:, :, 0, 0] @ mean
        post.weight /= factor[None, :, None, None]


def reconstruction_error(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Mean error in grey levels of pictures (n, 3, h, w) in [0, 1] encoded and decoded."""
    decoded = decode(vae, encode(vae, pictures))
    return float((decoded - pictures).abs().mean() * 255)


def train_vae(
    recipe: VaeRecipe, device: str, folder: Path, checkpoint: Path, samples: Path
) -> dict[str, Any]:
    """Train, write the normalised network to `folder`, and return the facts of the training.

    `samples` gets drawn and reconstructed scenes, one above the other, of each look.
    """
    torch.manual_seed(recipe.seed)
    vae = micro_vae().to(device, memory_format=torch.channels_last)
    trainer = Trainer([vae], recipe, device)
    held_out = draw(objects_of(validation_scenes()[: recipe.scenes], device))

    def losses() -> Losses:
        drawn = 2 * draw(random_objects(recipe.batch, device, recipe.free, recipe.levels)) - 1
        noise = torch.randn(recipe.batch, 4, LATENT_SIDE, LATENT_SIDE, device=device)
        with half_precision(device):
            moments = vae.quant_conv(
                vae.encoder(drawn.contiguous(memory_format=torch.channels_last))
            )
            mean, logvar = moments.float().chunk(2, dim=1)
            logvar = logvar.clamp(-30, 20)
            made = vae.decoder(vae.post_quant_conv(mean + noise * (0.5 * logvar).exp()))
        return vae_losses(made.float(), mean, logvar, drawn, recipe)

    def look() -> tuple[dict[str, float], Tensor]:
        average = trainer.averages[0]
        shown = held_out[:GRID_COLUMNS]
        rows = torch.cat([shown, decode(average, encode(average, shown))])
        return {"error_grey_levels": reconstruction_error(average, held_out)}, to_pixels(rows)

    trainer.train(losses, checkpoint, look)
    average = trainer.averages[0].to(memory_format=torch.contiguous_format).requires_grad_(False)
    normalise(average, draw(objects_of(training_scenes()[: recipe.scenes], device)))
    save_half(average, folder)
    trainer.write_pictures(samples)
    return {**trainer.figures(), "figures": _written(folder, held_out)}


def _written(folder: Path, held_out: Tensor) -> dict[str, Any]:
    """Figures of the written network: errors in grey levels, of pictures and of half formats."""
    vae = load_vae(folder, held_out.device)
    figures: dict[str, Any] = {"error_grey_levels": reconstruction_error(vae, held_out)}
    latents = encode(vae, held_out[:64])
    exact = decode(vae, latents)
    figures["deviation_of_latents"] = float(latents.std())
    for dtype in (torch.float16, torch.bfloat16):
        difference = (decode(copy.deepcopy(vae).to(dtype), latents) - exact).abs() * 255
        name = str(dtype).removeprefix("torch.")
        figures[f"{name}_error_grey_levels"] = float(difference.mean())
        figures[f"{name}_largest_error_grey_levels"] = float(difference.max())
    return figures


def load_vae(folder: Path, device: str | torch.device) -> AutoencoderKL:
    """The written network at float32."""
    vae: AutoencoderKL = load_half(AutoencoderKL, folder, device)
    return vae
