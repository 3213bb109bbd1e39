"""Training of the autoencoder: its losses, its normalised latents, its error."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from t2i.engine.latents import draw_latent
from t2i.micro.data import draw, objects_of, training_scenes
from t2i.micro.model import LATENT_SIDE, SCALING, micro_vae
from t2i.micro.vae import (
    VaeRecipe,
    decode,
    encode,
    normalise,
    reconstruction_error,
    vae_losses,
)


def test_losses_of_the_autoencoder_are_those_of_plain_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = 2 * draw(objects_of(training_scenes()[:3], "cpu"), 16) - 1
    made = drawn + 0.3 * torch.randn(drawn.shape, generator=generator)
    mean, logvar = torch.randn(2, 3, 4, 2, 2, generator=generator)
    recipe = VaeRecipe(kl=0.7, edges=0.3, weight=2.5)
    found = vae_losses(made, mean, logvar, drawn, recipe)
    error, across, down, divergence = [], [], [], []
    for n in range(3):
        one, other = made[n].double().numpy(), drawn[n].double().numpy()
        for c, y, x in np.ndindex(3, 16, 16):
            inside = max(abs(other[k, y, x] - other[k, 0, 0]) for k in range(3)) > 0.05
            error.append(abs(one[c, y, x] - other[c, y, x]) * (3.5 if inside else 1))
            if x:
                change = one[c, y, x] - one[c, y, x - 1] - other[c, y, x] + other[c, y, x - 1]
                across.append(abs(change))
            if y:
                change = one[c, y, x] - one[c, y - 1, x] - other[c, y, x] + other[c, y - 1, x]
                down.append(abs(change))
        normal = torch.distributions.Normal(mean[n].double(), (0.5 * logvar[n].double()).exp())
        standard = torch.distributions.Normal(0.0, 1.0)
        divergence.append(float(torch.distributions.kl_divergence(normal, standard).mean()))
    expected = {
        "error": np.mean(error),
        "edges": np.mean(across) + np.mean(down),
        "kl": np.mean(divergence),
    }
    expected["loss"] = expected["error"] + 0.3 * expected["edges"] + 0.7 * expected["kl"]
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        expected, rel=1e-4
    )


@pytest.fixture(scope="module")
def rescaled() -> tuple[Tensor, Any, Any]:
    """Pictures, a random autoencoder, and the same one with normalised latents."""
    pictures = draw(objects_of(training_scenes()[:8], "cpu"))
    networks = []
    for _ in range(2):
        torch.manual_seed(4)
        networks.append(micro_vae().requires_grad_(False))
    normalise(networks[1], pictures)
    return pictures, *networks


def test_normalised_latents_are_standard_and_pictures_the_same(rescaled) -> None:
    pictures, before, after = rescaled
    old, new = encode(before, pictures), encode(after, pictures)
    assert float(old.std(dim=(0, 2, 3)).sub(1).abs().min()) > 0.1
    torch.testing.assert_close(new.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(new.std(dim=(0, 2, 3)), torch.ones(4), rtol=1e-3, atol=0)
    torch.testing.assert_close(decode(after, new), decode(before, old), rtol=0, atol=1e-4)
    assert float(decode(before, old).std()) > 0.01


def test_a_normalised_posterior_is_the_same_distribution(rescaled) -> None:
    pictures, before, after = rescaled
    noise = draw_latent()[:, :, :LATENT_SIDE, :LATENT_SIDE]
    decoded = []
    for vae in (before, after):
        posterior = vae.encode(2 * pictures[:2] - 1).latent_dist
        latents = posterior.mean + posterior.std * torch.from_numpy(noise)
        decoded.append(decode(vae, latents * SCALING))
    torch.testing.assert_close(*decoded, rtol=0, atol=1e-4)


def test_the_reconstruction_error_is_in_grey_levels(rescaled) -> None:
    pictures, vae, _ = rescaled
    with torch.no_grad():
        sample = vae(2 * pictures - 1).sample.clamp(-1, 1)
    expected = np.abs((sample.numpy() + 1) / 2 - pictures.numpy()).mean() * 255
    assert reconstruction_error(vae, pictures) == pytest.approx(float(expected), rel=1e-4)
