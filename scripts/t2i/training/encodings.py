"""Captions' hidden states, encoded ahead of a training: one file for each tar of samples."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import hashlib
from pathlib import Path

import numpy as np

from t2i.base.files import publish
from t2i.training.tars import DIGEST_BYTES, DamagedTar, Samples
from t2i.training.text import TextEncoder


def write_encodings(path: Path, samples: Samples, text: TextEncoder, batch: int) -> None:
    """Publish hidden states (n, 77, d) float16 of one tar's captions, in the order of its index.

    Their digests, (n, 16) uint8, go into the file `digests_file`, which is written last.
    """
    rows = []
    captions = [samples[row][1] for row in range(len(samples))]
    for start in range(0, len(captions), batch):
        rows.append(text(captions[start : start + batch]).half().cpu().numpy())
    save_hidden(path, np.concatenate(rows))


def save_hidden(path: Path, hidden: np.ndarray) -> None:
    """Publish hidden states (n, 77, d), and beside them their digests."""
    digests = b"".join(_digest(row) for row in hidden)
    _save(path, hidden)
    _save(digests_file(path), np.frombuffer(digests, dtype=np.uint8).reshape(len(hidden), -1))


def digests_file(path: Path) -> Path:
    """The file with the digests of a file of hidden states."""
    return path.with_suffix(".digests.npy")


def _save(path: Path, array: np.ndarray) -> None:
    with publish(path) as part, part.open("wb") as handle:
        np.save(handle, array, allow_pickle=False)


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest()


class Encodings:
    """Hidden states of several tars, read where they are needed and verified by digest.

    Raises DamagedTar when a file has changed since it was written.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        self.digests = [np.load(digests_file(path), allow_pickle=False) for path in paths]

    def __getitem__(self, place: tuple[int, int]) -> np.ndarray:
        """Hidden states (77, d) float16 of a tar's row."""
        tar, row = place
        hidden = np.array(self.arrays[tar][row])
        if _digest(hidden) != self.digests[tar][row].tobytes():
            raise DamagedTar(f"{self.paths[tar]}: row {row} has changed; delete it and run again")
        return hidden
