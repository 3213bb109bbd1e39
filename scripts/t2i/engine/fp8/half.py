"""The fp8 layers with products in bf16, for GPUs whose fp8 products no kernel of ours computes.

Every number of e4m3 is one of bf16, so that features enter a product as they are. Rounded once more
than in `t2i.engine.fp8.layers` are weights with their scales in them, sums before a residual is
added, and what a norm writes; the weights of attention, on the other hand, stay in bf16.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from t2i.engine.fp8.layers import Layers
from t2i.engine.fp8.scales import weight_as_fp8


class HalfLayers(Layers):
    """Makes layers whose products a GPU computes as it does without fp8."""

    def wide(self, features: Tensor) -> Tensor:
        """Features in bf16."""
        return features.to(torch.bfloat16)

    def weight(self, place: str, weight: Tensor) -> Callable[[], Tensor]:
        """A weight with its place's scale in it, in bf16."""
        rounded, scale = weight_as_fp8(weight)
        scale = (scale * self.scale(place)).view(-1, *[1] * (weight.ndim - 1))
        layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
        matrix = (rounded.float() * scale).to(torch.bfloat16, memory_format=layout)
        return lambda: matrix

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, q: str, k: str, v: str, out: str
    ) -> Tensor:
        """Attention by `ops`, of queries, keys and values that were fp8."""
        if not self.attention:
            return super().attend(query, key, value, q, k, v, out)
        scaled = self.wide(query) * (self.scale(q) * self.scale(k))
        attended = self.ops.attention(scaled, self.wide(key), self.wide(value))
        return self.stored(out, attended * self.scale(v))
