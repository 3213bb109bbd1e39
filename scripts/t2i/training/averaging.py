"""Gradients of several processes that each hold the whole network, averaged around AdamW.

torch.compile makes one graph of the backward pass, so all gradients are there at once: there is
nothing to send them beside but AdamW. They go part by part, and AdamW steps through the parts that
have arrived. torch's DistributedDataParallel cuts the graph into pieces to send beside the backward
pass, and copies gradients; that takes longer (docs/training.md has the figures).
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Iterable, Iterator

import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

PART = 400_000_000  # bytes; smaller ones and larger ones take the same time


def parts_of(parameters: Iterable[nn.Parameter], size: int = PART) -> list[list[nn.Parameter]]:
    """Parameters in parts of about `size` bytes, in order."""
    parts: list[list[nn.Parameter]] = [[]]
    filled = 0
    for parameter in parameters:
        if filled >= size:
            parts.append([])
            filled = 0
        parts[-1].append(parameter)
        filled += parameter.nbytes
    return parts


def share_weights(network: nn.Module) -> None:
    """Give all processes the first one's weights.

    They are drawn from one seed, but a node with another kind of CPU may round otherwise.
    """
    for parameter in network.parameters():
        dist.broadcast(parameter.detach(), 0)


def as_they_arrive(optimizers: list[Optimizer]) -> Iterator[Optimizer]:
    """Sum the gradients of all processes; yield each optimiser when its own are there.

    Losses have to be divided by the number of processes before, for the sum to be the mean.
    """
    group = dist.group.WORLD
    assert group is not None  # torchrun's processes have joined it
    works = [
        group.allreduce_coalesced(
            [parameter.grad for rows in optimizer.param_groups for parameter in rows["params"]]
        )
        for optimizer in optimizers
    ]
    for work, optimizer in zip(works, optimizers, strict=True):
        work.wait()
        yield optimizer
