"""Names of what the workflow makes itself; kept apart so that naming them needs no torch."""

from __future__ import annotations

DATASET = "pictures"
MODEL = "micro-sdxl"
MODEL_FILES = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


def model_files(folder: str) -> list[str]:
    """Files of a micro SDXL without its tokenizers."""
    return [f"{folder}/{name}" for name in MODEL_FILES]
