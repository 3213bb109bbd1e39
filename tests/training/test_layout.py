"""Layout of activations around convolutions: always channels last, and no other numbers."""

import torch
from torch import nn

from t2i.training.layout import keep_channels_last
from t2i.training.settings import MICRO_UNET
from t2i.training.unet import sd2_unet

LAST = torch.channels_last


def gradients(network: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    hidden = torch.randn(2, 77, 96, generator=generator)
    output = network(latents, torch.tensor([1, 500]), hidden).sample
    output.square().mean().backward()
    return output, {name: value.grad for name, value in network.named_parameters()}


def network_with_weights() -> nn.Module:
    network = sd2_unet(MICRO_UNET, seed=1)
    for value in network.parameters():  # zeros would hide half of it
        nn.init.normal_(value, std=0.05)
    return network


def test_output_and_gradients_stay_the_same() -> None:
    network = network_with_weights()
    output, wanted = gradients(network)
    network.zero_grad(set_to_none=True)
    keep_channels_last(network)
    again, found = gradients(network)
    torch.testing.assert_close(again, output, rtol=1e-4, atol=1e-6)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)


def test_convolutions_meet_nothing_with_channels_first() -> None:
    network = network_with_weights()
    keep_channels_last(network)
    seen = {"inputs": 0, "gradients": 0}

    def watch(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert inputs[0].is_contiguous(memory_format=LAST)
        assert module.weight.is_contiguous(memory_format=LAST)
        seen["inputs"] += 1
        convolved = output.grad_fn.next_functions[0][0]
        assert "Convolution" in convolved.name()

        def check(given: tuple[torch.Tensor, ...]) -> None:
            assert given[0].is_contiguous(memory_format=LAST)
            seen["gradients"] += 1

        convolved.register_prehook(check)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(watch)
    gradients(network)
    assert seen["inputs"] == seen["gradients"] > 30
