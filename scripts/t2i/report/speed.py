"""What bench/engine_speed.py measured, on its way to the report."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from t2i.base.files import read_json, sha256_json, write_json

SCHEMA = 1


def write_speed(path: Path, facts: dict[str, Any]) -> None:
    """Write the facts of a benchmark with a digest over them."""
    facts = {"schema": SCHEMA, **facts}
    write_json(path, {**facts, "digest": sha256_json(facts)})


def read_speed(path: Path) -> dict[str, Any]:
    """The report's part of a benchmark: model, device, remarks, and a row for each contender.

    Rows are those of `row_of`. Raises ValueError for a file that was changed or is of another kind.
    """
    facts: dict[str, Any] = read_json(path)
    digest = facts.pop("digest", None) if isinstance(facts, dict) else None
    if digest is None or digest != sha256_json(facts):
        raise ValueError(f"{path}: not as bench/engine_speed.py --json wrote it; run that again")
    if facts["schema"] != SCHEMA:
        raise ValueError(f"{path}: schema {facts['schema']}, this version reads {SCHEMA}")
    rows = [row_of(result, facts["results"][0]) for result in facts["results"]]
    kept = ("model", "device", "software", "remarks", "repeats")
    return {**{key: facts[key] for key in kept}, "rows": rows}


def row_of(result: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """What is shown of a contender beside the first one.

    name, images (at once), images_per_second, spread (of the times, relative to their median),
    ratio (to the first), busy (share of a UNet's pass in which the GPU worked, None without one)
    and joules (per image, None where they were not measured).
    """
    times, rate = result["seconds"], result["images_per_second"]
    middle = statistics.median(times)
    return {
        "name": result["name"],
        "images": result["images"],
        "images_per_second": rate,
        "spread": (max(times) - min(times)) / middle,
        "ratio": rate / first["images_per_second"],
        "busy": min(1.0, result["busy"] / result["parts"]["UNet"]) if result["busy"] else None,
        "joules": statistics.mean(result["watts"]) / rate if result["watts"] else None,
    }
