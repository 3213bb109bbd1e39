"""Rows, draws and images of training steps."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from t2i.training import images, settings, steps


def test_each_row_comes_once_an_epoch_in_another_order() -> None:
    rows = np.concatenate([steps.rows_of_step(10, 1, step, 4) for step in range(5)])
    first, second = rows[:10], rows[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    other = np.concatenate([steps.rows_of_step(10, 2, step, 4) for step in range(5)])
    assert list(other) != list(rows)


def test_a_batch_may_be_larger_than_the_data() -> None:
    rows = steps.rows_of_step(3, 1, 0, 8)
    assert np.bincount(rows).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_parts_of_a_step_fit_together() -> None:
    def drawn(part: slice) -> steps.Draws:
        return steps.draws(1, 5, 6, part, (4, 4), "cpu")

    whole, parts = drawn(slice(0, 6)), [drawn(slice(0, 2)), drawn(slice(2, 6))]
    for name in steps.Draws._fields:
        cat = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(cat, getattr(whole, name))
    assert not torch.equal(whole.noise, steps.draws(1, 6, 6, slice(0, 6), (4, 4), "cpu").noise)
    assert not torch.equal(whole.noise, steps.draws(2, 5, 6, slice(0, 6), (4, 4), "cpu").noise)
    assert not torch.equal(whole.noise, whole.posterior)


def test_draws_are_uniform_and_normal() -> None:
    drawn = steps.draws(1, 0, 20_000, slice(None), (4, 4), "cpu")
    counts = torch.bincount(drawn.timesteps, minlength=1000).double()
    assert counts.shape == (1000,)
    # Chi-square with 999 degrees of freedom: 1142 is its 99.9 % point.
    assert float(((counts - 20) ** 2 / 20).sum()) < 1142
    for values in (drawn.noise, drawn.posterior):
        assert abs(float(values.mean())) < 0.005
        assert abs(float(values.var()) - 1) < 0.01


def test_a_variance_is_clamped() -> None:
    moments = torch.zeros(1, 8, 1, 1)
    moments[:, 4:] = 1000
    drawn = steps.latents(moments, torch.ones(1, 4, 1, 1), 0.5)
    assert torch.allclose(drawn, torch.full_like(drawn, 0.5 * float(np.exp(10))))


@pytest.mark.parametrize(
    ("batch", "interval"),
    [(256, 2000), (384, 1334), (512, 1000), (576, 889), (1024, 500), (1536, 334), (2048, 250)],
)
def test_checkpoints_lie_where_the_rules_want_them(batch: int, interval: int) -> None:
    assert settings.checkpoint_interval(batch) == interval


def test_the_last_step_is_a_checkpoint() -> None:
    training = {"batch": 4, "processes": 1, "nodes": 2, "interval_images": 20}
    assert settings.checkpoints({**training, "steps": 7}) == [3, 6, 7]
    assert settings.checkpoints({**training, "steps": 6}) == [3, 6]


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (64, 64), (40, 33)])
@pytest.mark.parametrize("signed", [False, True])
def test_images_are_prepared_by_the_references_transforms(size, signed: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    reference = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Resize(32, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
        ]
    )
    wanted = reference(Image.fromarray(pixels))
    found = images.prepared(buffer.getvalue(), 32, signed)
    assert torch.equal(found, 2 * wanted - 1 if signed else wanted)
    assert (float(found.min()) < -0.5) == signed


def test_moments_are_what_the_published_procedure_stores(micro_vae, tmp_path) -> None:
    """Encoder and quant_conv of one image at a time, not scaled, as float32 (1, 8, h, w)."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    given = [("7", {".png": buffer.getvalue(), ".txt": b"noise", ".json": b"{}"})]
    ((stem, files),) = images.converted(given, micro_vae, 64, False, "cpu")
    found = np.load(io.BytesIO(files[".npy"]))
    image = transforms.ToTensor()(Image.fromarray(pixels))[None]
    with torch.inference_mode():
        wanted = micro_vae.quant_conv(micro_vae.encoder(image)).numpy()
    assert (stem, sorted(files)) == ("7", [".json", ".npy", ".txt"])
    assert found.dtype == np.float32
    assert found.shape == (1, 8, 8, 8)
    assert np.abs(found - wanted).max() <= 1e-6
