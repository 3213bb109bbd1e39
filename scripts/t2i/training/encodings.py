"""Captions' hidden states, encoded ahead of a training: one file for each tar of samples."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path

import numpy as np

from t2i.base.files import publish
from t2i.training.tars import Samples
from t2i.training.text import TextEncoder


def write_encodings(path: Path, samples: Samples, text: TextEncoder, batch: int) -> None:
    """Publish hidden states (n, 77, d) float16 of one tar's captions, in the order of its index."""
    rows = []
    captions = [samples[row][1] for row in range(len(samples))]
    for start in range(0, len(captions), batch):
        rows.append(text(captions[start : start + batch]).half().cpu().numpy())
    with publish(path) as part, part.open("wb") as handle:
        np.save(handle, np.concatenate(rows), allow_pickle=False)


class Encodings:
    """Hidden states of several tars, read where they are needed."""

    def __init__(self, paths: list[Path]) -> None:
        self.arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]

    def __getitem__(self, place: tuple[int, int]) -> np.ndarray:
        """Hidden states (77, d) float16 of a tar's row."""
        tar, row = place
        return np.array(self.arrays[tar][row])
