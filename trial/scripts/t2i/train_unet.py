"""The micro SDXL's UNet and its two text encoders, trained together on drawn pictures' latents."""

from __future__ import annotations

import t2i.compat  # noqa: F401

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from t2i.files import write_json
from t2i.latents import draw_latent
from t2i.train_common import (
    Average,
    Clock,
    adamw,
    compiled,
    half_precision,
    load_checkpoint,
    log,
    parameter_count,
    prepare,
    save_checkpoint,
    save_half,
    seconds_a_step,
    set_rate,
)
from t2i.train_data import (
    CaptionTokens,
    caption_tokens,
    draw,
    jittered,
    objects_of,
    training_scenes,
)
from t2i.train_vae import encode
from t2i.vocabulary import vocabulary_size, write_small_tokenizer

LATENT_SIDE = 16
WIDTHS = (64, 96)  # of the two text encoders
TIME_WIDTH = 32  # of each of the six sizes and offsets
TIMES = 1000
BANDS = 4  # of timesteps, for the losses in the log


@dataclass(frozen=True)
class UnetSettings:
    """How the UNet and the text encoders are trained.

    `repeats` samples of a batch share a caption, at different timesteps. `variants` pictures of
    each scene are encoded, moved by up to `pixels` and scaled by up to `size`. `fixed` is the
    share of samples at timesteps from 800 on whose noise is the data set's own latent.
    At most `scenes` training scenes are used.
    """

    seconds: float = 240.0
    steps: int = 60000
    batch: int = 1024
    repeats: int = 4
    peak: float = 1e-3
    decay: float = 0.01
    dropout: float = 0.1
    gamma: float = 5.0
    average: float = 0.999
    channels: tuple[int, int, int] = (48, 80, 112)
    variants: int = 8
    pixels: float = 1.0
    size: float = 0.02
    fixed: float = 0.0
    judge_every: float = 40.0
    scenes: int = 1792
    seed: int = 3


def new_unet(channels: tuple[int, int, int]) -> UNet2DConditionModel:
    """An untrained UNet: SDXL's block types, three levels, conditioned on text and sizes."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=tuple(width // 16 for width in channels),  # how many heads
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * TIME_WIDTH,
        norm_num_groups=16,
    )


def new_text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Untrained text encoders of three layers: the pipeline takes the states after the second."""

    def config(width: int, hidden_act: str) -> CLIPTextConfig:
        size = vocabulary_size()
        return CLIPTextConfig(
            vocab_size=size,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=3,
            num_attention_heads=width // 32,
            projection_dim=width,
            max_position_embeddings=77,
            hidden_act=hidden_act,
            bos_token_id=size - 2,
            eos_token_id=size - 1,
            pad_token_id=0,
        )

    return (
        CLIPTextModel(config(WIDTHS[0], "quick_gelu")),
        CLIPTextModelWithProjection(config(WIDTHS[1], "gelu")),
    )


def alphas_cumulative(device: str) -> Tensor:
    """Cumulative products (1000,) float32 of SDXL's noise schedule (scaled linear)."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, TIMES, dtype=torch.float64)
    return (1 - roots.square()).cumprod(0).float().to(device)


def latent_table(out: Path, device: str, settings: UnetSettings) -> Tensor:
    """Latents (scenes, variants, 4, 16, 16) of the training scenes by the written autoencoder."""
    vae = AutoencoderKL.from_pretrained(out / "model" / "vae", torch_dtype=torch.float32).to(device)
    objects = objects_of(training_scenes()[: settings.scenes], device)
    rows = [encode(vae, draw(objects))]
    for _ in range(settings.variants - 1):
        rows.append(encode(vae, draw(jittered(objects, settings.pixels, settings.size, 0.0))))
    return torch.stack(rows, dim=1)


class Trainer:
    """The networks in training, their averages, and one step of training."""

    def __init__(self, out: Path, device: str, settings: UnetSettings) -> None:
        self.device, self.settings = device, settings
        self.unet = new_unet(settings.channels).to(device, memory_format=torch.channels_last)
        self.text, self.text_2 = (network.to(device) for network in new_text_encoders())
        self.networks: list[Any] = [self.unet, self.text, self.text_2]
        self.parameters = [p for network in self.networks for p in network.parameters()]
        self.averages: list[Any] = [copy.deepcopy(network).eval() for network in self.networks]
        self.average = Average(self.networks, self.averages, settings.average)
        self.optimizer = adamw(self.networks, device, settings.decay)
        shown = training_scenes()[: settings.scenes]
        self.tokens: CaptionTokens = caption_tokens(shown, out / "model", device)
        self.alphas = alphas_cumulative(device)
        snr = self.alphas / (1 - self.alphas)
        self.weights = snr.clamp(max=settings.gamma) / snr
        self.times = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]], device=device)
        fixed = torch.from_numpy(draw_latent())[:, :, :LATENT_SIDE, :LATENT_SIDE]
        self.fixed = fixed.to(device)
        self.predict: Callable[..., Tensor] = self._predict
        self.reset_losses()

    def reset_losses(self) -> None:
        """Begin a new mean of the losses: weighted, its square error by band, and counts."""
        self.weighted = torch.zeros((), device=self.device)
        self.bands = torch.zeros(2, BANDS, device=self.device)
        self.counted = 0

    def _predict(self, noisy: Tensor, times: Tensor, hidden: Tensor, pooled: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": self.times.expand(len(noisy), -1)}
        with half_precision(self.device):
            predicted: Tensor = self.unet(
                noisy, times, hidden, added_cond_kwargs=added, return_dict=False
            )[0]
        return predicted.float()

    def example(self) -> tuple[Tensor, ...]:
        """Arguments of a prediction, as a step makes them."""
        count, device = self.settings.batch, self.device
        noisy = torch.randn(count, 4, LATENT_SIDE, LATENT_SIDE, device=device)
        hidden = torch.randn(count, 77, sum(WIDTHS), device=device, requires_grad=True)
        pooled = torch.randn(count, WIDTHS[1], device=device, requires_grad=True)
        times = torch.randint(TIMES, (count,), device=device)
        return noisy.contiguous(memory_format=torch.channels_last), times, hidden, pooled

    def choose_speed(self, compile_it: bool) -> dict[str, float]:
        """Compile the UNet if that works and is faster; seconds of a step both ways."""
        example = self.example()
        figures = {"plain": seconds_a_step(self._predict, example, 5)}
        fast = compiled("unet", self._predict, example, compile_it)
        if fast != self._predict:
            figures["compiled"] = seconds_a_step(fast, example, 5)
            if figures["compiled"] < 1.2 * figures["plain"]:  # other parts disturb the clock
                self.predict = fast
        self.optimizer.zero_grad(set_to_none=True)
        log("unet", f"seconds of a step of the UNet alone: {figures}")
        return figures

    def encode_prompts(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate states (n, 77, d) of both encoders, and the second's pooled output (n, p)."""
        with half_precision(self.device):
            states = self.text(first, output_hidden_states=True).hidden_states[-2]
            output = self.text_2(second, output_hidden_states=True)
        hidden = torch.cat([states.float(), output.hidden_states[-2].float()], dim=-1)
        return hidden, output.text_embeds.float()

    def step(self, latents: Tensor, rate: float) -> None:
        """One step of training on random scenes, variants, phrasings, timesteps and noise."""
        settings, device, tokens = self.settings, self.device, self.tokens
        count = settings.batch
        captions = max(1, count // settings.repeats)
        rows = torch.randint(len(latents), (captions,), device=device)
        phrasing = torch.randint(tokens.first.shape[1], (captions,), device=device)
        hidden, pooled = self.encode_prompts(
            torch.cat([tokens.first[rows, phrasing], tokens.without_first]),
            torch.cat([tokens.second[rows, phrasing], tokens.without_second]),
        )
        samples = torch.arange(count, device=device)
        slot = samples % captions
        variant = torch.randint(latents.shape[1], (count,), device=device)
        clean = latents[rows[slot], variant]
        without = captions + torch.randint(2, (count,), device=device)
        dropped = torch.rand(count, device=device) < settings.dropout
        slot = torch.where(dropped, without, slot)
        # Evenly spread timesteps: the loss depends strongly on them.
        spread = (samples + torch.rand(count, device=device)) / count
        times = (spread * TIMES).long().clamp(max=TIMES - 1)
        noise = torch.randn_like(clean)
        if settings.fixed:
            chosen = (torch.rand(count, device=device) < settings.fixed) & (times >= 800)
            noise = torch.where(chosen[:, None, None, None], self.fixed, noise)
        alpha = self.alphas[times][:, None, None, None]
        noisy = (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise).contiguous(
            memory_format=torch.channels_last
        )
        predicted = self.predict(
            noisy, times, hidden.index_select(0, slot), pooled.index_select(0, slot)
        )
        error = (predicted - noise).square().mean(dim=(1, 2, 3))
        loss = (error * self.weights[times]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        with torch.no_grad():
            self.weighted += loss.detach()
            band = times * BANDS // TIMES
            self.bands[0].index_add_(0, band, error.detach())
            self.bands[1].index_add_(0, band, torch.ones_like(error))
            self.counted += 1

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds of the networks."""
        return {
            "networks": [network.state_dict() for network in self.networks],
            "averages": [network.state_dict() for network in self.averages],
            "optimizer": self.optimizer.state_dict(),
            "count": self.average.count,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in ("networks", "averages"):
            for network, weights in zip(getattr(self, name), state[name], strict=True):
                network.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.count = state["count"]


def write_model_frame(out: Path, shipped: Path) -> None:
    """Write the model's tokenizers, scheduler and index; `shipped` holds SDXL's own small files."""
    model = out / "model"
    for name in ("tokenizer", "tokenizer_2"):
        write_small_tokenizer(model / name, {p.name: p for p in (shipped / name).iterdir()})
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes((shipped / name).read_bytes())


def train_unet(
    out: Path,
    shipped: Path,
    device: str,
    settings: UnetSettings,
    compile_it: bool,
    look: Callable[[Trainer], dict[str, float]],
) -> None:
    """Train and write UNet, text encoders and tokenizers below `out`/model, figures in unet.json.

    Waits for `out`/vae.json once everything is compiled. `look` judges the averaged networks now
    and then. An interrupted training goes on from `out`/unet.checkpoint; nothing is done where
    unet.json is there.
    """
    if (out / "unet.json").exists():
        log("unet", "is there already")
        return
    prepare(device, settings.seed)
    write_model_frame(out, shipped)
    trainer = Trainer(out, device, settings)
    sizes = [round(parameter_count(network), 3) for network in trainer.networks]
    log("unet", f"{sizes} M parameters (UNet, text encoders), {settings}")
    speed = trainer.choose_speed(compile_it)
    while not (out / "vae.json").exists():
        time.sleep(0.5)
    latents = latent_table(out, device, settings)
    log("unet", f"latents {tuple(latents.shape)}, deviation {latents.std().item():.3f}")
    clock = Clock(settings.steps, settings.seconds)
    curve: list[dict[str, Any]] = []
    judged: list[dict[str, Any]] = []
    checkpoint = out / "unet.checkpoint"
    if state := load_checkpoint(checkpoint, device):
        trainer.restore(state["trainer"])
        clock.step, clock.before = state["step"], state["elapsed"]
        curve, judged = state["curve"], state["judged"]
        log("unet", f"goes on at step {clock.step}")
    looked = saved = clock.elapsed
    while clock.progress < 1:
        trainer.step(latents, clock.rate(settings.peak, 200))
        clock.step += 1
        if clock.step % 500 == 0 or clock.step in (1, 50):
            curve.append(_losses(trainer, clock))
        if clock.elapsed - looked > settings.judge_every:
            row = {"step": clock.step, "seconds": round(clock.elapsed, 1)}
            judged.append({**row, **look(trainer)})
            looked = clock.elapsed
        if clock.elapsed - saved > 60:
            saved = clock.elapsed
            state = {"trainer": trainer.state(), "step": clock.step, "elapsed": saved}
            save_checkpoint(checkpoint, {**state, "curve": curve, "judged": judged})
    names = ("unet", "text_encoder", "text_encoder_2")
    for name, network in zip(names, trainer.averages, strict=True):
        save_half(network, out / "model" / name)
    figures: dict[str, Any] = {
        "steps": clock.step,
        "seconds": round(clock.elapsed, 1),
        "speed": speed,
    }
    parameters = dict(zip(names, sizes, strict=True))
    report = {**figures, "speed": speed, "parameters": parameters, "judged": judged, "curve": curve}
    write_json(out / "unet.json", report)
    checkpoint.unlink(missing_ok=True)
    log("unet", f"done: {figures}")


def _losses(trainer: Trainer, clock: Clock) -> dict[str, Any]:
    """Print and return the mean losses since the last time."""
    weighted = (trainer.weighted / trainer.counted).item()
    sums, counts = trainer.bands.tolist()
    bands = [round(total / max(count, 1), 5) for total, count in zip(sums, counts, strict=True)]
    log(
        "unet",
        f"step {clock.step}, {clock.elapsed:.1f} s, "
        f"{clock.elapsed / clock.step * 1e3:.1f} ms a step, loss {weighted:.4f}, "
        f"error by quarter of the timesteps {bands}",
    )
    trainer.reset_losses()
    row = {"step": clock.step, "seconds": round(clock.elapsed, 2), "loss": round(weighted, 6)}
    return {**row, "bands": bands}
