"""Inception features against pytorch-fid's network, CLIP scores against open_clip's."""

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import nn

import peers
from random_sdxl import RANDOM_CLIP
from t2i.base.images import pixel_digest
from t2i.generate.shard import Sample
from t2i.metrics import clip, inception
from t2i.metrics.features import NAMES, read_features, write_features
from t2i.metrics.scoring import score_shard
from t2i.micro import pictures

BY_BYTE = {"low": np.uint8, "high": np.uint8}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_inception_features_image_by_image(
    inception_difference: Callable[..., float], batch_size: int
) -> None:
    difference = inception_difference((0, 1, 2, 3), batch_size)
    print(f"batch {batch_size}: largest relative difference {difference}")
    # Where the peer's batches are as large, nothing is left to round otherwise.
    assert difference <= (0 if batch_size == 1 else peers.FEATURES)


def test_inception_features_do_not_depend_on_the_cut(
    micro_inception: Path, example_pictures: list[np.ndarray]
) -> None:
    network = inception.load_inception(micro_inception, "cpu")
    images = np.concatenate([example_pictures[n] for n in (0, 1, 0)])
    images[2] //= 2
    whole = inception.image_features(network, images, 2)
    parts = [inception.image_features(network, part, 2) for part in (images[:1], images[1:])]
    assert np.array_equal(np.concatenate(parts), whole)


def test_clip_scores_image_by_image(clip_difference: Callable[[], float]) -> None:
    difference = clip_difference()
    print(f"largest difference {difference}")
    assert difference <= peers.SCORES


@pytest.mark.slow
def test_clip_scores_at_the_published_size(example_pictures: list[np.ndarray]) -> None:
    """ViT-B/32 at its full size, with open_clip's own QuickGELU architecture and random weights."""
    model, _, transform = open_clip.create_model_and_transforms(
        "ViT-B-32-quickgelu", pretrained=None
    )
    model.eval()
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    kept = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    ours = clip.clip_network(kept)
    ours.load_state_dict(model.state_dict())
    captions = ["A large red circle.", "two dogs"]
    texts = clip.caption_embeddings(ours, captions, 2)
    image = example_pictures[2]
    scores = clip.clip_scores(clip.image_embeddings(ours, image, 2), texts)
    for score, caption in zip(scores, captions, strict=True):
        expected = peers.clip_score(model, transform, image[0], caption)
        print(f"full size: {score}, difference {abs(score - expected)}")
        assert score == pytest.approx(expected, abs=peers.SCORES)


def activations(network: nn.Module) -> set[type[nn.Module]]:
    kinds = (QuickGELU, nn.GELU)
    return {type(module) for module in network.modules() if isinstance(module, kinds)}


@pytest.mark.parametrize("said", [{}, {"quick_gelu": False}, {"quick_gelu": True}])
def test_quick_gelu_is_forced(said: dict[str, bool]) -> None:

    network = clip.clip_network({**RANDOM_CLIP, **said})
    assert activations(network) == {QuickGELU}
    assert activations(network.visual) == activations(network.transformer) == {QuickGELU}
    assert activations(open_clip.CLIP(**RANDOM_CLIP)) == {nn.GELU}


@pytest.mark.parametrize(
    "size", [(64, 64), (224, 224), (96, 160), (300, 225), (1024, 1024), (768, 1344)]
)
def test_preprocessing(
    size: tuple[int, int], random_clip: tuple[Path, Any, Callable[[Image.Image], torch.Tensor]]
) -> None:
    image = np.random.default_rng(6).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = clip.preprocess(image)[None]
    assert ours.shape == (1, 3, 224, 224)
    transform = random_clip[2]
    assert torch.equal(ours[0], transform(Image.fromarray(image)))
    np.testing.assert_allclose(ours[0].numpy(), peers.preprocessed(image), atol=1e-6, rtol=0)


def test_a_shard_is_scored_sample_by_sample(
    tmp_path: Path,
    micro_inception: Path,
    peer_inception: nn.Module,
    random_clip: tuple[Path, Any, Callable[[Image.Image], torch.Tensor]],
) -> None:
    """The last shard: the last sample's next caption is the first."""
    captions = [f"scene {n}" for n in range(5)]
    images = np.stack([np.asarray(pictures.paint(pictures.scene(n), 48)) for n in (2, 3, 4)])
    samples = [
        Sample(n, 100 + n, f"{n:05d}.png", pixel_digest(image), True)
        for n, image in zip((2, 3, 4), images, strict=True)
    ]
    folder, model, transform = random_clip
    network = inception.load_inception(micro_inception, "cpu")
    loaded = clip.load_clip(folder, "cpu")
    features = score_shard(samples, images, captions, network, loaded, 2)
    assert features.index.tolist() == [2, 3, 4]
    assert features.sha256.tolist() == [sample.sha256 for sample in samples]
    assert features.size.tolist() == 3 * [[48, 48]]
    for n, image in enumerate(images):
        expected = peers.inception_features(peer_inception, image)
        difference = np.abs(features.inception[n] - expected).max()
        assert difference <= peers.FEATURES * np.abs(expected).max()
        for scores, caption in (
            (features.clip, captions[2 + n]),
            (features.clip_shifted, captions[(3 + n) % 5]),
        ):
            score = peers.clip_score(model, transform, image, caption)
            assert scores[n] == pytest.approx(score, abs=peers.SCORES)
        assert (features.low[n], features.high[n]) == (image.min(), image.max())
    write_features(tmp_path / "features.npz", features)
    again = read_features(tmp_path / "features.npz")
    for name in NAMES:
        assert np.array_equal(getattr(again, name), getattr(features, name))
    types = {"index": np.int64, "inception": np.float32, "clip": np.float32, **BY_BYTE}
    assert {name: getattr(again, name).dtype for name in types} == types


def test_a_shard_is_scored_batch_by_batch(
    random_clip: tuple[Path, Any, Callable[[Image.Image], torch.Tensor]],
) -> None:
    """No image is taken before its batch, and each score is what all images together give."""
    stack = np.stack([np.asarray(pictures.paint(pictures.scene(n), 32)) for n in range(5)])
    samples = [Sample(n, 100 + n, f"{n:05d}.png", pixel_digest(stack[n]), True) for n in range(5)]
    captions = [f"scene {n}" for n in range(5)]
    loaded = clip.load_clip(random_clip[0], "cpu")
    network = nn.Conv2d(3, 2, 299)  # instead of Inception, which takes much longer
    taken: list[int] = []
    taken_by_then: list[int] = []
    network.register_forward_hook(lambda *_: taken_by_then.append(len(taken)))

    def images() -> Iterator[np.ndarray]:
        for n, image in enumerate(stack):
            taken.append(n)
            yield image

    features = score_shard(samples, images(), captions, network, loaded, 2)
    assert taken_by_then == [2, 4, 5]
    assert np.array_equal(features.inception, inception.image_features(network, stack, 2))
    texts = clip.caption_embeddings(loaded, captions, 2)
    scores = clip.clip_scores(clip.image_embeddings(loaded, stack, 2), texts)
    assert np.array_equal(features.clip, scores)
    several = score_shard(samples, iter(stack), captions, network, loaded, 2, threads=3)
    for name in NAMES:
        assert np.array_equal(getattr(several, name), getattr(features, name)), name
    assert features.low.tolist() == [image.min() for image in stack]
    assert features.high.tolist() == [image.max() for image in stack]
    assert features.size.tolist() == 5 * [[32, 32]]


def test_equal_pictures_are_looked_at_once(
    micro_inception: Path, random_clip: tuple[Path, Any, Any], example_pictures: list[np.ndarray]
) -> None:
    """Nothing but the time depends on it: every row is as if each had been looked at."""
    order = [0, 1, 0, 0, 2, 1]
    images = [example_pictures[0][0] // (n + 1) for n in range(3)]
    samples = [Sample(n, n, "", pixel_digest(images[p]), True) for n, p in enumerate(order)]
    apart = [Sample(n, n, "", f"{n:064d}", True) for n in range(len(order))]
    networks = (
        inception.load_inception(micro_inception, "cpu"),
        clip.load_clip(random_clip[0], "cpu"),
    )
    captions = [f"caption {n}" for n in range(8)]
    taken = [images[place] for place in order]
    once = score_shard(samples, iter(taken), captions, *networks, 4)
    each = score_shard(apart, iter(taken), captions, *networks, 4)
    for name in NAMES:
        if name != "sha256":
            np.testing.assert_array_equal(getattr(once, name), getattr(each, name), name)
    assert once.sha256.tolist() == [sample.sha256 for sample in samples]
