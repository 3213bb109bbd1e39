"""Every faster form of an operation against its definition in float64.

On a GPU at all shapes of SDXL; elsewhere small shapes in Triton's interpreter, which computes the
same arithmetic. The interpreter cannot multiply bf16 from descriptors, so fp16 stands for both.
"""

import t2i.job.torch_shim  # noqa: F401

import importlib.util
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from t2i.engine import operations
from t2i.engine.kernels import convolution, norms, pointwise, products
from t2i.engine.kernels.table import FAST, FORMS

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
DTYPES = [torch.float16, torch.bfloat16]
# Half of the distance between neighbouring numbers of a format, relative to the larger one.
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
# Height and width, channels of each source: SDXL's and the decoder's, or small and odd ones.
NORMED = (
    [
        *((128, (320,)), (128, (640, 320)), (64, (640,)), (64, (1280, 640)), (32, (1280, 1280))),
        *((1024, (128,)), (512, (256,)), (128, (512,))),
    ]
    if CUDA
    else [(4, (64,)), (8, (128,)), (8, (64, 128)), (12, (192, 64))]
)
ROWS = [(8192, 640), (2048, 1280), (154, 768)] if CUDA else [(8, 320), (4, 1280), (12, 72)]
HALVED = [(128, 320), (64, 640), (33, 72)] if CUDA else [(5, 16), (6, 72)]
CORNERS = [(32, 1280), (64, 640), (512, 256)] if CUDA else [(5, 16), (4, 40)]


def drawn(*shape: int, dtype: torch.dtype, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + int(10 * mean))
    return (torch.randn(*shape, generator=generator) + mean).to(DEVICE, dtype)


def error(result: Tensor, expected: Tensor, spread: float = 0.0) -> float:
    """Largest difference in roundings of the result's format at the largest value.

    `spread` is added to that value: what cancels out in the sums was rounded as well.
    """
    scale = float(expected.abs().max()) + spread
    return float((result.double() - expected).abs().max()) / scale / ROUNDING[result.dtype]


def wide(value: Any) -> Any:
    if isinstance(value, list):
        return [wide(each) for each in value]
    return value.double() if isinstance(value, Tensor) else value


def exactly(operation: str, *arguments: Any) -> Tensor:
    """The definition in float64."""
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(Tensor, "float", Tensor.double)
        result: Tensor = getattr(operations, operation)(*wide(list(arguments)))
        return result.double()


def poisoned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, where new memory holds NaN: what is not written is seen."""

    def call(*arguments: Any) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("new_empty",):
                original = getattr(Tensor, name)
                patch.setattr(
                    Tensor,
                    name,
                    lambda self, *shape, _original=original, **named: _original(
                        self, *shape, **named
                    ).fill_(float("nan")),
                )
            original_like = torch.empty_like
            patch.setattr(torch, "empty_like", lambda of: original_like(of).fill_(float("nan")))
            return function(*arguments)

    return call


def group_norm_error(
    module: ModuleType,
    side: int,
    widths: tuple[int, ...],
    dtype: torch.dtype,
    silu: bool,
    rows: int,
) -> float:
    """Error of a GroupNorm of far from central values; `rows` of the shift: none, one or n."""
    n, channels = 2, sum(widths)
    sources = [drawn(n, side, side, width, dtype=dtype, mean=20.0) for width in widths]
    weight, bias = (drawn(channels, dtype=dtype, mean=m) for m in (1.0, 0.0))
    shift = None
    if rows:  # a part of a wider tensor, as the UNet has it
        shift = drawn(rows, channels + 64, dtype=dtype)[:, 32 : 32 + channels]
    arguments = (sources, weight, bias, 32 if channels % 32 == 0 else 4, 1e-5, silu, shift)
    assert module.group_norm_applies(*arguments)
    result = poisoned(module.group_norm)(*arguments)
    return error(result, exactly("group_norm", *arguments))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float32])
@pytest.mark.parametrize(("side", "widths"), NORMED)
@pytest.mark.parametrize(("silu", "rows"), [(True, 0), (True, 2), (False, 1)])
def test_group_norm(side, widths, dtype, silu, rows) -> None:
    assert group_norm_error(norms, side, widths, dtype, silu, rows) <= limit("group_norm", dtype)


def limit(operation: str, dtype: torch.dtype) -> float:
    """The roundings that the table allows; fp32 has no room beside the sums' own."""
    (form,) = [form for form in FORMS if form.operation == operation]
    return form.roundings if dtype != torch.float32 else 200.0


def layer_norm_error(module: ModuleType, rows: int, channels: int, dtype: torch.dtype) -> float:
    features = drawn(rows, channels, dtype=dtype, mean=5.0)
    weight, bias, shift = (drawn(channels, dtype=dtype, mean=m) for m in (1.0, 0.0, -3.0))
    arguments = (features, weight, bias, 1e-5, shift.float())
    result = poisoned(module.layer_norm)(*arguments)
    return error(result, exactly("layer_norm", *arguments))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float32])
@pytest.mark.parametrize(("rows", "channels"), ROWS)
def test_layer_norm(rows, channels, dtype) -> None:
    assert layer_norm_error(norms, rows, channels, dtype) <= limit("layer_norm", dtype)
    plain = drawn(rows, channels, dtype=dtype)
    weight = drawn(channels, dtype=dtype)
    arguments = (plain, weight, weight, 1e-5)
    result = norms.layer_norm(*arguments)
    assert error(result, exactly("layer_norm", *arguments)) <= limit("layer_norm", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "channels"), ROWS)
def test_geglu_after_the_product(rows, channels, dtype) -> None:
    features = drawn(rows, channels, dtype=dtype)
    weight, bias = drawn(8 * channels, channels, dtype=dtype), drawn(8 * channels, dtype=dtype)
    weight /= channels**0.5
    result = poisoned(pointwise.geglu)(features, weight, bias)
    expected = exactly("geglu", features, weight, bias)
    assert error(result, expected) <= limit("geglu", dtype)


def fused_error(module: ModuleType, rows: int, channels: int, dtype: torch.dtype) -> float:
    features = drawn(2, rows // 2, channels, dtype=dtype)
    weight, bias = drawn(8 * channels, channels, dtype=dtype), drawn(8 * channels, dtype=dtype)
    weight /= channels**0.5
    if CUDA:
        assert module.geglu_applies(features, weight, bias)
        result = poisoned(module.geglu)(features, weight, bias)
    else:
        result = poisoned(module._geglu)(features, weight, bias, 3)
    return error(result, exactly("geglu", features, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES if CUDA else [torch.float16])
@pytest.mark.parametrize(
    ("rows", "channels"), [(8192, 640), (2048, 1280), (128, 640)] if CUDA else [(256, 64)]
)
def test_geglu_in_the_product(rows, channels, dtype) -> None:
    assert fused_error(products, rows, channels, dtype) <= limit("geglu", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_other_sizes_goes_another_way(dtype) -> None:
    """The predicate says no, and the table's form computes it all the same."""
    features = drawn(77, 96, dtype=dtype)
    weight, bias = drawn(80, 96, dtype=dtype), drawn(80, dtype=dtype)
    assert not products.geglu_applies(features, weight, bias)
    expected = exactly("geglu", features, weight, bias)
    assert error(FAST.geglu(features, weight, bias), expected) <= limit("geglu", dtype)


@pytest.mark.parametrize(
    ("dtype", "biased"), list(product([*DTYPES, torch.float32], [True, False]))
)
def test_add(dtype, biased) -> None:
    features, residual = (drawn(3, 7, 5, 48, dtype=dtype, mean=m) for m in (0.0, 1.0))
    bias = drawn(48, dtype=dtype) if biased else None
    expected = exactly("add", features, residual, bias)
    result = pointwise.add(features, residual, bias)
    assert error(result, expected) <= limit("add", dtype)
    assert result is features


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_add(dtype) -> None:
    residual, features = drawn(2, 9, 48, dtype=dtype), drawn(2, 9, 64, dtype=dtype)
    weight = drawn(48, 64, dtype=dtype) / 8
    expected = exactly("linear_add", residual, features, weight)
    result = FAST.linear_add(residual, features, weight)
    assert result is residual
    assert error(result, expected) <= limit("linear_add", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention(dtype) -> None:
    length, heads = (1024, 20) if CUDA else (48, 2)
    query, key, value = drawn(2, length, 3, heads, 64, dtype=dtype).unbind(2)
    context = drawn(2, 77, 2, heads, 64, dtype=dtype)
    for keys, values in ((key, value), context.unbind(2)):
        expected = exactly("attention", query, keys, values)
        result = FAST.attention(query, keys, values)
        assert error(result, expected, spread=0.5) <= limit("attention", dtype)


def wide_attention_error(module: ModuleType, dtype: torch.dtype) -> float:
    length = 4096 if CUDA else 100
    parts = [drawn(2, length, 512 if CUDA else 64, dtype=dtype, mean=m) for m in (0.0, 0.1, 1.0)]
    result = poisoned(module.wide_attention)(*parts)
    return error(result, exactly("wide_attention", *parts))


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_in_the_decoder(dtype) -> None:
    assert wide_attention_error(pointwise, dtype) <= limit("wide_attention", dtype)


def halving_error(module: ModuleType, side: int, channels: int, dtype: torch.dtype) -> float:
    features = drawn(2, side, side + 1, channels, dtype=dtype)
    weight = drawn(channels, channels, 3, 3, dtype=dtype) / (9 * channels) ** 0.5
    weight = weight.contiguous(memory_format=torch.channels_last)
    result = poisoned(module.convolution)(features, weight, 2)
    return error(result, exactly("convolution", features, weight, 2))


@pytest.mark.parametrize("dtype", DTYPES if CUDA else [torch.float16])
@pytest.mark.parametrize(("side", "channels"), HALVED)
def test_halving_convolution(side, channels, dtype) -> None:
    assert halving_error(convolution, side, channels, dtype) <= limit("convolution", dtype)


def upsample_error(module: ModuleType, side: int, channels: int, dtype: torch.dtype) -> float:
    features = drawn(2, side, side + 2, channels, dtype=dtype)
    weight = drawn(channels, channels, 3, 3, dtype=dtype) / (9 * channels) ** 0.5
    bias = drawn(channels, dtype=dtype)
    kernels = operations.subpixel_weight(weight)
    result = poisoned(module.upsample_convolution)(features, kernels, bias)
    return error(result, exactly("upsample_convolution", features, kernels, bias))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("side", "channels"), CORNERS)
def test_upsample_convolution(side, channels, dtype) -> None:
    assert upsample_error(pointwise, side, channels, dtype) <= limit("upsample_convolution", dtype)


def test_four_small_kernels_are_the_large_one_on_doubled_pixels() -> None:
    features = drawn(2, 5, 7, 3, dtype=torch.float64)
    weight, bias = drawn(4, 3, 3, 3, dtype=torch.float64), drawn(4, dtype=torch.float64)
    doubled = features.repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = operations.convolution(doubled, weight) + bias
    kernels = torch.cat([operations.subpixel_weight(weight.float())]).double()
    result = operations.upsample_convolution(features, kernels, bias)
    assert (result - expected).abs().max() <= 1e-5


@pytest.mark.skipif(not CUDA, reason="torch sees no GPU")
def test_results_are_the_same_bits_every_time() -> None:
    features = drawn(4, 64, 64, 640, dtype=torch.bfloat16)
    weight = drawn(640, dtype=torch.bfloat16)
    flat = features.view(4, -1, 640)
    kernel = drawn(640, 640, 3, 3, dtype=torch.bfloat16)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    gates = drawn(5120, 640, dtype=torch.bfloat16), drawn(5120, dtype=torch.bfloat16)
    calls = [
        lambda: norms.group_norm(
            [features, features], weight.repeat(2), weight.repeat(2), 32, 1e-5, True
        ),
        lambda: norms.layer_norm(flat, weight, weight, 1e-5),
        lambda: products.geglu(flat, *gates),
        lambda: convolution.convolution(features, kernel),
        lambda: FAST.attention(*flat.view(4, 4096, 10, 64).expand(3, -1, -1, -1, -1)),
    ]
    for call in calls:
        first = call()
        assert all(torch.equal(call(), first) for _ in range(100))


@pytest.mark.parametrize(
    ("module", "old", "new", "broken"),
    [
        (norms, "rows_of_piece) + epsilon)", "rows_of_piece) + 0.5)", "group"),
        (norms, "distances * distances * rows_of_piece", "0.0 * distances", "group"),
        (norms, "(added - mean) * scale", "-mean * scale", "group"),
        (norms, "values += added.to(tl.float32)[None, :]", "values += 0.0", "layer"),
        (pointwise, ".to(tl.float32) * scale", ".to(tl.float32)", "wide"),
        (pointwise, "line // 2 + odd_row", "line // 2", "upsample"),
        (convolution, "pixel % across * 2 - 1", "pixel % across * 2", "halving"),
        (products, "value * (0.5 * gate", "gate * (0.5 * gate", "fused"),
    ],
)
def test_a_changed_kernel_is_noticed(module, old, new, broken, tmp_path: Path) -> None:
    source = Path(module.__file__).read_text()
    assert source.count(old) == 1
    path = tmp_path / "changed.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location("changed", path)
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    dtype = torch.float16
    errors = {
        "group": lambda: group_norm_error(changed, *NORMED[2], dtype, True, 2),
        "layer": lambda: layer_norm_error(changed, *ROWS[0], dtype),
        "wide": lambda: wide_attention_error(changed, dtype),
        "upsample": lambda: upsample_error(changed, *CORNERS[0], dtype),
        "halving": lambda: halving_error(changed, *HALVED[0], dtype),
        "fused": lambda: fused_error(changed, 2048 if CUDA else 256, 640 if CUDA else 64, dtype),
    }
    assert errors[broken]() > 4 * max(form.roundings for form in FORMS)
