"""FID, CLIP and the images that a submission shows, of the images in LoadGen's accuracy log.

They are scored by the functions that score shards, so that the same images give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from t2i.base.files import write_json, write_text
from t2i.base.images import encode_png
from t2i.generate.shard import Sample
from t2i.loadgen.accuracy_log import AccuracyLog, Entry, accuracy_text, truncate
from t2i.metrics.features import NAMES, Features, gather
from t2i.mlperf import ACCURACY_LOG
from t2i.prompts.captions import shown_line

SCHEMA = 1


@dataclass(frozen=True)
class ScoredLog:
    """What an accuracy log's images are worth.

    `features` are those of all samples in index order; `sha256` and `size` (bytes) are the whole
    log's; `reused` counts the samples whose features were known; `compliance_images`
    are the sha256 of their pixels by index, and `beyond` the ids of those that the data set is too
    short for.
    """

    features: Features
    sha256: str
    size: int
    reused: int
    compliance_images: dict[int, str]
    beyond: list[int]


def score_log(
    path: Path,
    image: tuple[int, int],
    count: int,
    captions: list[str],
    known: Features | None,
    inception: Any,
    clip: Any,
    batch_size: int,
    ids: Sequence[int],
    images: Path,
    repeats: bool = False,
) -> ScoredLog:
    """Score a log of `count` images of size `image` (height, width), and write those of `ids`.

    The images come in any order, and one batch of them is in memory. Features of an index that are
    `known` for the very same pixels are taken over; they must be of the same networks and batch
    size. `captions` are those of the whole data set. The folder `images` gets `{id}.png` for each
    of `ids` that the data set has, and captions.txt. `repeats`: the log may contain an image
    again, as in MultiStream. Raises ValueError that lists everything that is wrong with the log,
    after reading all of it.
    """
    from t2i.metrics.scoring import score_shard  # here, as the rest needs no torch

    if len(captions) < count:
        raise ValueError(f"{len(captions)} captions are too few for the {count} samples of {path}")

    height, width = image
    log = AccuracyLog(path, height * width * 3, count, repeats)
    rows = {} if known is None else {int(index): row for row, index in enumerate(known.index)}
    reused: list[int] = []
    shown: dict[int, str] = {}
    images.mkdir(parents=True, exist_ok=True)

    def unknown() -> Iterator[tuple[Sample, np.ndarray]]:
        for entry in log.verified():
            pixels = np.frombuffer(entry.data, dtype=np.uint8).reshape(height, width, 3)
            if entry.qsl_idx in ids:
                (images / f"{entry.qsl_idx}.png").write_bytes(encode_png(pixels))
                shown[entry.qsl_idx] = entry.sha256
            row = rows.get(entry.qsl_idx)
            if known is not None and row is not None and _same(known, row, entry, image):
                reused.append(row)
            else:
                yield Sample(entry.qsl_idx, -1, "", entry.sha256, True), pixels

    parts = []
    remaining = unknown()
    while batch := list(islice(remaining, batch_size)):
        samples, pixels = map(list, zip(*batch, strict=True))
        parts.append(score_shard(samples, pixels, captions, inception, clip, batch_size))
    if known is not None and reused:
        parts.append(Features(**{name: getattr(known, name)[reused] for name in NAMES}))
    lines = [shown_line(index, captions[index]) for index in ids if index in shown]
    write_text(images / "captions.txt", "".join(lines))
    return ScoredLog(
        gather(parts, count),
        log.sha256,
        log.size,
        len(reused),
        {index: shown[index] for index in ids if index in shown},
        [index for index in ids if index >= count],
    )


def score_samples(
    path: Path,
    image: tuple[int, int],
    indices: Sequence[int],
    captions: list[str],
    inception: Any,
    clip: Any,
    batch_size: int,
) -> tuple[Features, str]:
    """Features of some samples' images in a log, in index order, and the whole log's sha256.

    Of an index that comes again the first record counts, as for the official script. Raises
    ValueError for samples that the log lacks, and for a damaged log.
    """
    from t2i.metrics.scoring import score_shard  # here, as the rest needs no torch

    height, width = image
    log = AccuracyLog(path, height * width * 3)
    left = set(indices)

    def wanted() -> Iterator[tuple[Sample, np.ndarray]]:
        for entry in _first_entries(log):
            if entry.qsl_idx in left:
                left.remove(entry.qsl_idx)
                pixels = np.frombuffer(entry.data, dtype=np.uint8).reshape(height, width, 3)
                yield Sample(entry.qsl_idx, -1, "", entry.sha256, True), pixels

    parts, images = [], wanted()
    while batch := list(islice(images, batch_size)):
        samples, pixels = map(list, zip(*batch, strict=True))
        parts.append(score_shard(samples, pixels, captions, inception, clip, batch_size))
    if left or not parts:
        raise ValueError(f"{path}: has no image of samples {sorted(left)[:10]}")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in NAMES}
    order = np.argsort(joined["index"])
    return Features(**{name: rows[order] for name, rows in joined.items()}), log.sha256


def logged_samples(path: Path) -> list[int]:
    """Indices of the samples that a log has images of, sorted."""
    return sorted({entry.qsl_idx for entry in _first_entries(AccuracyLog(path))})


def _first_entries(log: AccuracyLog) -> Iterator[Entry]:
    """The first record of each index; others may differ, where an engine is not deterministic.

    Raises ValueError, at the end, for a log that is damaged otherwise.
    """
    yield from log.entries()
    damage = [problem.text for problem in log.problems if problem.kind != "twice"]
    if damage:
        raise ValueError(f"{log.path}: {'; '.join(damage[:3])}; run this mode again")


def _same(known: Features, row: int, entry: Entry, image: tuple[int, int]) -> bool:
    """Whether a row of features was taken of the record's pixels; digests know no shape."""
    return bool(known.sha256[row] == entry.sha256) and tuple(known.size[row]) == image


def write_scores(
    folder: Path,
    log: Path,
    image: tuple[int, int],
    scored: ScoredLog,
    metrics: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    """Write accuracy.txt, accuracy.json and the truncated form of `log` into a folder.

    `metrics` are `reduce_metrics` of the scored features; `facts` say whose they are: run, variant
    and scenario.
    """
    text = accuracy_text(metrics["fid"], metrics["clip"], scored.sha256)
    write_text(folder / "accuracy.txt", text)
    truncate(log, folder / ACCURACY_LOG)
    write_json(
        folder / "accuracy.json",
        {
            "schema": SCHEMA,
            **facts,
            **metrics,
            "log": {"sha256": scored.sha256, "bytes": scored.size},
            "image": list(image),
            "reused_features": scored.reused,
            "compliance_images": {str(key): sha for key, sha in scored.compliance_images.items()},
            "compliance_images_beyond": scored.beyond,
            "image_sha256": scored.features.sha256.tolist(),
        },
    )
