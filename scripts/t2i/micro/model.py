"""The micro SDXL and its CLIP scorer: SDXL's structure in miniature, for pictures of 128 pixels.

Only the architectures are here. `t2i.micro.vae`, `clip` and `unet` train them; the trained weights
are shipped in `models/`.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from t2i.metrics.clip import CLIP_SIDE
from t2i.micro.pictures import SIDE
from t2i.micro.vocabulary import vocabulary_size

LATENT_SIDE = SIDE // 8
TEXT_WIDTHS = (64, 96)  # of the two text encoders
TIME_WIDTH = 32  # of each of the six sizes and offsets
CHANNELS = (48, 80, 112)
SCALING = 0.13025  # SDXL's own


def micro_unet() -> UNet2DConditionModel:
    """SDXL's UNet: its block types, two of three levels attending to text, text-time embedding."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=tuple(width // 16 for width in CHANNELS),  # how many heads
        cross_attention_dim=sum(TEXT_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=TEXT_WIDTHS[1] + 6 * TIME_WIDTH,
        norm_num_groups=16,
    )


def micro_vae() -> AutoencoderKL:
    """SDXL's autoencoder: four levels, eight pixels for a latent."""
    return AutoencoderKL(
        sample_size=SIDE,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        scaling_factor=SCALING,
        force_upcast=True,
    )


def _text_config(width: int, hidden_act: str) -> CLIPTextConfig:
    """A CLIP text encoder of three layers: the pipeline takes the states after the second."""
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


def micro_text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """SDXL's two text encoders, the second with a projection of its pooled output."""
    first, second = TEXT_WIDTHS
    return (
        CLIPTextModel(_text_config(first, "quick_gelu")),
        CLIPTextModelWithProjection(_text_config(second, "gelu")),
    )


def micro_clip_config() -> dict[str, Any]:
    """The scorer's architecture in open_clip's words."""
    return {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": CLIP_SIDE,
            "layers": 3,
            "width": 96,
            "patch_size": 32,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocabulary_size(),
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }
