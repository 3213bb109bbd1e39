"""Features and scores of one shard's images."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
from torch import nn

from t2i.generate.shard import Sample
from t2i.metrics.clip import caption_embeddings, clip_scores, image_embeddings
from t2i.metrics.features import Features
from t2i.metrics.inception import image_features


def score_shard(
    samples: list[Sample],
    images: Iterable[np.ndarray],
    captions: list[str],
    inception: nn.Module,
    clip: Any,
    batch_size: int,
) -> Features:
    """Features of a shard's images, each (height, width, 3) uint8, in the order of `samples`.

    Images are taken batch by batch, so that no more than `batch_size` of them need be in memory;
    those of one batch have one size. Of images with the same digest the first alone is looked at:
    in a batch of full size a row does not depend on its neighbours. `captions` are those of the
    whole data set: a sample is also scored with the next row's caption (the first follows the
    last), which must not fit it.
    """
    indices = [sample.index for sample in samples]
    shifted = [(index + 1) % len(captions) for index in indices]
    places: dict[str, int] = {}
    rows = [places.setdefault(sample.sha256, len(places)) for sample in samples]
    first = np.diff(np.maximum.accumulate([-1, *rows])) > 0
    remaining = (image for image, new in zip(images, first, strict=True) if new)
    parts = []
    while batch := list(islice(remaining, batch_size)):
        stack = np.stack(batch)
        flat = stack.reshape(len(stack), -1)
        parts.append(
            (
                image_features(inception, stack, batch_size),
                image_embeddings(clip, stack, batch_size),
                flat.min(axis=1),
                flat.max(axis=1),
                np.full((len(stack), 2), stack.shape[1:3], dtype=np.int64),
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
