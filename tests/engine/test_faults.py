"""The mistakes of config/faults.py: each does what it says, as diffusers does when asked for it."""

import t2i.job.torch_shim  # noqa: F401

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

import peers
from micro_model import SETTINGS, SHIPPED, MicroModel
from t2i.engine.build import build_engine
from t2i.engine.latents import read_latent
from t2i.engine.load import load_engine
from t2i.engine.reference import generate
from t2i.engine.variant import Variant

FAULTS = Path(__file__).parents[2] / "config" / "faults.py"
REFERENCE = Variant(dtype="fp32", **SETTINGS)
BATCH, STEPS = 3, 6


def patched(micro_model: MicroModel, folder: Path, fault: str) -> StableDiffusionXLPipeline:
    """The pipeline of an engine that was built with a fault, as a run loads it."""
    variant = replace(REFERENCE, patch=f"{FAULTS}:{fault}")
    build_engine(micro_model.model, folder, variant)
    return load_engine(folder, "cpu")[0]


def painted(
    micro_model: MicroModel, pipeline: StableDiffusionXLPipeline, guidance: float = peers.GUIDANCE
) -> np.ndarray:
    """Images of one batch of prompts, by the library."""
    latent = read_latent(micro_model.latent, pipeline.unet.config.sample_size)
    tokens = micro_model.tokens()
    return generate(pipeline, tokens, range(BATCH), latent, BATCH, STEPS, guidance).pixels


def expected(
    micro_model: MicroModel,
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    scheduler: dict[str, Any] | None = None,
) -> np.ndarray:
    """Images of the same prompts by diffusers alone, called with changed embeddings or schedule."""
    config = json.loads((SHIPPED / "scheduler" / "scheduler_config.json").read_text())
    components = dict(micro_model.peer.components)
    components["scheduler"] = EulerDiscreteScheduler.from_config({**config, **(scheduler or {})})
    peer = StableDiffusionXLPipeline(**components)
    peer.set_progress_bar_config(disable=True)
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    side = peer.unet.config.sample_size
    start = torch.from_numpy(np.load(micro_model.latent))[..., :side, :side]
    with torch.inference_mode():
        encoded = [
            peer.encode_prompt(prompt, negative_prompt=peers.NEGATIVE_PROMPT)
            for prompt in micro_model.prompts[:BATCH]
        ]
        arguments = dict(zip(names, map(torch.cat, zip(*encoded, strict=True)), strict=True))
        decoded = peer(
            **change(arguments),
            guidance_scale=peers.GUIDANCE,
            num_inference_steps=STEPS,
            latents=torch.cat([start] * BATCH),
            output_type="pt",
        ).images
    return peers.pixels(decoded)


def check(micro_model: MicroModel, folder: Path, fault: str, wanted: np.ndarray) -> None:
    """The fault gives the images that are wanted, which differ clearly from those without it."""
    found = painted(micro_model, patched(micro_model, folder, fault))
    largest, share = peers.pixel_difference(found, wanted)
    assert largest <= peers.GREY_LEVELS
    assert share <= peers.DIFFERING_PIXELS
    for image, sound in zip(found, painted(micro_model, micro_model.pipeline), strict=True):
        largest, share = peers.pixel_difference(image, sound)
        assert largest > 2 * peers.GREY_LEVELS
        assert share > 100 * peers.DIFFERING_PIXELS


def test_without_a_fault_both_ways_agree(micro_model: MicroModel) -> None:
    largest, _ = peers.pixel_difference(
        painted(micro_model, micro_model.pipeline), expected(micro_model)
    )
    assert largest <= peers.GREY_LEVELS


@pytest.mark.parametrize(
    ("fault", "setting", "timesteps"),
    [
        (
            "trailing_spacing",
            {"timestep_spacing": "trailing"},
            np.round(np.arange(1000, 0, -50)) - 1,
        ),
        (
            "linspace_spacing",
            {"timestep_spacing": "linspace"},
            np.linspace(999, 0, 20),
        ),
        ("steps_offset_0", {"steps_offset": 0}, np.arange(950, -1, -50)),
    ],
)
def test_other_timesteps(
    micro_model: MicroModel,
    tmp_path: Path,
    fault: str,
    setting: dict[str, Any],
    timesteps: np.ndarray,
) -> None:
    check(micro_model, tmp_path, fault, expected(micro_model, scheduler=setting))
    scheduler = load_engine(tmp_path, "cpu")[0].scheduler
    scheduler.set_timesteps(20)
    np.testing.assert_allclose(scheduler.timesteps.numpy(), timesteps, rtol=1e-6)
    before = dict(micro_model.pipeline.scheduler.config)
    after = dict(scheduler.config)
    unequal = {key for key in after if after[key] != before.get(key)}
    assert unequal == {*setting}


def test_last_states_of_both_text_encoders(micro_model: MicroModel, tmp_path: Path) -> None:
    prompts, peer = micro_model.tokens(), micro_model.peer

    def last_states(first: np.ndarray, second: np.ndarray) -> torch.Tensor:
        pairs = ((peer.text_encoder, first), (peer.text_encoder_2, second))
        outputs = [
            encoder(torch.from_numpy(ids), output_hidden_states=True) for encoder, ids in pairs
        ]
        return torch.cat([output.hidden_states[-1] for output in outputs], dim=-1)

    def change(arguments: dict[str, Any]) -> dict[str, Any]:
        negative = last_states(prompts.negative_first[None], prompts.negative_second[None])
        return {
            **arguments,
            "prompt_embeds": last_states(prompts.first[:BATCH], prompts.second[:BATCH]),
            "negative_prompt_embeds": negative.repeat(BATCH, 1, 1),
        }

    check(micro_model, tmp_path, "last_text_state", expected(micro_model, change))
    encoder = load_engine(tmp_path, "cpu")[0].text_encoder
    ids = torch.from_numpy(prompts.first[:1])
    assert encoder(ids).hidden_states is None  # who asks for no states gets none
    states, sound = (
        network(ids, output_hidden_states=True).hidden_states
        for network in (encoder, peer.text_encoder)
    )
    assert len(states) == len(sound)
    assert torch.equal(states[-1], sound[-1]) and torch.equal(states[0], sound[0])


def test_a_negative_prompt_of_zeros(micro_model: MicroModel, tmp_path: Path) -> None:
    def change(arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            name: torch.zeros_like(value) if name.startswith("negative") else value
            for name, value in arguments.items()
        }

    check(micro_model, tmp_path, "zeroed_negative", expected(micro_model, change))
    # Without guidance there is no negative prompt, so nothing changes.
    found, sound = (
        painted(micro_model, pipeline, guidance=1.0)
        for pipeline in (load_engine(tmp_path, "cpu")[0], micro_model.pipeline)
    )
    assert np.array_equal(found, sound)


def test_captions_of_the_image_before(micro_model: MicroModel, tmp_path: Path) -> None:
    def change(arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value if name.startswith("negative") else value[[2, 0, 1]]
            for name, value in arguments.items()
        }

    wanted = expected(micro_model, change)
    check(micro_model, tmp_path, "shuffled_captions", wanted)
    sound = expected(micro_model)
    for n in range(BATCH):
        assert np.array_equal(wanted[n], sound[n - 1])


def test_a_faulty_pipeline_is_otherwise_the_same(micro_model: MicroModel, tmp_path: Path) -> None:
    pipeline = patched(micro_model, tmp_path, "zeroed_negative")
    assert pipeline.components.keys() == micro_model.pipeline.components.keys()
    assert pipeline.watermark is None
    assert dict(pipeline.scheduler.config) == dict(micro_model.pipeline.scheduler.config)
