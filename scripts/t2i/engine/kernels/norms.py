"""GroupNorm (with SiLU) and LayerNorm in Triton.

Statistics are fp32 and centred, so that a mean far from zero costs no digits: each piece of a
channel sums distances from its first value, and pieces are merged as Chan et al. (1983) do. A
GroupNorm reads its sources where they lie, and takes what is added to them before into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

QUANTISED = 4096  # numbers that a program makes fp8
TILE = 16  # rows that a program takes at a time
PROGRAMS = 8192  # that take statistics, about; a GPU runs some thousands at once
MOST_PIECES = 512  # of an image, which one program merges
MOST_APPLIED = 16384  # pieces of an image that are scaled; a launch has at most 65535 in a row


@triton.jit
def _piece_statistics(
    features,
    pieces,
    offset,
    channels,
    rows,
    width: tl.constexpr,
    block: tl.constexpr,
    piece: tl.constexpr,
    tile: tl.constexpr,
):
    """Mean and sum of squared distances of each channel over the rows of one piece."""
    column = tl.program_id(0) * block + tl.arange(0, block)
    number, image = tl.program_id(1), tl.program_id(2)
    begin = features + (image.to(tl.int64) * rows + number * piece) * width
    pivot = tl.load(begin + column).to(tl.float32)
    sums = tl.zeros((tile, block), tl.float32)
    squares = tl.zeros((tile, block), tl.float32)
    for row in range(0, piece, tile):
        index = (row + tl.arange(0, tile))[:, None] * width + column[None, :]
        distances = tl.load(begin + index).to(tl.float32) - pivot[None, :]
        sums += distances
        squares += distances * distances
    total = tl.sum(sums, 0)
    place = pieces + (image * tl.num_programs(1) + number) * 2 * channels + offset + column
    tl.store(place, pivot + total / piece)
    tl.store(place + channels, tl.sum(squares, 0) - total * total / piece)


@triton.jit
def _group_scales(
    pieces,
    weight,
    bias,
    shift,
    scales,
    shift_stride,
    number,
    rows_of_piece,
    epsilon,
    channels: tl.constexpr,
    of_group: tl.constexpr,
    of_group_padded: tl.constexpr,
    number_padded: tl.constexpr,
    shifted: tl.constexpr,
):
    """What to multiply each channel of a group with, and what to add then."""
    group, image = tl.program_id(0), tl.program_id(1)
    within = tl.arange(0, of_group_padded)
    column = group * of_group + within
    part = tl.arange(0, number_padded)
    known = (within < of_group)[None, :] & (part < number)[:, None]
    place = pieces + (image * number + part)[:, None] * 2 * channels + column[None, :]
    means = tl.load(place, mask=known, other=0.0)
    squares = tl.load(place + channels, mask=known, other=0.0)
    added = tl.zeros((of_group_padded,), tl.float32)
    if shifted:
        added = tl.load(shift + image * shift_stride + column, mask=within < of_group, other=0.0)
        added = added.to(tl.float32)
    means = tl.where(known, means + added[None, :], 0.0)
    mean = tl.sum(tl.sum(means, 0), 0) / (number * of_group)
    distances = tl.where(known, means - mean, 0.0)
    total = tl.sum(tl.sum(squares + distances * distances * rows_of_piece, 0), 0)
    inverse = tl.rsqrt(total / (number * of_group * rows_of_piece) + epsilon)
    scale = tl.load(weight + column, mask=within < of_group, other=0.0).to(tl.float32) * inverse
    offset = tl.load(bias + column, mask=within < of_group, other=0.0).to(tl.float32)
    place = scales + image * 2 * channels + column
    tl.store(place, scale, mask=within < of_group)
    tl.store(place + channels, offset + (added - mean) * scale, mask=within < of_group)


@triton.jit
def _stored(values, factor, result, quantised: tl.constexpr):
    """Values in the result's format; fp8's are multiplied with `factor` and end at 448."""
    if quantised:
        values = tl.minimum(tl.maximum(values * factor, -448.0), 448.0)
    return values.to(result.dtype.element_ty)


@triton.jit
def _apply(
    features,
    scales,
    result,
    factor,
    offset,
    channels,
    rows,
    width: tl.constexpr,
    block: tl.constexpr,
    piece: tl.constexpr,
    tile: tl.constexpr,
    silu: tl.constexpr,
    quantised: tl.constexpr,
):
    """Scaled and shifted features of one source, at their place among the result's channels."""
    column = tl.program_id(0) * block + tl.arange(0, block)
    image = tl.program_id(2)
    place = scales + image * 2 * channels + offset + column
    scale, added = tl.load(place), tl.load(place + channels)
    first = image.to(tl.int64) * rows + tl.program_id(1) * piece
    for row in range(0, piece, tile):
        index = first + row + tl.arange(0, tile)
        values = tl.load(features + index[:, None] * width + column[None, :]).to(tl.float32)
        values = values * scale[None, :] + added[None, :]
        if silu:
            values = values / (1.0 + tl.exp(-values))
        target = result + index[:, None] * channels + offset + column[None, :]
        tl.store(target, _stored(values, factor, result, quantised))


def group_norm_applies(sources: Sequence[Tensor], *_: Any, **__: Any) -> bool:
    """Whether `group_norm` can be used: rows in tiles of 16, channels in blocks of 64."""
    rows = sources[0].shape[1] * sources[0].shape[2]
    return (
        rows % TILE == 0
        and all(source.shape[-1] % 64 == 0 for source in sources)
        and all(source.is_contiguous() for source in sources)
    )


def group_norm(
    sources: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    groups: int,
    epsilon: float,
    silu: bool,
    shift: Tensor | None = None,
    factor: float | None = None,
) -> Tensor:
    """As `t2i.engine.operations.group_norm`; with `factor`, times that and in e4m3."""
    n, height, width, _ = sources[0].shape
    rows, channels = height * width, sum(source.shape[-1] for source in sources)
    block = 128 if all(source.shape[-1] % 128 == 0 for source in sources) else 64
    piece = _piece(rows, min(MOST_PIECES, max(1, PROGRAMS * block // (n * channels))))
    number = rows // piece
    pieces = weight.new_empty(n, number, 2, channels, dtype=torch.float32)
    scales = weight.new_empty(n, 2, channels, dtype=torch.float32)
    result = _empty(sources[0], (n, height, width, channels), factor)
    offset = 0
    for source in sources:
        own = source.shape[-1]
        _piece_statistics[(own // block, number, n)](
            source, pieces, offset, channels, rows, own, block, piece, TILE, num_warps=2
        )
        offset += own
    stride = 0 if shift is None or shift.shape[0] == 1 else shift.stride(0)
    of_group = channels // groups
    _group_scales[(groups, n)](
        pieces,
        weight,
        bias,
        weight if shift is None else shift,
        scales,
        stride,
        number,
        piece,
        epsilon,
        channels,
        of_group,
        triton.next_power_of_2(of_group),
        triton.next_power_of_2(number),
        shift is not None,
        num_warps=8,
    )
    applied = _piece(rows, MOST_APPLIED)
    offset = 0
    for source in sources:
        own = source.shape[-1]
        _apply[(own // block, rows // applied, n)](
            source,
            scales,
            result,
            factor or 1.0,
            offset,
            channels,
            rows,
            own,
            block,
            applied,
            TILE,
            silu,
            factor is not None,
            num_warps=2,
        )
        offset += own
    return result


def _piece(rows: int, most: int) -> int:
    """Rows of a piece: TILE times a power of two that divides `rows` (a multiple of TILE).

    As few as make at most `most` pieces, where the rows can be divided so.
    """
    piece = TILE
    while rows // piece > most and rows % (2 * piece) == 0:
        piece *= 2
    return piece


@triton.jit
def _layer_norm(
    features,
    weight,
    bias,
    shift,
    result,
    factor,
    epsilon,
    channels: tl.constexpr,
    padded: tl.constexpr,
    rows: tl.constexpr,
    shifted: tl.constexpr,
    quantised: tl.constexpr,
):
    row = (tl.program_id(0) * rows + tl.arange(0, rows)).to(tl.int64)
    column = tl.arange(0, padded)
    known = (column < channels)[None, :]
    place = row[:, None] * channels + column[None, :]
    values = tl.load(features + place, mask=known, other=0.0).to(tl.float32)
    if shifted:
        added = tl.load(shift + column, mask=column < channels, other=0.0)
        values += added.to(tl.float32)[None, :]
    mean = tl.sum(values, 1) / channels
    distances = tl.where(known, values - mean[:, None], 0.0)
    inverse = tl.rsqrt(tl.sum(distances * distances, 1) / channels + epsilon)
    scale = tl.load(weight + column, mask=column < channels, other=0.0).to(tl.float32)
    offset = tl.load(bias + column, mask=column < channels, other=0.0).to(tl.float32)
    values = distances * inverse[:, None] * scale[None, :] + offset[None, :]
    tl.store(result + place, _stored(values, factor, result, quantised), mask=known)


def layer_norm_applies(features: Tensor, *_: Any, **__: Any) -> bool:
    """Whether `layer_norm` can be used: whole rows in registers, two at a time."""
    channels = features.shape[-1]
    return channels <= 4096 and (features.numel() // channels) % 2 == 0 and features.is_contiguous()


def layer_norm(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    shift: Tensor | None = None,
    factor: float | None = None,
) -> Tensor:
    """As `t2i.engine.operations.layer_norm`; with `factor`, times that and in e4m3."""
    channels = features.shape[-1]
    number = features.numel() // channels
    rows, padded = 2, triton.next_power_of_2(channels)
    result = _empty(features, features.shape, factor)
    _layer_norm[(number // rows,)](
        features,
        weight,
        bias,
        weight if shift is None else shift,
        result,
        factor or 1.0,
        epsilon,
        channels,
        padded,
        rows,
        shift is not None,
        factor is not None,
        num_warps=max(1, padded // 2048),
    )
    return result


def _empty(features: Tensor, shape: Sequence[int], factor: float | None) -> Tensor:
    """Memory for a result: in the features' format, or in e4m3."""
    kind = features.dtype if factor is None else torch.float8_e4m3fn
    return features.new_empty(*shape, dtype=kind)


@triton.jit
def _quantise(features, result, factor, number, block: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    values = tl.load(features + place, mask=place < number, other=0.0).to(tl.float32)
    tl.store(result + place, _stored(values, factor, result, True), mask=place < number)


def quantise(features: Tensor, factor: float) -> Tensor:
    """Features times `factor` in e4m3; what is too large becomes the largest number."""
    features = features.contiguous()
    result = _empty(features, features.shape, factor)
    blocks = triton.cdiv(features.numel(), QUANTISED)
    _quantise[(blocks,)](features, result, factor, features.numel(), QUANTISED, num_warps=8)
    return result
