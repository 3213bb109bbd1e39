"""diffusers' pipeline with the UNet's repeated blocks compiled by torch, for `backend: inductor`.

Blocks of one shape share what is compiled, so that a start takes seconds to a minute instead of
the minutes that the whole UNet takes.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from typing import Any

import torch
from torch import _dynamo, _inductor

SHAPES = 64  # of blocks, by which a model and the batch sizes of a job differ; torch allows 8


def compile_blocks(pipeline: Any) -> None:
    """Have the UNet's transformer blocks compiled when they first run, at each batch size.

    Kernels are not chosen by how fast they ran: another choice would add in another order, and
    two jobs would give different pixels.
    """
    _dynamo.config.recompile_limit = SHAPES
    _inductor.config.deterministic = True
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.unet.compile_repeated_blocks(fullgraph=True, dynamic=False)
