"""The embedded scoring networks: an Inception v3 and a small CLIP with random weights.

Kept apart from the micro SDXL, so that a change of a scoring network makes no image anew.
"""

from __future__ import annotations

import t2i.compat  # noqa: F401

import json
from pathlib import Path

from safetensors.torch import save_file

from t2i.clip import clip_network
from t2i.files import write_json
from t2i.inception import inception_network
from t2i.micro import VOCABULARY, randomise

MICRO_CLIP = {
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


def write_micro_inception(folder: Path) -> None:
    """Write Inception v3 at its full size with random weights that keep activations alive."""
    network = randomise(inception_network(), seed=10, gain=2**0.5)
    save_file(network.state_dict(), folder / "model.safetensors")
    _write_label(folder)


def write_micro_clip(folder: Path) -> None:
    """Write a small CLIP with random weights."""
    network = randomise(clip_network(MICRO_CLIP), seed=11)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(MICRO_CLIP, indent=2) + "\n")
    _write_label(folder)


def _write_label(folder: Path) -> None:
    write_json(folder / "network.json", {"weights": "random"})
