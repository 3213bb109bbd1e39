"""What is done value by value, in Triton: GEGLU, sums with a bias, softmax of long rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # values of a program
LONGEST_ROW = 65536  # of a softmax, which holds it in registers


@triton.jit
def _geglu(features, result, number, block: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    known = place < number
    pair = place[:, None] * 2 + tl.arange(0, 2)[None, :]
    value, gate = tl.split(tl.load(features + pair, mask=known[:, None]).to(tl.float32))
    gelu = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(result + place, (value * gelu).to(result.dtype.element_ty), mask=known)


def geglu(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `t2i.engine.operations.geglu`; GELU and product are rounded once."""
    both = F.linear(features, weight, bias)
    result = both.new_empty(*both.shape[:-1], both.shape[-1] // 2)
    number = result.numel()
    _geglu[(triton.cdiv(number, BLOCK),)](both, result, number, BLOCK, num_warps=4)
    return result


@triton.jit
def _add(features, residual, bias, number, channels, block: tl.constexpr, biased: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    known = place < number
    values = tl.load(features + place, mask=known).to(tl.float32)
    values += tl.load(residual + place, mask=known).to(tl.float32)
    if biased:
        values += tl.load(bias + place % channels, mask=known).to(tl.float32)
    tl.store(features + place, values.to(features.dtype.element_ty), mask=known)


def add(features: Tensor, residual: Tensor, bias: Tensor | None) -> Tensor:
    """As `t2i.engine.operations.add`, into the features' memory; rounded once."""
    number, channels = features.numel(), features.shape[-1]
    _add[(triton.cdiv(number, BLOCK),)](
        features,
        residual,
        features if bias is None else bias,
        number,
        channels,
        BLOCK,
        bias is not None,
        num_warps=4,
    )
    return features


def add_applies(features: Tensor, residual: Tensor, bias: Tensor | None) -> bool:
    """Whether `add` can be used: both lie in memory without gaps, in the same order."""
    return features.is_contiguous() and residual.is_contiguous()


@triton.jit
def _softmax(rows, scale, length: tl.constexpr, padded: tl.constexpr):
    column = tl.arange(0, padded)
    place = rows + tl.program_id(0).to(tl.int64) * length + column
    known = column < length
    values = tl.load(place, mask=known, other=-float("inf")).to(tl.float32) * scale
    values = tl.exp(values - tl.max(values, 0))
    tl.store(place, (values / tl.sum(values, 0)).to(rows.dtype.element_ty), mask=known)


def wide_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As `t2i.engine.operations.wide_attention`: a product, a softmax in place, a product.

    The probabilities are rounded to the features' format.
    """
    n, length, channels = query.shape
    result = query.new_empty(n, length, channels)
    products = query.new_empty(length, length)
    for image in range(n):
        torch.mm(query[image], key[image].t(), out=products)
        _softmax[(length,)](
            products, channels**-0.5, length, triton.next_power_of_2(length), num_warps=16
        )
        torch.mm(products, value[image], out=result[image])
    return result


def wide_attention_applies(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `wide_attention` can be used: a row of the softmax fits into registers."""
    return query.shape[1] <= LONGEST_ROW


@triton.jit
def _interleave(corners, bias, result, height, width, channels, block: tl.constexpr):
    """One row of an image from the four images of its even and odd rows and columns."""
    line, image = tl.program_id(1), tl.program_id(2)
    place = tl.program_id(0) * block + tl.arange(0, block)
    known = place < 2 * width * channels
    pixel, channel = place // channels, place % channels
    odd_row, odd_column = line % 2, pixel % 2
    corner = (image.to(tl.int64) * (height + 1) + line // 2 + odd_row) * (width + 1)
    source = (corner + pixel // 2 + odd_column) * 4 + odd_row * 2 + odd_column
    values = tl.load(corners + source * channels + channel, mask=known).to(tl.float32)
    values += tl.load(bias + channel, mask=known).to(tl.float32)
    target = (image.to(tl.int64) * 2 * height + line) * 2 * width * channels + place
    tl.store(result + target, values.to(result.dtype.element_ty), mask=known)


def upsample_convolution(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `t2i.engine.operations.upsample_convolution`; the result is put together in one pass."""
    n, height, width, _ = features.shape
    channels = bias.numel()
    padded = F.pad(features, (0, 0, 1, 1, 1, 1)).permute(0, 3, 1, 2)
    corners = F.conv2d(padded, weight).permute(0, 2, 3, 1).contiguous()
    result = features.new_empty(n, 2 * height, 2 * width, channels)
    grid = (triton.cdiv(2 * width * channels, BLOCK), 2 * height, n)
    _interleave[grid](corners, bias, result, height, width, channels, BLOCK, num_warps=4)
    return result
