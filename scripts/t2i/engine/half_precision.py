"""Half formats on processors that cannot multiply in them.

torch's own convolutions and matrix products in bf16 and fp16 are up to sixty times as slow as in
fp32 where the processor has no instructions for them (x86 without AVX-512, among others). The same
products in fp32, rounded once at the end, are what such instructions compute, up to the order of
sums.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

PRODUCTS = (torch.conv2d, F.conv2d, F.linear)


class _WideProducts(TorchFunctionMode):
    """Convolutions and linear layers of half tensors, computed in fp32 and rounded."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS or args[0].dtype not in (torch.bfloat16, torch.float16):
            return func(*args, **kwargs)
        wide = [_widened(value) for value in args]
        named = {key: _widened(value) for key, value in kwargs.items()}
        return func(*wide, **named).to(args[0].dtype)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def supported(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies in a format by itself."""
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return True


def fast_products(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which networks of this format run at a sensible speed on a device."""
    if device.type != "cpu" or supported(dtype):
        return nullcontext()
    return _WideProducts()
