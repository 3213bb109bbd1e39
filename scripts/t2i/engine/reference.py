"""Images from tokens: the benchmark's reference maths, through diffusers' own SDXL pipeline.

Both text encoders' penultimate states side by side, the second's pooled output, the negative
prompt encoded like the positive one, one fixed latent for all samples, and the pipeline's defaults
for everything else (mlcommons/inference, text_to_image/backend_pytorch.py).
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2i.base.images import Images
from t2i.engine.half_precision import fast_products
from t2i.prompts.tokens import PromptTokens

LOG = logging.getLogger(__name__)


def encode_prompts(pipeline: Any, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Prompt embeddings (n, 77, d1 + d2) and pooled embeddings (n, p) of token ids (n, 77)."""
    output = pipeline.text_encoder(first, output_hidden_states=True)
    output_2 = pipeline.text_encoder_2(second, output_hidden_states=True)
    hidden = torch.cat([output.hidden_states[-2], output_2.hidden_states[-2]], dim=-1)
    return hidden, output_2.text_embeds


def to_uint8(images: Tensor) -> Images:
    """Round decoded images (n, 3, height, width) in [0, 1] to pixels, half to even."""
    values = images.float()
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    pixels = (values.nan_to_num(0.0, 1.0, 0.0) * 255).round().to(torch.uint8)
    return Images(pixels.permute(0, 2, 3, 1).cpu().numpy(), finite.cpu().numpy())


def warn_of_unsound(images: Images, indices: Sequence[int]) -> None:
    """Name unsound samples in the log at once; hours later the verdict fails because of them."""
    colours = images.pixels.reshape(len(indices), -1)
    single = colours.min(axis=1) == colours.max(axis=1)
    for index, finite, constant in zip(indices, images.finite, single, strict=True):
        if not finite or constant:
            what = "is a single colour" if finite else "had NaN or infinite values"
            LOG.warning("the image of sample %d %s; the verdict will fail", index, what)


def generate(
    pipeline: Any,
    tokens: PromptTokens,
    indices: Sequence[int],
    latent: np.ndarray,
    batch_size: int,
    steps: int,
    guidance: float,
) -> Images:
    """Images of the samples `indices`, at most `batch_size` of them, from a latent (1, 4, h, w).

    A short batch is filled up with its last sample, so that every image comes from a batch of
    the same size and depends on nothing but its own tokens. The negative prompt is encoded for
    every sample, as the closed division wants it. Unsound images are named in the log.
    """
    rows = [*indices, *[indices[-1]] * (batch_size - len(indices))]
    device, dtype = pipeline.unet.device, pipeline.unet.dtype

    def both(captions: np.ndarray, negative: np.ndarray) -> Tensor:
        ids = np.concatenate([np.repeat(negative[None], batch_size, axis=0), captions[rows]])
        return torch.from_numpy(ids).to(device)

    start = torch.from_numpy(latent)
    with torch.inference_mode(), fast_products(device, dtype):
        embeddings, pooled = encode_prompts(
            pipeline,
            both(tokens.first, tokens.negative_first),
            both(tokens.second, tokens.negative_second),
        )
        decoded = pipeline(
            negative_prompt_embeds=embeddings[:batch_size],
            prompt_embeds=embeddings[batch_size:],
            negative_pooled_prompt_embeds=pooled[:batch_size],
            pooled_prompt_embeds=pooled[batch_size:],
            num_inference_steps=steps,
            guidance_scale=guidance,
            latents=start.to(device, dtype).repeat(batch_size, 1, 1, 1),
            output_type="pt",
        ).images
    whole = to_uint8(decoded)
    images = Images(whole.pixels[: len(indices)], whole.finite[: len(indices)])
    warn_of_unsound(images, indices)
    return images
