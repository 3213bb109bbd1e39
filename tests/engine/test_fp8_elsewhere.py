"""fp8 variants on GPUs other than Hopper's: the same operands, multiplied in bf16."""

import t2i.job.torch_shim  # noqa: F401

import numpy as np
import pytest
import torch
from torch import Tensor

from random_sdxl import random_unet
from t2i.engine.fp8.blocks import Fp8Parts
from t2i.engine.fp8.half import HalfLayers
from t2i.engine.fp8.layers import Layers
from t2i.engine.fp8.parts import fp8_parts
from t2i.engine.operations import PLAIN
from unet_peers import distance, drawn_network, drawn_unet, found_scales, our_noise, peer_noise

FP8 = {"attention": True, "convolutions": True, "keep": []}


@pytest.mark.parametrize("attention", [True, False])
def test_products_in_bf16_are_as_near_to_fp32(attention: bool) -> None:
    """What a GPU other than Hopper's computes, by the mean of several random UNets."""
    errors: list[list[float]] = []
    for seed in range(1, 9):
        of = drawn_network(random_unet(), seed)
        found, exact = found_scales(of), peer_noise(of)
        made = [kind(found, PLAIN, attention=attention) for kind in (Layers, HalfLayers)]
        noises = [our_noise(Fp8Parts(PLAIN, each, True, []), of) for each in made]
        errors.append([distance(noise, exact) for noise in noises])
    fp8, bf16 = np.mean(errors, axis=0)
    print(f"from fp32: {fp8:.4f}, with products in bf16 {bf16:.4f}")
    assert bf16 <= 1.15 * fp8


def test_layers_in_bf16_are_those_of_the_definition() -> None:
    """But for roundings to bf16."""
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16()

    places = {"": 0.02, "next": 0.01}
    fast, plain = (kind(places, PLAIN, True) for kind in (HalfLayers, Layers))
    features, image = plain.stored("", drawn(30, 48)), plain.stored("", drawn(2, 6, 6, 48))
    weight, kernel, bias = drawn(64, 48), drawn(64, 48, 3, 3), drawn(64)
    results = [
        (
            made.linear("", weight, bias)(features, torch.zeros(30, 64).bfloat16()),
            made.geglu("", weight, bias, "next")(features, None).float(),
            made.convolution("", kernel, bias)(image, None),
            made.upsampler("", kernel, bias)(plain.wide(image)),
        )
        for made in (fast, plain)
    ]
    for one, other in zip(*results, strict=True):
        assert distance(one.float(), other.float()) <= 0.02
    parts = [plain.stored("", drawn(2, 40, 4, 16)) for _ in range(3)]
    both = [made.attend(*parts, "", "", "", "next").float() for made in (fast, plain)]
    assert distance(*both) <= 0.05  # the definition's weights have three bits


@pytest.mark.parametrize(("device", "kind"), [("cpu", Layers), ("cuda", HalfLayers)])
def test_a_gpu_without_kernels_is_told_and_multiplies_in_bf16(
    device, kind, monkeypatch, caplog
) -> None:
    """Even where torch sees a GPU, a job on the CPU has nothing to do with it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    made = fp8_parts(FP8, found_scales(drawn_unet()), device, PLAIN)
    assert type(made._layers) is kind
    assert our_noise(made, drawn_unet()).isfinite().all()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("t2i.")]
    assert len(said) == (device == "cuda")
    assert all("Some GPU is no Hopper GPU" in line for line in said)
