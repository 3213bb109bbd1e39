"""Channels-last activations around convolutions, as the GPU's kernels want them."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from typing import Any

import torch
from torch import Tensor, nn

LAST = torch.channels_last


class _LastGradient(torch.autograd.Function):
    """Passes a tensor on; its gradient comes back with channels last."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=LAST)


def _input_last(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].contiguous(memory_format=LAST), *inputs[1:])


def _gradient_last(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    kept: Tensor = _LastGradient.apply(output)  # type: ignore[no-untyped-call]
    return kept


def keep_channels_last(network: nn.Module) -> None:
    """Keep weights, inputs and gradients of all convolutions in one layout; no number changes.

    CUDA's group norm returns channels first, whatever it is given. Without this, each convolution
    copies its input and its gradient, outside of the kernels that torch.compile makes.
    """
    network.to(memory_format=LAST)  # type: ignore[call-overload]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(_input_last)
            module.register_forward_hook(_gradient_last)
