"""The micro SDXL's autoencoder, trained on drawn objects of any place, size and colour."""

from __future__ import annotations

import t2i.compat  # noqa: F401

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from t2i.files import publish_folder, write_json
from t2i.train_common import (
    Average,
    Clock,
    adamw,
    compiled,
    half_precision,
    load_checkpoint,
    log,
    parameter_count,
    prepare,
    save_checkpoint,
    save_half,
    set_rate,
)
from t2i.train_data import (
    draw,
    objects_of,
    random_objects,
    training_scenes,
    validation_scenes,
)

SCALING = 0.13025  # SDXL's own; the trained latents are rescaled to suit it


@dataclass(frozen=True)
class VaeSettings:
    """How the autoencoder is trained; at most `scenes` of either part of the set are measured.

    A share `free` of the colours is any at all, the others are the picture set's, moved by up to
    `levels`. An object's pixels count 1 + `weight` times in the error: it covers little.
    """

    seconds: float = 75.0
    steps: int = 20000
    batch: int = 64
    peak: float = 2e-3
    kl: float = 3e-4
    edges: float = 0.5
    weight: float = 4.0
    free: float = 0.1
    levels: float = 8.0
    scenes: int = 1792
    seed: int = 1


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder: SDXL's block types, four levels, eight pixels for a latent."""
    return AutoencoderKL(
        sample_size=128,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        scaling_factor=SCALING,
        force_upcast=True,
    )


def _losses(
    made: Tensor, mean: Tensor, logvar: Tensor, drawn: Tensor, weight: float
) -> tuple[Tensor, ...]:
    """Mean absolute error, the same of differences between neighbours, and the mean KL.

    In the first, pixels unlike the top left one count 1 + `weight` times.
    """
    difference = made - drawn
    unlike = (drawn - drawn[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.05
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return (difference.abs() * (1 + weight * unlike)).mean(), across + down, kl


def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Scaled latents (n, 4, h, w), the posterior's mean, of pictures (n, 3, 8h, 8w) in [0, 1]."""
    with torch.inference_mode():
        rows = [
            vae.encode(2 * batch - 1).latent_dist.mean * vae.config.scaling_factor
            for batch in pictures.split(256)
        ]
    return torch.cat(rows).clone()


def normalise(vae: AutoencoderKL, pictures: Tensor) -> dict[str, Any]:
    """Rescale the latents so that each channel has mean 0 and, scaled by SDXL's factor, variance 1.

    The affine map goes into the 1 x 1 convolutions on both sides of the latents, so that pictures
    do not change. Returns what was measured before and after.
    """
    before = encode(vae, pictures) / SCALING
    mean, deviation = before.mean(dim=(0, 2, 3)), before.std(dim=(0, 2, 3))
    factor = 1 / (SCALING * deviation)
    with torch.no_grad():
        quant, post = vae.quant_conv, vae.post_quant_conv
        quant.weight[:4] *= factor[:, None, None, None]
        quant.bias[:4] = (quant.bias[:4] - mean) * factor
        quant.bias[4:] += 2 * factor.log()
        post.bias += post.weight[:, :, 0, 0] @ mean
        post.weight /= factor[None, :, None, None]
    after = encode(vae, pictures)
    return {
        "mean_before": mean.tolist(),
        "deviation_before": deviation.tolist(),
        "largest_mean_after": float(after.mean(dim=(0, 2, 3)).abs().max()),
        "deviation_after": float(after.std()),
    }


def reconstruction_error(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Mean error in grey levels of pictures (n, 3, h, w) in [0, 1] encoded and decoded."""
    decoded = decode(vae, encode(vae, pictures))
    return float((decoded - pictures).abs().mean() * 255)


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures (n, 3, 8h, 8w) float32 in [0, 1] of scaled latents, in the network's format."""
    with torch.inference_mode():
        rows = [
            vae.decode((batch / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
            for batch in latents.split(128)
        ]
    return (torch.cat(rows).float() / 2 + 0.5).clamp(0, 1)


def train_vae(out: Path, device: str, settings: VaeSettings, compile_it: bool) -> None:
    """Train and write `out`/model/vae, with its figures in `out`/vae.json; nothing if it is there.

    An interrupted training goes on from `out`/vae.checkpoint.
    """
    if (out / "vae.json").exists():
        log("vae", "is there already")
        return
    prepare(device, settings.seed)
    vae = new_vae().to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(vae)
    optimizer = adamw([vae], device, 0.0)
    log("vae", f"{parameter_count(vae):.2f} M parameters, {settings}")

    def losses(drawn: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        with half_precision(device):
            moments = vae.quant_conv(vae.encoder(drawn))
            mean, logvar = moments.float().chunk(2, dim=1)
            logvar = logvar.clamp(-30, 20)
            made = vae.decoder(vae.post_quant_conv(mean + noise * (0.5 * logvar).exp()))
        return _losses(made.float(), mean, logvar, drawn, settings.weight)

    def batch() -> tuple[Tensor, Tensor]:
        drawn = 2 * draw(random_objects(settings.batch, device, settings.free, settings.levels)) - 1
        noise = torch.randn(settings.batch, 4, 16, 16, device=device)
        return drawn.contiguous(memory_format=torch.channels_last), noise

    losses_fast = compiled("vae", losses, batch(), compile_it)
    optimizer.zero_grad(set_to_none=True)
    clock = Clock(settings.steps, settings.seconds)
    averaged = Average([vae], [average], 0.998)
    curve: list[list[float]] = []
    checkpoint = out / "vae.checkpoint"
    if state := load_checkpoint(checkpoint, device):
        vae.load_state_dict(state["vae"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        clock.step, clock.before, curve = state["step"], state["elapsed"], state["curve"]
        averaged.count = clock.step
        log("vae", f"goes on at step {clock.step}")
    saved = clock.elapsed
    while clock.progress < 1:
        set_rate(optimizer, clock.rate(settings.peak, 100))
        error, edges, kl = losses_fast(*batch())
        (error + settings.edges * edges + settings.kl * kl).backward()
        norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        averaged.update()
        clock.step += 1
        if clock.step % 400 == 0 or clock.step in (1, 50):
            row = [clock.step, clock.elapsed, error.item(), edges.item(), kl.item(), norm.item()]
            curve.append([round(value, 6) for value in row])
            log(
                "vae",
                f"step {clock.step}, {clock.elapsed:.1f} s, error {row[2] * 127.5:.2f} levels, "
                f"edges {row[3] * 127.5:.2f}, KL {row[4]:.2f} nats, gradient {row[5]:.2f}",
            )
        if clock.elapsed - saved > 30:
            saved = clock.elapsed
            state = {"vae": vae.state_dict(), "average": average.state_dict(), "curve": curve}
            state |= {"optimizer": optimizer.state_dict(), "step": clock.step, "elapsed": saved}
            save_checkpoint(checkpoint, state)
    figures = {"steps": clock.step, "seconds": round(clock.elapsed, 1), "curve": curve}
    write_json(out / "vae.json", {**figures, **_finish(average, out, device, settings.scenes)})
    checkpoint.unlink(missing_ok=True)


def _finish(vae: AutoencoderKL, out: Path, device: str, scenes: int) -> dict[str, Any]:
    """Normalise and write the averaged autoencoder; figures of what was written."""
    vae = vae.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    shown = draw(objects_of(training_scenes()[:scenes], device))
    figures = normalise(vae, shown)
    with publish_folder(out / "model" / "vae") as folder:
        save_half(vae, folder)
    written = AutoencoderKL.from_pretrained(out / "model" / "vae", torch_dtype=torch.float32).to(
        device
    )
    held_out = draw(objects_of(validation_scenes()[:scenes], device))
    figures["error_grey_levels"] = reconstruction_error(written, held_out)
    latents = encode(written, held_out[:64])
    exact = decode(written, latents)
    for dtype in (torch.float16, torch.bfloat16):
        difference = (decode(copy.deepcopy(written).to(dtype), latents) - exact).abs() * 255
        name = str(dtype).removeprefix("torch.")
        figures[f"{name}_error"] = [float(difference.mean()), float(difference.max())]
    figures["parameters"] = parameter_count(written)
    log("vae", f"done: {figures}")
    return figures
