"""The embedded default's Inception v3, at its full size, with fixed-seed random weights.

No trained one could be shipped: it has 22 M parameters. Features of plain random weights rank these
pictures wrongly, because they see the grain of a number format more than what is painted
(docs/quality.md); kernels without their own pattern rank them rightly.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from t2i.base.files import write_json
from t2i.metrics.inception import inception_network


def randomise(network: nn.Module, seed: int, gain: float = 1.0) -> nn.Module:
    """Fill the weights of matrices and kernels with normal values of variance gain^2 / fan-in.

    Embedding tables and CLIP's class embedding get unit variance, biases are zero; other vectors
    (weights of norms) keep their initial values, which are not random.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = {id(table.weight) for table in network.modules() if isinstance(table, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
                continue
            if parameter.ndim < 2 and not name.endswith("class_embedding"):
                continue
            fan_in = 1 if id(parameter) in tables else parameter[0].numel()  # of a vector 1
            parameter.normal_(0.0, gain / fan_in**0.5, generator=generator)
    return network


def smooth_kernels(network: nn.Module) -> nn.Module:
    """Replace each convolution's kernel (out, in, h, w) by its mean over h and w.

    Such a network averages what it sees, and so does not answer to noise from pixel to pixel.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.mean(dim=(2, 3), keepdim=True).expand_as(parameter))
    return network


def write_micro_inception(folder: Path) -> None:
    """Write Inception v3 with random smooth kernels that keep activations alive."""
    network = smooth_kernels(randomise(inception_network(), seed=10, gain=2**0.5))
    save_file(network.state_dict(), folder / "model.safetensors")
    write_json(folder / "network.json", {"weights": "random"})
