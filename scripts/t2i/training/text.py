"""Captions as Stable Diffusion v2 sees them: 77 tokens, padded with id 0, encoded and frozen."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

LENGTH = 77


class TextEncoder:
    """Tokenizer and encoder of folders in transformers' layout.

    The encoder's layers are all used: Stable Diffusion v2's published layout has 23 of OpenCLIP
    ViT-H's 24, so that the last hidden state, normalised, is the reference's penultimate one.
    """

    def __init__(self, tokenizer: Path, encoder: Path, device: str) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
        if self.tokenizer.pad_token_id != 0:
            raise ValueError(
                f"{tokenizer}: pads with id {self.tokenizer.pad_token_id}, the reference with 0; "
                'special_tokens_map.json needs "pad_token": "!"'
            )
        variant = "fp16" if (encoder / "model.fp16.safetensors").exists() else None
        self.encoder: Any = (
            CLIPTextModel.from_pretrained(
                encoder, variant=variant, dtype=torch.float32, local_files_only=True
            )
            .eval()
            .requires_grad_(False)
            .to(device)
        )
        self.device = device

    def tokens(self, captions: list[str]) -> Tensor:
        """Token ids (n, 77) int64; the last of a caption too long is the end token."""
        rows = self.tokenizer(
            captions, padding="max_length", max_length=LENGTH, truncation=True
        ).input_ids
        return torch.tensor(rows)

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:
        """Hidden states (n, 77, d) in the encoder's number format."""
        hidden: Tensor = self.encoder(self.tokens(captions).to(self.device)).last_hidden_state
        return hidden
