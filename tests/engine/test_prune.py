"""Pruned UNets: what goes, what stays, and that both back ends compute the same of them."""

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

import peers
from micro_model import SETTINGS, MicroModel
from t2i.base.files import read_json
from t2i.engine import latents, reference
from t2i.engine.blocks import Parts
from t2i.engine.build import build_engine
from t2i.engine.load import load_engine
from t2i.engine.loop import Loop
from t2i.engine.manifest import EngineError
from t2i.engine.networks import networks_of
from t2i.engine.operations import PLAIN
from t2i.engine.prune import PruneError, fit, prune
from t2i.engine.unet import UNet
from t2i.engine.variant import Variant
from t2i.engine.weights import empty_network, fill_network

MODEL = Path(__file__).parents[2] / "models" / "micro-sdxl" / "unet"
STEM = "mid_block.attentions.0"
FIRST = f"{STEM}.transformer_blocks.0"


@pytest.fixture(scope="module")
def whole() -> UNet2DConditionModel:
    """The miniature's UNet, whose lowest level has two blocks in each transformer."""
    network = UNet2DConditionModel.from_pretrained(MODEL, variant="fp16", local_files_only=True)
    return network.float().eval()


def noise(network: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    config = network.config
    width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    added = {
        "text_embeds": torch.randn(1, width, generator=generator),
        "time_ids": torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]]),
    }
    sample = torch.randn(1, 4, 16, 16, generator=generator)
    context = torch.randn(1, 77, config.cross_attention_dim, generator=generator)
    with torch.inference_mode():
        native = UNet(network.state_dict(), config, Parts(PLAIN))
        shift = native.shifts(torch.tensor([501.0]), *added.values())[0]
        ours, _ = native(sample.permute(0, 2, 3, 1).contiguous(), shift, native.prompts(context))
        theirs = network(sample, 501.0, context, added_cond_kwargs=added)[0]
    assert (ours.permute(0, 3, 1, 2) - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    return theirs


def fitted(tensors: dict[str, torch.Tensor]) -> UNet2DConditionModel:
    network = empty_network(UNet2DConditionModel, MODEL, torch.float32)
    fit(network, {name: tensor.shape for name, tensor in tensors.items()})
    fill_network(network, {Path("pruned"): tensors})
    return network


def test_a_block_that_goes_is_not_computed(whole) -> None:
    pruned = fitted(prune(whole.state_dict(), [FIRST], 1.0))
    blocks = whole.mid_block.attentions[0].transformer_blocks
    assert len(pruned.mid_block.attentions[0].transformer_blocks) == len(blocks) - 1
    without = UNet2DConditionModel.from_config(whole.config)
    without.load_state_dict(whole.state_dict())
    without.mid_block.attentions[0].transformer_blocks = blocks[1:]
    assert torch.equal(noise(pruned), noise(without.eval()))
    assert not torch.allclose(noise(pruned), noise(whole), rtol=1e-3)


def test_all_blocks_of_a_transformer_may_go(whole) -> None:
    names = [f"{STEM}.transformer_blocks.{n}" for n in range(2)]
    pruned = fitted(prune(whole.state_dict(), names, 1.0))
    assert len(pruned.mid_block.attentions[0].transformer_blocks) == 0
    assert torch.isfinite(noise(pruned)).all()


def test_nothing_is_changed_where_nothing_goes(whole) -> None:
    state = whole.state_dict()
    same = prune(state, [], 1.0)
    assert same.keys() == state.keys()
    assert all(torch.equal(same[name], value) for name, value in state.items())


def test_channels_that_add_least_go(whole) -> None:
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    stem = f"{FIRST}.ff.net"
    width = state[f"{stem}.2.weight"].shape[1]
    silent = list(range(1, width, 3))
    state[f"{stem}.2.weight"][:, silent] = 0
    share = 1 - len(silent) / width
    pruned = prune(state, [], share)
    kept = pruned[f"{stem}.2.weight"]
    assert kept.shape[1] % 8 == 0 and abs(kept.shape[1] - share * width) <= 4
    assert pruned[f"{stem}.0.proj.weight"].shape[0] == 2 * kept.shape[1]
    loud = [channel for channel in range(width) if channel not in silent]
    expected = state[f"{stem}.2.weight"][:, loud]
    common = min(kept.shape[1], len(loud))
    rows = {tuple(column) for column in expected.T.tolist()}
    assert sum(tuple(column) in rows for column in kept.T.tolist()) == common
    assert torch.isfinite(noise(fitted(pruned))).all()


def test_removing_only_silent_channels_changes_nothing(whole) -> None:
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    for name in [name for name in state if name.endswith(".ff.net.2.weight")]:
        state[name][:, state[name].shape[1] // 2 :] = 0
    before = fitted(dict(state))
    after = fitted(prune(state, [], 0.5))
    torch.testing.assert_close(noise(after), noise(before), rtol=1e-4, atol=1e-5)


def test_an_unknown_block_is_named(whole) -> None:
    with pytest.raises(PruneError, match=r"has no mid_block\.attentions\.0\.transformer_blocks\.9"):
        prune(whole.state_dict(), [f"{STEM}.transformer_blocks.9"], 1.0)


def test_an_engine_of_a_pruned_unet_runs_on_both_back_ends(
    micro_model: MicroModel, tmp_path: Path
) -> None:
    unet = tmp_path / "unet.safetensors"
    blocks = ["down_blocks.1.attentions.0.transformer_blocks.0"]
    save_file(prune(micro_model.peer.unet.state_dict(), blocks, 0.75), unet)
    engine = tmp_path / "engine"
    engine.mkdir()
    variant = Variant(**SETTINGS | {"dtype": "fp32", "unet": "light"})
    build_engine(micro_model.model, engine, variant, unet)
    assert read_json(engine / "engine.json")["unet"] == "light"
    pipeline, manifest = load_engine(engine, "cpu")
    latent = latents.read_latent(micro_model.latent, 8)
    sampler = (2, peers.STEPS, peers.GUIDANCE)
    theirs = reference.generate(pipeline, micro_model.tokens(), range(2), latent, *sampler).pixels
    ours = (
        Loop(networks_of(pipeline), manifest)
        .images(micro_model.tokens(), range(2), latent, 2)
        .pixels
    )
    assert peers.pixel_difference(ours, theirs)[0] <= peers.GREY_LEVELS
    assert not np.array_equal(theirs, micro_model.images(micro_model.pipeline, 2, 2))


def test_a_file_that_is_no_unet_is_refused_when_the_engine_is_built(
    micro_model: MicroModel, tmp_path: Path
) -> None:
    state = micro_model.peer.unet.state_dict()
    variant = Variant(**SETTINGS | {"dtype": "fp32", "unet": "other"})
    wide = {**state, "conv_in.weight": torch.zeros(8, 9, 3, 3)}
    less = {name: value for name, value in state.items() if not name.startswith("conv_out")}
    more = {**state, "extra.weight": torch.zeros(1)}
    for tensors, message in (
        (wide, r"conv_in\.weight: \(8, 9, 3, 3\), needed \("),
        (less, r"conv_out\.bias: no such tensor, needed \(4,\)"),
        (more, r"extra\.weight: \(1,\), needed no such tensor"),
        ({"weight": torch.zeros(1)}, "is no UNet"),
    ):
        save_file(tensors, tmp_path / "unet.safetensors")
        with pytest.raises(EngineError, match=message):
            build_engine(micro_model.model, tmp_path, variant, tmp_path / "unet.safetensors")
    assert not (tmp_path / "weights").exists()
