"""Run every kernel of the native engine once, at small and odd shapes, for a tool that watches it.

    compute-sanitizer --tool memcheck python tests/support/every_kernel.py [--broken]

With `--broken` a last kernel writes behind its result, and reads what its neighbours are writing.
tests/engine/test_sanitizer.py calls it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import t2i.job.torch_shim  # noqa: F401

import torch
from torch import Tensor

from t2i.engine.blocks import Norm
from t2i.engine.fp8.layers import AttentionWeights
from t2i.engine.kernels import products
from t2i.engine.kernels.table import FAST
from t2i.engine.operations import PLAIN, interleaved, subpixel_weight


class Anywhere(dict[str, float]):
    """A scale for every place."""

    def __missing__(self, place: str) -> float:
        return 0.01

    def __contains__(self, place: object) -> bool:
        return True


def drawn(*shape: int) -> Tensor:
    """Random values; weights get small enough by the last dimension."""
    return (torch.randn(*shape, device="cuda") * shape[-1] ** -0.5).bfloat16()


def kernels() -> None:
    """Those of every variant, on GPUs from Ampere on."""
    features = drawn(2, 6, 10, 64)
    ones = drawn(64)
    FAST.group_norm(
        [features, features], ones.repeat(2), ones.repeat(2), 4, 1e-5, True, drawn(2, 128)
    )
    FAST.layer_norm(features, ones, ones, 1e-5, ones.float())
    FAST.add(features.clone(), features, ones)
    FAST.geglu(drawn(77, 96), drawn(80, 96), drawn(80))
    gated = drawn(128, 128), interleaved(drawn(256, 128)), drawn(256)
    if products.geglu_applies(*gated):
        FAST.geglu(*gated)
    FAST.wide_attention(*drawn(3, 2, 60, 64).unbind(0))
    kernel = drawn(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    FAST.convolution(features, kernel, 2)
    FAST.convolution(drawn(1, 7, 5, 64), kernel, 2)
    FAST.upsample_convolution(features, subpixel_weight(kernel), ones)


def hopper_kernels() -> None:
    """Those of fp8 variants."""
    from t2i.engine.kernels.hopper.layers import HopperLayers

    layers = HopperLayers(Anywhere(), PLAIN, True)
    for rows, depth, outputs in ((130, 64, 160), (300, 80, 128), (1, 320, 320)):
        features, weight = layers.stored("", drawn(rows, depth)), drawn(outputs, depth)
        for residual in (None, drawn(rows, outputs)):
            for result in (None, "next"):
                layers.linear("", weight, drawn(outputs), result)(features, residual)
    gated = layers.geglu("", drawn(256, 64), drawn(256), "next")
    gated(layers.stored("", drawn(77, 64)), None)
    for side, channels, outputs in ((16, 48, 160), (128, 64, 128)):
        convolution = layers.convolution("", drawn(outputs, channels, 3, 3), drawn(outputs))
        features = layers.stored("", drawn(2, side, side, channels))
        for residual in (None, drawn(2, side, side, outputs)):
            convolution(features, residual)
    layers.upsampler("", drawn(128, 64, 3, 3), drawn(128))(drawn(2, 16, 16, 64))
    square = [drawn(128, 128) for _ in range(4)]
    seen = layers.self_attention("", AttentionWeights(*square, drawn(128), 2))
    seen(layers.stored("", drawn(2, 256, 128)), drawn(2, 256, 128))
    weights = square[0], drawn(128, 64), drawn(128, 64), square[3], drawn(128)
    prompt = layers.cross_attention("", AttentionWeights(*weights, 2))
    told = prompt.keys_values(drawn(2, 77, 64))
    prompt(layers.stored("", drawn(2, 100, 128)), drawn(2, 100, 128), told)
    norm = Norm(drawn(64), drawn(64), 4, 1e-5)
    layers.group_norm("", norm, silu=True)([drawn(2, 8, 16, 64)], drawn(2, 64))
    layers.layer_norm("", drawn(64), drawn(64), 1e-5)(drawn(12, 64))


BROKEN = """
extern "C" __global__ void broken(float* result) {
    __shared__ float part[64];
    part[threadIdx.x] = threadIdx.x;
    result[threadIdx.x] = part[63 - threadIdx.x];
}
"""


def broken_kernel() -> None:
    """64 threads write 63 results, each of them that of another, for whom nobody waits."""
    from t2i.engine.kernels.hopper.driver import Kernel, pointer

    Kernel(BROKEN, "broken", 0).launch(1, 64, [pointer(torch.zeros(63, device="cuda"))])


if __name__ == "__main__":
    torch.manual_seed(0)
    kernels()
    if torch.cuda.get_device_capability()[0] == 9:
        hopper_kernels()
    if sys.argv[1:] == ["--broken"]:
        broken_kernel()
    torch.cuda.synchronize()
    print("every kernel ran")
