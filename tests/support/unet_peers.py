"""A random UNet of SDXL's structure, its inputs, and the noise that ours and diffusers' find."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from typing import Any

import torch
from torch import Tensor, nn

from random_sdxl import TEXT_WIDTH, random_unet
from t2i.engine.blocks import Parts
from t2i.engine.fp8.blocks import Fp8Parts
from t2i.engine.fp8.layers import Observer
from t2i.engine.fp8.scales import LARGEST
from t2i.engine.operations import PLAIN
from t2i.engine.unet import UNet
from t2i.micro.inception import randomise


def drawn_network(network: nn.Module, seed: int) -> Any:
    """The network with random weights, those of its norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in randomise(network, seed).parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return network.eval()


def drawn_unet() -> Any:
    """A random UNet."""
    return drawn_network(random_unet(), 1)


def unet_inputs(n: int = 3) -> dict[str, Tensor]:
    """What a UNet gets for n images."""
    generator = torch.Generator().manual_seed(5)
    return {
        "sample": torch.randn(n, 4, 8, 8, generator=generator),
        "context": torch.randn(n, 77, 2 * TEXT_WIDTH, generator=generator),
        "pooled": torch.randn(n, TEXT_WIDTH, generator=generator),
        "sizes": torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(n, 1),
    }


def nhwc(features: Tensor) -> Tensor:
    """Features (n, channels, h, w) as (n, h, w, channels)."""
    return features.permute(0, 2, 3, 1).contiguous()


def our_noise(parts: Parts, of: Any) -> Tensor:
    """The noise (2, 4, 8, 8) that our UNet finds, of parts that are made so."""
    given = unet_inputs(2)
    with torch.inference_mode():
        unet = UNet(of.state_dict(), of.config, parts)
        (shift,) = unet.shifts(torch.tensor([951.0]), given["pooled"], given["sizes"])
        noise, _ = unet(nhwc(given["sample"]), shift, unet.prompts(given["context"]))
    return noise.permute(0, 3, 1, 2)


def peer_noise(of: Any) -> Tensor:
    """The same by diffusers."""
    given = unet_inputs(2)
    added = {"text_embeds": given["pooled"], "time_ids": given["sizes"]}
    with torch.inference_mode():
        noise = of(given["sample"], torch.tensor(951.0), given["context"], added_cond_kwargs=added)
    result: Tensor = noise[0]
    return result


def found_scales(of: Any) -> dict[str, float]:
    """Scales by our own observation of one pass."""
    observer = Observer(PLAIN)
    our_noise(Fp8Parts(PLAIN, observer, True, []), of)
    return {where: value / LARGEST for where, value in observer.magnitudes.items()}


def distance(one: Tensor, other: Tensor) -> float:
    """The difference's norm relative to the other's."""
    return float((one - other).norm() / other.norm())
