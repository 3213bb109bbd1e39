"""Features and scores of one shard's images."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from t2i.base.parallel import mapped
from t2i.generate.shard import Sample
from t2i.metrics.clip import caption_embeddings, clip_scores, input_embeddings, preprocess
from t2i.metrics.features import Features
from t2i.metrics.inception import image_features


class _Prepared(NamedTuple):
    """An image, what CLIP gets of it, and its smallest and largest value."""

    pixels: np.ndarray
    clip: np.ndarray
    low: np.uint8
    high: np.uint8


def _prepared(pixels: np.ndarray) -> _Prepared:
    return _Prepared(pixels, preprocess(pixels).numpy(), pixels.min(), pixels.max())


def score_shard(
    samples: list[Sample],
    images: Iterable[np.ndarray],
    captions: list[str],
    inception: nn.Module,
    clip: Any,
    batch_size: int,
    threads: int = 1,
) -> Features:
    """Features of a shard's images, each (height, width, 3) uint8, in the order of `samples`.

    Images are taken batch by batch, so that little more than `batch_size` of them are in memory. Of
    images with the same digest the first alone is looked at: in a batch of full size a row does not
    depend on its neighbours. `captions` are those of the whole data set: a sample is also scored
    with the next row's caption (the first follows the last), which must not fit it. `threads`
    prepare images for CLIP, which changes no bit.
    """
    indices = [sample.index for sample in samples]
    shifted = [(index + 1) % len(captions) for index in indices]
    places: dict[str, int] = {}
    rows = [places.setdefault(sample.sha256, len(places)) for sample in samples]
    first = np.diff(np.maximum.accumulate([-1, *rows])) > 0
    remaining = (image for image, new in zip(images, first, strict=True) if new)
    prepared = mapped(_prepared, remaining, threads)
    parts = []
    while batch := list(islice(prepared, batch_size)):
        parts.append(
            (
                image_features(inception, [image.pixels for image in batch], batch_size),
                input_embeddings(clip, np.stack([image.clip for image in batch]), batch_size),
                np.asarray([image.low for image in batch]),
                np.asarray([image.high for image in batch]),
                np.asarray([image.pixels.shape[:2] for image in batch], dtype=np.int64),
            )
        )
    pool3, pictures, low, high, size = (
        np.concatenate(part)[rows] for part in zip(*parts, strict=True)
    )

    def scores(of: list[int]) -> np.ndarray:
        texts = caption_embeddings(clip, [captions[row] for row in of], batch_size)
        return clip_scores(pictures, texts)

    return Features(
        index=np.asarray(indices, dtype=np.int64),
        inception=pool3,
        clip=scores(indices),
        clip_shifted=scores(shifted),
        sha256=np.asarray([sample.sha256 for sample in samples]),
        low=low,
        high=high,
        size=size,
    )
