"""Training images as the reference prepares them, and the moments of their latents."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import io
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transform

from t2i.training.tars import IMAGE_SUFFIXES, MOMENTS_SUFFIX, DamagedTar, npy


def prepared(content: bytes, side: int, signed: bool) -> Tensor:
    """An image file's pixels (3, side, side) float32: shorter side resized, middle cut out.

    The resize is bicubic and works on numbers in [0, 1], beyond which it may reach; so the
    reference does. Its autoencoder then gets [0, 1], not the [-1, 1] it was trained with, and
    the published moments were made so; `signed` says otherwise.
    """
    with Image.open(io.BytesIO(content)) as image:
        pixels = transform.to_tensor(image.convert("RGB"))
    resized = transform.resize(pixels, side, InterpolationMode.BICUBIC, antialias=True)
    cut: Tensor = transform.center_crop(resized, [side, side])
    return 2 * cut - 1 if signed else cut


@torch.inference_mode()
def moments(vae: Any, images: Tensor) -> Tensor:
    """Mean and logarithm of the variance (n, 8, h/8, w/8) of images (n, 3, h, w), not scaled."""
    parameters: Tensor = vae.encode(images).latent_dist.parameters
    return parameters


def converted(
    samples: Iterable[tuple[str, dict[str, bytes]]], vae: Any, side: int, signed: bool, device: str
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples with the moments of their images, (1, 8, h, w) float32 as .npy, in their place.

    One image at a time, as the published moments were made: sums depend on the batch.
    """
    for stem, files in samples:
        found = [suffix for suffix in IMAGE_SUFFIXES if suffix in files]
        if len(found) != 1:
            raise DamagedTar(f"sample {stem} has {', '.join(files)}; expected one image")
        image = prepared(files.pop(found[0]), side, signed)
        made = moments(vae, image[None].to(device)).float().cpu().numpy()
        yield stem, {MOMENTS_SUFFIX: npy(made), **files}
