"""Layers of fp8 features and weights, in plain PyTorch; and the same layers without fp8, observed.

A layer computes in fp32 what its e4m3 operands say, adds bias and residual, and rounds once.
`t2i.engine.kernels.hopper` has faster forms with the same roundings of operands. Features in fp8
are `torch.float8_e4m3fn`; their scales are those of their places (`t2i.engine.fp8.scales`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine import operations
from t2i.engine.blocks import KeysValues, Norm
from t2i.engine.fp8.scales import as_fp8, weight_as_fp8
from t2i.engine.manifest import EngineError
from t2i.engine.operations import Operations, subpixel_weight

# A power of two that softmax's weights are multiplied with before they become fp8: they stay below
# e4m3's largest number, and fewer of them vanish.
WEIGHTS_OFFSET = 4.0
SAMPLED = 2**20  # numbers of a tensor that a percentile is taken of, about

GroupNorm = Callable[[Sequence[Tensor], Tensor | None], Tensor]
Layer = Callable[[Tensor, Tensor | None], Tensor]
"""Features and what is added to the result, if anything."""


@dataclass(frozen=True)
class AttentionWeights:
    """The weights of one attention: (channels, width) each, and the bias of `out`."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    out_bias: Tensor
    heads: int


class Layers:
    """Makes layers whose features are fp8, for features otherwise in the format of `ops`' caller.

    `scales` are those of the places; with `attention` queries, keys, values and weights are fp8 as
    well, without it attention is that of `ops`. Every method raises EngineError for a place that
    has no scale.
    """

    def __init__(self, scales: Mapping[str, float], ops: Operations, attention: bool) -> None:
        self.ops, self.attention = ops, attention
        self._scales = scales

    def scale(self, place: str) -> float:
        """The scale of a place."""
        if place not in self._scales:
            raise EngineError(
                f"the engine's scales have none for {place}: they are of another model; delete the "
                "engine's folder and build it again"
            )
        return self._scales[place]

    def stored(self, place: str, values: Tensor) -> Tensor:
        """Values as they enter a product at a place."""
        return as_fp8(values, self.scale(place))

    def wide(self, features: Tensor) -> Tensor:
        """Features in the format of sums."""
        return features.float()

    def weight(self, place: str, weight: Tensor) -> Callable[[], Tensor]:
        """A function that gives a weight as it is multiplied, with its place's scale in it."""
        rounded, scale = weight_as_fp8(weight)
        scale = (scale * self.scale(place)).view(-1, *[1] * (weight.ndim - 1))
        return lambda: rounded.float() * scale

    def group_norm(self, place: str, norm: Norm, silu: bool) -> GroupNorm:
        """GroupNorm of sources side by side, with a shift added before, as a place wants it."""

        def call(sources: Sequence[Tensor], shift: Tensor | None) -> Tensor:
            wide = [self.wide(source) for source in sources]
            return self.stored(place, self.ops.group_norm(wide, *norm, silu=silu, shift=shift))

        return call

    def layer_norm(
        self, place: str, weight: Tensor, bias: Tensor, epsilon: float
    ) -> Callable[[Tensor], Tensor]:
        """LayerNorm, as a place wants it."""

        def call(features: Tensor) -> Tensor:
            normed = self.ops.layer_norm(self.wide(features), weight, bias, epsilon)
            return self.stored(place, normed)

        return call

    def quantiser(self, place: str) -> Callable[[Tensor], Tensor]:
        """Features as a place wants them."""
        return lambda features: self.stored(place, features)

    def linear(
        self, place: str, weight: Tensor, bias: Tensor | None, result: str | None = None
    ) -> Layer:
        """A linear layer; with `result` its sums become fp8 for that place."""
        matrix, dtype = self.weight(place, weight), weight.dtype

        def call(features: Tensor, residual: Tensor | None = None) -> Tensor:
            sums = F.linear(self.wide(features), matrix(), _in(bias, self.wide))
            if residual is not None:
                sums = sums + self.wide(residual)
            return sums.to(dtype) if result is None else self.stored(result, sums)

        return call

    def geglu(self, place: str, weight: Tensor, bias: Tensor, result: str) -> Layer:
        """A linear layer of values, then gates: value times GELU of gate, for the place `result`.

        GELU is its form with tanh, whose distance from the other form vanishes in fp8.
        """
        matrix = self.weight(place, weight)

        def call(features: Tensor, _: Tensor | None = None) -> Tensor:
            sums = F.linear(self.wide(features), matrix(), self.wide(bias))
            value, gate = sums.chunk(2, dim=-1)
            return self.stored(result, value * F.gelu(gate, approximate="tanh"))

        return call

    def convolution(self, place: str, kernel: Tensor, bias: Tensor | None) -> Layer:
        """A 3x3 convolution that keeps the size."""
        matrix, dtype = self.weight(place, kernel), kernel.dtype

        def call(features: Tensor, residual: Tensor | None = None) -> Tensor:
            wide = self.wide(features).permute(0, 3, 1, 2)
            sums = F.conv2d(wide, matrix(), _in(bias, self.wide), padding=1).permute(0, 2, 3, 1)
            if residual is not None:
                sums = sums + self.wide(residual)
            return sums.to(dtype).contiguous()

        return call

    def upsampler(self, place: str, kernel: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
        """Pixels doubled, then a 3x3 convolution, as four 2x2 ones of the small image.

        See `t2i.engine.operations.subpixel_weight`.
        """
        matrix, dtype = self.weight(place, subpixel_weight(kernel)), kernel.dtype

        def call(features: Tensor) -> Tensor:
            entered = self.wide(self.stored(place, features))
            sums = operations.upsample_convolution(entered, matrix(), self.wide(bias))
            return sums.to(dtype)

        return call

    def self_attention(self, place: str, weights: AttentionWeights) -> Layer:
        """Attention of features to each other, and its output added to the residual."""
        both = torch.cat([weights.query, weights.key])
        asked = (f"{place}.qk", f"{place}.v") if self.attention else (None, None)
        queries_keys = self.linear(f"{place}.in", both, None, asked[0])
        values = self.linear(f"{place}.in", weights.value, None, asked[1])
        out = self.linear(f"{place}.out", weights.out, weights.out_bias)

        def call(features: Tensor, residual: Tensor | None) -> Tensor:
            query, key = split(queries_keys(features, None), 2, weights.heads)
            (value,) = split(values(features, None), 1, weights.heads)
            names = [f"{place}.{name}" for name in ("qk", "qk", "v", "out")]
            return out(self.attend(query, key, value, *names), residual)

        return call

    def cross_attention(self, place: str, weights: AttentionWeights) -> CrossAttention:
        """Attention of features to a prompt."""
        return CrossAttention(self, place, weights)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, q: str, k: str, v: str, out: str
    ) -> Tensor:
        """Attention of (n, length, heads, size), whose places are given, for the place `out`."""
        if not self.attention:
            return self.stored(out, self.ops.attention(query, key, value))
        query, key, value = (self.wide(part).transpose(1, 2) for part in (query, key, value))
        scale = self.scale(q) * self.scale(k) * query.shape[-1] ** -0.5 * math.log2(math.e)
        scores = query @ key.transpose(-1, -2) * scale
        weights = torch.exp2(scores - scores.amax(dim=-1, keepdim=True) + WEIGHTS_OFFSET)
        rounded = as_fp8(weights, 1.0).float()
        sums = rounded @ value * (self.scale(v) / weights.sum(dim=-1, keepdim=True))
        return self.stored(out, sums.transpose(1, 2).flatten(2))


class CrossAttention:
    """Attention of features to a prompt, whose keys and values are made once per image."""

    def __init__(self, layers: Layers, place: str, weights: AttentionWeights) -> None:
        self._layers, self._place, self._heads = layers, place, weights.heads
        asked = f"{place}.q" if layers.attention else None
        self._query = layers.linear(f"{place}.in", weights.query, None, asked)
        self._keys_values = torch.cat([weights.key, weights.value])
        self._out = layers.linear(f"{place}.out", weights.out, weights.out_bias)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values (n, tokens, heads, size) of embeddings (n, tokens, width)."""
        key, value = split(F.linear(context, self._keys_values), 2, self._heads)
        if not self._layers.attention:
            return key, value
        stored = self._layers.stored
        return stored(f"{self._place}.k", key), stored(f"{self._place}.v", value)

    def __call__(self, features: Tensor, residual: Tensor, prompt: KeysValues) -> Tensor:
        """The residual with attention's output added."""
        (query,) = split(self._query(features, None), 1, self._heads)
        names = [f"{self._place}.{name}" for name in ("q", "k", "v", "out")]
        return self._out(self._layers.attend(query, *prompt, *names), residual)


class Observer(Layers):
    """The same layers in the features' own format, which remember the largest magnitudes.

    With a `percentile` below 100 the largest share of a tensor's magnitudes is left out, and the
    rest's largest counts. They stay on the device until they are asked for, so that a CUDA graph
    can be made of them.
    """

    def __init__(self, ops: Operations, percentile: float = 100) -> None:
        super().__init__({}, ops, attention=True)
        self._percentile = percentile
        self._seen: dict[str, Tensor] = {}

    @property
    def magnitudes(self) -> dict[str, float]:
        """The largest magnitude of each place; not a number where one was seen."""
        return {place: float(value) for place, value in self._seen.items()}

    def scale(self, place: str) -> float:
        """1: nothing is scaled."""
        return 1.0

    def stored(self, place: str, values: Tensor) -> Tensor:
        """The values, whose largest magnitude is remembered."""
        most = torch.linalg.vector_norm(values, math.inf).float()
        if self._percentile < 100:
            sample = values.flatten()[:: -(-values.numel() // SAMPLED)].abs().float()
            left_out = int(len(sample) * (1 - self._percentile / 100))
            covered = sample.topk(left_out + 1).values[-1]
            most = torch.where(torch.isfinite(most), covered, most)
        if place not in self._seen:
            self._seen[place] = torch.zeros_like(most)
        torch.maximum(self._seen[place], most, out=self._seen[place])
        return values

    def wide(self, features: Tensor) -> Tensor:
        """The features."""
        return features

    def weight(self, place: str, weight: Tensor) -> Callable[[], Tensor]:
        """The weight."""
        return lambda: weight

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, q: str, k: str, v: str, out: str
    ) -> Tensor:
        """Attention by `ops`."""
        return self.stored(out, self.ops.attention(query, key, value))


def split(features: Tensor, parts: int, heads: int) -> Sequence[Tensor]:
    """Features (n, length, parts * heads * size) as `parts` of (n, length, heads, size)."""
    n, length, _ = features.shape
    return features.view(n, length, parts, heads, -1).unbind(2)


def _in(bias: Tensor | None, convert: Callable[[Tensor], Any]) -> Tensor | None:
    return None if bias is None else convert(bias)
