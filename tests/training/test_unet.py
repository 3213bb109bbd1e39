"""The UNet, its loss, and tokens: the reference's own code beside ours, and mutations."""

from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_unet_checkpoint
from torch import nn

from mutations import Edit, Swap
from t2i.prompts.tokenizer import write_tokenizer
from t2i.training import noise, settings, steps, text, trainer, unet
from t2i.training.settings import MICRO_UNET, SD2_UNET

CPU = torch.device("cpu")
PROJECT = Path(__file__).parents[2]


def randomised(network: nn.Module) -> nn.Module:
    """Every tensor random: at the start, zeros would hide most of the network."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network


def inputs(sizes=MICRO_UNET, count=2):
    generator = torch.Generator().manual_seed(1)
    side = sizes["sample_size"]
    return (
        torch.randn(count, 4, side, side, generator=generator),
        torch.tensor([7, 911][:count]),
        torch.randn(count, 77, sizes["cross_attention_dim"], generator=generator),
    )


def test_the_real_network_has_the_references_size() -> None:
    with torch.device("meta"):
        network = unet.sd2_unet(SD2_UNET)
    parameters = list(network.parameters())
    assert sum(p.numel() for p in parameters) == settings.PARAMETERS["sd2"] == 865_910_724
    assert len(parameters) == 686
    assert len(list(unet.zero_layers(network))) == 39
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert sorted((m.num_groups, m.eps) for m in norms if m.num_groups == 32) == [(32, 1e-6)] * 16
    assert {(m.num_groups, m.eps) for m in norms} == {(16, 1e-5), (32, 1e-6)}


def test_the_miniature_has_the_parameters_that_the_forecast_counts() -> None:
    network = unet.sd2_unet(MICRO_UNET)
    assert sum(p.numel() for p in network.parameters()) == settings.PARAMETERS["micro"]


def test_zeroed_layers_are_zero_and_no_others() -> None:
    network = unet.sd2_unet(MICRO_UNET, seed=1)
    zero = [name for name, p in network.named_parameters() if p.ndim > 1 and not p.any()]
    assert len(zero) == len(list(unet.zero_layers(network)))
    assert all(
        name.endswith(("conv2.weight", "proj_out.weight", "conv_out.weight")) for name in zero
    )


def test_the_first_loss_is_the_mean_square_of_the_target() -> None:
    """The last layer is zero, so the first prediction is."""
    clean, timesteps, hidden = inputs()
    drawn = steps.Draws(timesteps, torch.randn_like(clean), torch.zeros_like(clean))
    scheduler = noise.training_noise()
    network = unet.sd2_unet(MICRO_UNET, seed=1)
    loss = trainer.velocity_loss(network, scheduler, clean, hidden, drawn)
    target = scheduler.get_velocity(clean, drawn.noise, timesteps)
    assert loss.item() == target.square().mean().item()


# The reference's network: ldm's own files, of a checkout of mlcommons/training.


TINY = {
    "sample_size": 16,
    "block_out_channels": [64, 128, 256, 256],
    "attention_head_dim": [2, 4, 8, 8],
    "cross_attention_dim": 32,
    "layers_per_block": 2,
}


@pytest.fixture(scope="module")
def peer(ldm):
    """The reference's UNet, small, every weight random."""
    network = ldm.UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=64,
        attention_resolutions=[4, 2, 1],
        num_res_blocks=2,
        channel_mult=[1, 2, 4, 4],
        num_head_channels=32,
        use_spatial_transformer=True,
        use_linear_in_transformer=True,
        transformer_depth=1,
        context_dim=32,
        use_checkpoint=False,
        legacy=False,
    )
    zero = [p for p in network.parameters() if p.ndim > 1 and not p.any()]
    assert len(zero) == 39
    return randomised(network)


LDM_CONFIG = {
    "attention_head_dim": TINY["attention_head_dim"],
    "layers_per_block": 2,
    "class_embed_type": None,
    "addition_embed_type": None,
}


def ours_like(peer: nn.Module) -> nn.Module:
    """Our network with the reference's weights."""
    state = {f"model.diffusion_model.{key}": value for key, value in peer.state_dict().items()}
    network = unet.sd2_unet(TINY)
    network.load_state_dict(convert_ldm_unet_checkpoint(state, LDM_CONFIG))
    return network


def unet_difference(peer: nn.Module) -> float:
    given, timesteps, hidden = inputs(TINY)
    with torch.no_grad():
        wanted = peer(given, timesteps, hidden)
        made = ours_like(peer)(given, timesteps, hidden).sample
    return float((wanted - made).abs().max() / wanted.abs().max())


def test_the_network_is_the_references(peer) -> None:
    assert unet_difference(peer) <= 1e-6


def test_loss_and_gradient_are_the_references(peer) -> None:
    clean, timesteps, hidden = inputs(TINY)
    drawn = steps.Draws(timesteps, torch.randn_like(clean), torch.zeros_like(clean))
    scheduler = noise.training_noise()

    def norm(network: nn.Module) -> float:
        return float(torch.stack([p.grad.norm() for p in network.parameters()]).norm())

    own = ours_like(peer)
    loss = trainer.velocity_loss(own, scheduler, clean, hidden, drawn)
    loss.backward()
    noised = scheduler.add_noise(clean, drawn.noise, timesteps)
    target = scheduler.get_velocity(clean, drawn.noise, timesteps)
    peer.zero_grad()
    # The reference's loss: means over each sample's numbers, then over samples.
    wanted = ((peer(noised, timesteps, hidden) - target) ** 2).mean([1, 2, 3]).mean()
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert norm(own) == pytest.approx(norm(peer), rel=1e-6)


UNET_MUTATIONS = [
    Swap("16 groups in the transformers", unet, "TRANSFORMER_GROUPS", 16),
    Swap("32 groups in the residual blocks", unet, "_SAME", {**unet._SAME, "norm_num_groups": 32}),
    Swap("another eps", unet, "_SAME", {**unet._SAME, "norm_eps": 1e-3}),
]


@pytest.mark.parametrize("mutation", UNET_MUTATIONS, ids=str)
def test_another_network_differs(mutation: Edit | Swap, peer, monkeypatch) -> None:
    mutation.apply(monkeypatch)
    assert unet_difference(peer) > 1e-4


def test_without_zeroes_the_first_loss_differs(monkeypatch) -> None:
    Edit("no zeros", unet, "sd2_unet", "zero_layers(network)", "()").apply(monkeypatch)
    with pytest.raises(AssertionError):
        test_the_first_loss_is_the_mean_square_of_the_target()


# Tokens


ZEN = (
    "Beautiful is better than ugly.\nExplicit is better than implicit.\n"
    "Simple is better than complex.\nComplex is better than complicated."
)
GOLDEN = [
    *(49406, 1215, 533, 1539, 1126, 8159, 269, 33228, 533, 1539, 1126, 15269, 585, 269, 4129, 533),
    *(1539, 1126, 6324, 269, 6324, 533, 1539, 1126, 16621, 269, 49407),
]


@pytest.fixture(scope="module")
def real_tokenizer(tmp_path_factory) -> Path:
    """CLIP's tokenizer with the padding of Stable Diffusion v2, which SDXL's second one has too."""
    published = PROJECT / "config" / "models" / "sdxl-base-1.0" / "tokenizer_2"
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, {path.name: path for path in published.iterdir()})
    return folder


def golden_tokens(folder: Path, monkeypatch) -> list[int]:
    monkeypatch.setattr(text.CLIPTextModel, "from_pretrained", lambda *_, **__: nn.Identity())
    encoder = text.TextEncoder(folder, folder, "cpu")
    return encoder.tokens([ZEN])[0].tolist()


def test_tokens_are_open_clips(real_tokenizer: Path, monkeypatch) -> None:
    import open_clip

    wanted = [*GOLDEN, *[0] * (77 - len(GOLDEN))]
    assert golden_tokens(real_tokenizer, monkeypatch) == wanted
    assert open_clip.tokenize([ZEN])[0].tolist() == wanted


def test_another_padding_is_refused(real_tokenizer: Path, tmp_path: Path, monkeypatch) -> None:
    for path in real_tokenizer.iterdir():
        other = path.read_text()
        if path.name in ("tokenizer_config.json", "special_tokens_map.json"):
            other = other.replace('"pad_token": "!"', '"pad_token": "<|endoftext|>"')
        (tmp_path / path.name).write_text(other)
    with pytest.raises(ValueError, match="pads with id 49407"):
        golden_tokens(tmp_path, monkeypatch)
