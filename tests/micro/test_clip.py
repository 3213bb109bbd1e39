"""Training of the CLIP scorer against open_clip."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss
from PIL import Image
from torch import Tensor, nn

from t2i.micro import clip
from t2i.micro.clip import contrastive_loss, degraded, prepared, ranking
from t2i.micro.data import draw, objects_of, random_objects, training_scenes
from t2i.micro.grids import to_pixels
from t2i.micro.pictures import SIDE


def units(seed: int, count: int, width: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)


@pytest.mark.parametrize("scale", [5.0, 100.0, 400.0])
def test_the_contrastive_loss_is_open_clips(scale) -> None:
    image, text = units(1, 20), units(2, 20)
    text = nn.functional.normalize(text + 0.4 * image, dim=1)
    loss, right = contrastive_loss(image, text, torch.tensor(scale))
    expected = ClipLoss()(image, text, torch.tensor(min(scale, 100.0)))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    first, other = (
        np.mean([row.argmax() == n for n, row in enumerate(products.numpy())])
        for products in (image @ text.T, text @ image.T)
    )
    assert first != other, "of the captions, not of the images"
    assert float(right) == pytest.approx(first)


def test_pictures_are_prepared_as_by_open_clip() -> None:
    pictures = draw(objects_of(training_scenes()[:6], "cpu"))
    noise = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    edge = (torch.arange(SIDE) > 64).float().expand(1, 3, SIDE, SIDE)  # overshoots both ends
    pixels = to_pixels(torch.cat([pictures, 0.3 + 0.4 * noise, edge]))
    transform = open_clip.transform.image_transform(224, is_train=False)
    expected = torch.stack([transform(Image.fromarray(image)) for image in pixels.numpy()])
    difference = (prepared(pixels.permute(0, 3, 1, 2) / 255) - expected).abs()
    level = 1 / 255 / min(open_clip.OPENAI_DATASET_STD)
    # PIL rounds to grey levels, and cuts off at 0 and 255 between the two directions.
    assert float(difference[6:].max()) < 1.5 * level
    assert float(difference[:6].max()) < 6 * level
    assert float(difference[:6].mean()) < 0.02 * level


def test_half_of_the_pictures_are_blurred_and_noise_is_of_any_strength() -> None:
    torch.manual_seed(0)
    pictures = 0.25 + 0.5 * draw(random_objects(200, "cpu", 0.0, 0.0), 32)
    clear = degraded(pictures, 0.0)
    blurred = nn.functional.interpolate(
        nn.functional.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear"
    )
    same = (clear == pictures).flatten(1).all(dim=1)
    soft = (clear - blurred).abs().flatten(1).amax(dim=1) < 1e-6
    assert torch.all(same ^ soft)
    assert 75 < int(same.sum()) < 125
    noisy = degraded(torch.full((200, 3, 32, 32), 0.5), 8.0)
    levels = noisy.flatten(1).std(dim=1) * 255
    assert 7.0 < float(levels.max()) < 8.5
    assert float(levels.min()) < 0.5
    assert float(levels.mean()) == pytest.approx(4, abs=0.6)
    strong = degraded(pictures, 2000.0)
    assert (float(strong.min()), float(strong.max())) == (0.0, 1.0)


def test_a_ranking_is_that_of_a_plain_loop(monkeypatch) -> None:
    image, text = units(3, 60).numpy(), units(4, 60).numpy()
    text = 0.5 * image + text
    text[:10] += image.mean(axis=0) * 2  # captions that suit many images
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    asked = []

    def embeddings(rows: np.ndarray) -> Any:
        def embed(network: Any, given: Any, batch: int) -> np.ndarray:
            asked.append((network, given, 0 < batch <= len(given)))
            return rows

        return embed

    monkeypatch.setattr(clip, "image_embeddings", embeddings(image))
    monkeypatch.setattr(clip, "caption_embeddings", embeddings(text))
    found = ranking("network", "images" * 10, "texts" * 12)  # 60 of each
    assert asked == [("network", "images" * 10, True), ("network", "texts" * 12, True)]
    own, shifted, higher, highest, suited = [], [], [], [], []
    for n in range(60):
        scores = [100 * float(image[n] @ caption) for caption in text]
        own.append(scores[n])
        shifted.append(scores[(n + 1) % 60])
        higher += [scores[n] > score for m, score in enumerate(scores) if m != n]
        others = [100 * float(other @ text[n]) for other in image]
        suited += [scores[n] > score for m, score in enumerate(others) if m != n]
        highest.append(scores[n] == max(scores))
    assert np.mean(suited) != np.mean(higher), "of the captions, not of the images"
    assert 0.1 < np.mean(highest) < 0.9 < np.mean(higher) < 1
    expected = {
        "score": np.mean(own),
        "shifted": np.mean(shifted),
        "right_first": np.mean(higher),
        "first_of_all": np.mean(highest),
    }
    assert found == pytest.approx(expected, rel=1e-4)
