"""Recovery of a pruned UNet of the miniature: trained to find the noise that the whole one finds.

That is distillation of the output (Hinton et al., 2015). The whole UNet's answer is the same for
the same input, where the noise that was added is one of many that fit, so a few hundred steps
suffice.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from t2i.engine import load
from t2i.engine.prune import fit
from t2i.engine.weights import empty_network, fill_network
from t2i.micro.trainer import Trainer, load_half
from t2i.micro.unet import NETWORKS, DenoisingTask, UnetRecipe


@dataclass(frozen=True)
class RecoveryRecipe(UnetRecipe):
    """A short training from the pruned weights: few samples a step, one picture of each scene."""

    steps: int = 300
    batch: int = 64
    peak: float = 3e-4
    seed: int = 5
    warm_up: int = 30
    average: float = 0.98
    variants: int = 1


class RecoveryTask(DenoisingTask):
    """Noise to be found as another UNet, the teacher, finds it."""

    def __init__(
        self, networks: list[Any], teacher: Any, model: Path, device: str, recipe: UnetRecipe
    ) -> None:
        super().__init__(networks, model, device, recipe)
        self.teacher = teacher

    def wanted(
        self, noise: Tensor, noisy: Tensor, times: Tensor, hidden: Tensor, added: dict[str, Tensor]
    ) -> Tensor:
        """The noise that the teacher finds."""
        with torch.no_grad():
            return self.predicted(self.teacher, noisy, times, hidden, added)


def recover_unet(
    pruned: Mapping[str, Tensor], recipe: RecoveryRecipe, device: str, model: Path, checkpoint: Path
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of the pruned UNet after training (float32, on the CPU), and facts of the training.

    `model` is the whole model in diffusers' layout. An interrupted training resumes from
    `checkpoint`.
    """
    torch.manual_seed(recipe.seed)
    teacher, *encoders = (
        load_half(load.NETWORKS[name], model / name, device).requires_grad_(False)
        for name in NETWORKS
    )
    student = empty_network(UNet2DConditionModel, model / "unet", torch.float32)
    fit(student, {name: tensor.shape for name, tensor in pruned.items()})
    own = {name: part.to(torch.float32, copy=True) for name, part in pruned.items()}
    fill_network(student, {model / "unet": own})
    student = student.to(device, memory_format=torch.channels_last).requires_grad_(True).train()
    trainer = Trainer([student], recipe, device)
    task = RecoveryTask([student, *encoders], teacher, model, device, recipe)
    trainer.train(task.losses, checkpoint)
    trained = trainer.averages[0].state_dict()
    tensors = {name: value.cpu().contiguous() for name, value in trained.items()}
    return tensors, trainer.figures()
