"""Every faster form of an operation: where it applies, and how near it is to the definition.

An *exact* form computes the same mathematics in fp32 inside and may round and add in another order;
a *gated* one approximates, and its limit is an error that the verdict on FID and CLIP guards.
`roundings` is the largest difference from the definition in float64 that a form may show, in units
of one rounding (half the distance of two numbers) of the result's format at the largest value: 1 is
what rounding the exact result costs (tests/engine/test_kernels.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from t2i.engine import operations
from t2i.engine.kernels import convolution, norms, pointwise, products
from t2i.engine.operations import Operations

ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Form:
    """A faster form of an operation; where it does not apply, the definition is computed."""

    operation: str
    what: str
    kind: str
    roundings: float
    fast: Callable[..., Tensor]
    applies: Callable[..., bool]

    def __call__(self, *arguments: Any, **named: Any) -> Tensor:
        """The operation's result."""
        if self.applies(*arguments, **named):
            return self.fast(*arguments, **named)
        plain: Callable[..., Tensor] = getattr(operations, self.operation)
        return plain(*arguments, **named)


def _always(*_: Any, **__: Any) -> bool:
    return True


def _linear_add(residual: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    """The sum in the product's epilogue."""
    channels = residual.shape[-1]
    rows = residual.view(-1, channels)
    rows.addmm_(features.reshape(-1, features.shape[-1]), weight.t())
    return residual


def _geglu(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if products.geglu_applies(features, weight, bias):
        return products.geglu(features, weight, bias)
    return pointwise.geglu(features, weight, bias)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    with sdpa_kernel(ATTENTION, set_priority=True):
        result = F.scaled_dot_product_attention(query, key, value)
    return result.transpose(1, 2).flatten(2)


FORMS = (
    Form(
        "group_norm",
        "GroupNorm, SiLU and the addition before them in one pass over skip connections in place",
        "exact",
        2.0,
        norms.group_norm,
        norms.group_norm_applies,
    ),
    Form(
        "layer_norm",
        "LayerNorm with the biases carried by a transformer",
        "exact",
        2.0,
        norms.layer_norm,
        norms.layer_norm_applies,
    ),
    Form(
        "geglu",
        "GEGLU in the product's epilogue on Hopper, else in one pass after it",
        "exact",
        2.0,
        _geglu,
        _always,
    ),
    Form(
        "linear_add",
        "the residual is added in the product's epilogue",
        "exact",
        2.0,
        _linear_add,
        lambda residual, features, weight: residual.is_contiguous(),
    ),
    Form(
        "add", "residual and bias in one pass", "exact", 2.0, pointwise.add, pointwise.add_applies
    ),
    Form("attention", "cuDNN's attention where there is one", "exact", 4.0, _attention, _always),
    Form(
        "wide_attention",
        "the decoder's attention as two products and a softmax",
        "exact",
        4.0,
        pointwise.wide_attention,
        pointwise.wide_attention_applies,
    ),
    Form(
        "convolution",
        "downsamplers add up in one order, so that images do not depend on their place in a batch",
        "exact",
        2.0,
        convolution.convolution,
        convolution.convolution_applies,
    ),
    Form(
        "upsample_convolution",
        "the four images of even and odd rows and columns are put together in one pass",
        "exact",
        2.0,
        pointwise.upsample_convolution,
        _always,
    ),
)


FAST = Operations(**{form.operation: form for form in FORMS})
