"""Attention of fp8 queries, keys and values by `attention.cu`."""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import torch
from torch import Tensor

from t2i.engine.kernels.hopper.driver import Kernel, pointer, processors, tensor_map
from t2i.engine.kernels.hopper.source import (
    multiply_first,
    multiply_more,
    multiply_registers,
    source,
)

SIZE, QUERIES, KEYS, STAGES = 64, 256, 128, 4


@functools.cache
def _kernel(device: int, masked: bool) -> Kernel:
    name = f"fp8_attention{'_masked' * masked}"
    instructions = [multiply_first(KEYS), multiply_more(KEYS), multiply_registers(SIZE)]
    macros = {"STAGES": STAGES, "MASKED": int(masked)}
    text = source("attention", name, macros, "".join(instructions))
    shared = 2 * QUERIES * SIZE + 2 * STAGES * KEYS * SIZE + 1024 + 32 + 32 * STAGES
    return Kernel(text, name, shared)


def stored_features(channels: int) -> Tensor:
    """Which feature the result holds at each place (channels,): see attention.cu."""
    place = torch.arange(SIZE)
    feature = place % 16 // 2 * 8 + place // 16 * 2 + place % 2
    return (torch.arange(0, channels, SIZE)[:, None] + feature).flatten()


@functools.cache
def stored_keys(keys: int, device: torch.device) -> Tensor:
    """Which key the transposed values hold at each place (keys,), a multiple of 16.

    Kept, since nothing can be copied to the device while a CUDA graph is captured.
    """
    place = torch.arange(16)
    quad, number = place // 4, place % 4
    key = 2 * quad + torch.where(number < 2, number, number + 6)
    return (torch.arange(0, keys, 16)[:, None] + key).flatten().to(device)


def padded(keys: int) -> int:
    """Keys of an image in the transposed values."""
    return -(-keys // KEYS) * KEYS


def attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float, result_scale: float
) -> Tensor:
    """Attention (n, length, heads * 64) in e4m3, with features in the order of `stored_features`.

    `query` (n, length, heads * 64), length a multiple of 256, and `key` (n, keys, heads * 64) are
    e4m3 whose rows may be further apart; `value` is (heads * 64, n * padded(keys)) e4m3, keys in
    the order of `stored_keys`. Scores are multiplied with `scale`, results with `result_scale`.
    """
    n, length, channels = query.shape
    keys, device = key.shape[1], query.device.index or 0
    result = query.new_empty(n, length, channels)
    blocks, of_head = padded(keys) // KEYS, length // QUERIES
    tiles = of_head * n * heads
    maps: list[Any] = [
        tensor_map(query, [channels, length, n], _strides(query), [SIZE, QUERIES, 1]),
        tensor_map(key, [channels, keys, n], _strides(key), [SIZE, KEYS, 1]),
        tensor_map(value, [value.shape[1], channels], [value.shape[1]], [KEYS, SIZE]),
    ]
    sizes = [heads, length, keys, blocks, tiles, of_head, channels, padded(keys)]
    scales = [scale * math.log2(math.e), result_scale]
    _kernel(device, keys % KEYS != 0).launch(
        min(processors(device), tiles),
        384,
        [*maps, pointer(result), *map(ctypes.c_float, scales), *map(ctypes.c_int, sizes)],
    )
    return result


def _strides(rows: Tensor) -> list[int]:
    """Bytes from row to row, and from image to image."""
    return [rows.stride(1), rows.stride(0)]
