"""Layers of fp8 features by the kernels of this folder, on Hopper.

Each computes what `t2i.engine.fp8.layers` defines, from the same e4m3 operands, with sums in
another order. Where a shape does not suit a kernel the definition is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine.blocks import KeysValues, Norm
from t2i.engine.fp8.layers import AttentionWeights, CrossAttention, GroupNorm, Layer, Layers
from t2i.engine.fp8.scales import FORMAT, as_fp8, weight_as_fp8
from t2i.engine.kernels import norms
from t2i.engine.kernels.hopper import attention as fast
from t2i.engine.kernels.hopper import products
from t2i.engine.kernels.hopper.products import BF16, DEPTH, FP8, GEGLU, TRANSPOSED, Launch
from t2i.engine.operations import subpixel_weight


class HopperLayers(Layers):
    """Makes layers whose products are those of Hopper's kernels."""

    def group_norm(self, place: str, norm: Norm, silu: bool) -> GroupNorm:
        """GroupNorm that writes fp8."""
        plain, inverse = super().group_norm(place, norm, silu), 1 / self.scale(place)

        def call(sources: Sequence[Tensor], shift: Tensor | None) -> Tensor:
            if not norms.group_norm_applies(sources):
                return plain(sources, shift)
            return norms.group_norm(sources, *norm, silu, shift, inverse)

        return call

    def layer_norm(
        self, place: str, weight: Tensor, bias: Tensor, epsilon: float
    ) -> Callable[[Tensor], Tensor]:
        """LayerNorm that writes fp8."""
        plain = super().layer_norm(place, weight, bias, epsilon)
        inverse = 1 / self.scale(place)

        def call(features: Tensor) -> Tensor:
            if not norms.layer_norm_applies(features):
                return plain(features)
            return norms.layer_norm(features, weight, bias, epsilon, None, inverse)

        return call

    def linear(
        self, place: str, weight: Tensor, bias: Tensor | None, result: str | None = None
    ) -> Layer:
        """A linear layer by a kernel, where its width has one."""
        columns = products.columns_of(len(weight))
        if columns is None or weight.shape[1] % 16:
            return super().linear(place, weight, bias, result)
        by = 1.0 if result is None else 1 / self.scale(result)
        kind = BF16 if result is None else FP8
        launch = self._launch(place, weight, bias, columns, kind, by)
        return lambda features, residual: _product(launch, features, len(weight), residual)

    def geglu(self, place: str, weight: Tensor, bias: Tensor, result: str) -> Layer:
        """A GEGLU by a kernel, where its width has one."""
        columns = products.columns_of(len(weight))
        if columns is None or weight.shape[1] % 16:
            return super().geglu(place, weight, bias, result)
        order = products.gated_neighbours(len(weight), columns).to(weight.device)
        rounded, scale = weight_as_fp8(weight)
        scale, wide = scale * self.scale(place), bias.float()
        half = len(weight) // 2
        by = torch.ones_like(scale)
        by[:half] = 1 / self.scale(result)  # values carry the result's scale
        launch = Launch(
            _rows(rounded, order), (scale * by)[order], (wide * by)[order], columns, GEGLU
        )
        return lambda features, _: _product(launch, features, half, None)

    def convolution(self, place: str, kernel: Tensor, bias: Tensor | None) -> Layer:
        """A 3x3 convolution by a kernel, where width and image have one."""
        plain = super().convolution(place, kernel, bias)
        outputs, channels = kernel.shape[:2]
        columns = products.columns_of(outputs)
        if columns is None or channels % 16:
            return plain
        launch = self._launch(place, _taps(kernel), bias, columns, BF16, 1.0)

        def call(features: Tensor, residual: Tensor | None = None) -> Tensor:
            if not products.convolution_applies(features):
                return plain(features, residual)
            result = features.new_empty(*features.shape[:3], outputs, dtype=kernel.dtype)
            products.convolution(launch, features, result, residual)
            return result

        return call

    def upsampler(self, place: str, kernel: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
        """An upsampler by four kernels, where width and image have one."""
        plain = super().upsampler(place, kernel, bias)
        outputs, channels = kernel.shape[:2]
        columns = products.columns_of(outputs)
        if columns is None or channels % 16:
            return plain
        launches = [
            self._launch(place, _taps(part), bias, columns, BF16, 1.0)
            for part in subpixel_weight(kernel).chunk(4)
        ]

        def call(features: Tensor) -> Tensor:
            if not products.convolution_applies(features):
                return plain(features)
            n, height, width, _ = features.shape
            entered = self.stored(place, features)
            result = features.new_empty(n, 2 * height, 2 * width, outputs)
            for corner, launch in enumerate(launches):
                products.convolution(launch, entered, result, None, corner)
            return result

        return call

    def stored(self, place: str, values: Tensor) -> Tensor:
        """Values in e4m3, in one pass."""
        return norms.quantise(values, 1 / self.scale(place))

    def self_attention(self, place: str, weights: AttentionWeights) -> Layer:
        """Attention to each other by a kernel, where heads and length have one."""
        plain = super().self_attention(place, weights)
        channels = len(weights.query)
        if not self.attention or channels != weights.heads * fast.SIZE or channels % 128:
            return plain
        entry = f"{place}.in"
        both = torch.cat([weights.query, weights.key])
        queries_keys = self.linear(entry, both, None, f"{place}.qk")
        rounded, scale = weight_as_fp8(weights.value)
        scale = scale * (self.scale(entry) / self.scale(f"{place}.v"))
        values = Launch(rounded, scale, torch.zeros_like(scale), 128, TRANSPOSED)
        out = self._out(place, weights)
        scores = self.scale(f"{place}.qk") ** 2 * fast.SIZE**-0.5
        by = self.scale(f"{place}.v") / self.scale(f"{place}.out")

        def call(features: Tensor, residual: Tensor | None) -> Tensor:
            n, length, _ = features.shape
            if length % fast.QUERIES:
                return plain(features, residual)
            query, key = queries_keys(features, None).chunk(2, dim=-1)
            turned = features.new_empty(channels, n * length)
            products.transposed_product(values, features.flatten(0, 1), turned)
            attended = fast.attention(query, key, turned, weights.heads, scores, by)
            return out(attended, residual)

        return call

    def cross_attention(self, place: str, weights: AttentionWeights) -> CrossAttention:
        """Attention to a prompt by a kernel, where heads have one."""
        channels = len(weights.query)
        if not self.attention or channels != weights.heads * fast.SIZE:
            return super().cross_attention(place, weights)
        return HopperCrossAttention(self, place, weights, self._out(place, weights))

    def _out(self, place: str, weights: AttentionWeights) -> Layer:
        """The layer after attention, whose inputs are in the kernel's order."""
        order = fast.stored_features(weights.out.shape[1]).to(weights.out.device)
        return self.linear(f"{place}.out", weights.out[:, order], weights.out_bias)

    def _launch(
        self,
        place: str,
        weight: Tensor,
        bias: Tensor | None,
        columns: int,
        epilogue: int,
        by: float,
    ) -> Launch:
        """What a kernel needs for a weight (outputs, depth); results are multiplied with `by`."""
        rounded, scale = weight_as_fp8(weight)
        scale = scale * (self.scale(place) * by)
        wide = torch.zeros_like(scale) if bias is None else bias.float() * by
        order = products.neighbours(len(weight)).to(weight.device)
        return Launch(_rows(rounded, order), scale, wide, columns, epilogue, by)


class HopperCrossAttention(CrossAttention):
    """Attention to a prompt, whose values are kept transposed and in the kernel's order."""

    def __init__(self, layers: Layers, place: str, weights: AttentionWeights, out: Layer) -> None:
        super().__init__(layers, place, weights)
        self._out_ordered = out
        names = ("q", "k", "v", "out")
        query, key, value, result = (layers.scale(f"{place}.{name}") for name in names)
        self._scores, self._by = query * key * fast.SIZE**-0.5, value / result
        self._scales = key, value

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys (n, tokens, channels), values (channels, n * padded tokens), both e4m3."""
        key, value = F.linear(context, self._keys_values).chunk(2, dim=-1)
        tokens, channels = value.shape[1:]
        filled = F.pad(as_fp8(value, self._scales[1]).view(torch.uint8), (0, 0, 0, -tokens % 128))
        order = fast.stored_keys(filled.shape[1], context.device)
        turned = filled[:, order].permute(2, 0, 1).reshape(channels, -1).contiguous()
        return as_fp8(key, self._scales[0]).contiguous(), turned.view(FORMAT)

    def __call__(self, features: Tensor, residual: Tensor, prompt: KeysValues) -> Tensor:
        """The residual with attention's output added."""
        length = features.shape[1]
        query = self._query(features, None)
        if missing := -length % fast.QUERIES:
            query = F.pad(query.view(torch.uint8), (0, 0, 0, missing)).view(FORMAT)
        attended = fast.attention(query, *prompt, self._heads, self._scores, self._by)
        return self._out_ordered(attended[:, :length].contiguous(), residual)


def _rows(rounded: Tensor, order: Tensor) -> Tensor:
    """Rows of e4m3 in another order; as bytes, since few operations know e4m3."""
    return rounded.view(torch.uint8)[order].view(FORMAT).contiguous()


def _taps(kernel: Tensor) -> Tensor:
    """A kernel (outputs, channels, h, w) as (outputs, h * w * channels padded to 128)."""
    taps = kernel.permute(0, 2, 3, 1).flatten(1, 2)
    return F.pad(taps, (0, -kernel.shape[1] % DEPTH)).flatten(1)


def _product(launch: Launch, features: Tensor, width: int, residual: Tensor | None) -> Tensor:
    """A product over the last dimension of features, as wide as the result's rows."""
    flat = features.flatten(0, -2)
    kind = torch.bfloat16 if launch.epilogue == BF16 else FORMAT
    result = flat.new_empty(len(flat), width, dtype=kind)
    added = None if residual is None else residual.flatten(0, -2)
    products.product(launch, flat, result, added)
    return result.view(*features.shape[:-1], width)
