"""What a step of training is, as functions of seed and step alone: rows, draws, rate.

Nothing depends on what came before or on the number of processes, so a training that resumes, or
runs on more GPUs at the same global batch, sees the same samples with the same noise.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from t2i.training.noise import TIMESTEPS

START = 1e-6  # of the warm-up, by the full rate
LOGVAR = -30.0, 20.0


class Draws(NamedTuple):
    """What is drawn for b samples: timesteps (b,) int64; noise and posterior (b, 4, h, w)."""

    timesteps: Tensor
    noise: Tensor
    posterior: Tensor


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def rows_of_step(count: int, seed: int, step: int, batch: int) -> np.ndarray:
    """Rows of the data (batch,) that a step takes: each once an epoch, in a new order each time."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // count
    rows: np.ndarray = np.concatenate(
        [
            _order(count, seed, int(epoch))[places[epochs == epoch] - epoch * count]
            for epoch in np.unique(epochs)
        ]
    )
    return rows


def generator_of(seed: int, number: int, device: str) -> torch.Generator:
    """A generator for one step or sample of a seed; those of neighbours have nothing in common."""
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) % 2**63)


def draws(
    seed: int, step: int, batch: int, part: slice, size: tuple[int, int], device: str
) -> Draws:
    """Draws of a part of a step's batch. All of the batch is drawn, so that parts fit together.

    Timesteps are uniform, noise standard normal; `size` is a latent's height and width.
    """
    generator = generator_of(seed, step, device)
    shape = (batch, 4, *size)
    timesteps = torch.randint(TIMESTEPS, (batch,), generator=generator, device=device)
    noise = torch.randn(shape, generator=generator, device=device)
    posterior = torch.randn(shape, generator=generator, device=device)
    return Draws(timesteps[part], noise[part], posterior[part])


def latents(moments: Tensor, posterior: Tensor, scaling: float) -> Tensor:
    """Scaled latents (b, 4, h, w) drawn from moments (b, 8, h, w), of which logvar is clamped."""
    mean, logvar = moments.chunk(2, dim=1)
    return scaling * (mean + (0.5 * logvar.clamp(*LOGVAR)).exp() * posterior)


def rate(step: int, peak: float, warm_up: int) -> float:
    """Learning rate of a step, counted from 0: linear from a millionth of `peak`, then constant."""
    return peak * (START + (1 - START) * step / warm_up if step < warm_up else 1.0)
