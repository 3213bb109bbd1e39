"""Inception pool3 features, as the Fréchet inception distance of MLPerf takes them.

The network is pytorch-fid's: torchvision's Inception v3 with the blocks of TensorFlow's 2015
weights (average pools that leave the padding out, a max pool in the last block).
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import inception_v3

CLASSES = 1008
FEATURES = 2048
SIDE = 299
CHUNK = 16  # images prepared at once


def inception_network() -> nn.Module:
    """The network without weights that mean anything, in evaluation mode, float32."""
    network: nn.Module = inception_v3(
        weights=None,
        num_classes=CLASSES,
        aux_logits=False,
        transform_input=False,
        init_weights=False,
    )
    for name, channels in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        in_channels = {"Mixed_5b": 192, "Mixed_5c": 256, "Mixed_5d": 288}[name]
        setattr(network, name, FIDInceptionA(in_channels, pool_features=channels))
    for name, channels in (
        ("Mixed_6b", 128),
        ("Mixed_6c", 160),
        ("Mixed_6d", 160),
        ("Mixed_6e", 192),
    ):
        setattr(network, name, FIDInceptionC(768, channels_7x7=channels))
    network.Mixed_7b = FIDInceptionE_1(1280)
    network.Mixed_7c = FIDInceptionE_2(2048)
    network.fc = nn.Identity()
    network.dropout = nn.Identity()
    network.eval().requires_grad_(False)
    return network


def load_inception(weights: Path, device: str) -> nn.Module:
    """The network with the weights of a safetensors file in pytorch-fid's naming."""
    network = inception_network()
    state = {
        name: value for name, value in load_file(weights).items() if not name.startswith("fc.")
    }
    network.load_state_dict(state)
    return network.to(device)


def in_chunks(function: Callable[[Tensor], Tensor], images: Iterable[Tensor]) -> Tensor:
    """A row for each image (height, width, 3), by a function of several images of one size.

    Neighbours of the same size are computed together, `CHUNK` at most: launches cost more than
    arithmetic, and pictures as float take memory.
    """
    rows = []
    for _, same in groupby(images, key=lambda image: image.shape):
        while chunk := list(islice(same, CHUNK)):
            rows.append(function(torch.stack(chunk)))
    return torch.cat(rows)


def network_input(images: Tensor) -> Tensor:
    """Images (n, height, width, 3) uint8 as the network takes them, (n, 3, 299, 299) float32.

    Scaled to [0, 1], resized to 299 x 299 bilinearly without antialiasing, scaled to [-1, 1]:
    pytorch-fid's steps, which are MLPerf's. In memory one channel follows the other, as there:
    with channels last, convolutions add up in another order, and features differ in their last
    bits.
    """
    pixels = images.permute(0, 3, 1, 2).contiguous()
    # A GPU would multiply by the inverse of a plain number, which rounds otherwise than division.
    largest = torch.tensor(255.0, device=images.device)
    scaled = nn.functional.interpolate(
        pixels / largest, size=(SIDE, SIDE), mode="bilinear", align_corners=False
    )
    return 2 * scaled - 1


def padded_batches(rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of exactly `batch_size` rows and how many of them count; the last row fills the tail.

    At a fixed batch size a row's result does not depend on its neighbours, so padding makes
    features independent of how a run is cut into shards.
    """
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        missing = batch_size - len(batch)
        yield np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]), len(batch)


@torch.inference_mode()
def feature_batches(
    network: nn.Module, images: Iterable[np.ndarray | Tensor], batch_size: int
) -> Iterator[np.ndarray]:
    """Features (n, 2048) float32, batch by batch, of images (height, width, 3) uint8 of any sizes.

    Images are taken as they are needed, so that one batch of them is in memory.
    """
    device = next(network.parameters()).device
    given = (
        image if isinstance(image, Tensor) else torch.tensor(image, device=device)
        for image in images
    )
    while batch := list(islice(given, batch_size)):
        inputs = in_chunks(network_input, batch)
        padding = inputs[-1:].expand(batch_size - len(batch), -1, -1, -1)
        yield network(torch.cat([inputs, padding]))[: len(batch)].cpu().numpy()


def image_features(
    network: nn.Module, images: Iterable[np.ndarray | Tensor], batch_size: int
) -> np.ndarray:
    """Features (n, 2048) float32 of at least one image, as `feature_batches` yields them."""
    return np.concatenate(list(feature_batches(network, images, batch_size)))
