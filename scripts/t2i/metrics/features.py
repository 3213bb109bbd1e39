"""Features of a shard as stored, and the features of a whole variant put together by index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from t2i.base.arrays import read_arrays, write_arrays


@dataclass(frozen=True)
class Features:
    """Scores and features of n samples.

    index (n,) int64; inception (n, 2048) float32; clip (n,) float32, the CLIP score with the own
    caption; clip_shifted (n,) float32, the score with the next row's caption; sha256 (n,) of the
    pixels; low and high (n,) uint8, the smallest and largest pixel value; size (n, 2) int64,
    height and width.
    """

    index: np.ndarray
    inception: np.ndarray
    clip: np.ndarray
    clip_shifted: np.ndarray
    sha256: np.ndarray
    low: np.ndarray
    high: np.ndarray
    size: np.ndarray


NAMES = tuple(field.name for field in fields(Features))


def write_features(path: Path, features: Features) -> None:
    """Publish features as an npz without pickles."""
    write_arrays(path, vars(features))


def read_features(path: Path) -> Features:
    """Read features; raises ValueError, which names the file, when it is damaged."""
    return Features(**read_arrays(path, NAMES))


def gather(parts: Iterable[Features], samples: int) -> Features:
    """Features of all samples in index order, regardless of the order and cut of the parts.

    Raises ValueError that lists missing and duplicate indices.
    """
    shards = list(parts)
    whole = {name: np.concatenate([getattr(part, name) for part in shards]) for name in NAMES}
    order = np.argsort(whole["index"], kind="stable")
    whole = {name: values[order] for name, values in whole.items()}
    check_coverage(whole["index"], samples)
    return Features(**whole)


def check_coverage(index: np.ndarray, samples: int) -> None:
    """Raise ValueError unless the indices are each of 0 ... samples - 1 exactly once."""
    indices, counts = np.unique(index, return_counts=True)
    missing = np.setdiff1d(np.arange(samples), indices)
    twice = indices[counts > 1]
    beyond = indices[(indices < 0) | (indices >= samples)]
    problems = [
        f"{len(bad)} {what}: {', '.join(map(str, bad[:10]))}" + ", ..." * (len(bad) > 10)
        for what, bad in (("missing", missing), ("more than once", twice), ("beyond", beyond))
        if len(bad)
    ]
    if problems:
        raise ValueError(f"samples 0 to {samples - 1}: " + "; ".join(problems))
