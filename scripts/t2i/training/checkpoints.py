"""Checkpoints of a training: weights to sample with, and the state from which it goes on."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from t2i.base.files import publish, sha256_file, verify_sha256, write_json

MOMENTS = "exp_avg", "exp_avg_sq"  # AdamW's
STATE = "state.safetensors"


class WrongState(ValueError):
    """What a training would go on from belongs to another one, or is damaged."""


def weights_file(folder: Path, step: int) -> Path:
    """The file of a step's weights."""
    return folder / f"step-{step:09d}.safetensors"


class Writer:
    """Writes checkpoints in a thread while the training goes on; the main process of a node's.

    A file is whole or absent. The state of the last checkpoint replaces the one before, after its
    weights are on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def save(
        self, weights: dict[str, Tensor], state: dict[str, Tensor], facts: dict[str, Any]
    ) -> None:
        """Start writing what `copied` gave.

        `facts` are JSON: `step`, `settings`, and what else a resumed training needs.
        """
        self._pending = self._pool.submit(self._write, weights, state, facts)

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk; raises what stopped it."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(
        self, weights: dict[str, Tensor], state: dict[str, Tensor], facts: dict[str, Any]
    ) -> None:
        path = weights_file(self.folder, facts["step"])
        with publish(path) as part:
            save_file(weights, part)
        described = {**facts, "weights": sha256_file(path)}
        with publish(self.folder / STATE) as part:
            save_file(state, part, metadata={"training": json.dumps(described)})


def copied(
    network: torch.nn.Module, optimizers: Sequence[Optimizer]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of weights and AdamW's moments in this process's memory.

    Where they are shared out over processes, all of them have to call this, to bring them together.
    """
    weights, state = {}, {}
    owners = _owners(optimizers)
    for name, parameter in network.named_parameters():
        weights[name] = _copy(parameter)
        for kind in MOMENTS:
            state[f"{kind}.{name}"] = _copy(owners[parameter].state[parameter][kind])
    return weights, state


def _owners(optimizers: Sequence[Optimizer]) -> dict[Tensor, Optimizer]:
    return {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def _copy(value: Tensor) -> Tensor:
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.detach().to("cpu", copy=True).contiguous()


def _part(parameter: Tensor, whole: Tensor) -> Tensor:
    """This process's part of a value, laid out as the parameter is, as a fused optimiser wants."""
    if isinstance(parameter, DTensor):
        # Every process has read all of it, so nothing needs to be sent.
        return distribute_tensor(
            whole.to(parameter.device),
            parameter.device_mesh,
            parameter.placements,
            src_data_rank=None,
        )
    return torch.empty_like(parameter).copy_(whole)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """What the last checkpoint's `save` was given, and the digest of its weights; None if none."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as handle:
            facts: dict[str, Any] = json.loads(handle.metadata()["training"])
    except Exception as error:
        raise WrongState(f"{path}: damaged ({error}); delete it to start over") from error
    return facts


def restore(
    folder: Path,
    settings: dict[str, Any],
    network: torch.nn.Module,
    optimizers: Sequence[Optimizer],
) -> dict[str, Any] | None:
    """Load the last checkpoint into network and optimizers, and return its facts; None if none.

    A training may be given more steps. Raises WrongState when it belongs to other settings, or
    its weights have changed.
    """
    facts = read_facts(folder)
    if facts is None:
        return None
    differing = sorted(
        key
        for key in {*settings, *facts["settings"]} - {"steps"}  # of which no number depends
        if settings.get(key) != facts["settings"].get(key)
    )
    if differing:
        raise WrongState(
            f"{folder / STATE}: is of a training with another {', '.join(differing)}; delete the "
            "folder to start over, or take the settings back"
        )
    path = weights_file(folder, facts["step"])
    try:
        verify_sha256(path, facts["weights"])
    except (OSError, ValueError) as error:
        raise WrongState(f"{error}; delete {folder} to start over") from error
    owners = _owners(optimizers)
    weights = load_file(path)
    with torch.no_grad(), safe_open(folder / STATE, "pt") as handle:
        for name, parameter in network.named_parameters():
            parameter.copy_(_part(parameter, weights[name]))
            owners[parameter].state[parameter] = {
                "step": _steps(owners[parameter], parameter, facts["step"]),
                **{kind: _part(parameter, handle.get_tensor(f"{kind}.{name}")) for kind in MOMENTS},
            }
    return facts


def _steps(optimizer: Optimizer, parameter: Tensor, step: int) -> Tensor:
    """AdamW's count of steps, where it keeps it: on the device for fused kernels."""
    device = parameter.device if optimizer.defaults.get("fused") else "cpu"
    return torch.tensor(float(step), dtype=torch.float32, device=device)


def write_manifest(path: Path, folder: Path, facts: dict[str, Any], steps: list[int]) -> None:
    """Publish what a finished training says of itself, with the digests of its checkpoints."""
    digests = {str(step): sha256_file(weights_file(folder, step)) for step in steps}
    write_json(path, {**facts, "checkpoints": digests})
