"""What the parts of training share: schedule, averaged weights, recorded steps, checkpoints."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import copy
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t2i.base.files import publish, publish_folder
from t2i.engine.weights import PREFIX
from t2i.job.device import describe_device
from t2i.job.software import software_versions
from t2i.micro.grids import grid, save_png

LOG = logging.getLogger(__name__)
PROGRESS = ("step", "seconds", "curve", "looks", "pictures")
WARM_UP_CALLS = 3  # of a step before it is recorded
Losses = dict[str, Tensor]
Look = Callable[[], tuple[dict[str, float], Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How a part is trained: `batch` samples a step, learning rate up to `peak`.

    `warm_up` is a number of steps, `decay` AdamW's weight decay, `average` the decay of the
    averaged weights. At most `scenes` of either part of the picture set are used.
    """

    steps: int
    batch: int
    peak: float
    seed: int
    warm_up: int = 100
    decay: float = 0.0
    average: float = 0.998
    scenes: int = 1792

    def rate(self, step: int) -> float:
        """Learning rate of a step: a linear warm-up, then half a cosine down to a hundredth."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return self.peak * min(1.0, (step + 1) / self.warm_up) * max(0.01, cosine)


def half_precision(device: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 on a GPU; on a CPU, where it saves no time, float32.

    Nothing is cached: a cast weight of one recorded step would be that of all its replays.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda", cache_enabled=False)


def adamw(networks: list[nn.Module], recipe: Recipe, device: str) -> torch.optim.AdamW:
    """AdamW over networks; vectors (biases, norms) and tables of tokens do not decay.

    On a GPU the rate is a tensor, so that a recorded step reads what it is then.
    """
    tables = {
        id(table.weight)
        for network in networks
        for table in network.modules()
        if isinstance(table, nn.Embedding)
    }
    parameters = [p for network in networks for p in network.parameters()]
    plain = [p for p in parameters if p.ndim < 2 or id(p) in tables]
    decaying = [p for p in parameters if p.ndim >= 2 and id(p) not in tables]
    on_gpu = torch.device(device).type == "cuda"
    return torch.optim.AdamW(
        [{"params": decaying, "weight_decay": recipe.decay}, {"params": plain, "weight_decay": 0}],
        lr=torch.tensor(recipe.peak, device=device) if on_gpu else recipe.peak,
        betas=(0.9, 0.99),
        fused=on_gpu,
        capturable=on_gpu,
    )


class Recorded:
    """A step without arguments, recorded as a CUDA graph after some calls and replayed from then.

    These networks are so small that a GPU waits for Python to start its kernels; a graph starts
    them all at once. On a CPU the step is called as it is.
    """

    def __init__(self, step: Callable[[], None], device: str) -> None:
        self.step = step
        self.on_gpu = torch.device(device).type == "cuda"
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the step once."""
        self.calls += 1
        if not self.on_gpu:
            self.step()
        elif self.calls <= WARM_UP_CALLS:
            # What the first calls allocate or choose must not be part of the graph.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.step()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            if self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self.step()
            self.graph.replay()


class Trainer:
    """Networks in training, exponential averages of their weights, and how far they have come."""

    def __init__(self, networks: list[Any], recipe: Recipe, device: str) -> None:
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it
        torch.backends.cudnn.benchmark = True
        self.networks, self.recipe, self.device = networks, recipe, device
        self.averages: list[Any] = [copy.deepcopy(network).eval() for network in networks]
        self.optimizer = adamw(networks, recipe, device)
        self.parameters = [p for network in networks for p in network.parameters()]
        self.averaged = [p for network in self.averages for p in network.parameters()]
        self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []
        self.looks: list[dict[str, float]] = []
        self.pictures: dict[int, Tensor] = {}
        self._sums: Losses = {}

    def train(
        self,
        losses: Callable[[], Losses],
        checkpoint: Path,
        look: Look | None = None,
        rows: int = 40,
        looks: int = 8,
    ) -> None:
        """Train to the recipe's last step; resume from `checkpoint` if it is of this recipe.

        `losses` draws a batch and returns named means, of which `loss` is minimised. `curve` gets
        their means over each of `rows` stretches, and `looks` and `pictures` what `look` finds in
        the averaged networks at the end of as many: figures, and pictures (n, s, s, 3) uint8. The
        checkpoint is written after each look, and goes at the end.
        """
        self._restore(checkpoint)
        torch.manual_seed(self.recipe.seed + self.step)
        step = Recorded(lambda: self._update(losses), self.device)
        began = time.monotonic() - self.seconds
        steps = self.recipe.steps
        while self.step < steps:
            self._set_rate(self.recipe.rate(self.step))
            step()
            self._average()
            self.step += 1
            if self.step * rows // steps > (self.step - 1) * rows // steps:
                self.seconds = time.monotonic() - began
                self._add_row()
            if self.step * looks // steps > (self.step - 1) * looks // steps:
                self.seconds = time.monotonic() - began
                if look is not None:
                    figures, pictures = look()
                    self.looks.append({**self._place(), **figures})
                    self.pictures[self.step] = pictures
                    LOG.info("%s", self.looks[-1])
                self._save(checkpoint)
        self.seconds = time.monotonic() - began
        checkpoint.unlink(missing_ok=True)

    def figures(self) -> dict[str, Any]:
        """Facts of the training for its report."""
        return {
            "settings": asdict(self.recipe),
            "seed": self.recipe.seed,
            "parameters": sum(p.numel() for p in self.parameters),
            "steps": self.step,
            "seconds": round(self.seconds, 2),
            "curve": self.curve,
            "judged": self.looks,
        }

    def write_pictures(self, folder: Path) -> None:
        """Write the pictures of each look as a grid named by its step."""
        for step, pictures in self.pictures.items():
            save_png(folder / f"{step:06d}.png", grid(pictures.numpy()))

    def _update(self, losses: Callable[[], Losses]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        named = losses()
        named["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        for name, value in named.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), device=self.device)
            self._sums[name] += value.detach()

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _average(self) -> None:
        """Move the averages towards the weights, faster in the first steps."""
        decay = min(self.recipe.average, (2 + self.step) / (11 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.parameters, 1 - decay)

    def _place(self) -> dict[str, float]:
        return {"step": self.step, "seconds": round(self.seconds, 2)}

    def _add_row(self) -> None:
        steps = self.step - (self.curve[-1]["step"] if self.curve else 0)
        means = {name: round(float(total) / steps, 6) for name, total in self._sums.items()}
        for total in self._sums.values():
            total.zero_()
        self.curve.append({**self._place(), **means})
        LOG.info("%s", self.curve[-1])

    def _save(self, checkpoint: Path) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "networks": [network.state_dict() for network in self.networks],
            "averages": [network.state_dict() for network in self.averages],
            "optimizer": self.optimizer.state_dict(),
            "sums": self._sums,
            **{name: getattr(self, name) for name in PROGRESS},
        }
        with publish(checkpoint) as part:
            torch.save(state, part)

    def _restore(self, checkpoint: Path) -> None:
        if not checkpoint.exists():
            return
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            LOG.warning("%s belongs to another recipe; starting over", checkpoint)
            return
        for name in ("networks", "averages"):
            for network, weights in zip(getattr(self, name), state[name], strict=True):
                network.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self._sums = state["sums"]
        for name in PROGRESS:
            setattr(self, name, state[name])
        LOG.info("resuming at step %d", self.step)


def job_facts(part: str, device: str, began: float) -> dict[str, Any]:
    """What a part's JSON file says of its job, which began at a time of `time.monotonic`."""
    return {
        "part": part,
        "device": describe_device(device)["name"],
        "software": software_versions(),
        "job_seconds": round(time.monotonic() - began, 2),
    }


def load_half(kind: Any, folder: Path, device: str | torch.device) -> Any:
    """A network of diffusers or transformers that `save_half` wrote, at float32."""
    network = kind.from_pretrained(
        folder, variant="fp16", torch_dtype=torch.float32, local_files_only=True
    )
    return network.to(device)


def save_half(network: Any, folder: Path) -> None:
    """Publish a diffusers or transformers network in `folder` as fp16, its config beside it.

    A text encoder's tensors get the names of published files; older transformers know no others.
    """
    half = copy.deepcopy(network).to("cpu", torch.float16, memory_format=torch.contiguous_format)
    with publish_folder(folder) as part:
        half.save_pretrained(part, safe_serialization=True, variant="fp16")
        for path in part.glob("model*.safetensors"):
            names = load_file(path)
            if not any(name.startswith(PREFIX) for name in names):
                published = {f"{PREFIX}{name}": tensor for name, tensor in names.items()}
                save_file(published, path, metadata={"format": "pt"})
