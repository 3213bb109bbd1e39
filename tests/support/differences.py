"""How far this project's steps are from their peers', in numbers."""

import t2i.job.torch_shim  # noqa: F401

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPTokenizer

import peers
from micro_model import TOKENIZERS
from t2i.engine import reference
from t2i.metrics import fid
from t2i.prompts import captions, tokenizer


def made_up_annotations() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Annotations in COCO's form: shuffled ids, several captions an image, untidy white space."""
    draw = np.random.default_rng(5)
    images = [
        {
            "id": int(number),
            "height": int(draw.integers(1, 640)),
            "width": int(draw.integers(1, 640)),
            "file_name": f"{number}.jpg",
            "coco_url": f"http://images/{number}.jpg",
        }
        for number in draw.permutation(400)[:300] + 1
    ]
    chosen = draw.integers(0, 300, 900)
    texts = ('A "red" star.\n', "  two\ndogs ", "A\tcat", "plain")
    annotations = [
        {
            "id": int(number),
            "image_id": images[image]["id"],
            "caption": f"{texts[number % 4]}{image}",
        }
        for number, image in zip(draw.permutation(900) + 1, chosen, strict=True)
    ]
    return annotations, images


def caption_difference(count: int = 150) -> int:
    """Rows that differ from the independent computation."""
    annotations, images = made_up_annotations()
    expected = peers.sampled_captions(annotations, images, count)
    rows = [astuple(row) for row in captions.sample_captions(annotations, images, count)]
    assert len(expected) == min(count, len({row["image_id"] for row in annotations}))
    return abs(len(rows) - len(expected)) + sum(
        row != other for row, other in zip(rows, expected, strict=False)
    )


def synthetic(rows: int, reference: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features (rows, dimension) and reference features, float32."""
    draw = np.random.default_rng(0)
    mix = draw.standard_normal((dimension, dimension)) / dimension**0.5
    other = mix + 0.3 * draw.standard_normal((dimension, dimension)) / dimension**0.5
    features = draw.standard_normal((rows, dimension)) @ mix + 0.1
    references = draw.standard_normal((reference, dimension)) @ other
    return features.astype(np.float32), references.astype(np.float32)


def frechet_difference(features: np.ndarray, reference: np.ndarray) -> float:
    """Difference from pytorch-fid's distance, relative."""
    ours, _ = fid.frechet_distance(features, fid.moments(reference))
    expected = peers.frechet_distance(features, reference)
    difference = abs(ours - expected) / abs(expected)
    print(f"{features.shape} against {reference.shape}: {ours}, relative difference {difference}")
    return difference


def influence_difference() -> float:
    """Root mean square difference of influence values from a jackknife's, relative to theirs.

    With n rows, (n - 1) (F - F without row i) estimates row i's influence up to order 1 / n.
    """
    features, reference = synthetic(4000, 3000, 5)
    statistics = fid.moments(reference)
    distance, influence = fid.frechet_distance(features, statistics)
    rows = np.arange(0, len(features), 20)
    jackknife = np.array(
        [
            (len(features) - 1)
            * (distance - fid.frechet_distance(np.delete(features, row, axis=0), statistics)[0])
            for row in rows
        ]
    )
    return float(np.std(influence[rows] - jackknife) / np.std(jackknife))


def rounding_difference(dtype: torch.dtype) -> int:
    """Largest difference from numpy's rounding on values that include halves of a grey level."""
    values = np.resize(np.arange(1531, dtype=np.float32) / 1530, (1, 3, 23, 23))
    decoded = torch.from_numpy(values).to(dtype)
    return peers.pixel_difference(reference.to_uint8(decoded).pixels, peers.pixels(decoded))[0]


def token_difference(prompts: list[str], folder: Path, published: Path) -> int:
    """Token ids that differ from those of transformers with the published files."""
    ours = tokenizer.tokenize(prompts, *(folder / name for name in TOKENIZERS))
    differing = 0
    for name, ids in zip(TOKENIZERS, (ours.first, ours.second), strict=True):
        peer = CLIPTokenizer.from_pretrained(published / name, local_files_only=True)
        expected = peer(prompts, padding="max_length", max_length=77, truncation=True).input_ids
        differing += int((ids != np.asarray(expected)).sum())
    return differing
