"""Noise, sampling and rates: the reference's own code beside ours, and mutations."""

import math

import numpy as np
import pytest
import torch

from mutations import Edit, Swap
from t2i.training import noise, steps

CPU = torch.device("cpu")


def reference_alphas() -> np.ndarray:
    roots = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64)
    return np.cumprod(1 - roots**2)


def noise_difference() -> float:
    """Largest difference of noised latents and target from float64 arithmetic."""
    clean = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    clean = clean.repeat(2, 1, 1, 1)
    timesteps = torch.tensor([0, 1, 500, 999])
    added = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    scheduler = noise.training_noise()
    signal = torch.from_numpy(reference_alphas())[timesteps].view(-1, 1, 1, 1)
    wanted = signal.sqrt() * clean + (1 - signal).sqrt() * added
    target = signal.sqrt() * added - (1 - signal).sqrt() * clean
    return max(
        float((scheduler.add_noise(clean, added, timesteps) - wanted).abs().max()),
        float((scheduler.get_velocity(clean, added, timesteps) - target).abs().max()),
    )


def test_noise_is_the_references() -> None:
    known = {0: 0.99915, 1: 0.9982960278384514, 250: 0.6737926252333215, 999: 0.004660098513077238}
    for step, value in known.items():
        assert noise.alphas_cumprod()[step] == pytest.approx(value, abs=1e-15)
    assert np.abs(noise.alphas_cumprod() - reference_alphas()).max() < 1e-15
    assert noise_difference() <= 2e-6


def test_noise_is_ldms(ldm) -> None:
    betas = ldm.util.make_beta_schedule("linear", 1000, linear_start=0.00085, linear_end=0.012)
    assert np.array_equal(noise.alphas_cumprod(), np.cumprod(1.0 - betas, axis=0))


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("linear betas", noise, "alphas_cumprod", "(roots**2)", "(roots * 0 + 0.005)"),
        Swap("other betas", noise, "BETAS", (0.0001, 0.02)),
        Edit("a little off", noise, "training_noise",
             "torch.from_numpy(alphas_cumprod())",
             "torch.from_numpy(alphas_cumprod() * 0.999)"),
    ],
    ids=str,
)  # fmt: skip
def test_other_noise_differs(mutation: Edit | Swap, monkeypatch) -> None:
    mutation.apply(monkeypatch)
    assert noise_difference() > 2e-6


def sampled(velocity) -> torch.Tensor:
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    return noise.sample(velocity, start, 50, 8.0)


def model(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """A made-up prediction, another for each branch."""
    count = len(latents) // 2
    branch = torch.cat([torch.zeros(count), torch.ones(count)]).view(-1, 1, 1, 1)
    wave = torch.sin(latents * 1.7 + float(timestep) / 300)
    return 0.4 * wave + 0.2 * branch * torch.cos(latents)


def ddim_difference() -> float:
    """Difference of 50 steps from DDIM in float64, by the paper's formula with eta 0."""
    signal = reference_alphas()
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    places = list(range(981, 0, -20))
    for place, before in zip(places, [*places[1:], 0], strict=True):
        without, with_caption = model(torch.cat([latents, latents]), torch.tensor(place)).chunk(2)
        velocity = without + 8.0 * (with_caption - without)
        now, then = signal[place], signal[before]
        clean = math.sqrt(now) * latents - math.sqrt(1 - now) * velocity
        added = math.sqrt(now) * velocity + math.sqrt(1 - now) * latents
        latents = math.sqrt(then) * clean + math.sqrt(1 - then) * added
    return float((sampled(model) - latents).abs().max())


def test_fifty_steps_of_ddim_are_the_references() -> None:
    timesteps = noise.sampling_noise(50).timesteps.tolist()
    assert timesteps == list(range(981, 0, -20))
    assert ddim_difference() <= 3e-5  # of float64, amplified by the guidance


def test_fifty_steps_are_ldms(ldm) -> None:
    class Model:
        num_timesteps, device = 1000, CPU
        alphas_cumprod = torch.from_numpy(reference_alphas()).float()
        alphas_cumprod_prev = torch.cat([torch.ones(1), alphas_cumprod[:-1]])
        betas = 1 - alphas_cumprod / alphas_cumprod_prev
        parameterization = "v"
        sqrt_alphas_cumprod = alphas_cumprod.sqrt()
        sqrt_one_minus_alphas_cumprod = (1 - alphas_cumprod).sqrt()

        def _of(self, values, t, like):
            return values[t].view(-1, 1, 1, 1)

        def predict_eps_from_z_and_v(self, x, t, v):
            return (
                self._of(self.sqrt_alphas_cumprod, t, x) * v
                + self._of(self.sqrt_one_minus_alphas_cumprod, t, x) * x
            )

        def predict_start_from_z_and_v(self, x, t, v):
            return (
                self._of(self.sqrt_alphas_cumprod, t, x) * x
                - self._of(self.sqrt_one_minus_alphas_cumprod, t, x) * v
            )

        def apply_model(self, x, t, c):
            return model(x, t[0])

    sampler = ldm.DDIMSampler(Model(), device=CPU)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    condition = torch.zeros(2, 1)
    found, _ = sampler.sample(
        50,
        2,
        (4, 8, 8),
        conditioning=condition,
        unconditional_conditioning=condition,
        unconditional_guidance_scale=8.0,
        x_T=start,
        eta=0.0,
        verbose=False,
    )
    assert (sampled(model) - found).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("no offset", noise, "sampling_noise", "steps_offset=1", "steps_offset=0"),
        Edit("ends at no noise", noise, "sampling_noise",
             "scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]",
             "scheduler.final_alpha_cumprod = torch.tensor(1.0)"),
        Swap("noise is predicted", noise, "_SCHEDULE",
             {**noise._SCHEDULE, "prediction_type": "epsilon"}),
        Edit("guidance of 7.5", noise, "sample", "without + guidance", "without + 7.5"),
        Edit("branches exchanged", noise, "sample", "without, with_caption =",
             "with_caption, without ="),
    ],
    ids=str,
)  # fmt: skip
def test_other_sampling_differs(mutation: Edit | Swap, monkeypatch) -> None:
    mutation.apply(monkeypatch)
    assert ddim_difference() > 1e-4


def test_a_posterior_is_ldms(ldm) -> None:
    moments = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1)) * 20
    posterior = ldm.Gaussian(moments)
    zeros = torch.zeros(2, 4, 4, 4)
    assert torch.equal(steps.latents(moments, zeros, 1.0), posterior.mean)
    ones = steps.latents(moments, zeros + 1, 1.0)
    assert torch.equal(ones, posterior.mean + posterior.std)


def test_a_learning_rate_is_ldms(ldm) -> None:
    scheduler = ldm.LambdaLinearScheduler(
        warm_up_steps=[1000], f_min=[1.0], f_max=[1.0], f_start=[1e-6], cycle_lengths=[10**13]
    )
    for step in range(1003):
        wanted = 6.4e-5 * scheduler.schedule(step)
        assert steps.rate(step, 6.4e-5, 1000) == pytest.approx(wanted, rel=1e-12)


def test_a_learning_rate_is_as_published() -> None:
    known = {0: 6.4e-11, 1: 6.4064e-8, 500: 3.2e-5, 999: 6.3936e-5, 1000: 6.4e-5, 1002: 6.4e-5}
    for step, value in known.items():
        assert steps.rate(step, 6.4e-5, 1000) == pytest.approx(value, rel=1e-4)
