"""The operations of the native UNet and autoencoder, each by its definition in plain PyTorch.

Features are (n, height, width, channels), contiguous; sequences are (n, length, channels). Sums and
statistics of the definitions are fp32 whatever the format of the features. `t2i.engine.kernels`
has faster forms of some of them; a set of operations is what the networks are built with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def group_norm(
    sources: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    groups: int,
    epsilon: float,
    silu: bool,
    shift: Tensor | None = None,
) -> Tensor:
    """GroupNorm over the channels of all sources side by side, of which none is concatenated first.

    `shift` (n or 1, channels) is added to the features before. With `silu`, SiLU follows.
    """
    features = torch.cat(tuple(sources), dim=-1) if len(sources) > 1 else sources[0]
    wide = features.float()
    if shift is not None:
        wide = wide + shift.float()[:, None, None]
    wide = F.group_norm(wide.permute(0, 3, 1, 2), groups, weight.float(), bias.float(), epsilon)
    if silu:
        wide = F.silu(wide)
    return wide.permute(0, 2, 3, 1).to(features.dtype).contiguous()


def layer_norm(
    features: Tensor, weight: Tensor, bias: Tensor, epsilon: float, shift: Tensor | None = None
) -> Tensor:
    """LayerNorm over the channels, with `shift` (channels,) added to the features before."""
    wide = features.float()
    if shift is not None:
        wide = wide + shift.float()
    wide = F.layer_norm(wide, (wide.shape[-1],), weight.float(), bias.float(), epsilon)
    return wide.to(features.dtype)


def interleaved(parameter: Tensor) -> Tensor:
    """Rows of a GEGLU's weight or bias, the values' first half and the gates' second half, in turn.

    Value and gate of an output are then neighbours, as `geglu` expects.
    """
    value, gate = parameter.chunk(2)
    return torch.stack([value, gate], dim=1).flatten(0, 1)


def geglu(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of values and gates in turn: each value times GELU (by erf) of its gate."""
    outputs = F.linear(features, weight, bias)
    value, gate = outputs.view(*outputs.shape[:-1], -1, 2).unbind(-1)
    return value * F.gelu(gate)


def linear_add(residual: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    """`residual` plus a linear layer without bias; the memory of `residual` may be used again."""
    return residual + F.linear(features, weight)


def add(features: Tensor, residual: Tensor, bias: Tensor | None) -> Tensor:
    """Features, residual and a bias (channels,) added; the features' memory may be used again."""
    return features + residual if bias is None else features + residual + bias


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (n, length, heads, size) as (n, length, heads * size), scaled by size**-0.5."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def wide_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one head as wide as the features, (n, length, channels), image by image."""
    images = (F.scaled_dot_product_attention(*rows) for rows in zip(query, key, value, strict=True))
    return torch.stack(list(images))


def convolution(features: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """A 3x3 convolution without bias that keeps the size, or halves it with a stride of 2."""
    result = F.conv2d(features.permute(0, 3, 1, 2), weight, stride=stride, padding=1)
    return result.permute(0, 2, 3, 1).contiguous()


def subpixel_weight(weight: Tensor) -> Tensor:
    """Four 2x2 kernels (4 * out, in, 2, 2) for a 3x3 kernel (out, in, 3, 3) on doubled pixels.

    A 3x3 window on an image whose pixels were doubled covers only 2x2 different pixels, which of
    them depends on the row and column being even or odd: kernels add up what falls on one pixel.
    They are in the order (even, even), (even, odd), (odd, even), (odd, odd). Sums are fp32.
    """
    wide = weight.float()

    def folded(kernel: Tensor, odd: int, dim: int) -> Tensor:
        first, second, third = kernel.unbind(dim)
        pair = (first + second, third) if odd else (first, second + third)
        return torch.stack(pair, dim)

    kernels = [folded(folded(wide, row, 2), column, 3) for row in (0, 1) for column in (0, 1)]
    return torch.cat(kernels).to(weight.dtype)


def upsample_convolution(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Pixels doubled, then a 3x3 convolution, whose kernel is given by `subpixel_weight`.

    A convolution of the small image gives all four kernels at every corner between pixels.
    """
    n, height, width, _ = features.shape
    padded = F.pad(features, (0, 0, 1, 1, 1, 1)).permute(0, 3, 1, 2)
    corners = F.conv2d(padded, weight).permute(0, 2, 3, 1)
    result = features.new_empty(n, 2 * height, 2 * width, bias.numel())
    for position, part in enumerate(corners.split(bias.numel(), dim=-1)):
        row, column = divmod(position, 2)
        window = part[:, row : row + height, column : column + width]
        torch.add(window, bias, out=result[:, row::2, column::2])
    return result


@dataclass(frozen=True)
class Operations:
    """What the networks call; the defaults are the definitions."""

    group_norm: Callable[..., Tensor] = group_norm
    layer_norm: Callable[..., Tensor] = layer_norm
    geglu: Callable[..., Tensor] = geglu
    linear_add: Callable[..., Tensor] = linear_add
    add: Callable[..., Tensor] = add
    attention: Callable[..., Tensor] = attention
    wide_attention: Callable[..., Tensor] = wide_attention
    convolution: Callable[..., Tensor] = convolution
    upsample_convolution: Callable[..., Tensor] = upsample_convolution


PLAIN = Operations()
