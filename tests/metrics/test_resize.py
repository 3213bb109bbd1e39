"""CLIP's input on a GPU: the bits of Pillow and of open_clip's transform."""

import t2i.job.torch_shim  # noqa: F401

import numpy as np
import pytest
import torch
from PIL import Image

from mutations import Edit
from t2i.metrics import clip, inception, resize, scoring

CPU = torch.device("cpu")


def images(size: int) -> np.ndarray:
    """Noise, a step from black to white, and a gradient: what over- and undershoots most."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    step = np.zeros((size, size, 3), dtype=np.uint8)
    step[:, size // 2 :] = 255
    ramp = (np.arange(size**2 * 3) % 256).astype(np.uint8).reshape(size, size, 3)
    return np.stack([noise, step, ramp])


def differing(size: int) -> int:
    """Values that differ from Pillow's."""
    given = images(size)
    wanted = [
        np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
        for image in given
    ]
    return int((resize.resized(torch.from_numpy(given), 224).numpy() != np.stack(wanted)).sum())


@pytest.mark.parametrize("size", [1024, 768, 225, 224, 128, 31])
def test_every_value_is_pillows(size: int) -> None:
    assert differing(size) == 0


@pytest.mark.parametrize(
    "edit",
    [
        Edit("rounds down", resize, "_rounded", "sums + half", "sums"),
        Edit("does not clamp", resize, "_rounded", ".clamp(0, 255)", ""),
        Edit("other kernel", resize, "_bicubic", "(A + 2)", "(A + 2.1)"),
        Edit("truncates weights", resize, "weights", "exact + 0.5", "exact"),
        Edit("moved by a pixel", resize, "weights", "(row + 0.5)", "(row + 0.6)"),
    ],
    ids=str,
)
def test_a_wrong_resize_differs(edit: Edit, monkeypatch) -> None:
    resize.weights.cache_clear()
    monkeypatch.setattr(resize, "weights", resize.weights.__wrapped__)
    edit.apply(monkeypatch)
    assert differing(1024) > 0


@pytest.mark.parametrize("size", [1024, 128, 224])
def test_square_images_are_prepared_as_by_open_clip(size: int) -> None:
    given = images(size)
    wanted = torch.stack([clip.preprocess(image) for image in given])
    assert torch.equal(clip.preprocess_square(torch.tensor(given)), wanted)


def test_a_batch_of_all_kinds_of_images_is_prepared_as_by_open_clip() -> None:
    square, wide = images(31), np.concatenate([images(31)[0]] * 2, axis=1)
    many = [square[n % len(square)] for n in range(inception.CHUNK + 1)]
    for batch in ([*square], [*square, wide], [wide, wide], [*many, wide, *square]):
        prepared = [scoring._prepared(image, CPU) for image in batch]
        for n, image in enumerate(batch):
            if image is not wide:  # on a GPU square images are left for it
                prepared[n] = prepared[n]._replace(clip=None)
        wanted = torch.stack([clip.preprocess(image) for image in batch])
        assert torch.equal(scoring._clip_inputs(prepared), wanted)
        inputs = inception.in_chunks(inception.network_input, [each.pixels for each in prepared])
        alone = [inception.network_input(each.pixels[None]) for each in prepared]
        assert torch.equal(inputs, torch.cat(alone))
