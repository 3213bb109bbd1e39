"""The UNet with fp8 products: beside diffusers with rounded operands, calibration, engines."""

import t2i.job.torch_shim  # noqa: F401

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from micro_model import SETTINGS, MicroModel
from mutations import Edit
from t2i.base.files import read_json, write_json
from t2i.engine import latents
from t2i.engine.build import build_engine
from t2i.engine.files import verify_engine
from t2i.engine.fp8 import blocks, layers, scales
from t2i.engine.fp8.blocks import Fp8Parts
from t2i.engine.fp8.calibrate import calibrate
from t2i.engine.fp8.layers import Layers, Observer
from t2i.engine.fp8.scales import LARGEST, as_fp8, read_scales, weight_as_fp8, write_scales
from t2i.engine.load import load_engine
from t2i.engine.manifest import EngineError
from t2i.engine.networks import networks_of
from t2i.engine.operations import PLAIN
from t2i.engine.painter import load_painter
from t2i.engine.variant import Variant
from t2i.prompts.tokens import write_tokens
from unet_peers import distance, drawn_unet, found_scales, our_noise, peer_noise

KINDS = ("resnets", "attentions", "upsamplers")
PLACES = (
    *("attentions", "down_blocks.0.resnets.0", "down_blocks.2.resnets.0", "mid_block.resnets.1"),
    *("up_blocks.0.resnets.1", "up_blocks.2.resnets.0"),
)
FP8 = {"attention": True, "convolutions": True, "keep": [], "captions": 4, "percentile": 100}


def place(name: str) -> str | None:
    """Where the inputs of diffusers' module `name` become fp8, by our names; None: they do not."""
    block, _, last = name.rpartition(".")
    if "resnets" in name and last in ("conv1", "conv2"):
        return name
    if last in ("proj_in", "proj_out"):
        return f"{block}.{last.removeprefix('proj_')}"
    if "transformer_blocks" not in name:
        return None
    ends = {
        "attn1.to_q": "attn1.in",
        "attn1.to_k": "attn1.in",
        "attn1.to_v": "attn1.in",
        "attn1.to_out.0": "attn1.out",
        "attn2.to_q": "attn2.in",
        "attn2.to_out.0": "attn2.out",
        "ff.net.0.proj": "ff.in",
        "ff.net.2": "ff.hidden",
    }
    for end, ours_ in ends.items():
        if name.endswith(f".{end}"):
            return name.removesuffix(end) + ours_
    return None


def rounded(values: Tensor, scale: Tensor | float) -> Tensor:
    """Values rounded to e4m3 in units of a scale."""
    return (values / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale


def hooked(of: Any, hook: Callable[[str, Tensor], Tensor | None]) -> None:
    """Call `hook` with place and input of each module of diffusers whose input becomes fp8."""

    def before(where: str) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
        def call(_: nn.Module, arguments: tuple[Tensor, ...]) -> Any:
            changed = hook(where, arguments[0])
            return None if changed is None else (changed, *arguments[1:])

        return call

    for name, module in of.named_modules():
        where = place(name)
        if where is not None:
            module.register_forward_pre_hook(before(where))


def magnitudes(of: Any) -> dict[str, float]:
    """The largest magnitude of each place's input, by diffusers."""
    seen: dict[str, float] = {}

    def see(where: str, values: Tensor) -> None:
        seen[where] = max(seen.get(where, 0.0), float(values.abs().max()))

    hooked(of, see)
    peer_noise(of)
    return seen


def test_observed_magnitudes_are_those_of_diffusers_modules() -> None:
    observer = Observer(PLAIN)
    noise = our_noise(Fp8Parts(PLAIN, observer, True, []), drawn_unet())
    expected = magnitudes(drawn_unet())
    seen = observer.magnitudes
    ends = (".qk", ".q", ".k", ".v", "upsamplers.0.conv")  # of no module's input, or folded
    assert {where for where in seen if not where.endswith(ends)} == set(expected)
    for where, value in expected.items():
        assert seen[where] == pytest.approx(value, rel=2e-3), where  # GELU's two forms
    assert float((noise - peer_noise(drawn_unet())).norm() / noise.norm()) < 1e-3


def fake_quantised(only: str) -> Tensor:
    """diffusers' noise with weights and inputs of the modules below `only` rounded to e4m3."""
    of = drawn_unet()
    found = found_scales(of)
    for module in of.modules():
        if isinstance(module, GEGLU):
            module.gelu = lambda gate: F.gelu(gate, approximate="tanh")  # type: ignore[method-assign]
    for name, module in of.named_modules():
        if place(name) is not None and only in name:
            flat = module.weight.detach().flatten(1)
            most = flat.abs().amax(dim=1).view(-1, *[1] * (module.weight.ndim - 1))
            module.weight.data = rounded(module.weight.detach(), most / 448)
    hooked(of, lambda where, values: rounded(values, found[where]) if only in where else None)
    return peer_noise(of)


def fp8_noise(only: str) -> Tensor:
    """Our noise with fp8 below `only` and attention itself without."""
    of = drawn_unet()
    parts = [name for name, _ in of.named_modules() if name.rpartition(".")[0].endswith(KINDS)]
    keep = [name for name in parts if only not in name]
    made = layers.Layers(found_scales(of), PLAIN, attention=False)
    return our_noise(blocks.Fp8Parts(PLAIN, made, True, keep), of)


@functools.cache
def expected(only: str) -> Tensor:
    return fake_quantised(only)


@pytest.mark.parametrize("only", PLACES)
def test_products_are_those_of_rounded_operands(only: str) -> None:
    """Few numbers round the other way, because the sums before them have another order.

    Part by part, since one such number changes all that follow.
    """
    rounding = distance(peer_noise(drawn_unet()), expected(only))
    assert rounding > 0.003
    assert distance(fp8_noise(only), expected(only)) <= 0.25 * rounding


CHANGES = [
    (scales, "weight_as_fp8", "wide / scale.view", "wide / 2 / scale.view"),
    (layers, "Layers", "(scale * self.scale(place))", "(scale * 2 * self.scale(place))"),
    (layers, "Layers", "value * F.gelu(gate", "gate * F.gelu(value"),
    (
        layers,
        "Layers",
        "sums = F.linear(self.wide(features), matrix(), _in(bias",
        "sums = F.linear(self.wide(features), matrix(), _in(None",
    ),
    (layers, "Layers", "self.stored(result, value", "self.stored(place, value"),
    (layers, "CrossAttention", "self._query(features, None)", "self._query(residual, None)"),
    (blocks, "Fp8ResidualBlock", "([features], shift)", "([features], None)"),
    (blocks, "Fp8ResidualBlock", "None if self._shortcut else self._bias", "None"),
    (blocks, "Fp8TransformerBlock", '"k", "v", "out.0"', '"v", "k", "out.0"'),
    (blocks, "Fp8TransformerBlock", '"norm2", "attn2.in"', '"norm3", "attn2.in"'),
]


@pytest.mark.parametrize(
    ("module", "name", "old", "new"), CHANGES, ids=[f"{c[1]}: {c[2]}" for c in CHANGES]
)
def test_a_changed_step_is_noticed(module, name, old, new, monkeypatch) -> None:
    """A wrong scale, a missing bias, parts in another order."""
    Edit(f"{name}: {old}", module, name, old, new).apply(monkeypatch)
    only = "attentions" if name != "Fp8ResidualBlock" else "mid_block.resnets.1"
    assert distance(fp8_noise(only), expected(only)) > 0.006


def test_attention_is_that_of_rounded_operands() -> None:
    generator = torch.Generator().manual_seed(1)
    query, key, value = torch.randn(3, 2, 40, 4, 16, generator=generator) * 2
    found = {"q": 0.02, "k": 0.025, "v": 0.03, "out": 0.01}
    made = Layers(found, PLAIN, attention=True)
    stored = [
        made.stored(name, part) for name, part in zip("qkv", (query, key, value), strict=True)
    ]
    result = made.attend(*stored, "q", "k", "v", "out").float() * found["out"]
    wide = [
        rounded(part, found[name]) for name, part in zip("qkv", (query, key, value), strict=True)
    ]
    exact = PLAIN.attention(*wide)
    assert distance(result, rounded(exact, found["out"])) <= 0.04  # weights have three bits
    assert distance(result, PLAIN.attention(wide[0], wide[1], wide[1])) > 0.5


def test_an_upsampler_is_that_of_rounded_operands() -> None:
    generator = torch.Generator().manual_seed(1)
    kernel = torch.randn(12, 8, 3, 3, generator=generator)
    bias = torch.randn(12, generator=generator)
    features = torch.randn(2, 5, 6, 8, generator=generator)
    made = Layers({"up": 0.01}, PLAIN, attention=True)
    result = made.upsampler("up", kernel, bias)(features)
    folded = layers.subpixel_weight(kernel)
    most = folded.flatten(1).abs().amax(dim=1)[:, None, None, None]
    exact = layers.operations.upsample_convolution(
        rounded(features, 0.01), rounded(folded, most / 448), bias
    )
    assert distance(result, exact) <= 1e-6


def test_the_largest_is_kept_and_more_is_cut() -> None:
    values = torch.tensor([0.0, 1.0, -448.0, 449.0, 1e9, -1e9, 0.3])
    assert as_fp8(values, 1.0).float().tolist() == [0, 1, -448, 448, 448, -448, 0.3125]
    stored, scale = weight_as_fp8(torch.tensor([[0.5, -2.0], [0.0, 0.0]]))
    assert (stored.float() * scale[:, None]).tolist() == [[0.5, -2.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("convolutions", "keep", "missing"),
    [
        (False, [], "resnets.0.conv1"),
        (True, ["down_blocks.0.resnets.0"], "down_blocks.0.resnets.0.conv1"),
        (True, ["up_blocks.0"], "up_blocks.0.upsamplers.0.conv"),
        (True, ["mid_block.attentions"], "mid_block.attentions.0.in"),
    ],
)
def test_parts_can_be_kept(convolutions, keep, missing) -> None:
    whole, some = Observer(PLAIN), Observer(PLAIN)
    our_noise(Fp8Parts(PLAIN, whole, True, []), drawn_unet())
    our_noise(Fp8Parts(PLAIN, some, convolutions, keep), drawn_unet())
    assert any(missing in where for where in whole.magnitudes)
    assert not any(missing in where for where in some.magnitudes)
    assert some.magnitudes


def test_scales_of_another_model_are_refused() -> None:
    with pytest.raises(EngineError, match=r"have none for down_blocks\.0"):
        our_noise(Fp8Parts(PLAIN, Layers({"a": 1.0}, PLAIN, True), True, []), drawn_unet())


@pytest.fixture(scope="module")
def engine(micro_model, tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("fp8")
    settings = SETTINGS | {"dtype": "bf16", "backend": "native", "fp8": FP8}
    found = micro_model.scales(folder / "found.json", FP8)
    (folder / "engine").mkdir()
    build_engine(micro_model.model, folder / "engine", Variant(**settings), scales=found)
    write_tokens(folder / "tokens.npz", micro_model.tokens())
    return folder / "engine"


def painted(folder: Path, model: MicroModel, indices: range, batch_size: int) -> np.ndarray:
    painter, _ = load_painter(folder, folder.parent / "tokens.npz", model.latent, "cpu")
    return painter.paint(indices, batch_size).pixels


def test_calibration_covers_all_steps_and_captions(micro_model, tmp_path: Path) -> None:
    found = read_scales(micro_model.scales(tmp_path / "scales.json", FP8))
    latent = latents.read_latent(micro_model.latent, 8)

    def of(captions: int, **options: Any) -> dict[str, float]:
        pipeline, manifest = load_engine(micro_model.engines["bf16"], "cpu")
        tokens, asked = micro_model.tokens().begin(captions), {**manifest, "fp8": FP8, **options}
        seen = calibrate(networks_of(pipeline), asked, tokens, latent, 1, PLAIN)
        return {where: max(value, 1e-6) / LARGEST for where, value in seen.items()}

    one = of(1)
    assert one.keys() == found.keys()
    assert all(found[where] >= 0.99 * value for where, value in one.items())
    assert sum(found[where] > 1.001 * value for where, value in one.items()) > len(one) / 4
    assert of(1, cache={"interval": 2}) == one


def test_an_engine_paints_the_same_bytes_however_it_is_cut(engine, micro_model) -> None:
    together = painted(engine, micro_model, range(4), 4)
    assert np.array_equal(painted(engine, micro_model, range(1, 3), 4), together[1:3])
    exact = micro_model.images(micro_model.pipeline, 4, 4)
    difference = np.abs(together.astype(float) - exact.astype(float)).mean()
    assert 0 < difference < 20  # grey levels; other pictures differ by 70


def test_scales_belong_to_the_engine(engine, micro_model, tmp_path: Path) -> None:
    manifest = read_json(engine / "engine.json")
    assert manifest["fp8"]["scales"] == verify_engine(engine)["fp8"]["scales"]
    content = read_json(engine / "scales.json")
    content["scales"] = {where: 2 * value for where, value in content["scales"].items()}
    write_json(tmp_path / "scales.json", content)
    settings = SETTINGS | {"dtype": "bf16", "backend": "native", "fp8": FP8}
    (tmp_path / "other").mkdir()
    other = build_engine(
        micro_model.model, tmp_path / "other", Variant(**settings), scales=tmp_path / "scales.json"
    )
    assert other["digest"] != manifest["digest"]
    assert other["weights"] == manifest["weights"]
    (tmp_path / "other" / "scales.json").write_bytes((engine / "scales.json").read_bytes())
    with pytest.raises(EngineError, match=r"scales\.json has changed"):
        load_engine(tmp_path / "other", "cpu")


@pytest.mark.parametrize("number", [1000, 3 * 2**20])
def test_a_percentile_leaves_the_largest_out(number: int) -> None:
    values = torch.linspace(-10, 10, number).view(8, -1)
    for percentile, expected in ((100, 10.0), (99, 9.9), (50, 5.0)):
        observer = Observer(PLAIN, percentile)
        observer.stored("a", values / 2)
        observer.stored("a", values)
        assert observer.magnitudes["a"] == pytest.approx(expected, abs=0.03)
    observer.stored("a", torch.tensor([1.0, float("nan")]))
    assert observer.magnitudes["a"] != observer.magnitudes["a"]


def test_features_that_are_not_finite_end_the_calibration(tmp_path: Path) -> None:
    observer = Observer(PLAIN)
    observer.stored("a.b", torch.tensor([1.0, float("nan"), 2.0]))
    observer.stored("c", torch.tensor([1.0, -3.0]))
    assert observer.magnitudes["c"] == 3.0
    with pytest.raises(EngineError, match=r"features at a\.b and 0 other places"):
        write_scales(tmp_path / "scales.json", observer.magnitudes, {})
    write_json(tmp_path / "empty.json", {"schema": 1})
    with pytest.raises(EngineError, match="has no scales"):
        read_scales(tmp_path / "empty.json")
