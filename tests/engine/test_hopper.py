"""fp8 kernels on Hopper beside the definition of their layers in fp32: skipped elsewhere."""

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from every_kernel import Anywhere
from t2i.engine.blocks import Norm
from t2i.engine.fp8.layers import AttentionWeights, Layers
from t2i.engine.operations import PLAIN

HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HOPPER, reason="torch sees no Hopper GPU"),
]
BF16 = torch.bfloat16
# Of the difference's norm to the result's. The operands are the same e4m3 numbers, so that only
# roundings differ: of sums, of which Hopper keeps about 14 bits for e4m3; of the result to bf16; of
# some numbers to the next e4m3; of attention's weights relative to another maximum.
TO_BF16, TO_FP8, ATTENTION = 0.006, 0.01, 0.03


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """fp32 without TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def both() -> tuple[Layers, Layers]:
    """Makers of layers: by kernels and by definition."""
    from t2i.engine.kernels.hopper.layers import HopperLayers

    return HopperLayers(Anywhere(), PLAIN, True), Layers(Anywhere(), PLAIN, True)


def drawn(*shape: int, size: float = 1.0) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(sum(shape))
    return (torch.randn(*shape, generator=generator, device="cuda") * size).to(BF16)


def stored(*shape: int) -> Tensor:
    """Random features as they enter a product."""
    return both()[1].stored("", drawn(*shape))


def weight(*shape: int) -> Tensor:
    return drawn(*shape, size=(torch.tensor(shape[1:]).prod().item()) ** -0.5)


def poisoned(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The function's result, where new memory holds NaN: what is not written is seen."""
    original = Tensor.new_empty
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Tensor,
            "new_empty",
            lambda self, *shape, **named: original(self, *shape, **named).fill_(float("nan")),
        )
        return function(*arguments)


def error(result: Tensor, expected: Tensor) -> float:
    """The difference's norm relative to the expected one's."""
    assert result.dtype == expected.dtype and result.shape == expected.shape
    wide = expected.float()
    found = float((result.float() - wide).norm() / wide.norm())
    print(f"error {found:.5f}")
    return found


LINEAR = [
    *((8192, 640, 640), (8192, 640, 1280), (2048, 1280, 1280), (2048, 5120, 1280)),
    *((8192, 2560, 640), (2048, 1280, 3840), (130, 64, 160), (1, 1280, 128), (300, 80, 32)),
]


@pytest.mark.parametrize(("rows", "depth", "outputs"), LINEAR)
@pytest.mark.parametrize("result", [None, "next"])
@pytest.mark.parametrize("added", [False, True])
def test_linear(rows, depth, outputs, result, added) -> None:
    arguments = ("", weight(outputs, depth), drawn(outputs), result)
    fast, plain = (layers.linear(*arguments) for layers in both())
    features, residual = stored(rows, depth), drawn(rows, outputs) if added else None
    limit = TO_BF16 if result is None else TO_FP8
    expected = plain(features, residual)
    assert error(poisoned(fast, features, residual), expected) <= limit


@pytest.mark.parametrize(
    ("rows", "depth", "outputs"), [(8192, 640, 5120), (2048, 1280, 10240), (77, 64, 256)]
)
def test_geglu(rows, depth, outputs) -> None:
    arguments = ("", weight(outputs, depth), drawn(outputs), "next")
    fast, plain = (layers.geglu(*arguments) for layers in both())
    features = stored(rows, depth)
    assert error(poisoned(fast, features, None), plain(features, None)) <= TO_FP8


CONVOLUTIONS = [
    *((128, 320, 320), (128, 960, 320), (64, 320, 640), (64, 1920, 640), (32, 2560, 1280)),
    *((32, 640, 1280), (256, 128, 128), (12, 64, 128), (16, 48, 160)),
]


@pytest.mark.parametrize(("side", "channels", "outputs"), CONVOLUTIONS)
@pytest.mark.parametrize("added", [False, True])
def test_convolution(side, channels, outputs, added) -> None:
    arguments = ("", weight(outputs, channels, 3, 3), drawn(outputs) if added else None)
    fast, plain = (layers.convolution(*arguments) for layers in both())
    features = stored(2, side, side, channels)
    residual = drawn(2, side, side, outputs) if added else None
    expected = plain(features, residual)
    assert error(poisoned(fast, features, residual), expected) <= TO_BF16


@pytest.mark.parametrize(("side", "channels"), [(32, 1280), (64, 640), (12, 128)])
def test_upsampler(side, channels) -> None:
    arguments = ("", weight(channels, channels, 3, 3), drawn(channels))
    fast, plain = (layers.upsampler(*arguments) for layers in both())
    features = drawn(2, side, side, channels)
    assert error(poisoned(fast, features), plain(features)) <= TO_BF16


def attention_weights(channels: int, heads: int, width: int) -> AttentionWeights:
    return AttentionWeights(
        weight(channels, channels),
        weight(channels, width) * 1.5,
        weight(channels, width) * 0.5,
        weight(channels, channels),
        drawn(channels),
        heads,
    )


@pytest.mark.parametrize(
    ("length", "heads", "size"), [(4096, 10, 64), (1024, 20, 64), (256, 2, 64), (100, 2, 64)]
)
def test_self_attention(length, heads, size) -> None:
    weights = attention_weights(heads * size, heads, heads * size)
    fast, plain = (layers.self_attention("", weights) for layers in both())
    features = stored(2, length, heads * size)
    residual = torch.zeros_like(drawn(2, length, heads * size))
    expected = plain(features, residual)
    assert error(poisoned(fast, features, residual), expected) <= ATTENTION


@pytest.mark.parametrize(
    ("length", "heads", "tokens"), [(4096, 10, 77), (1024, 20, 77), (1024, 20, 154), (100, 2, 16)]
)
def test_cross_attention(length, heads, tokens) -> None:
    weights = attention_weights(heads * 64, heads, 2048)
    fast, plain = (layers.cross_attention("", weights) for layers in both())
    context = drawn(2, tokens, 2048)
    features = stored(2, length, heads * 64)
    residual = torch.zeros_like(drawn(2, length, heads * 64))
    expected = plain(features, residual, plain.keys_values(context))
    found = poisoned(fast, features, residual, fast.keys_values(context))
    assert error(found, expected) <= ATTENTION


@pytest.mark.parametrize(
    ("side", "widths"), [(128, (320,)), (64, (1280, 640)), (32, (1280, 1280)), (6, (32,))]
)
def test_group_norm(side, widths) -> None:
    channels = sum(widths)
    norm = Norm(drawn(channels), drawn(channels), 32, 1e-5)
    fast, plain = (layers.group_norm("", norm, True) for layers in both())
    sources = [drawn(2, side, side, width) + 3 for width in widths]
    shift = drawn(2, channels)
    assert error(poisoned(fast, sources, shift), plain(sources, shift)) <= TO_FP8


@pytest.mark.parametrize(("rows", "channels"), [(8192, 640), (2048, 1280), (3, 64)])
def test_layer_norm(rows, channels) -> None:
    arguments = ("", drawn(channels), drawn(channels), 1e-5)
    fast, plain = (layers.layer_norm(*arguments) for layers in both())
    features = drawn(rows, channels) + 2
    assert error(poisoned(fast, features), plain(features)) <= TO_FP8


@pytest.mark.parametrize("size", [100.0, 1e-4])
def test_what_is_too_large_or_small_for_fp8(size) -> None:
    """Numbers beyond the largest end there; the smallest are rounded alike."""
    features = drawn(300, 64, size=size)
    fast, plain = (layers.stored("", features) for layers in both())
    assert torch.equal(fast.view(torch.uint8), plain.view(torch.uint8))
    assert torch.isfinite(fast.float()).all()


def test_results_are_the_same_bits_every_time() -> None:
    layers = both()[0]
    weights = attention_weights(640, 10, 640)
    features, image = stored(2, 1024, 640), stored(2, 32, 32, 640)
    residual = drawn(2, 1024, 640)
    linear = layers.linear("", weight(640, 640), None)
    geglu = layers.geglu("", weight(5120, 640), drawn(5120), "next")
    convolution = layers.convolution("", weight(640, 640, 3, 3), None)
    upsampler = layers.upsampler("", weight(640, 640, 3, 3), drawn(640))
    attention = layers.self_attention("", weights)
    wide = drawn(2, 32, 32, 640)
    calls: list[Callable[[], Tensor]] = [
        lambda: linear(features, residual),
        lambda: geglu(features, None),
        lambda: convolution(image, None),
        lambda: upsampler(wide),
        lambda: attention(features, residual),
    ]
    for call in calls:
        first = call().view(torch.uint8)
        assert all(torch.equal(call().view(torch.uint8), first) for _ in range(100))


ORDERS = [
    ("neighbours", lambda outputs: torch.arange(outputs)),
    ("gated_neighbours", lambda outputs, columns: torch.arange(outputs)),
    ("stored_features", lambda channels: torch.arange(channels)),
    ("stored_keys", lambda keys, device: torch.arange(keys, device=device)),
]


@pytest.mark.parametrize(("name", "order"), ORDERS, ids=[name for name, _ in ORDERS])
def test_another_order_is_noticed(name, order, monkeypatch) -> None:
    """A permutation left out."""
    from t2i.engine.kernels.hopper import attention, products

    module = products if name.endswith("neighbours") else attention
    monkeypatch.setattr(module, name, order)
    features = stored(2, 256, 640)
    residual = torch.zeros_like(drawn(2, 256, 640))
    context = drawn(2, 77, 2048)
    errors = []
    fast, plain = both()
    pair = [each.geglu("", weight(5120, 640), drawn(5120), "next") for each in (fast, plain)]
    errors.append(error(*(layer(features, None) for layer in pair)))
    weights = attention_weights(640, 10, 640)
    pair = [each.self_attention("", weights) for each in (fast, plain)]
    errors.append(error(*(layer(features, residual) for layer in pair)))
    cross = [each.cross_attention("", attention_weights(640, 10, 2048)) for each in (fast, plain)]
    errors.append(error(*(each(features, residual, each.keys_values(context)) for each in cross)))
    assert max(errors) > 4 * ATTENTION
