"""The sampler's Euler steps, from the scheduler's configuration, without diffusers.

Karras et al. (2022), Algorithm 2 without noise, on the noise levels that the model was trained
with (Ho et al. 2020). What SDXL's configuration does not use is left to diffusers' own scheduler.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2i.engine.manifest import EngineError

# Options of diffusers' scheduler at its defaults; those in PLAIN are computed here at no other.
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "timestep_spacing": "linspace",
    "steps_offset": 0,
    "prediction_type": "epsilon",
}
PLAIN: dict[str, Any] = {
    "trained_betas": None,
    "interpolation_type": "linear",
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "timestep_type": "discrete",
    "rescale_betas_zero_snr": False,
    "final_sigmas_type": "zero",
}
EULER = "EulerDiscreteScheduler"


@dataclass(frozen=True)
class Schedule:
    """Euler steps: `timesteps` (steps,) and `sigmas` (steps + 1, the last 0) as float32."""

    timesteps: Tensor
    sigmas: Tensor
    first_sigma: float  # that the starting latent is scaled with

    def to(self, device: torch.device) -> Schedule:
        """The same on a device."""
        return Schedule(self.timesteps.to(device), self.sigmas.to(device), self.first_sigma)


def scheduled(scheduler: Any, steps: int) -> Schedule:
    """What a scheduler of diffusers does; raises EngineError for one of another kind."""
    kind, predicted = type(scheduler).__name__, scheduler.config.prediction_type
    _check(kind, predicted)
    scheduler.set_timesteps(steps)
    return Schedule(
        scheduler.timesteps.cpu().float(),
        scheduler.sigmas.cpu().float(),
        float(scheduler.init_noise_sigma),
    )


def schedule(config: Mapping[str, Any], steps: int) -> Schedule:
    """What diffusers' EulerDiscreteScheduler of a configuration does, bit for bit.

    Raises EngineError for a scheduler of another kind.
    """
    config = {**DEFAULTS, **config}
    _check(config.get("_class_name", EULER), config["prediction_type"])
    spacing, kind = config["timestep_spacing"], config["beta_schedule"]
    plain = all(config.get(key, value) == value for key, value in PLAIN.items())
    if not plain or spacing not in ("leading", "linspace", "trailing") or kind not in POWERS:
        from diffusers import EulerDiscreteScheduler  # takes seconds

        return scheduled(EulerDiscreteScheduler.from_config(config), steps)
    trained = config["num_train_timesteps"]
    if spacing == "leading":
        timesteps = (np.arange(steps) * (trained // steps))[::-1].astype(np.float32)
        timesteps += config["steps_offset"]
    elif spacing == "trailing":
        timesteps = np.arange(trained, 0, -trained / steps).round().astype(np.float32) - 1
    else:
        timesteps = np.linspace(0, trained - 1, steps, dtype=np.float32)[::-1]
    power = POWERS[kind]
    begin, end = (config[key] ** (1 / power) for key in ("beta_start", "beta_end"))
    betas = torch.linspace(begin, end, trained, dtype=torch.float32) ** power
    kept = torch.cumprod(1 - betas, dim=0)  # of the signal's variance
    levels = (((1 - kept) / kept) ** 0.5).numpy()
    found = np.interp(timesteps, np.arange(trained), levels)
    sigmas = torch.from_numpy(np.append(found, 0).astype(np.float32))
    first = sigmas.max()
    if spacing == "leading":
        first = (first**2 + 1) ** 0.5
    return Schedule(torch.from_numpy(timesteps.copy()), sigmas, float(first))


POWERS = {"linear": 1, "scaled_linear": 2}  # of betas whose roots are equally spaced


def _check(kind: str, predicted: str) -> None:
    if kind != EULER or predicted != "epsilon":
        raise EngineError(
            f"backend native: the scheduler is {kind} predicting {predicted}; only {EULER} "
            "predicting epsilon is supported, use backend: reference"
        )
