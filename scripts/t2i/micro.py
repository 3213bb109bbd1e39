"""A miniature of SDXL's structure with fixed-seed random weights.

It lets every rule run anywhere in minutes. Its weights mean nothing, so whatever is computed with
them is labelled as random.
"""

from __future__ import annotations

import t2i.compat  # noqa: F401

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

LATENT_SIDE = 8
VOCABULARY = 49408
TEXT_WIDTH = 32


def randomise(network: nn.Module, seed: int, gain: float = 1.0) -> nn.Module:
    """Fill the weights of matrices and kernels with normal values of variance gain^2 / fan-in.

    Embedding tables and CLIP's class embedding get unit variance, biases are zero; other vectors
    (weights of norms) keep their initial values, which are not random.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = {id(table.weight) for table in network.modules() if isinstance(table, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
                continue
            if parameter.ndim < 2 and not name.endswith("class_embedding"):
                continue
            fan_in = 1 if id(parameter) in tables else parameter[0].numel()  # of a vector 1
            parameter.normal_(0.0, gain / fan_in**0.5, generator=generator)
    return network


def micro_unet() -> UNet2DConditionModel:
    """SDXL's UNet in miniature: its block types, two levels with attention, text-time embedding."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 8,
        norm_num_groups=8,
    )


def micro_vae() -> AutoencoderKL:
    """SDXL's autoencoder in miniature: four levels, eight pixels for a latent."""
    return AutoencoderKL(
        sample_size=8 * LATENT_SIDE,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def micro_text_config(hidden_act: str) -> CLIPTextConfig:
    """A two-layer CLIP text encoder with CLIP's real vocabulary."""
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        max_position_embeddings=77,
        hidden_act=hidden_act,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=1,
    )


def write_micro_sdxl(folder: Path, shipped: Path) -> None:
    """Write a micro SDXL without tokenizers in diffusers' layout.

    `shipped` holds SDXL's own model_index.json and scheduler, which the miniature shares.
    """
    networks: dict[str, Any] = {
        "unet": micro_unet(),
        "vae": micro_vae(),
        "text_encoder": CLIPTextModel(micro_text_config("quick_gelu")),
        "text_encoder_2": CLIPTextModelWithProjection(micro_text_config("gelu")),
    }
    for seed, (name, network) in enumerate(networks.items()):
        randomise(network, seed)
        network.save_pretrained(folder / name, safe_serialization=True)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((shipped / name).read_bytes())
