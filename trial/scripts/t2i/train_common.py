"""What the parts of training share: schedule, averaged weights, compiling, checkpoints, logs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from t2i.files import publish

BEGIN = time.monotonic()


def log(part: str, text: str) -> None:
    """Print a line with the seconds since the process began."""
    print(f"[{time.monotonic() - BEGIN:6.1f} s] {part}: {text}", flush=True)


def prepare(device: str, seed: int) -> None:
    """Seed torch's generators; let matrix products use TF32, as convolutions do."""
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = device.startswith("cuda")


def half_precision(device: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 on a GPU; on a CPU, where it saves no time, float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda")


@dataclass
class Clock:
    """How far training has come, by steps or by seconds, whichever is further.

    `before` is the time that an earlier process, whose checkpoint is gone on with, had spent.
    """

    steps: int
    seconds: float
    step: int = 0
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds of training."""
        return self.before + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """0 at the beginning, 1 at the end."""
        return min(1.0, max(self.step / self.steps, self.elapsed / self.seconds))

    def rate(self, peak: float, warm_up: int) -> float:
        """Learning rate: a linear warm-up, then half a cosine down to a hundredth."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * self.progress)
        return peak * min(1.0, (self.step + 1) / warm_up) * max(0.01, cosine)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def adamw(networks: list[nn.Module], device: str, decay: float) -> torch.optim.AdamW:
    """AdamW over networks; vectors (biases, norms) and tables of tokens do not decay."""
    tables = {
        id(table.weight)
        for network in networks
        for table in network.modules()
        if isinstance(table, nn.Embedding)
    }
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    plain = [p for p in parameters if p.ndim < 2 or id(p) in tables]
    decaying = [p for p in parameters if p.ndim >= 2 and id(p) not in tables]
    return torch.optim.AdamW(
        [{"params": decaying, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}],
        lr=1e-3,
        betas=(0.9, 0.99),
        fused=device.startswith("cuda"),
    )


class Average:
    """Exponentially averaged weights of networks, kept in copies of them."""

    def __init__(self, networks: list[nn.Module], copies: list[nn.Module], decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.sources: list[Tensor] = [p for network in networks for p in network.parameters()]
        self.targets: list[Tensor] = [p for network in copies for p in network.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(self.targets, self.sources)

    def update(self) -> None:
        """Move the averages towards the weights, faster in the first steps."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        with torch.no_grad():
            torch._foreach_lerp_(self.targets, self.sources, 1 - decay)


def compiled(
    part: str, function: Callable[..., Any], arguments: tuple[Any, ...], enabled: bool
) -> Callable[..., Any]:
    """`function` compiled, once a trial with gradients has worked; else `function` itself.

    The trial's result must be a tensor or a tuple whose tensors sum up to one.
    """
    if not enabled:
        return function
    began = time.monotonic()
    fast = torch.compile(function, dynamic=False)
    try:
        for _ in range(2):
            result = fast(*arguments)
            tensors = result if isinstance(result, tuple) else (result,)
            total = torch.stack([tensor.float().mean() for tensor in tensors]).sum()
            total.backward()
        total.item()
    except Exception as error:  # any failure of a compiler leaves the plain function
        log(part, f"not compiled: {type(error).__name__}: {str(error)[:600]}")
        return function
    log(part, f"compiled in {time.monotonic() - began:.1f} s")
    return fast


def seconds_a_step(function: Callable[..., Any], arguments: tuple[Any, ...], steps: int) -> float:
    """Mean time of a forward and a backward pass, after one that does not count."""
    for number in range(steps + 1):
        if number == 1:
            _wait()
            began = time.monotonic()
        result = function(*arguments)
        tensors = result if isinstance(result, tuple) else (result,)
        torch.stack([tensor.float().mean() for tensor in tensors]).sum().backward()
    _wait()
    return (time.monotonic() - began) / steps


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Publish what is needed to go on with training."""
    with publish(path) as part:
        torch.save(state, part)


def load_checkpoint(path: Path, device: str) -> dict[str, Any] | None:
    """A checkpoint, or None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def save_half(network: Any, folder: Path) -> None:
    """Write a diffusers or transformers network in fp16, its config beside it."""
    half = copy.deepcopy(network).to("cpu", torch.float16, memory_format=torch.contiguous_format)
    half.save_pretrained(folder, safe_serialization=True)


def parameter_count(*networks: nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6
