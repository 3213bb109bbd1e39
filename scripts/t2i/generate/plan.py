"""Cutting a run into shards: half-open ranges of sample indices such as 00500-00750."""

from __future__ import annotations

import re

NUMBER = r"(?:[0-9]{5}|[1-9][0-9]{5,6})"
SHARD_PATTERN = f"{NUMBER}-{NUMBER}"


def plan(samples: int, shard_size: int) -> list[str]:
    """Names of the shards that cover `range(samples)`, in order; the last may be short.

    A shard's name depends on its own range alone, so more samples only add shards (and replace a
    short last one).
    """
    return [
        f"{start:05d}-{min(start + shard_size, samples):05d}"
        for start in range(0, samples, shard_size)
    ]


def parse(shard: str) -> range:
    """Sample indices of a shard's name; raises ValueError when it is not such a name."""
    if not re.fullmatch(SHARD_PATTERN, shard):
        raise ValueError(f"shard {shard!r}: expected a half-open range such as 00500-00750")
    first, last = (int(part) for part in shard.split("-"))
    if first >= last:
        raise ValueError(f"shard {shard!r}: the range is empty")
    return range(first, last)


def batches(indices: range, batch_size: int) -> list[range]:
    """Cut the indices of one shard into batches, of which the last may be short."""
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
