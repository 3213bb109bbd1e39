"""Features and scores of one shard's images."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from t2i.archive import Sample
from t2i.clip import caption_embeddings, clip_scores, image_embeddings
from t2i.features import Features
from t2i.inception import image_features


def score_shard(
    samples: list[Sample],
    images: np.ndarray,
    captions: list[str],
    inception: nn.Module,
    clip: Any,
    batch_size: int,
) -> Features:
    """Features of a shard's images (n, height, width, 3) uint8 of one size.

    `captions` are those of the whole data set: a sample is also scored with the next row's
    caption (the first follows the last), which must not fit it.
    """
    indices = [sample.index for sample in samples]
    shifted = [(index + 1) % len(captions) for index in indices]
    pictures = image_embeddings(clip, images, batch_size)

    def scores(rows: list[int]) -> np.ndarray:
        texts = caption_embeddings(clip, [captions[row] for row in rows], batch_size)
        return clip_scores(pictures, texts)

    flat = images.reshape(len(images), -1)
    return Features(
        index=np.asarray(indices, dtype=np.int64),
        inception=image_features(inception, images, batch_size),
        clip=scores(indices),
        clip_shifted=scores(shifted),
        sha256=np.asarray([sample.sha256 for sample in samples]),
        low=flat.min(axis=1),
        high=flat.max(axis=1),
        size=np.full((len(images), 2), images.shape[1:3], dtype=np.int64),
    )
