"""A matrix product with GEGLU in its epilogue, in Triton, for Hopper's tensor memory accelerator.

Programs are persistent: one for each multiprocessor, which takes tile after tile, eight rows of
tiles at a time so that what they share stays in the cache. Value and gate of an output are
neighbours (`t2i.engine.operations.interleaved`), hence in one thread.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ROWS, COLUMNS, DEPTH = 128, 256, 64  # of a tile
TOGETHER = 8  # rows of tiles


@triton.jit
def _geglu_product(
    features,
    weight,
    result,
    bias,
    number,
    outputs,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    together: tl.constexpr,
    programs: tl.constexpr,
):
    down, across = tl.cdiv(number, rows), tl.cdiv(outputs, columns)
    for tile in tl.range(tl.program_id(0), down * across, programs, flatten=True):
        first = tile // (together * across) * together
        height = min(down - first, together)
        within = tile % (together * across)
        row, column = first + within % height, within // height
        sums = tl.zeros((rows, columns), tl.float32)
        for k in range(0, width, depth):
            left = features.load([row * rows, k])
            right = weight.load([column * columns, k])
            sums = tl.dot(left, right.T, sums)
        sums += tl.load(bias + column * columns + tl.arange(0, columns)).to(tl.float32)[None, :]
        value, gate = tl.split(tl.reshape(sums, (rows, columns // 2, 2)))
        gated = value * (0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)))
        result.store([row * rows, column * (columns // 2)], gated.to(result.dtype))


@functools.cache
def _processors(device: int) -> int:
    """Multiprocessors of a GPU, 0 where it has no tensor memory accelerator."""
    properties = torch.cuda.get_device_properties(device)
    return int(properties.multi_processor_count) if properties.major >= 9 else 0


def geglu_applies(features: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether `geglu` can be used: whole tiles of a half format, on Hopper or later."""
    rows = features.numel() // features.shape[-1]
    return (
        features.dtype in (torch.float16, torch.bfloat16)
        and features.is_contiguous()
        and rows % ROWS == 0
        and weight.shape[0] % COLUMNS == 0
        and weight.shape[1] % DEPTH == 0
        and _processors(features.device.index or 0) > 0
    )


def geglu(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `t2i.engine.operations.geglu`; only the result is rounded."""
    return _geglu(features, weight, bias, _processors(features.device.index or 0))


def _geglu(features: Tensor, weight: Tensor, bias: Tensor, programs: int) -> Tensor:
    outputs, width = weight.shape
    flat = features.view(-1, width)
    result = flat.new_empty(len(flat), outputs // 2)
    _geglu_product[(programs,)](
        TensorDescriptor.from_tensor(flat, [ROWS, DEPTH]),
        TensorDescriptor.from_tensor(weight, [COLUMNS, DEPTH]),
        TensorDescriptor.from_tensor(result, [ROWS, COLUMNS // 2]),
        bias,
        len(flat),
        outputs,
        width,
        ROWS,
        COLUMNS,
        DEPTH,
        TOGETHER,
        programs,
        num_warps=8,
        num_stages=3,
    )
    return result.view(*features.shape[:-1], outputs // 2)
