"""What peers compute: diffusers, pytorch-fid, open_clip and plain numpy, called as MLPerf does.

Every function takes plain arguments and uses none of the library's code. The tolerances are those
that the library is held to against them.
"""

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image
from pytorch_fid import fid_score
from torch import nn
from torchvision.transforms.functional import to_tensor

NEGATIVE_PROMPT = "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
STEPS = 20
GUIDANCE = 8.0

GREY_LEVELS = 1  # largest difference of a pixel
DIFFERING_PIXELS = 1e-3  # share of the pixels that may differ at all
FULL_RANK = 1e-9  # of the Fréchet distance, relative
NEARLY_SINGULAR = 1e-7  # of features most of whose directions lie at the rounding of float32
RANK_DEFICIENT = 1e-6
INFLUENCE = 1e-2  # of the spread of influence values, for 4000 rows
FEATURES = 1e-6  # of the largest Inception feature
SCORES = 1e-4  # of a CLIP score: 1e-6 of its scale 100
SCHEDULE = 1e-5  # timesteps and sigmas; diffusers computes the betas in float32


def pixels(decoded: torch.Tensor) -> np.ndarray:
    """Pixels (n, height, width, 3) uint8 of decoded images (n, 3, height, width) in [0, 1]."""
    values = decoded.permute(0, 2, 3, 1).float().cpu().numpy()
    return (values * 255).round().astype(np.uint8)


def images(pipeline: Any, prompts: list[str], latent: Path, batch_size: int) -> np.ndarray:
    """Images (n, height, width, 3) uint8 of a whole number of batches of prompts.

    Every prompt is encoded by itself, with the negative prompt beside it, and the encodings of a
    batch are concatenated. A model smaller than SDXL starts from the latent's top left part.
    """
    return np.concatenate(
        [
            pixels(_sampled(pipeline, prompts[first : first + batch_size], latent, "pt"))
            for first in range(0, len(prompts), batch_size)
        ]
    )


def final_latents(pipeline: Any, prompts: list[str], latent: Path) -> torch.Tensor:
    """Latents (n, 4, h, w) after the last step, of prompts in one batch."""
    return _sampled(pipeline, prompts, latent, "latent")


def _sampled(pipeline: Any, prompts: list[str], latent: Path, output: str) -> torch.Tensor:
    side = pipeline.unet.config.sample_size
    start = torch.from_numpy(np.load(latent))[..., :side, :side]
    start = start.to(pipeline.unet.device, pipeline.unet.dtype)
    with torch.inference_mode():
        encoded = [
            pipeline.encode_prompt(prompt, negative_prompt=NEGATIVE_PROMPT) for prompt in prompts
        ]
        positive, negative, pooled, negative_pooled = map(torch.cat, zip(*encoded, strict=True))
        return pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=negative_pooled,
            guidance_scale=GUIDANCE,
            num_inference_steps=STEPS,
            latents=torch.cat([start] * len(encoded)),
            output_type=output,
        ).images


def pixel_difference(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """Largest difference of two sets of images in grey levels, and the share that differs."""
    difference = np.abs(one.astype(np.int16) - other)
    return int(difference.max()), float((difference > 0).mean())


def schedule(steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Timesteps (steps,) and sigmas (steps + 1,) of SDXL's scheduler from its definition."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    timesteps = np.arange(steps)[::-1] * (1000 // steps) + 1
    sigmas = np.sqrt((1 - alphas) / alphas)[timesteps]
    return timesteps, np.append(sigmas, 0.0)


def schedule_difference(scheduler: EulerDiscreteScheduler, steps: int = STEPS) -> float:
    """Largest difference of a scheduler's timesteps and sigmas from the definition."""
    scheduler.set_timesteps(steps)
    timesteps, sigmas = schedule(steps)
    return max(
        float(np.abs(scheduler.timesteps.numpy() - timesteps).max()),
        float(np.abs(scheduler.sigmas.numpy() - sigmas).max()),
    )


def inception_features(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """Features (2048,) of one image (height, width, 3) uint8 by pytorch-fid's network."""
    with torch.inference_mode():
        return network(to_tensor(image.copy())[None])[0].flatten().numpy()


def clip_score(model: Any, transform: Callable[..., Any], image: np.ndarray, text: str) -> float:
    """CLIP score of one image (height, width, 3) uint8 by an open_clip model."""
    with torch.inference_mode():
        picture = model.encode_image(transform(Image.fromarray(image))[None])
        caption = model.encode_text(open_clip.tokenize([text]))
    picture = picture / picture.norm(dim=-1, keepdim=True)
    caption = caption / caption.norm(dim=-1, keepdim=True)
    return 100 * float(picture[0] @ caption[0])


def preprocessed(image: np.ndarray) -> np.ndarray:
    """CLIP's input (3, 224, 224) float32 of one image, from its definition."""
    height, width = image.shape[:2]
    scale = 224 / min(height, width)
    size = (int(width * scale), int(height * scale))
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = round((size[1] - 224) / 2), round((size[0] - 224) / 2)
    values = resized[top : top + 224, left : left + 224] / np.float32(255)
    mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
    deviation = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
    return ((values - mean) / deviation).transpose(2, 0, 1)


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Fréchet distance of features (n, d) from reference features (m, d) by pytorch-fid."""
    statistics = []
    for rows in (reference.astype(np.float64), features.astype(np.float64)):
        statistics += [np.mean(rows, axis=0), np.cov(rows, rowvar=False)]
    return float(fid_score.calculate_frechet_distance(*statistics))


def sampled_captions(
    annotations: list[dict[str, Any]], pictures: list[dict[str, Any]], count: int
) -> list[tuple[Any, ...]]:
    """Rows of MLPerf's caption file for COCO annotations, without pandas.

    pandas shuffles a table by a permutation of numpy's legacy generator.
    """
    first: dict[int, dict[str, Any]] = {}
    for annotation in annotations:
        first.setdefault(annotation["image_id"], annotation)
    ordered = sorted(first.values(), key=lambda annotation: annotation["id"])
    order = np.random.RandomState(2023).permutation(len(ordered))[:count]
    facts = {picture["id"]: picture for picture in pictures}
    rows = []
    for annotation in sorted((ordered[n] for n in order), key=lambda row: row["id"]):
        picture = facts[annotation["image_id"]]
        text = annotation["caption"].strip().replace("\n", "")
        names = ("height", "width", "file_name", "coco_url")
        rows.append(
            (annotation["id"], annotation["image_id"], text, *(picture[name] for name in names))
        )
    return rows
