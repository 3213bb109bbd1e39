"""The parts of a UNet with fp8 products, in place of those of `t2i.engine.blocks`.

Norms write fp8, products read it; what passes from block to block stays in the features' own
format. Biases and residuals are added in a product's sums, so that no bias is carried along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from t2i.engine.blocks import (
    LAYER_EPSILON,
    TRANSFORMER_EPSILON,
    Inner,
    KeysValues,
    Norm,
    Parts,
    ResidualBlock,
    Tensors,
    TransformerPart,
)
from t2i.engine.fp8.layers import AttentionWeights, Layers
from t2i.engine.operations import Operations


class Fp8Parts(Parts):
    """Makes the parts of a UNet, with fp8 products but for those whose names begin with `keep`.

    Without `convolutions` only transformers are made so.
    """

    def __init__(
        self, ops: Operations, layers: Layers, convolutions: bool, keep: Sequence[str]
    ) -> None:
        super().__init__(ops)
        self._layers, self._convolutions, self._keep = layers, convolutions, tuple(keep)

    def residual(
        self, tensors: Tensors, widths: Sequence[int], groups: int, epsilon: float
    ) -> ResidualBlock:
        """A residual block."""
        if not self._convolutions or self._kept(tensors):
            return super().residual(tensors, widths, groups, epsilon)
        return Fp8ResidualBlock(tensors, widths, groups, epsilon, self.ops, self._layers)

    def transformer(self, tensors: Tensors, heads: int, groups: int) -> TransformerPart:
        """A transformer."""
        if self._kept(tensors):
            return super().transformer(tensors, heads, groups)
        return Fp8Transformer(tensors, heads, groups, self._layers)

    def upsampler(self, tensors: Tensors) -> Callable[[Tensor], Tensor]:
        """An upsampler."""
        if not self._convolutions or self._kept(tensors):
            return super().upsampler(tensors)
        kernel, bias = tensors("conv.weight"), tensors("conv.bias")
        return self._layers.upsampler(f"{tensors.path}conv", kernel, bias)

    def _kept(self, tensors: Tensors) -> bool:
        return any(tensors.path.startswith(f"{name}.") for name in self._keep)


class Fp8ResidualBlock(ResidualBlock):
    """A residual block whose convolutions are fp8; its shortcut is not."""

    def __init__(
        self,
        tensors: Tensors,
        widths: Sequence[int],
        groups: int,
        epsilon: float,
        ops: Operations,
        layers: Layers,
    ) -> None:
        super().__init__(tensors, widths, groups, epsilon, ops)
        places = [f"{tensors.path}{name}" for name in ("conv1", "conv2")]
        self._enter = layers.group_norm(places[0], self._first, silu=True)
        self._middle = layers.group_norm(places[1], self._second, silu=True)
        bias = None if self._shortcut else self._bias
        self._convolutions = (
            layers.convolution(places[0], self._kernels[0], None),
            layers.convolution(places[1], self._kernels[1], bias),
        )
        del self._kernels

    def __call__(self, sources: Sequence[Tensor], shift: Tensor) -> Tensor:
        """As the block without fp8."""
        features = self._convolutions[0](self._enter(sources, None), None)
        residual = self._projected(sources) if self._shortcut else sources[0]
        return self._convolutions[1](self._middle([features], shift), residual)


class Fp8TransformerBlock:
    """Attention to the image, attention to the prompt, feed-forward; each adds to the features.

    The last block of a transformer gives its features for the place `result` instead.
    """

    def __init__(self, tensors: Tensors, heads: int, result: str | None, layers: Layers) -> None:
        path = tensors.path

        def norm(name: str, place: str) -> Callable[[Tensor], Tensor]:
            weights = tensors(f"{name}.weight"), tensors(f"{name}.bias")
            return layers.layer_norm(f"{path}{place}", *weights, LAYER_EPSILON)

        def attention(name: str) -> AttentionWeights:
            part = tensors.below(name)
            query, key, value, out = (
                part(f"to_{kind}.weight") for kind in ("q", "k", "v", "out.0")
            )
            return AttentionWeights(query, key, value, out, part("to_out.0.bias"), heads)

        gated, contracted = tensors.below("ff.net.0.proj"), tensors.below("ff.net.2")
        self._norms = (
            norm("norm1", "attn1.in"),
            norm("norm2", "attn2.in"),
            norm("norm3", "ff.in"),
        )
        self._image = layers.self_attention(f"{path}attn1", attention("attn1"))
        self._prompt = layers.cross_attention(f"{path}attn2", attention("attn2"))
        hidden = f"{path}ff.hidden"
        self._gated = layers.geglu(f"{path}ff.in", gated("weight"), gated("bias"), hidden)
        self._contracted = layers.linear(hidden, contracted("weight"), contracted("bias"), result)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of the prompt's embeddings (n, tokens, width)."""
        return self._prompt.keys_values(context)

    def __call__(self, features: Tensor, prompt: KeysValues) -> Tensor:
        """Features (n, length, channels) of features, whose memory is used again."""
        features = self._image(self._norms[0](features), features)
        features = self._prompt(self._norms[1](features), features, prompt)
        return self._contracted(self._gated(self._norms[2](features), None), features)


class Fp8Transformer:
    """A norm, a projection, blocks, a projection back, and the input added."""

    def __init__(self, tensors: Tensors, heads: int, groups: int, layers: Layers) -> None:
        norm = Norm(tensors("norm.weight"), tensors("norm.bias"), groups, TRANSFORMER_EPSILON)
        entry, left = f"{tensors.path}in", f"{tensors.path}out"
        self._norm = layers.group_norm(entry, norm, silu=False)
        self._in = layers.linear(entry, tensors("proj_in.weight"), tensors("proj_in.bias"))
        self._out = layers.linear(left, tensors("proj_out.weight"), tensors("proj_out.bias"))
        parts = list(tensors.several("transformer_blocks"))
        self.blocks: Sequence[Inner] = [
            Fp8TransformerBlock(part, heads, left if part is parts[-1] else None, layers)
            for part in parts
        ]
        self._leave = layers.quantiser(left)

    def __call__(self, features: Tensor, prompts: Iterator[KeysValues]) -> Tensor:
        """Features (n, h, w, channels) of features."""
        n, height, width, channels = features.shape
        inner = self._in(self._norm([features], None).view(n, height * width, channels), None)
        for block in self.blocks:
            inner = block(inner, next(prompts))
        if not self.blocks:  # a pruned UNet may have left none
            inner = self._leave(inner)
        return self._out(inner, features.view(n, height * width, channels)).view_as(features)
