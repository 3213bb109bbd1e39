"""The UNet that is trained: diffusers' network with the details of MLPerf's reference."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

RESIDUAL_GROUPS = 16
TRANSFORMER_GROUPS = 32

# The same in all sizes.
_SAME = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "use_linear_projection": True,
    "norm_num_groups": RESIDUAL_GROUPS,
    "norm_eps": 1e-5,
}


def sd2_unet(sizes: Mapping[str, Any], seed: int | None = None) -> UNet2DConditionModel:
    """A network with random weights, float32, of given sizes (as in `t2i.training.settings`).

    `attention_head_dim` is the number of heads of each level, as diffusers misnames it. Two things
    differ from what diffusers builds: norms of the transformers have 32 groups and eps 1e-6 (those
    of residual blocks 16 and 1e-5), and the last layer of each residual branch, of each transformer
    and of the network starts at zero, biases too.
    """
    if seed is not None:
        torch.manual_seed(seed)
    network = UNet2DConditionModel(**_SAME, **sizes)
    set_transformer_groups(network)
    for layer in zero_layers(network):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network


def set_transformer_groups(network: UNet2DConditionModel) -> None:
    """Give the transformers' norms 32 groups: diffusers knows one number for all norms."""
    for module in network.modules():
        if isinstance(module, Transformer2DModel):
            module.norm.num_groups = TRANSFORMER_GROUPS


def zero_layers(network: UNet2DConditionModel) -> Iterator[Any]:
    """Layers that start at zero: 39 of them in Stable Diffusion v2."""
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            yield module.conv2
        elif isinstance(module, Transformer2DModel):
            yield module.proj_out
    yield network.conv_out
