"""Structural pruning of SDXL's UNet: whole transformer blocks, and channels of feed-forward layers.

A pruned UNet has the names of diffusers' UNet2DConditionModel, with fewer blocks and narrower
layers; `fit` gives a network of diffusers the same structure. `t2i.micro.recovery` trains one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = re.compile(r"(.*\.transformer_blocks)\.(\d+)\.(.*)")
FINE, COARSE = 8, 64  # channels of which a narrow layer (below 512) and any other keep multiples


class PruneError(ValueError):
    """A UNet cannot be pruned as asked."""


def prune(
    tensors: Mapping[str, Tensor], blocks: Sequence[str], feed_forward: float
) -> dict[str, Tensor]:
    """The tensors of a UNet without `blocks` and with a share of each feed-forward's channels.

    Blocks are named as in the checkpoint (`mid_block.attentions.0.transformer_blocks.3`); those
    after a missing one move up. Channels are kept by how much they can add: the norm of what
    makes a channel (value and gate) times the norm of what it adds. Raises PruneError for a block
    that does not exist.
    """
    gone = set(blocks)
    found = {f"{match[1]}.{match[2]}" for name in tensors if (match := BLOCK.fullmatch(name))}
    if missing := sorted(gone - found):
        raise PruneError(
            f"the UNet has no {missing[0]}; it has {', '.join(sorted(found)[:3])}, ..."
        )
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = BLOCK.fullmatch(name)
        if match is None:
            kept[name] = tensor
            continue
        stem, number, rest = match[1], int(match[2]), match[3]
        if f"{stem}.{number}" not in gone:
            before = sum(f"{stem}.{earlier}" in gone for earlier in range(number))
            kept[f"{stem}.{number - before}.{rest}"] = tensor
    for name in [name for name in kept if name.endswith(".ff.net.2.weight")]:
        _narrow(kept, name.removesuffix("2.weight"), feed_forward)
    return kept


def _narrow(tensors: dict[str, Tensor], stem: str, share: float) -> None:
    """Keep a share of a feed-forward's channels, in their order."""
    made, bias = f"{stem}0.proj.weight", f"{stem}0.proj.bias"
    adds = f"{stem}2.weight"
    channels = tensors[adds].shape[1]
    unit = COARSE if channels >= 512 else FINE
    number = min(channels, max(unit, round(share * channels / unit) * unit))
    value, gate = tensors[made].double().chunk(2)
    worth = value.norm(dim=1) * gate.norm(dim=1) * tensors[adds].double().norm(dim=0)
    order = worth.argsort(descending=True, stable=True)[:number].sort().values
    both = torch.cat([order, order + channels])
    tensors[made], tensors[bias] = tensors[made][both], tensors[bias][both]
    tensors[adds] = tensors[adds][:, order].contiguous()


def fit(network: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give diffusers' UNet, whose parameters are on "meta", the structure of pruned tensors."""
    for name, module in network.named_modules():
        if not hasattr(module, "transformer_blocks"):
            continue
        stem = f"{name}.transformer_blocks"
        number = sum(
            f"{stem}.{n}.norm1.weight" in shapes for n in range(len(module.transformer_blocks))
        )
        module.transformer_blocks = module.transformer_blocks[:number]
        for n, block in enumerate(module.transformer_blocks):
            layers = block.ff.net
            layers[0].proj = _linear(shapes[f"{stem}.{n}.ff.net.0.proj.weight"])
            layers[2] = _linear(shapes[f"{stem}.{n}.ff.net.2.weight"])


def _linear(shape: Sequence[int]) -> nn.Linear:
    outputs, inputs = shape
    return nn.Linear(inputs, outputs, device="meta")
