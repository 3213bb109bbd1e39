"""Pictures of a checkpoint: DDIM over 50 steps, one for each caption, the same in any shard."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from t2i.base.files import verify_sha256
from t2i.training.noise import sample
from t2i.training.steps import generator_of
from t2i.training.text import TextEncoder
from t2i.training.unet import sd2_unet


def load_network(weights: Path, digest: str, sizes: dict[str, Any], device: str) -> Any:
    """A checkpoint's network; raises ValueError when the file's sha256 is another."""
    verify_sha256(weights, digest)
    network: UNet2DConditionModel = sd2_unet(sizes)
    network.load_state_dict(load_file(weights))
    return network.eval().requires_grad_(False).to(device)


def load_vae(folder: Path, device: str) -> Any:
    """The autoencoder in diffusers' layout, float32."""
    variant = "fp16" if (folder / "diffusion_pytorch_model.fp16.safetensors").exists() else None
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(
        folder, variant=variant, torch_dtype=torch.float32, local_files_only=True
    )
    return vae.eval().requires_grad_(False).to(device)


def first_latent(seed: int, index: int, side: int) -> Tensor:
    """Noise (4, side, side) float32 that a sample's picture starts from; drawn on the CPU."""
    return torch.randn(4, side, side, generator=generator_of(seed, index, "cpu"))


class Sampler:
    """Makes pictures of captions with a checkpoint's network.

    The reference decodes to [-1, 1] and takes that for all of a pixel's range, also where it
    trained on [0, 1]: its pictures are whitish, and their FID is of that.
    """

    def __init__(
        self, network: Any, vae: Any, text: TextEncoder, seed: int, steps: int, guidance: float
    ) -> None:
        self.network, self.vae, self.text = network, vae, text
        self.seed, self.steps, self.guidance = seed, steps, guidance
        self.empty = text([""])

    def _velocity(self, hidden: Tensor) -> Any:
        both = torch.cat([self.empty.expand_as(hidden), hidden])

        def velocity(latents: Tensor, timestep: Tensor) -> Tensor:
            predicted: Tensor = self.network(latents, timestep, both, return_dict=False)[0]
            return predicted

        return velocity

    @torch.inference_mode()
    def pictures(self, captions: list[str], indices: list[int], batch: int) -> np.ndarray:
        """Pictures (n, h, w, 3) uint8 of captions and their sample indices, at most `batch`.

        Batches are filled up to `batch`, so that a row does not depend on its neighbours.
        """
        filled = [*captions, *captions[-1:] * (batch - len(captions))]
        places = [*indices, *indices[-1:] * (batch - len(indices))]
        side = self.network.config.sample_size
        noise = torch.stack([first_latent(self.seed, index, side) for index in places])
        velocity = self._velocity(self.text(filled))
        found = sample(velocity, noise.to(self.text.device), self.steps, self.guidance)
        decoded = self.vae.decode(found / self.vae.config.scaling_factor, return_dict=False)[0]
        return to_uint8(decoded)[: len(captions)]


def to_uint8(decoded: Tensor) -> np.ndarray:
    """Decoded pictures (n, 3, h, w), of which [-1, 1] is shown, as (n, h, w, 3) uint8."""
    scaled = (255 * ((decoded.float() + 1) / 2).clamp(0, 1)).round()
    pixels: np.ndarray = scaled.permute(0, 2, 3, 1).to("cpu", torch.uint8).numpy()
    return pixels
