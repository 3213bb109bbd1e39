"""What follows from the configuration's section `training`; needs no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

CHECKPOINT_IMAGES = 512_000  # between checkpoints, at least
PARAMETERS = {"sd2": 865_910_724, "micro": 3_750_660}
# The reference's network (configs/train_32x08x02.yaml) in diffusers' words: three levels with
# attention and one without, heads of 64 channels.
SD2_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "layers_per_block": 2,
}
# The same levels in miniature, for latents of 16 x 16 and hidden states of 96 numbers.
MICRO_UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": [32, 64, 96, 96],
    "attention_head_dim": [1, 2, 3, 3],
    "cross_attention_dim": 96,
    "layers_per_block": 1,
}
NETWORKS = {"sd2": SD2_UNET, "micro": MICRO_UNET}


def metadata_parts(folder: str, number: int) -> list[Path]:
    """Files of a part of LAION's metadata; there should be one."""
    return sorted(Path(folder).glob(f"part-{number:05d}*.parquet"))


def global_batch(training: dict[str, Any]) -> int:
    """Images of a step, of all processes together."""
    return int(training["batch"] * training["processes"] * training["nodes"])


def checkpoint_interval(batch: int, images: int = CHECKPOINT_IMAGES) -> int:
    """Steps between checkpoints: the fewest that see 512,000 images, by the rules."""
    return math.ceil(images / batch)


def interval(training: dict[str, Any]) -> int:
    """Steps between the checkpoints of a configuration."""
    return checkpoint_interval(global_batch(training), training["interval_images"])


def checkpoints(training: dict[str, Any]) -> list[int]:
    """Steps whose checkpoints are kept: every interval's, and the last."""
    steps, every = training["steps"], interval(training)
    return [*range(every, steps, every), steps]


def request(training: dict[str, Any], device: str, repeat: int) -> dict[str, Any]:
    """What `t2i.training.rank` is asked, without files.

    The learning rate is that of one image times the global batch, as the reference scales it. Each
    `repeat` of the training has a seed of its own.
    """
    batch = global_batch(training)
    return {
        "sizes": NETWORKS[training["network"]],
        "device": device,
        "nodes": training["nodes"],
        "processes": training["processes"],
        "parallel": training["parallel"],
        "compile": training["compile"],
        "workers": training["workers"],
        "threads": training["threads"],
        "rows": training["rows"],
        "settings": {
            "steps": training["steps"],
            "batch": batch,
            "learning_rate": training["learning_rate"] * batch,
            "warm_up": training["warm_up"],
            "seed": training["seed"] + repeat,
            "precision": training["precision"],
            "interval": interval(training),
            "scaling": training["frozen"]["scaling"],
            "data": training["data"]["name"],
        },
    }
