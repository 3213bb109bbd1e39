"""Products and convolutions of fp8 features by `product.cu`: weights made ready, and launches."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from t2i.engine.kernels.hopper.driver import Kernel, pointer, processors, tensor_map
from t2i.engine.kernels.hopper.source import multiply, source

ROWS, DEPTH = 128, 128
STAGES = {160: 5, 128: 6}  # that fit into shared memory, by columns of a tile
BF16, FP8, GEGLU, TRANSPOSED = range(4)  # as in product.cu
MATRIX, UPSAMPLER, CONVOLUTION = 0, 2, 3
NAMES = {BF16: "bf16", FP8: "fp8", GEGLU: "geglu", TRANSPOSED: "transposed"}


@functools.cache
def _kernel(device: int, columns: int, epilogue: int, convolution: int, residual: bool) -> Kernel:
    kind = {MATRIX: "product", UPSAMPLER: "upsampler", CONVOLUTION: "convolution"}[convolution]
    name = f"fp8_{kind}_{columns}_{NAMES[epilogue]}{'_residual' * residual}"
    macros = {
        "COLUMNS": columns,
        "STAGES": STAGES[columns],
        "EPILOGUE": epilogue,
        "CONVOLUTION": convolution,
        "RESIDUAL": int(residual),
    }
    text = source("product", name, macros, multiply(columns))
    shared = STAGES[columns] * (ROWS + columns) * DEPTH + 1024 + 16 * STAGES[columns] + 16
    return Kernel(text, name, shared)


def columns_of(outputs: int) -> int | None:
    """Columns of a tile for so many outputs; None: there is no kernel for them."""
    return next((columns for columns in STAGES if outputs % columns == 0), None)


def neighbours(outputs: int) -> Tensor:
    """Which row of a weight stands where, so that a thread's columns are neighbours (outputs,).

    Place 8i + 2t + b of 32 takes row 8t + 2i + b: see product.cu.
    """
    place = torch.arange(32)
    row = place % 8 // 2 * 8 + place // 8 * 2 + place % 2
    return (torch.arange(0, outputs, 32)[:, None] + row).flatten()


def gated_neighbours(outputs: int, columns: int) -> Tensor:
    """The same for GEGLU, of whose rows the first half are values and the second gates."""
    parts = columns // 32
    rows = []
    for tile in range(outputs // columns):
        for part in range(parts):
            block, number = divmod(part, 4)
            together = min(4, parts - 4 * block)
            for place in range(32):
                i, quad, gate = place // 8, place % 8 // 2, place % 2
                row = tile * columns // 2 + 64 * block + 4 * together * quad + 4 * number + i
                rows.append(row + gate * (outputs // 2))
    return torch.tensor(rows)


@dataclass(frozen=True)
class Launch:
    """What a product runs with, beside features and result."""

    weight: Tensor  # (outputs, depth) e4m3 in the kernel's order
    scale: Tensor  # fp32, one for each output (TRANSPOSED: for each row)
    bias: Tensor
    columns: int
    epilogue: int
    residual_scale: float = 1.0


def product(
    launch: Launch, features: Tensor, result: Tensor, residual: Tensor | None = None
) -> None:
    """A matrix product of features (rows, depth), whose rows follow each other, into `result`."""
    rows, depth = features.shape
    device = features.device.index or 0
    outputs = len(launch.weight)
    maps: list[Any] = [
        tensor_map(features, [depth, rows], [depth], [DEPTH, ROWS]),
        tensor_map(launch.weight, [depth, outputs], [depth], [DEPTH, launch.columns]),
    ]
    across, depths = outputs // launch.columns, -(-depth // DEPTH)
    sizes = [rows, depths, across, -(-rows // ROWS) * across, 1, 1, 0, result.shape[-1], 0]
    kernel = _kernel(device, launch.columns, launch.epilogue, MATRIX, residual is not None)
    _run(kernel, device, launch, [*maps, pointer(result), pointer(residual)], sizes)


def transposed_product(launch: Launch, features: Tensor, result: Tensor) -> None:
    """The transposed product: `launch.weight` times features (tokens, depth) into `result`.

    `result` is (outputs, tokens); both are multiples of 128.
    """
    tokens, depth = features.shape
    device = features.device.index or 0
    outputs = len(launch.weight)
    maps: list[Any] = [
        tensor_map(launch.weight, [depth, outputs], [depth], [DEPTH, ROWS]),
        tensor_map(features, [depth, tokens], [depth], [DEPTH, launch.columns]),
    ]
    across, depths = tokens // launch.columns, -(-depth // DEPTH)
    sizes = [outputs, depths, across, outputs // ROWS * across, 1, 1, 0, tokens, 0]
    kernel = _kernel(device, launch.columns, TRANSPOSED, MATRIX, False)
    _run(kernel, device, launch, [*maps, pointer(result), pointer(None)], sizes)


def convolution_applies(features: Tensor) -> bool:
    """Whether a tile of 128 pixels is a box of one image."""
    _, height, width, _ = features.shape
    return height * width % ROWS == 0 and (width % ROWS == 0 or ROWS % width == 0)


def convolution(
    launch: Launch,
    features: Tensor,
    result: Tensor,
    residual: Tensor | None = None,
    corner: int | None = None,
) -> None:
    """A 3x3 convolution of features (n, h, w, channels), or one of an upsampler's four of 2x2.

    `launch.weight` is (outputs, taps * channels padded to 128). `corner` 2y + x says which of the
    upsampler's pixels are written.
    """
    n, height, width, channels = features.shape
    device = features.device.index or 0
    outputs = len(launch.weight)
    across = min(width, ROWS)
    strides = [channels, width * channels, height * width * channels]
    box = [DEPTH, across, ROWS // across, 1]
    depth = launch.weight.shape[1]
    maps: list[Any] = [
        tensor_map(features, [channels, width, height, n], strides, box),
        tensor_map(launch.weight, [depth, outputs], [depth], [DEPTH, launch.columns]),
    ]
    rows, of_tap = n * height * width, -(-channels // DEPTH)
    tiles_across = outputs // launch.columns
    tiles = rows // ROWS * tiles_across
    kind = CONVOLUTION if corner is None else UPSAMPLER
    sizes = [rows, depth // DEPTH, tiles_across, tiles, height, width, of_tap, outputs, corner or 0]
    kernel = _kernel(device, launch.columns, launch.epilogue, kind, residual is not None)
    _run(kernel, device, launch, [*maps, pointer(result), pointer(residual)], sizes)


def _run(
    kernel: Kernel,
    device: int,
    launch: Launch,
    tensors: list[Any],
    sizes: list[int],
) -> None:
    arguments = [
        *tensors,
        pointer(launch.scale),
        pointer(launch.bias),
        *map(ctypes.c_int, sizes),
        ctypes.c_float(launch.residual_scale),
    ]
    kernel.launch(min(processors(device), sizes[3]), 384, arguments)
