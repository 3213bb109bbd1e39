"""Half formats on a processor that has no instructions for them."""

import pytest
import torch
import torch.nn.functional as F

from t2i.engine import half_precision
from t2i.engine.half_precision import fast_products

CPU = torch.device("cpu")


@pytest.fixture
def unsupported(monkeypatch):
    monkeypatch.setattr(half_precision, "supported", lambda _: False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_those_of_fp32_rounded_once(unsupported, dtype):
    torch.manual_seed(0)
    images = torch.randn(2, 8, 9, 9).to(dtype)
    convolution = torch.nn.Conv2d(8, 4, 3, stride=2, padding=1).to(dtype)
    linear = torch.nn.Linear(9, 5).to(dtype)
    with torch.inference_mode():
        plain = convolution(images), linear(images)
        with fast_products(CPU, dtype):
            found = convolution(images), linear(images)
    exact = (
        F.conv2d(images.double(), convolution.weight.double(), convolution.bias.double(), 2, 1),
        F.linear(images.double(), linear.weight.double(), linear.bias.double()),
    )
    for one, other, truth in zip(found, plain, exact, strict=True):
        assert one.dtype == other.dtype == dtype
        # Half a step of the format is the rounding, the rest the sums in fp32.
        torch.testing.assert_close(
            one.double(), truth, rtol=0.505 * torch.finfo(dtype).eps, atol=1e-6
        )
        step = torch.finfo(dtype).eps * truth.abs().max()
        assert (one.double() - other.double()).abs().max() <= 2 * step


def test_fp32_and_other_devices_are_left_alone():
    rows = torch.randn(3, 4)
    assert half_precision.supported(torch.float32)
    with fast_products(CPU, torch.float32) as mode:
        assert mode is None
        assert torch.equal(F.linear(rows, rows), rows @ rows.T)
    with fast_products(torch.device("cuda"), torch.bfloat16) as mode:
        assert mode is None
