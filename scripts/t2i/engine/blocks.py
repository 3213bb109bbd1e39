"""The parts of the native UNet and decoder: residual blocks and transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine.operations import Operations, interleaved, subpixel_weight

TRANSFORMER_EPSILON = 1e-6  # of the norm before a transformer; diffusers has it as a constant
LAYER_EPSILON = 1e-5

# Keys and values (n, tokens, heads, size) of one layer's attention to the prompt.
KeysValues = tuple[Tensor, Tensor]


class Tensors:
    """The tensors of a checkpoint whose names begin with a prefix."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    @property
    def path(self) -> str:
        """The prefix."""
        return self._prefix

    def __call__(self, name: str) -> Tensor:
        return self._tensors[self._prefix + name]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def below(self, name: str) -> Tensors:
        """Those of a part."""
        return Tensors(self._tensors, f"{self._prefix}{name}.")

    def several(self, name: str) -> Iterator[Tensors]:
        """Those of the parts `name.0`, `name.1` and so on, as many as there are."""
        number = 0
        while any(key.startswith(f"{self._prefix}{name}.{number}.") for key in self._tensors):
            yield self.below(f"{name}.{number}")
            number += 1

    def kernel(self, name: str) -> Tensor:
        """A convolution's kernel in the memory layout of NHWC."""
        return self(name).contiguous(memory_format=torch.channels_last)

    def convolution(self, name: str) -> tuple[Tensor, Tensor]:
        """A convolution's kernel and bias."""
        return self.kernel(f"{name}.weight"), self(f"{name}.bias")


class Norm(NamedTuple):
    """Weights of a GroupNorm."""

    weight: Tensor
    bias: Tensor
    groups: int
    epsilon: float


class ResidualBlock:
    """Norm, SiLU, convolution; norm, SiLU, convolution; plus the input, projected where it must be.

    `widths` are the channels of its sources, and may be left out for a single one.

    The first convolution's bias is part of the shift: `shift_bias`, and in the UNet `time`, weight
    and bias of what makes the shift from the time embedding, has it in its own.
    """

    def __init__(
        self, tensors: Tensors, widths: Sequence[int], groups: int, epsilon: float, ops: Operations
    ) -> None:
        self._ops = ops
        self._first = Norm(tensors("norm1.weight"), tensors("norm1.bias"), groups, epsilon)
        self._second = Norm(tensors("norm2.weight"), tensors("norm2.bias"), groups, epsilon)
        self._kernels = tensors.kernel("conv1.weight"), tensors.kernel("conv2.weight")
        self.shift_bias = tensors("conv1.bias")
        self.time: tuple[Tensor, Tensor] | None = None
        if "time_emb_proj.weight" in tensors:
            bias = tensors("time_emb_proj.bias") + self.shift_bias
            self.time = tensors("time_emb_proj.weight"), bias
        self._bias = tensors("conv2.bias")
        self._shortcut: list[Tensor] = []
        if "conv_shortcut.weight" in tensors:
            weight = tensors("conv_shortcut.weight").flatten(1)
            self._shortcut = [
                part.contiguous() for part in weight.split(list(widths) or weight.shape[1], dim=1)
            ]
            self._bias = self._bias + tensors("conv_shortcut.bias")

    @property
    def width(self) -> int:
        """Channels of the result."""
        return self._bias.numel()

    def __call__(self, sources: Sequence[Tensor], shift: Tensor) -> Tensor:
        """Features (n, h, w, width) of sources side by side; `shift` (n or 1, width)."""
        features = self._ops.group_norm(sources, *self._first, silu=True)
        features = self._ops.convolution(features, self._kernels[0])
        features = self._ops.group_norm([features], *self._second, silu=True, shift=shift)
        features = self._ops.convolution(features, self._kernels[1])
        if not self._shortcut:
            return self._ops.add(features, sources[0], self._bias)
        return self._ops.add(features, self._projected(sources), None)

    def _projected(self, sources: Sequence[Tensor]) -> Tensor:
        """The sources as wide as the result, with the last biases added."""
        residual = F.linear(sources[0], self._shortcut[0], self._bias)
        for source, weight in zip(sources[1:], self._shortcut[1:], strict=True):
            residual = self._ops.linear_add(residual, source, weight)
        return residual


class TransformerBlock:
    """Attention to the image, attention to the prompt, feed-forward; each adds to the features.

    The features it gets and gives lack the biases that were not added yet: `carried` for the
    input, `left` for the output (both (channels,), None: nothing).
    """

    def __init__(
        self, tensors: Tensors, heads: int, carried: Tensor | None, ops: Operations
    ) -> None:
        self._ops, self._heads = ops, heads

        def norm(name: str, shift: Tensor | None) -> tuple[Any, ...]:
            weights = tensors(f"{name}.weight"), tensors(f"{name}.bias")
            return (*weights, LAYER_EPSILON, shift)

        def after(shift: Tensor | None, name: str) -> Tensor:
            bias = tensors(name).float()
            return bias if shift is None else shift.float() + bias

        of_image, of_prompt = tensors.below("attn1"), tensors.below("attn2")
        second = after(carried, "attn1.to_out.0.bias")
        third = after(second, "attn2.to_out.0.bias")
        self.left = after(third, "ff.net.2.bias")
        self._norms = norm("norm1", carried), norm("norm2", second), norm("norm3", third)
        self._qkv = torch.cat([of_image(f"to_{name}.weight") for name in "qkv"])
        self._query = of_prompt("to_q.weight")
        self._keys_values = torch.cat([of_prompt("to_k.weight"), of_prompt("to_v.weight")])
        self._out = of_image("to_out.0.weight"), of_prompt("to_out.0.weight")
        gated = tensors.below("ff.net.0.proj")
        self._gated = interleaved(gated("weight")), interleaved(gated("bias"))
        self._contracted = tensors("ff.net.2.weight")

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of the prompt's embeddings (n, tokens, width)."""
        keys, values = self._split(F.linear(context, self._keys_values), 2)
        return keys, values

    def __call__(self, features: Tensor, prompt: KeysValues) -> Tensor:
        """Features (n, length, channels) of features, whose memory is used again."""
        ops = self._ops
        seen = ops.layer_norm(features, *self._norms[0])
        attended = ops.attention(*self._split(F.linear(seen, self._qkv), 3))
        features = ops.linear_add(features, attended, self._out[0])
        seen = ops.layer_norm(features, *self._norms[1])
        (query,) = self._split(F.linear(seen, self._query), 1)
        features = ops.linear_add(features, ops.attention(query, *prompt), self._out[1])
        seen = ops.layer_norm(features, *self._norms[2])
        return ops.linear_add(features, ops.geglu(seen, *self._gated), self._contracted)

    def _split(self, features: Tensor, parts: int) -> Sequence[Tensor]:
        n, length, _ = features.shape
        return features.view(n, length, parts, self._heads, -1).unbind(2)


class Inner(Protocol):
    """A block of a transformer."""

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of the prompt's embeddings (n, tokens, width)."""

    def __call__(self, features: Tensor, prompt: KeysValues) -> Tensor:
        """Features (n, length, channels) of features, whose memory is used again."""


class TransformerPart(Protocol):
    """A transformer with all around it."""

    blocks: Sequence[Inner]

    def __call__(self, features: Tensor, prompts: Iterator[KeysValues]) -> Tensor:
        """Features (n, h, w, channels) of features."""


class Transformer:
    """A norm, a projection, blocks, a projection back, and the input added."""

    def __init__(self, tensors: Tensors, heads: int, groups: int, ops: Operations) -> None:
        self._ops = ops
        weights = tensors("norm.weight"), tensors("norm.bias")
        self._norm = Norm(*weights, groups, TRANSFORMER_EPSILON)
        self._in = tensors("proj_in.weight"), tensors("proj_in.bias")
        blocks: list[TransformerBlock] = []
        carried: Tensor | None = None
        for part in tensors.several("transformer_blocks"):
            blocks.append(TransformerBlock(part, heads, carried, ops))
            carried = blocks[-1].left
        self.blocks: Sequence[Inner] = blocks
        weight, bias = tensors("proj_out.weight"), tensors("proj_out.bias")
        if carried is not None:
            bias = (weight.float() @ carried + bias.float()).to(bias.dtype)
        self._out = weight, bias

    def __call__(self, features: Tensor, prompts: Iterator[KeysValues]) -> Tensor:
        """Features (n, h, w, channels) of features."""
        inner = self._ops.group_norm([features], *self._norm, silu=False)
        inner = F.linear(inner, *self._in).flatten(1, 2)
        for block in self.blocks:
            inner = block(inner, next(prompts))
        return self._ops.add(F.linear(inner, *self._out).view_as(features), features, None)


class Parts:
    """Makes the parts of a UNet from their tensors."""

    def __init__(self, ops: Operations) -> None:
        self.ops = ops

    def residual(
        self, tensors: Tensors, widths: Sequence[int], groups: int, epsilon: float
    ) -> ResidualBlock:
        """A residual block whose sources have `widths` channels."""
        return ResidualBlock(tensors, widths, groups, epsilon, self.ops)

    def transformer(self, tensors: Tensors, heads: int, groups: int) -> TransformerPart:
        """A transformer."""
        return Transformer(tensors, heads, groups, self.ops)

    def upsampler(self, tensors: Tensors) -> Callable[[Tensor], Tensor]:
        """Pixels doubled, then a 3x3 convolution."""
        kernel = subpixel_weight(tensors("conv.weight"))
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        bias, upsample = tensors("conv.bias"), self.ops.upsample_convolution
        return lambda features: upsample(features, kernel, bias)
