"""The noise of Stable Diffusion v2: schedule in float64, v-prediction, DDIM as MLPerf samples."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

TIMESTEPS = 1000
BETAS = 0.00085, 0.012
_SCHEDULE = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": BETAS[0],
    "beta_end": BETAS[1],
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


def alphas_cumprod() -> np.ndarray:
    """Share of the signal's variance at each timestep, (1000,) float64.

    Betas are squares of evenly spaced roots, as ldm's `linear` schedule has them. Everything is
    float64; diffusers multiplies up float32, which is off by 9e-7.
    """
    first, last = BETAS
    roots = torch.linspace(first**0.5, last**0.5, TIMESTEPS, dtype=torch.float64)
    product: np.ndarray = np.cumprod(1.0 - (roots**2).numpy())
    return product


def training_noise(device: str = "cpu") -> DDPMScheduler:
    """`add_noise` and `get_velocity` for float32 latents, with the schedule above."""
    scheduler = DDPMScheduler(**_SCHEDULE, clip_sample=False)
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod()).float().to(device)
    return scheduler


def sampling_noise(steps: int) -> DDIMScheduler:
    """DDIM over `steps` evenly spaced timesteps from 1 on; the last step ends at timestep 0."""
    scheduler = DDIMScheduler(
        **_SCHEDULE,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod()).float()
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    return scheduler


def sample(
    velocity: Callable[[Tensor, Tensor], Tensor], latents: Tensor, steps: int, guidance: float
) -> Tensor:
    """Latents (n, 4, h, w) float32 that DDIM makes of noise, without randomness of its own.

    `velocity` gets latents (2n, 4, h, w), those of the unconditional branch first, and a timestep.
    """
    scheduler = sampling_noise(steps)
    for timestep in scheduler.timesteps:
        without, with_caption = velocity(torch.cat([latents, latents]), timestep).float().chunk(2)
        guided = without + guidance * (with_caption - without)
        latents = scheduler.step(guided, timestep, latents, eta=0.0).prev_sample
    return latents
