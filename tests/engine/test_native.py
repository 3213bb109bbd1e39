"""The native back end against diffusers: networks value by value, whole images, refusals."""

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

import peers
from micro_model import SETTINGS, MicroModel
from mutations import Edit
from random_sdxl import random_unet, random_vae
from t2i.base.images import Images
from t2i.engine import blocks, latents, loop, operations, unet, vae
from t2i.engine.blocks import Parts
from t2i.engine.build import build_engine
from t2i.engine.cache import deep_steps
from t2i.engine.load import load_engine
from t2i.engine.loop import Loop
from t2i.engine.manifest import EngineError
from t2i.engine.networks import networks_of
from t2i.engine.operations import PLAIN
from t2i.engine.painter import NativePainter, load_painter, painted_ahead
from t2i.engine.reference import generate
from t2i.engine.unet import UNet
from t2i.engine.vae import Decoder
from t2i.engine.variant import Variant
from t2i.prompts.tokens import write_tokens
from unet_peers import drawn_network, nhwc, unet_inputs

OPTIONS: dict[str, Any] = {"steps": peers.STEPS, "guidance": peers.GUIDANCE}
OPTIONS |= {"cache": None, "vae": None}


@pytest.fixture
def new_loop(micro_model: MicroModel) -> Callable[..., Loop]:
    """A function that makes a loop of a number format with options."""

    def make(dtype: str = "fp32", **options: Any) -> Loop:
        pipeline, _ = load_engine(micro_model.engines[dtype], "cpu")
        return Loop(networks_of(pipeline), OPTIONS | options)

    return make


def painted(running: Loop, model: MicroModel, indices: range, batch_size: int = 4) -> np.ndarray:
    latent = latents.read_latent(model.latent, running.latent_side)
    return running.images(model.tokens(), indices, latent, batch_size).pixels


def test_the_unet_is_that_of_diffusers() -> None:
    assert unet_error() <= 1e-5


def unet_error() -> float:
    """Largest difference of the UNet's noise from diffusers', relative to the largest value."""
    network, given, largest = drawn_network(random_unet(), 1), unet_inputs(), 0.0
    timesteps = torch.tensor([951.0, 1.0])
    with torch.inference_mode():
        ours = unet.UNet(network.state_dict(), network.config, Parts(PLAIN))
        shifts = ours.shifts(timesteps, given["pooled"], given["sizes"])
        prompts = ours.prompts(given["context"])
        for timestep, shift in zip(timesteps, shifts, strict=True):
            added = {"text_embeds": given["pooled"], "time_ids": given["sizes"]}
            expected = network(
                given["sample"], timestep, given["context"], added_cond_kwargs=added
            )[0]
            noise, kept = ours(nhwc(given["sample"]), shift, prompts)
            difference = (noise.permute(0, 3, 1, 2) - expected).abs().max()
            largest = max(largest, float(difference / expected.abs().max()))
            # With the sample that was kept, a shallow pass gives a deep one's bits.
            assert torch.equal(ours.shallow(nhwc(given["sample"]), shift, kept), noise)
        other = ours.shallow(nhwc(given["sample"]) + 1, shift, kept)
        assert not torch.allclose(other, noise)
    return largest


def test_the_decoder_is_that_of_diffusers() -> None:
    network = drawn_network(random_vae(), 2)
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        ours = Decoder(network.state_dict(), network.config, PLAIN)
        expected = network.decode(sample / network.config.scaling_factor, return_dict=False)[0]
        decoded = ours(nhwc(sample)).permute(0, 3, 1, 2)
    assert (decoded - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_formats_are_as_near_to_fp32_as_in_diffusers(new_loop, micro_model, dtype) -> None:
    """Both round about as often, but not in the same places."""
    latent = latents.read_latent(micro_model.latent, 8)
    exact, ours = (
        new_loop(kind).final_latents(micro_model.tokens(), range(4), latent).double()
        for kind in ("fp32", dtype)
    )
    pipeline, _ = load_engine(micro_model.engines[dtype], "cpu")
    theirs = peers.final_latents(pipeline, micro_model.prompts[:4], micro_model.latent)
    error, allowed = ((each - exact).norm() / exact.norm() for each in (ours, theirs))
    print(f"{dtype}: {error:.5f}, diffusers {allowed:.5f}")
    assert error <= 1.25 * allowed


@pytest.mark.parametrize("batch_size", [1, 4])
def test_images_are_those_of_the_pipeline(new_loop, micro_model, batch_size) -> None:
    running = new_loop()
    prompts = micro_model.prompts[:4]
    expected = peers.images(micro_model.peer, prompts, micro_model.latent, batch_size)
    ours = np.concatenate(
        [
            painted(running, micro_model, range(first, first + batch_size), batch_size)
            for first in range(0, 4, batch_size)
        ]
    )
    largest, share = peers.pixel_difference(ours, expected)
    print(f"batch {batch_size}: largest difference {largest}, share of differing pixels {share}")
    assert largest <= peers.GREY_LEVELS
    assert share <= peers.DIFFERING_PIXELS


def test_a_pixel_depends_on_the_sample_alone(new_loop, micro_model) -> None:
    running = new_loop("bf16", cache={"interval": 2})
    whole = painted(running, micro_model, range(0, 4))
    for cut in (range(1, 5), range(2, 3), range(0, 3)):
        again = painted(running, micro_model, cut)
        inside = [index for index in cut if index < 4]
        assert np.array_equal(again[: len(inside)], whole[inside])
    assert np.array_equal(
        painted(new_loop("bf16", cache={"interval": 2}), micro_model, range(4)), whole
    )


def test_an_interval_of_one_gives_the_bits_of_none(new_loop, micro_model) -> None:
    exact = painted(new_loop(), micro_model, range(2), 2)
    assert np.array_equal(painted(new_loop(cache={"interval": 1}), micro_model, range(2), 2), exact)
    everything = {"deep": list(range(peers.STEPS))}
    assert np.array_equal(painted(new_loop(cache=everything), micro_model, range(2), 2), exact)
    cached = painted(new_loop(cache={"interval": 2}), micro_model, range(2), 2)
    uniform = painted(
        new_loop(cache={"deep": list(range(0, peers.STEPS, 2))}), micro_model, range(2), 2
    )
    assert np.array_equal(cached, uniform)
    assert not np.array_equal(cached, exact)


def test_without_guidance_there_is_no_negative_prompt(new_loop, micro_model) -> None:
    running = new_loop(guidance=1.0)
    latent = latents.read_latent(micro_model.latent, 8)
    ours = running.images(micro_model.tokens(), range(2), latent, 2).pixels
    theirs = generate(
        micro_model.pipeline, micro_model.tokens(), range(2), latent, 2, peers.STEPS, 1.0
    )
    assert peers.pixel_difference(ours, theirs.pixels)[0] <= peers.GREY_LEVELS


def test_steps_that_are_deep() -> None:
    assert deep_steps(None, 3) == [True, True, True]
    assert deep_steps({"interval": 3}, 5) == [True, False, False, True, False]
    assert deep_steps({"deep": [0, 1, 4]}, 5) == [True, True, False, False, True]
    with pytest.raises(ValueError, match="step 0 has nothing to reuse"):
        deep_steps({"deep": [1]}, 5)
    with pytest.raises(ValueError, match="got 5; the last of 5 steps is 4"):
        deep_steps({"deep": [0, 5]}, 5)


def test_fp16_decodes_as_diffusers_does_unless_told_otherwise(micro_model, tmp_path) -> None:
    """SDXL asks for fp32; `vae: fp16` decodes again what was not finite, and only that."""
    build_engine(micro_model.model, tmp_path, Variant(**SETTINGS | {"dtype": "fp16"}))

    def decoder_of(vae: str | None, scale: float = 1.0) -> Loop:
        pipeline, _ = load_engine(tmp_path, "cpu")
        with torch.no_grad():  # a convolution later in the decoder overflows; its norm undoes it
            pipeline.vae.decoder.conv_in.weight.mul_(scale)
            pipeline.vae.decoder.conv_in.bias.mul_(scale)
        return Loop(networks_of(pipeline), OPTIONS | {"vae": vae, "steps": 2})

    assert decoder_of(None).decoder.dtype == torch.float32
    half, wide = decoder_of("fp16"), decoder_of("fp32")
    assert half.decoder.dtype == torch.float16
    exact = painted(wide, micro_model, range(2), 2)
    assert peers.pixel_difference(painted(half, micro_model, range(2), 2), exact)[0] <= 2
    # Beyond what fp16 can hold: every image is decoded in fp32, with the bits of that.
    scaled = decoder_of("fp16", 60000.0)
    images = scaled.images(
        micro_model.tokens(), range(2), latents.read_latent(micro_model.latent, 8), 2
    )
    assert scaled._exact_decoder is not None
    assert images.finite.all()
    alone = painted(decoder_of("fp32", 60000.0), micro_model, range(2), 2)
    assert peers.pixel_difference(images.pixels, alone)[0] <= 1


def test_other_parts_than_the_loop_calls_are_refused(micro_model) -> None:
    def loaded() -> Any:
        return load_engine(micro_model.engines["fp32"], "cpu")[0]

    hooked = loaded()
    hooked.unet.mid_block.register_forward_hook(lambda *_: None)
    with pytest.raises(EngineError, match=r"changes unet\.mid_block .*use backend: reference"):
        networks_of(hooked)
    replaced = loaded()
    replaced.vae.decoder.forward = lambda *_: None
    with pytest.raises(EngineError, match=r"changes vae\.decoder"):
        networks_of(replaced)
    called = loaded()
    called.__class__ = type("Changed", (type(called),), {})
    with pytest.raises(EngineError, match="the pipeline's class"):
        networks_of(called)
    scheduled = loaded()
    scheduled.scheduler = DDIMScheduler.from_config(scheduled.scheduler.config)
    with pytest.raises(EngineError, match="DDIMScheduler predicting epsilon"):
        Loop(networks_of(scheduled), OPTIONS)


def test_another_structure_is_refused() -> None:
    config = dict(random_unet().config)
    config.pop("_use_default_values")  # of diffusers, which would put the defaults back
    for change, said in (
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift 'scale_shift'"),
        ({"down_block_types": ("CrossAttnDownBlock2D",) * 3}, "outermost"),
    ):
        other = UNet2DConditionModel.from_config(config | change)
        with pytest.raises(ValueError, match=said):
            UNet(other.state_dict(), other.config, Parts(PLAIN))


def test_a_painter_uses_the_back_end_of_its_engine(micro_model, tmp_path: Path) -> None:
    build_engine(
        micro_model.model,
        tmp_path,
        Variant(**SETTINGS | {"dtype": "fp32", "backend": "native", "cache": {"interval": 4}}),
    )
    write_tokens(tmp_path / "tokens.npz", micro_model.tokens())
    painter, manifest = load_painter(tmp_path, tmp_path / "tokens.npz", micro_model.latent, "cpu")
    assert isinstance(painter, NativePainter)
    assert manifest["cache"] == {"interval": 4}
    assert painter.side == 64
    pipeline, _ = load_engine(micro_model.engines["fp32"], "cpu")
    expected = painted(
        Loop(networks_of(pipeline), OPTIONS | {"cache": {"interval": 4}}), micro_model, range(3)
    )
    assert np.array_equal(painter.paint(range(3), 4).pixels, expected)


def test_unsound_images_are_named(new_loop, micro_model, caplog, monkeypatch) -> None:
    running = new_loop(steps=1)
    monkeypatch.setattr(
        loop,
        "_rounded",
        lambda decoded: (torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.tensor([True, False])),
    )
    latent = latents.read_latent(micro_model.latent, 8)
    images = running.images(micro_model.tokens(), range(2), latent, 2)
    assert images.finite.tolist() == [True, False]
    ours = [record for record in caplog.records if record.name.startswith("t2i.")]
    assert [record.getMessage() for record in ours] == [
        "the image of sample 0 is a single colour; the verdict will fail",
        "the image of sample 1 had NaN or infinite values; the verdict will fail",
    ]


MUTATIONS = [
    (blocks, "TransformerBlock", 'norm("norm2", second)', 'norm("norm2", None)'),
    (blocks, "TransformerBlock", "self._out[1]", "self._out[0]"),
    (blocks, "ResidualBlock", 'tensors("time_emb_proj.bias") + ', ""),
    (unet, "UNet", "F.silu(embedded)", "embedded"),
    (vae, "Decoder", " / self.scaling_factor", ""),
    (loop, "_Batch", "following - sigma", "following - 0.9 * sigma"),
    (loop, "_Batch", "self._loop.guidance * (positive", "7.5 * (positive"),
    (loop, "_Batch", "np.repeat(negative[None]", "np.repeat(captions[:1]"),
    (loop, "_Batch", "start * self._loop.schedule.first_sigma", "start"),
    (operations, "subpixel_weight", "row, 2), column, 3)", "column, 2), row, 3)"),
]


@pytest.mark.parametrize(
    ("module", "name", "old", "new"), MUTATIONS, ids=[f"{m[1]}: {m[2]}" for m in MUTATIONS]
)
def test_a_changed_step_is_noticed(module, name, old, new, micro_model, monkeypatch) -> None:
    """The comparison with diffusers, which passes without the change, must fail."""
    Edit(f"{name}: {old}", module, name, old, new).apply(monkeypatch)
    if module in (blocks, unet):
        assert unet_error() > 1e-3
        return
    expected = peers.images(micro_model.peer, micro_model.prompts[:2], micro_model.latent, 2)
    pipeline, _ = load_engine(micro_model.engines["fp32"], "cpu")
    ours = painted(Loop(networks_of(pipeline), OPTIONS), micro_model, range(2), 2)
    assert peers.pixel_difference(ours, expected)[0] > peers.GREY_LEVELS


def test_batches_painted_ahead_come_in_order() -> None:
    begun: list[int] = []

    class Counting:
        side = 1

        def paint(self, indices: Sequence[int], batch_size: int) -> Images:
            begun.append(indices[0])
            return Images(np.full((len(indices), 1, 1, 3), indices[0], np.uint8), np.ones(1, bool))

    batches = [[0, 1], [2, 3], [4]]
    for number, images in enumerate(painted_ahead(Counting(), batches, 2)):
        assert images.pixels[0, 0, 0, 0] == batches[number][0]
        assert len(begun) <= number + 2
    assert begun == [0, 2, 4]
    assert list(painted_ahead(Counting(), [], 2)) == []


def test_a_failure_while_painting_ahead_is_raised() -> None:
    class Failing:
        side = 1

        def paint(self, indices: Sequence[int], batch_size: int) -> Images:
            raise RuntimeError(f"sample {indices[0]}")

    with pytest.raises(RuntimeError, match="sample 7"):
        list(painted_ahead(Failing(), [[7], [8]], 1))
