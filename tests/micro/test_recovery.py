"""Recovery of a pruned UNet: it comes nearer to the whole one, which does not move."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from t2i.engine.prune import prune
from t2i.micro.recovery import RecoveryRecipe, RecoveryTask, recover_unet

MODEL = Path(__file__).parents[2] / "models" / "micro-sdxl"
BLOCKS = ["mid_block.attentions.0.transformer_blocks.1"]
RECIPE = RecoveryRecipe(steps=24, batch=16, scenes=8, warm_up=5, peak=1e-3, average=0.9)


def whole_unet() -> UNet2DConditionModel:
    network = UNet2DConditionModel.from_pretrained(
        MODEL / "unet", variant="fp16", local_files_only=True
    )
    return network.float().eval().requires_grad_(False)


def test_the_teachers_noise_is_wanted_and_the_teacher_alone_stays() -> None:
    encoders = [
        kind.from_pretrained(MODEL / name, variant="fp16", local_files_only=True).float()
        for name, kind in (
            ("text_encoder", CLIPTextModel),
            ("text_encoder_2", CLIPTextModelWithProjection),
        )
    ]
    teacher = whole_unet()
    task = RecoveryTask([whole_unet(), *encoders], teacher, MODEL, "cpu", RECIPE)
    torch.manual_seed(1)
    # The student is the teacher yet, and the noise that was added would be found with an error.
    assert float(task.losses()["loss"]) == 0.0
    with torch.no_grad():
        task.unet.conv_out.bias.add_(0.1)
    torch.manual_seed(1)
    losses = task.losses()
    assert float(losses["band_3"]) == pytest.approx(0.01, rel=1e-3)


def test_training_brings_a_pruned_unet_nearer_to_the_whole_one(tmp_path) -> None:
    pruned = prune(whole_unet().state_dict(), BLOCKS, 0.6)
    tensors, facts = recover_unet(pruned, RECIPE, "cpu", MODEL, tmp_path / "checkpoint")
    assert {name: value.shape for name, value in tensors.items()} == {
        name: value.shape for name, value in pruned.items()
    }
    assert facts["steps"] == RECIPE.steps
    first, last = facts["curve"][:3], facts["curve"][-3:]
    before, after = (sum(row["loss"] for row in rows) for rows in (first, last))
    print(f"loss {before:.4f} before, {after:.4f} after")
    assert after < 0.5 * before
    assert not (tmp_path / "checkpoint").exists()
    still = replace(RECIPE, steps=1, peak=1e-12)
    same, _ = recover_unet(pruned, still, "cpu", MODEL, tmp_path / "checkpoint")
    for name, value in same.items():
        torch.testing.assert_close(value, pruned[name].float(), rtol=1e-4, atol=1e-6)
