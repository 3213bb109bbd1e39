"""A 3x3 convolution that halves the size, in Triton.

cuDNN's sums for one place in a batch can differ in their last bits from those for another (seen on
an H200 at 640 channels and 64x64 pixels, in the last image of a batch of 16). Here every pixel's
products are added up in one order, so that an image does not depend on its place.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS, DEPTH = 128, 128, 64  # of a tile: pixels, outputs, channels


@triton.jit
def _halve(
    features,
    weight,
    result,
    number,
    height,
    width,
    outputs,
    channels: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
):
    down, across = (height + 1) // 2, (width + 1) // 2  # of the result
    tiles = tl.cdiv(outputs, columns)
    pixel = tl.program_id(0) // tiles * rows + tl.arange(0, rows)
    output = tl.program_id(0) % tiles * columns + tl.arange(0, columns)
    image = (pixel // (down * across)).to(tl.int64)
    first_line, first_place = pixel // across % down * 2 - 1, pixel % across * 2 - 1
    parts: tl.constexpr = (channels + depth - 1) // depth
    sums = tl.zeros((rows, columns), tl.float32)
    for step in range(9 * parts):
        tap, channel = step // parts, step % parts * depth + tl.arange(0, depth)
        line, place = first_line + tap // 3, first_place + tap % 3
        inside = (line >= 0) & (line < height) & (place >= 0) & (place < width) & (pixel < number)
        source = ((image * height + line) * width + place) * channels
        known = channel < channels
        left = tl.load(
            features + source[:, None] + channel[None, :],
            mask=inside[:, None] & known[None, :],
            other=0.0,
        )
        right = tl.load(
            weight + (output[:, None] * 9 + tap) * channels + channel[None, :],
            mask=(output < outputs)[:, None] & known[None, :],
            other=0.0,
        )
        sums = tl.dot(left, right.T, sums)
    target = result + pixel.to(tl.int64)[:, None] * outputs + output[None, :]
    known = (pixel < number)[:, None] & (output < outputs)[None, :]
    tl.store(target, sums.to(result.dtype.element_ty), mask=known)


def convolution_applies(features: Tensor, weight: Tensor, stride: int = 1) -> bool:
    """Whether `convolution` can be used: a half format, and a stride of 2."""
    return (
        stride == 2
        and features.is_cuda
        and features.dtype in (torch.float16, torch.bfloat16)
        and features.is_contiguous()
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def convolution(features: Tensor, weight: Tensor, stride: int = 2) -> Tensor:
    """As `t2i.engine.operations.convolution` with a stride of 2; rounded once."""
    n, height, width, channels = features.shape
    outputs = len(weight)
    result = features.new_empty(n, (height + 1) // 2, (width + 1) // 2, outputs)
    number = result.numel() // outputs
    _halve[(triton.cdiv(number, ROWS) * triton.cdiv(outputs, COLUMNS),)](
        features,
        weight,
        result,
        number,
        height,
        width,
        outputs,
        channels,
        ROWS,
        COLUMNS,
        DEPTH,
        num_warps=8,
        num_stages=3,
    )
    return result
