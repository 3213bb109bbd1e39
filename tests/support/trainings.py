"""Small trainings for tests: a tiny UNet, two tars of random moments, what a process is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from t2i.training import encodings
from t2i.training.tars import index_tar, npy, write_index, write_tar
from t2i.training.trainer import Place

SIZES = {
    "sample_size": 8,
    "block_out_channels": [32, 32, 32, 32],
    "attention_head_dim": [1, 1, 1, 1],
    "cross_attention_dim": 32,
    "layers_per_block": 1,
}
ALONE = Place(0, 1, "cpu")
SETTINGS = {
    "steps": 6,
    "batch": 4,
    "learning_rate": 1e-3,
    "warm_up": 4,
    "seed": 7,
    "precision": "fp32",
    "interval": 3,
    "scaling": 0.5,
    "data": "random",
}


def write_data(folder: Path) -> dict[str, list[str]]:
    """Two tars of random moments, their indices, and random hidden states."""
    random = np.random.default_rng(0)
    found: dict[str, list[str]] = {"tars": [], "indices": [], "hidden": []}
    for number in range(2):
        tar = folder / f"{number:05d}.tar"
        moments = random.standard_normal((6, 1, 8, 8, 8)).astype(np.float32)
        rows = ((f"{n}", {".npy": npy(moments[n]), ".txt": b"x", ".json": b"{}"}) for n in range(6))
        write_tar(tar, rows)
        write_index(tar.with_suffix(".index.npz"), index_tar(tar))
        hidden = random.standard_normal((6, 77, 32)).astype(np.float16)
        encodings.save_hidden(tar.with_suffix(".npy"), hidden)
        found["tars"].append(str(tar))
        found["indices"].append(str(tar.with_suffix(".index.npz")))
        found["hidden"].append(str(tar.with_suffix(".npy")))
    return found


def request(
    data: dict[str, list[str]], folder: Path, device: str = "cpu", **changes: Any
) -> dict[str, Any]:
    """What a process is asked. `changes` are of its settings, or of the request itself."""
    asked = {
        **data,
        "nodes": 1,
        "processes": 1,
        "parallel": "ddp",
        "sizes": SIZES,
        "device": device,
        "compile": None,
        "workers": 0,
        "threads": 1,
        "rows": 2,
        "folder": str(folder),
    }
    settings = {key: value for key, value in changes.items() if key in SETTINGS}
    asked |= {key: value for key, value in changes.items() if key not in SETTINGS}
    return {**asked, "settings": {**SETTINGS, **settings}}
