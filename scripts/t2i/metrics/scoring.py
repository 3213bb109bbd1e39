"""Features and scores of one shard's images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from t2i.base.parallel import mapped
from t2i.generate.shard import Sample
from t2i.metrics.clip import (
    caption_embeddings,
    clip_scores,
    input_embeddings,
    preprocess,
    preprocess_square,
)
from t2i.metrics.features import Features
from t2i.metrics.inception import image_features, in_chunks


class _Prepared(NamedTuple):
    """An image on the device, what CLIP gets of it (None: computed there), its extreme values."""

    pixels: Tensor
    clip: Tensor | None
    low: np.uint8
    high: np.uint8


def _prepared(pixels: np.ndarray, device: torch.device) -> _Prepared:
    on_device = device.type == "cuda" and pixels.shape[0] == pixels.shape[1]
    return _Prepared(
        torch.tensor(pixels, device=device),
        None if on_device else preprocess(pixels),
        pixels.min(),
        pixels.max(),
    )


def _clip_inputs(batch: Sequence[_Prepared]) -> Tensor:
    """What CLIP gets of some images, in their order (n, 3, 224, 224)."""
    parts = []
    for missing, images in groupby(batch, key=lambda image: image.clip is None):
        if missing:
            parts.append(in_chunks(preprocess_square, (image.pixels for image in images)))
        else:
            given = [image.clip for image in images if image.clip is not None]
            parts.append(torch.stack(given).to(batch[0].pixels.device))
    return torch.cat(parts)


def readers(threads: int) -> int:
    """Threads of a job that read: the one that feeds the networks must not wait for them."""
    return max(1, threads * 3 // 4)


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
    prepare images, which changes no bit.
    """
    indices = [sample.index for sample in samples]
    shifted = [(index + 1) % len(captions) for index in indices]
    places: dict[str, int] = {}
    rows = [places.setdefault(sample.sha256, len(places)) for sample in samples]
    first = np.diff(np.maximum.accumulate([-1, *rows])) > 0
    remaining = (image for image, new in zip(images, first, strict=True) if new)
    device = clip.logit_scale.device
    prepared = mapped(partial(_prepared, device=device), remaining, threads)
    parts = []
    while batch := list(islice(prepared, batch_size)):
        parts.append(
            (
                image_features(inception, [image.pixels for image in batch], batch_size),
                input_embeddings(clip, _clip_inputs(batch), batch_size),
                np.asarray([image.low for image in batch]),
                np.asarray([image.high for image in batch]),
                np.asarray([image.pixels.shape[:2] for image in batch], dtype=np.int64),
            )
        )
    pool3, pictures, low, high, size = (
        np.concatenate(part)[rows] for part in zip(*parts, strict=True)
    )

    wanted = sorted({*indices, *shifted})
    texts = caption_embeddings(clip, [captions[row] for row in wanted], batch_size)

    def scores(of: list[int]) -> np.ndarray:
        return clip_scores(pictures, texts[np.searchsorted(wanted, of)])

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
