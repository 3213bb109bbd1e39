"""The UNet, the noise and the loss: the reference's own code beside ours, and mutations."""

import math
import sys
import types
from pathlib import Path

import numpy as np
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


@pytest.fixture(scope="module")
def ldm(training_checkout: Path):
    """ldm's modules, with what they import and do not need here left out."""
    folder = training_checkout / "retired_benchmarks" / "stable_diffusion"
    lightning = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = nn.Module
    utilities = types.ModuleType("pytorch_lightning.utilities")
    utilities.rank_zero_info = print
    stand_ins = {"pytorch_lightning": lightning, "pytorch_lightning.utilities": utilities}
    added = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(added)
    sys.path.insert(0, str(folder))
    try:
        from ldm.lr_scheduler import LambdaLinearScheduler
        from ldm.models.diffusion.ddim import DDIMSampler
        from ldm.modules.diffusionmodules import util
        from ldm.modules.diffusionmodules.openaimodel import UNetModel
        from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
    finally:
        sys.path.remove(str(folder))
    found = types.SimpleNamespace(
        UNetModel=UNetModel,
        util=util,
        DDIMSampler=DDIMSampler,
        Gaussian=DiagonalGaussianDistribution,
        LambdaLinearScheduler=LambdaLinearScheduler,
    )
    yield found
    for name in added:
        del sys.modules[name]


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


# Noise


def reference_alphas() -> np.ndarray:
    roots = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64)
    return np.cumprod(1 - roots**2)


def noise_difference() -> float:
    """Largest difference of noised latents and target from float64 arithmetic."""
    clean, _, _ = inputs(count=2)
    clean = clean.repeat(2, 1, 1, 1)
    timesteps = torch.tensor([0, 1, 500, 999])
    added = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    scheduler = noise.training_noise()
    signal = torch.from_numpy(reference_alphas())[timesteps].view(-1, 1, 1, 1)
    wanted = signal.sqrt() * clean + (1 - signal).sqrt() * added
    target = signal.sqrt() * added - (1 - signal).sqrt() * clean
    return max(
        float((scheduler.add_noise(clean, added, timesteps) - wanted).abs().max()),
        float((scheduler.get_velocity(clean, added, timesteps) - target).abs().max()),
    )


def test_noise_is_the_references() -> None:
    known = {0: 0.99915, 1: 0.9982960278384514, 250: 0.6737926252333215, 999: 0.004660098513077238}
    for step, value in known.items():
        assert noise.alphas_cumprod()[step] == pytest.approx(value, abs=1e-15)
    assert np.abs(noise.alphas_cumprod() - reference_alphas()).max() < 1e-15
    assert noise_difference() <= 2e-6


def test_noise_is_ldms(ldm) -> None:
    betas = ldm.util.make_beta_schedule("linear", 1000, linear_start=0.00085, linear_end=0.012)
    assert np.array_equal(noise.alphas_cumprod(), np.cumprod(1.0 - betas, axis=0))


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("linear betas", noise, "alphas_cumprod", "(roots**2)", "(roots * 0 + 0.005)"),
        Swap("other betas", noise, "BETAS", (0.0001, 0.02)),
        Edit("a little off", noise, "training_noise",
             "torch.from_numpy(alphas_cumprod())",
             "torch.from_numpy(alphas_cumprod() * 0.999)"),
    ],
    ids=str,
)  # fmt: skip
def test_other_noise_differs(mutation: Edit | Swap, monkeypatch) -> None:
    mutation.apply(monkeypatch)
    assert noise_difference() > 2e-6


def sampled(velocity) -> torch.Tensor:
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    return noise.sample(velocity, start, 50, 8.0)


def model(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """A made-up prediction, another for each branch."""
    count = len(latents) // 2
    branch = torch.cat([torch.zeros(count), torch.ones(count)]).view(-1, 1, 1, 1)
    wave = torch.sin(latents * 1.7 + float(timestep) / 300)
    return 0.4 * wave + 0.2 * branch * torch.cos(latents)


def ddim_difference() -> float:
    """Difference of 50 steps from DDIM in float64, by the paper's formula with eta 0."""
    signal = reference_alphas()
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    places = list(range(981, 0, -20))
    for place, before in zip(places, [*places[1:], 0], strict=True):
        without, with_caption = model(torch.cat([latents, latents]), torch.tensor(place)).chunk(2)
        velocity = without + 8.0 * (with_caption - without)
        now, then = signal[place], signal[before]
        clean = math.sqrt(now) * latents - math.sqrt(1 - now) * velocity
        added = math.sqrt(now) * velocity + math.sqrt(1 - now) * latents
        latents = math.sqrt(then) * clean + math.sqrt(1 - then) * added
    return float((sampled(model) - latents).abs().max())


def test_fifty_steps_of_ddim_are_the_references() -> None:
    timesteps = noise.sampling_noise(50).timesteps.tolist()
    assert timesteps == list(range(981, 0, -20))
    assert ddim_difference() <= 3e-5  # of float64, amplified by the guidance


def test_fifty_steps_are_ldms(ldm) -> None:
    class Model:
        num_timesteps, device = 1000, CPU
        alphas_cumprod = torch.from_numpy(reference_alphas()).float()
        alphas_cumprod_prev = torch.cat([torch.ones(1), alphas_cumprod[:-1]])
        betas = 1 - alphas_cumprod / alphas_cumprod_prev
        parameterization = "v"
        sqrt_alphas_cumprod = alphas_cumprod.sqrt()
        sqrt_one_minus_alphas_cumprod = (1 - alphas_cumprod).sqrt()

        def _of(self, values, t, like):
            return values[t].view(-1, 1, 1, 1)

        def predict_eps_from_z_and_v(self, x, t, v):
            return (
                self._of(self.sqrt_alphas_cumprod, t, x) * v
                + self._of(self.sqrt_one_minus_alphas_cumprod, t, x) * x
            )

        def predict_start_from_z_and_v(self, x, t, v):
            return (
                self._of(self.sqrt_alphas_cumprod, t, x) * x
                - self._of(self.sqrt_one_minus_alphas_cumprod, t, x) * v
            )

        def apply_model(self, x, t, c):
            return model(x, t[0])

    sampler = ldm.DDIMSampler(Model(), device=CPU)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    condition = torch.zeros(2, 1)
    found, _ = sampler.sample(
        50,
        2,
        (4, 8, 8),
        conditioning=condition,
        unconditional_conditioning=condition,
        unconditional_guidance_scale=8.0,
        x_T=start,
        eta=0.0,
        verbose=False,
    )
    assert (sampled(model) - found).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("no offset", noise, "sampling_noise", "steps_offset=1", "steps_offset=0"),
        Edit("ends at no noise", noise, "sampling_noise",
             "scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]",
             "scheduler.final_alpha_cumprod = torch.tensor(1.0)"),
        Swap("noise is predicted", noise, "_SCHEDULE",
             {**noise._SCHEDULE, "prediction_type": "epsilon"}),
        Edit("guidance of 7.5", noise, "sample", "without + guidance", "without + 7.5"),
        Edit("branches exchanged", noise, "sample", "without, with_caption =",
             "with_caption, without ="),
    ],
    ids=str,
)  # fmt: skip
def test_other_sampling_differs(mutation: Edit | Swap, monkeypatch) -> None:
    mutation.apply(monkeypatch)
    assert ddim_difference() > 1e-4


def test_a_posterior_is_ldms(ldm) -> None:
    moments = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1)) * 20
    posterior = ldm.Gaussian(moments)
    zeros = torch.zeros(2, 4, 4, 4)
    assert torch.equal(steps.latents(moments, zeros, 1.0), posterior.mean)
    ones = steps.latents(moments, zeros + 1, 1.0)
    assert torch.equal(ones, posterior.mean + posterior.std)


def test_a_learning_rate_is_ldms(ldm) -> None:
    scheduler = ldm.LambdaLinearScheduler(
        warm_up_steps=[1000], f_min=[1.0], f_max=[1.0], f_start=[1e-6], cycle_lengths=[10**13]
    )
    for step in range(1003):
        wanted = 6.4e-5 * scheduler.schedule(step)
        assert steps.rate(step, 6.4e-5, 1000) == pytest.approx(wanted, rel=1e-12)


def test_a_learning_rate_is_as_published() -> None:
    known = {0: 6.4e-11, 1: 6.4064e-8, 500: 3.2e-5, 999: 6.3936e-5, 1000: 6.4e-5, 1002: 6.4e-5}
    for step, value in known.items():
        assert steps.rate(step, 6.4e-5, 1000) == pytest.approx(value, rel=1e-4)


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
