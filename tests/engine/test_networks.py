"""Networks read without diffusers: schedule, text encoders and defaults beside its own."""

import t2i.job.torch_shim  # noqa: F401

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from micro_model import SETTINGS, MicroModel
from t2i.base.files import read_json
from t2i.engine import schedule as schedules
from t2i.engine import text, unet, vae
from t2i.engine.build import build_engine
from t2i.engine.load import load_engine
from t2i.engine.loop import Loop
from t2i.engine.networks import load_networks, networks_of
from t2i.engine.schedule import schedule, scheduled
from t2i.engine.text import TextEncoder
from t2i.engine.variant import Variant
from t2i.engine.weights import WeightsError
from unet_peers import drawn_network

ROOT = Path(__file__).parents[2]
SDXL = ROOT / "config" / "models" / "sdxl-base-1.0"
PLANNED = read_json(SDXL / "scheduler" / "scheduler_config.json")


@pytest.mark.parametrize("steps", [1, 4, 20, 27, 30])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"steps_offset": 0},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace"},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"use_karras_sigmas": True},
        {"final_sigmas_type": "sigma_min"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
    ids=str,
)
def test_the_schedule_is_that_of_diffusers(change: dict[str, Any], steps: int) -> None:
    ours = schedule(PLANNED | change, steps)
    theirs = scheduled(EulerDiscreteScheduler.from_config(PLANNED | change), steps)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    assert torch.equal(ours.sigmas, theirs.sigmas)
    assert ours.first_sigma == theirs.first_sigma


def test_a_schedule_of_defaults_is_that_of_diffusers() -> None:
    ours, theirs = schedule({}, 20), scheduled(EulerDiscreteScheduler(), 20)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    assert torch.equal(ours.sigmas, theirs.sigmas)


def test_defaults_are_those_of_the_libraries() -> None:
    for defaults, kind in (
        (unet.DEFAULTS, UNet2DConditionModel),
        (vae.DEFAULTS, AutoencoderKL),
        (schedules.DEFAULTS | schedules.PLAIN, EulerDiscreteScheduler),
    ):
        own = inspect.signature(kind.__init__).parameters
        for name, value in defaults.items():
            assert json.dumps(own[name].default) == json.dumps(value), name
    config = CLIPTextConfig()
    assert {name: getattr(config, name) for name in text.DEFAULTS} == text.DEFAULTS


@pytest.mark.parametrize("cosines_first", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
def test_sinusoids_are_those_of_diffusers(cosines_first: bool, shift: float) -> None:
    numbers = torch.tensor([951.0, 1.0, 0.0, 1024.0])
    theirs = get_timestep_embedding(numbers, 320, cosines_first, shift)
    assert torch.equal(unet.sinusoids(numbers, 320, cosines_first, shift), theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("end", [2, 49407], ids=["largest id", "named id"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_text_encoder_is_that_of_transformers(
    dtype: torch.dtype, end: int, activation: str
) -> None:
    config = CLIPTextConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=32,
        hidden_act=activation,
        eos_token_id=end,
    )
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 49406, (5, 77), generator=generator)
    for row, place in enumerate((1, 5, 30, 75, 76)):  # after its end, a text is filled with it
        ids[row, place:] = 49407
    ids[1, 40:] = 0
    for kind in (CLIPTextModel, CLIPTextModelWithProjection):
        network = drawn_network(kind(config), 4).to(dtype)
        tensors = dict(network.state_dict())
        with torch.inference_mode():
            theirs = network(ids, output_hidden_states=True)
            states, pooled = TextEncoder(tensors, config.to_dict())(ids)
        assert torch.equal(states, theirs.hidden_states[-2])
        if kind is CLIPTextModel:
            assert pooled is None
        else:
            assert torch.equal(pooled, theirs.text_embeds)


def test_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_act is relu"):
        TextEncoder({}, {"hidden_act": "relu"})


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_loop_without_diffusers_paints_the_pipelines_bytes(
    micro_model: MicroModel, dtype: str
) -> None:
    engine = micro_model.engines[dtype]
    pipeline, manifest = load_engine(engine, "cpu")
    latent = np.load(micro_model.latent)[:, :, :8, :8]
    whole = Loop(networks_of(pipeline), manifest)
    without = Loop(load_networks(engine, "cpu")[0], manifest)
    assert (without.side, without.latent_side) == (whole.side, whole.latent_side)
    one, other = (
        each.images(micro_model.tokens(), range(3), latent, 4).pixels for each in (whole, without)
    )
    assert np.array_equal(one, other)


def test_a_native_engine_is_loaded_without_diffusers_and_transformers(
    micro_model: MicroModel, tmp_path: Path
) -> None:
    variant = Variant(**SETTINGS | {"dtype": "bf16", "backend": "native"})
    build_engine(micro_model.model, tmp_path, variant)
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import t2i.engine.loop
from t2i.engine.networks import load_networks
from pathlib import Path
load_networks(Path({str(tmp_path)!r}), "cpu")
print(sorted({{"diffusers", "transformers", "sklearn", "pandas"}} & sys.modules.keys()))
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["unet", "text_encoder_2"])
def test_tensors_that_do_not_fit_are_refused_when_the_engine_is_built(
    micro_model: MicroModel, tmp_path: Path, name: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(micro_model.model, model)
    path = next((model / name).glob("*.safetensors"))
    tensors = load_file(path)
    first, *others = sorted(tensors)
    save_file({key: tensors[key] for key in others}, path)
    engine = tmp_path / "engine"
    engine.mkdir()
    with pytest.raises(WeightsError, match=f"do not fit .*1 missing: {first}"):
        build_engine(model, engine, Variant(**SETTINGS | {"dtype": "fp32"}))
    save_file(tensors | {first: tensors[first].flatten()[:-1].contiguous()}, path)
    with pytest.raises(WeightsError, match=f"1 of another shape: {first}"):
        build_engine(model, engine, Variant(**SETTINGS | {"dtype": "fp32"}))
