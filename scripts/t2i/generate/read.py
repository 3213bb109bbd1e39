"""Images that are compared pixel by pixel: references, and a run's images of their samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from t2i.base.images import decode_png
from t2i.generate.shard import read_shard


def read_references(paths: Iterable[Path]) -> dict[int, np.ndarray]:
    """Pixels (height, width, 3) uint8 of PNGs that are named by their sample index, by that index.

    Raises ValueError, which names the file, for one that is not a complete RGB PNG.
    """
    references = {}
    for path in paths:
        try:
            references[int(path.stem)] = decode_png(path.read_bytes())
        except (ValueError, OSError, SyntaxError) as error:
            raise ValueError(f"{path}: not a reference image ({error})") from error
    return references


def read_samples(
    tars: Iterable[str], manifests: Iterable[str], wanted: Collection[int]
) -> dict[int, np.ndarray]:
    """Verified pixels (height, width, 3) uint8 of the samples `wanted` in shards, by sample index.

    `tars` and `manifests` are the paths of the shards in the same order. Samples that no shard
    holds are left out. Raises DamagedShard when an image does not match its manifest.
    """
    return {
        sample.index: pixels
        for tar, manifest in zip(tars, manifests, strict=True)
        for sample, pixels in read_shard(Path(tar), Path(manifest), wanted)
    }
