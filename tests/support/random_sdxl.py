"""The smallest models of SDXL's and CLIP's structure, with random weights and CLIP's vocabulary.

The first makes noise of 64 pixels in a moment, for tests of what does not depend on the picture.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from t2i.base.files import write_json
from t2i.metrics.clip import clip_network
from t2i.micro.inception import randomise

LATENT_SIDE = 8
VOCABULARY = 49408
TEXT_WIDTH = 32
RANDOM_CLIP: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 224,
        "layers": 2,
        "width": 64,
        "patch_size": 32,
        "head_width": 32,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": VOCABULARY,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}


def random_unet() -> UNet2DConditionModel:
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


def random_vae() -> AutoencoderKL:
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


def random_text_config(hidden_act: str) -> CLIPTextConfig:
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


def write_random_sdxl(folder: Path, shipped: Path) -> None:
    """Write a random SDXL without tokenizers in diffusers' layout.

    `shipped` holds SDXL's own model_index.json and scheduler, which the miniature shares.
    """
    networks: dict[str, Any] = {
        "unet": random_unet(),
        "vae": random_vae(),
        "text_encoder": CLIPTextModel(random_text_config("quick_gelu")),
        "text_encoder_2": CLIPTextModelWithProjection(random_text_config("gelu")),
    }
    for seed, (name, network) in enumerate(networks.items()):
        randomise(network, seed)
        network.save_pretrained(folder / name, safe_serialization=True)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((shipped / name).read_bytes())


def write_random_clip(folder: Path) -> None:
    """Write a small random CLIP as a scoring network without merges of its own."""
    network = randomise(clip_network(RANDOM_CLIP), seed=11)
    save_file(network.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", RANDOM_CLIP)
    write_json(folder / "network.json", {"weights": "random"})
