"""One process of a training: steps, their record, checkpoints, and what stops it."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from t2i.training.averaging import as_they_arrive, parts_of
from t2i.training.checkpoints import Writer, copied, restore
from t2i.training.noise import training_noise
from t2i.training.steps import Draws, draws, latents, rate

LOG = logging.getLogger(__name__)
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ADAMW: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
DIVERGED = 4.0  # times the lowest mean loss so far
Batch = tuple[Tensor, Tensor]  # moments (b, 8, h, w), hidden states of captions (b, 77, d)


class Diverged(RuntimeError):
    """The loss is not a number, or far above what it was."""


@dataclass(frozen=True)
class Settings:
    """What the numbers of a training follow from; `batch` is the global one, of all processes.

    `learning_rate` is the peak, `warm_up` in steps; `scaling` is the autoencoder's; a checkpoint
    is written every `interval` steps and at the end.
    """

    steps: int
    batch: int
    learning_rate: float
    warm_up: int
    seed: int
    precision: str
    interval: int
    scaling: float
    data: str


@dataclass(frozen=True)
class Place:
    """Which process this is."""

    rank: int
    world: int
    device: str


def velocity_loss(
    network: Callable[..., Any], noise: Any, clean: Tensor, hidden: Tensor, drawn: Draws
) -> Tensor:
    """Mean squared error of the predicted velocity; latents (b, 4, h, w) float32.

    Noised latents and the target are float32 also where the network computes in less.
    """
    noised = noise.add_noise(clean, drawn.noise, drawn.timesteps)
    target = noise.get_velocity(clean, drawn.noise, drawn.timesteps)
    predicted = network(noised, drawn.timesteps, hidden, return_dict=False)[0]
    return nn.functional.mse_loss(predicted.float(), target)


class Training:
    """A network in training. `network` is what is stepped through; `plain` has its parameters."""

    def __init__(
        self, network: nn.Module, plain: nn.Module, settings: Settings, place: Place, folder: Path
    ) -> None:
        self.network, self.plain = network, plain
        self.settings, self.place, self.folder = settings, place, folder
        self.noise = training_noise(place.device)
        self.on_gpu = place.device.startswith("cuda")
        self.scaler = torch.amp.GradScaler(
            "cuda" if self.on_gpu else "cpu", enabled=settings.precision == "fp16"
        )
        self.writer = Writer(folder) if place.rank == 0 else None
        self.sharded = any(isinstance(value, DTensor) for value in plain.parameters())
        self.averaged = place.world > 1 and not self.sharded
        parts = [list(plain.parameters())]
        if self.averaged and not self.scaler.is_enabled():  # which looks at all before a step
            parts = parts_of(parts[0])
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(part, lr=settings.learning_rate, **ADAMW, fused=self.on_gpu)
            for part in parts
        ]
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.events: list[dict[str, Any]] = []
        self._losses: list[Tensor] = []

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        facts = restore(self.folder, asdict(self.settings), self.plain, self.optimizers)
        if facts is None:
            return False
        self.step, self.curve, self.events = facts["step"], facts["curve"], facts["events"]
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])
        LOG.info("going on at step %d of %d", self.step, self.settings.steps)
        return True

    def event(self, kind: str, key: str, value: Any, **metadata: Any) -> None:
        """Record something for MLPerf's log; `kind` is POINT_IN_TIME, INTERVAL_START or _END."""
        now = round(time.time() * 1000)
        self.events.append(
            {"time_ms": now, "event_type": kind, "key": key, "value": value, "metadata": metadata}
        )

    def train(self, batches: Iterator[Batch], size: tuple[int, int], rows: int) -> None:
        """Train to the last step. `size` is a latent's height and width.

        `curve` gets the mean loss of all processes every `rows` steps. Raises Diverged, with the
        step, before a checkpoint is written with such weights.
        """
        settings, interval = self.settings, self.settings.interval
        own = settings.batch // self.place.world
        part = slice(self.place.rank * own, (self.place.rank + 1) * own)
        began, first = time.monotonic(), self.step
        before = self.curve[-1]["seconds"] if self.curve else 0.0
        for moments, hidden in batches:
            if self.step % interval == 0:
                self._block("INTERVAL_START", "block_start")
            drawn = draws(settings.seed, self.step, settings.batch, part, size, self.place.device)
            clean = latents(moments.float(), drawn.posterior, settings.scaling)
            self._losses.append(self._update(clean, hidden, drawn))
            self.step += 1
            last = self.step == settings.steps
            if self.step % rows == 0 or self.step % interval == 0 or last:
                self._add_row(began, first, before)
            if self.step % interval == 0 or last:
                self._block("INTERVAL_END", "block_stop")
                self._save()
            if last:
                break
        if self.writer:
            self.writer.wait()

    def _update(self, clean: Tensor, hidden: Tensor, drawn: Draws) -> Tensor:
        learning_rate = rate(self.step, self.settings.learning_rate, self.settings.warm_up)
        precision = PRECISIONS[self.settings.precision]
        with torch.autocast(
            "cuda" if self.on_gpu else "cpu", precision, enabled=precision != torch.float32
        ):
            loss = velocity_loss(self.network, self.noise, clean, hidden, drawn)
        share = loss / self.place.world if self.averaged else loss
        self.scaler.scale(share).backward()
        for optimizer in as_they_arrive(self.optimizers) if self.averaged else self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return loss.detach()

    def _block(self, kind: str, key: str) -> None:
        seen = self.step * self.settings.batch
        self.event(kind, key, "training_step", samples_count=seen)

    def _add_row(self, began: float, first: int, before: float) -> None:
        """Read the losses since the last row; the only place that waits for the device."""
        losses = torch.stack(self._losses)
        if self.place.world > 1:
            dist.all_reduce(losses)
            losses /= self.place.world
        values: list[float] = losses.tolist()
        self._losses.clear()
        for number, value in enumerate(values, start=self.step - len(values)):
            if not math.isfinite(value):
                raise Diverged(f"the loss of step {number} is {value}; {self._kept()}")
        mean = math.fsum(values) / len(values)
        lowest = min((row["loss"] for row in self.curve), default=mean)
        if mean > DIVERGED * lowest:
            raise Diverged(
                f"the mean loss up to step {self.step} is {mean:.4f}, {mean / lowest:.1f} times "
                f"the lowest so far; {self._kept()}"
            )
        seconds = time.monotonic() - began
        speed = (self.step - first) * self.settings.batch / seconds
        left = (self.settings.steps - self.step) * self.settings.batch / speed
        learning_rate = rate(self.step - 1, self.settings.learning_rate, self.settings.warm_up)
        self.curve.append(
            {
                "step": self.step,
                "seconds": before + seconds,
                "loss": mean,
                "learning_rate": learning_rate,
            }
        )
        if self.place.rank == 0:
            LOG.info(
                "step %d of %d: loss %.4f, learning rate %.3g, %.1f images/s, %d:%02d left",
                self.step,
                self.settings.steps,
                mean,
                learning_rate,
                speed,
                *divmod(round(left), 60),
            )

    def _kept(self) -> str:
        done = self.step // self.settings.interval * self.settings.interval
        if done == self.step:
            done -= self.settings.interval
        return (
            f"the checkpoint of step {done} is kept" if done > 0 else "there is no checkpoint yet"
        )

    def _save(self) -> None:
        if self.writer is None and not self.sharded:
            return
        if self.writer:
            self.writer.wait()  # before there are two copies
        weights, state = copied(self.plain, self.optimizers)
        if self.writer:
            facts = {
                "step": self.step,
                "settings": asdict(self.settings),
                "curve": list(self.curve),
                "events": list(self.events),
                "scaler": self.scaler.state_dict(),
            }
            self.writer.save(weights, state, facts)
