"""Training of the UNet and the text encoders, step by step against diffusers."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
)
from diffusers.training_utils import compute_snr
from torch import Tensor, nn
from transformers import CLIPTokenizer

from micro_model import SHIPPED
from t2i.engine import reference
from t2i.micro.data import draw, objects_of, training_scenes
from t2i.micro.model import LATENT_SIDE, SCALING, micro_text_encoders, micro_unet, micro_vae
from t2i.micro.pictures import PHRASES, SIDE, captions
from t2i.micro.trainer import save_half
from t2i.micro.unet import (
    NETWORKS,
    TOKENIZERS,
    DenoisingTask,
    UnetRecipe,
    alphas_cumulative,
    latent_table,
    write_model_frame,
)
from t2i.micro.vae import (
    load_vae,
)
from t2i.mlperf import NEGATIVE_PROMPT

SCENES = 6
RECIPE = UnetRecipe(batch=32, scenes=SCENES, variants=3, repeats=4, dropout=0.25)
BANDS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model's folder with all but UNet and text encoders: a random autoencoder."""
    folder = tmp_path_factory.mktemp("model")
    write_model_frame(folder, SHIPPED)
    torch.manual_seed(2)
    save_half(micro_vae(), folder / "vae")
    return folder


@pytest.fixture(scope="module")
def encoders() -> list[Any]:
    torch.manual_seed(3)
    return [network.requires_grad_(False) for network in micro_text_encoders()]


def scheduler(kind: Any) -> Any:
    return kind.from_config(EulerDiscreteScheduler.load_config(SHIPPED / "scheduler"))


def test_the_noise_schedule_is_sdxls() -> None:
    expected = scheduler(EulerDiscreteScheduler).alphas_cumprod
    assert alphas_cumulative("cpu").dtype == torch.float32
    torch.testing.assert_close(alphas_cumulative("cpu"), expected, rtol=5e-6, atol=0)


def test_the_models_frame_is_loaded_as_sdxls(model) -> None:
    loaded = EulerDiscreteScheduler.from_pretrained(model / "scheduler").config
    assert dict(loaded) == dict(
        EulerDiscreteScheduler.from_pretrained(SHIPPED / "scheduler").config
    )
    assert StableDiffusionXLPipeline.load_config(model)["_class_name"].endswith("XLPipeline")
    for name in TOKENIZERS:
        ours, theirs = (
            {path.name for path in (folder / name).iterdir()} for folder in (model, SHIPPED)
        )
        assert ours == theirs | {"vocab.json", "merges.txt"}


class Recorder(nn.Module):
    """In place of a UNet: keeps what it is given, and predicts a function of it."""

    def forward(self, noisy: Tensor, times: Tensor, hidden: Tensor, **more: Any) -> tuple[Tensor]:
        self.noisy, self.times, self.hidden = noisy, times, hidden
        self.added = more["added_cond_kwargs"]
        self.predicted = 0.5 * noisy - 0.25
        return (self.predicted,)


class Batch:
    """What one call of the losses drew and gave."""

    def __init__(self, encoders: list[Any], model: Path, recipe: UnetRecipe, seed: int) -> None:
        self.unet = Recorder()
        self.task = DenoisingTask([self.unet, *encoders], model, "cpu", recipe)
        drawn = torch.randn_like

        def kept(like: Tensor) -> Tensor:
            self.clean, self.noise = like, drawn(like)
            return self.noise

        torch.manual_seed(seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", kept)
            self.losses = self.task.losses()

    def shown(self) -> list[tuple[int, int]]:
        """Scene and variant of each sample, by its latents."""
        same = (self.clean[:, None, None] == self.task.latents[None]).flatten(3).all(dim=3)
        assert torch.all(same.sum(dim=(1, 2)) == 1)
        return [(int(row[1]), int(row[2])) for row in same.nonzero()]

    def prompts(self) -> tuple[Tensor, Tensor]:
        """All prompts' states and pooled outputs: a row for each caption, and the empty two."""
        tokens = self.task.tokens
        ids = [
            torch.cat([some.flatten(0, 1), without])
            for some, without in (
                (tokens.first, tokens.without_first),
                (tokens.second, tokens.without_second),
            )
        ]
        return self.task.encode_prompts(*ids)

    def given(self) -> list[int]:
        """The prompt that each sample is given, states and pooled output alike."""
        found = []
        for every, some in zip(
            self.prompts(), (self.unet.hidden, self.unet.added["text_embeds"]), strict=True
        ):
            distances = torch.stack([(every - row).flatten(1).abs().amax(dim=1) for row in some])
            assert float(distances.amin(dim=1).max()) < 1e-3
            found.append(distances.argmin(dim=1).tolist())
        assert found[0] == found[1]
        return found[0]


@pytest.fixture(scope="module")
def batch(encoders, model) -> Batch:
    return Batch(encoders, model, RECIPE, seed=4)


def test_latents_are_made_noisy_as_diffusers_does(batch) -> None:
    expected = scheduler(DDPMScheduler).add_noise(batch.clean, batch.noise, batch.unet.times)
    torch.testing.assert_close(batch.unet.noisy, expected, rtol=1e-5, atol=1e-5)
    assert float(batch.noise.std()) == pytest.approx(1, abs=0.05)


def test_timesteps_are_spread_evenly(batch) -> None:
    times = batch.unet.times.tolist()
    width = 1000 / RECIPE.batch
    for number, time in enumerate(times):
        assert int(number * width) <= time <= (number + 1) * width, number
    assert len({time - number * width for number, time in enumerate(times)}) > 16


def test_the_loss_is_weighted_by_min_snr(batch) -> None:
    peer = scheduler(DDPMScheduler)
    snr = compute_snr(peer, torch.arange(1000))
    expected = snr.clamp(max=RECIPE.gamma) / snr
    torch.testing.assert_close(batch.task.weights, expected, rtol=1e-4, atol=1e-7)
    assert float(expected.min()) < 0.01
    error = (batch.unet.predicted - batch.noise).square().mean(dim=(1, 2, 3))
    weighted = (error * expected[batch.unet.times]).mean()
    assert float(batch.losses["loss"]) == pytest.approx(float(weighted), rel=1e-4)
    quarter = RECIPE.batch // BANDS
    for number in range(BANDS):
        band = error[number * quarter : (number + 1) * quarter]
        found = float(batch.losses[f"band_{number}"])
        assert found == pytest.approx(float(band.mean()), rel=1e-5)


def test_every_sample_has_a_caption_of_its_scene(encoders, model) -> None:
    batch = Batch(encoders, model, replace(RECIPE, dropout=0.0, batch=64), seed=5)
    shown, given = batch.shown(), batch.given()
    for (row, _), prompt in zip(shown, given, strict=True):
        assert prompt // len(PHRASES) == row
    assert len(set(given)) > 8, "many scenes and phrasings"
    assert {variant for _, variant in shown} == {0, 1, 2}
    distinct = len(batch.clean) // RECIPE.repeats
    assert given == given[:distinct] * RECIPE.repeats, "at very different timesteps"


def test_prompts_are_left_out_for_the_two_empty_ones(encoders, model, batch) -> None:
    captioned = SCENES * len(PHRASES)
    without = [prompt for prompt in batch.given() if prompt >= captioned]
    assert 0 < len(without) < RECIPE.batch / 2
    every = Batch(encoders, model, replace(RECIPE, dropout=1.0), seed=6).given()
    assert set(every) == {captioned, captioned + 1}


def test_sizes_are_those_that_the_pipeline_gives(batch, encoders, model) -> None:
    pipeline = sdxl(encoders, model)
    square = (SIDE, SIDE)
    expected = pipeline._get_add_time_ids(
        square, (0, 0), square, dtype=torch.float32, text_encoder_projection_dim=96
    )
    assert torch.equal(batch.unet.added["time_ids"], expected.expand(RECIPE.batch, -1))


def sdxl(encoders: list[Any], model: Path) -> StableDiffusionXLPipeline:
    """diffusers' pipeline of the model's folder."""
    return StableDiffusionXLPipeline(
        vae=load_vae(model / "vae", "cpu"),
        scheduler=EulerDiscreteScheduler.from_pretrained(model / "scheduler"),
        **{name: CLIPTokenizer.from_pretrained(model / name) for name in TOKENIZERS},
        **dict(zip(NETWORKS, (micro_unet(), *encoders), strict=True)),
        add_watermarker=False,
    )


def test_prompts_are_encoded_as_by_the_pipeline(batch, encoders, model) -> None:
    pipeline = sdxl(encoders, model)
    tokens = batch.task.tokens
    shown = training_scenes()[:SCENES]
    for row, phrasing in ((0, 0), (3, 5)):
        first = torch.stack([tokens.first[row, phrasing], tokens.without_first[0]])
        second = torch.stack([tokens.second[row, phrasing], tokens.without_second[0]])
        ours = batch.task.encode_prompts(first, second)
        text = captions(shown[row])[phrasing]
        states, negative, pooled, negative_pooled = pipeline.encode_prompt(
            text, negative_prompt=NEGATIVE_PROMPT
        )
        expected = torch.cat([states, negative]), torch.cat([pooled, negative_pooled])
        for found, peer, sampled in zip(
            ours, expected, reference.encode_prompts(pipeline, first, second), strict=True
        ):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, peer, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found, sampled, rtol=1e-5, atol=1e-5)


def test_latents_are_those_of_the_scenes_and_of_moved_ones(model) -> None:
    vae = AutoencoderKL.from_pretrained(model / "vae", variant="fp16", torch_dtype=torch.float32)
    pictures = draw(objects_of(training_scenes()[:SCENES], "cpu"))
    with torch.no_grad():
        expected = vae.encode(pictures * 2 - 1).latent_dist.mode() * SCALING
    table = latent_table(model / "vae", "cpu", RECIPE)
    assert table.shape == (SCENES, RECIPE.variants, 4, LATENT_SIDE, LATENT_SIDE)
    torch.testing.assert_close(table[:, 0], expected, rtol=1e-4, atol=1e-5)
    moved = [(table[:, n] - expected).abs().amax(dim=(1, 2, 3)) for n in (1, 2)]
    assert all(bool(torch.all(change > 1e-4)) for change in moved)
    assert not torch.equal(table[:, 1], table[:, 2])
    still = latent_table(model / "vae", "cpu", replace(RECIPE, pixels=0.0, size=0.0))
    torch.testing.assert_close(still[:, 2], expected, rtol=1e-4, atol=1e-5)
