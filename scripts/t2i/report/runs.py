"""Finished runs side by side, of any time and machine: what they measured, and paired differences.

A run is the folder `results/{run}` or a copy of it. Everything read from it is compared with the
records in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2i.base.arrays import read_arrays
from t2i.base.files import read_json
from t2i.job.records import check_in
from t2i.metrics.compare import compare
from t2i.metrics.speed import speed_up
from t2i.report import export

SCHEMA = 1
INPUTS = ("captions.tsv", "latents.npy")


@dataclass(frozen=True)
class Measured:
    """A variant of a run: its row of `export.rows`, metrics, and influence of each sample (n,)."""

    name: str
    row: dict[str, Any]
    metrics: dict[str, Any]
    influence: dict[str, np.ndarray]
    inputs: dict[str, str | None]
    commit: str | None


def read_run(folder: Path) -> list[Measured]:
    """The variants of a run, in its order, each named `folder/variant`.

    Raises RecordError for a file that is not as it was recorded, OSError for one that is missing,
    ValueError for one of another schema.
    """
    report = read_json(check_in(folder, "report.json"))
    provenance = report["provenance"]
    dataset = provenance["config"]["dataset"]
    digests = {each["name"]: each["sha256"] for each in provenance["inputs"]}
    found = []
    for row, variant in zip(export.rows(report), report["variants"], strict=True):
        path = check_in(folder, f"{variant['name']}/influence.npz")
        found.append(
            Measured(
                name=f"{folder}/{variant['name']}",
                row=row,
                metrics=variant["metrics"],
                influence=read_arrays(path, ("index", "fid", "clip")),
                inputs={name: digests.get(f"{dataset}/{name}") for name in INPUTS},
                commit=provenance["git"]["commit"],
            )
        )
    return found


def side_by_side(measured: Sequence[Measured]) -> dict[str, Any]:
    """What is shown: a row for each variant, with its differences from the first.

    The rows are those of `export.rows`, unrounded; `difference` is that of `metrics.compare`, with
    `latents` (whether both began with the same one), or None for the first.
    """
    first = measured[0]
    return {
        "schema": SCHEMA,
        "baseline": first.name,
        "rows": [
            {
                **each.row,
                "name": each.name,
                "commit": each.commit,
                "faster": None
                if each is first
                else speed_up(each.metrics["speed"], first.metrics["speed"]),
                "difference": None if each is first else difference(first, each),
            }
            for each in measured
        ],
    }


def difference(first: Measured, other: Measured) -> dict[str, Any]:
    """That of `metrics.compare`; not of runs with other captions, whose samples are no pairs."""
    found = compare(first.metrics, other.metrics, first.influence, other.influence)
    captions = {each.inputs["captions.tsv"] for each in (first, other)}
    reason = None
    if len(captions) > 1 or None in captions:
        reason = "other captions: samples are no pairs"
    elif found["comparable"] and not np.array_equal(
        first.influence["index"], other.influence["index"]
    ):
        reason = "other samples"
    if reason is not None:
        values = ("fid_difference", "fid_interval", "clip_difference", "clip_interval")
        found |= {**dict.fromkeys(values), "comparable": False, "reason": reason}
    latents = {each.inputs["latents.npy"] for each in (first, other)}
    return {**found, "latents": len(latents) == 1 and None not in latents}


def as_text(found: Mapping[str, Any]) -> str:
    """A table for a terminal, and why what is not compared is not."""
    head = ("", "images/s", "times", "FID", "difference", "CLIP", "difference", "verdict", "device")
    lines: list[tuple[str, ...]] = [head]
    words = []
    for row in found["rows"]:
        between = row["difference"]
        faster = row["faster"] or {"ratio": None, "interval": None}
        lines.append(
            (
                row["name"],
                f"{row['images_per_second']:.4g}",
                _bounded(faster["ratio"], faster["interval"], ""),
                f"{row['fid']:.4f}",
                *_differences(between, "fid"),
                f"{row['clip']:.4f}",
                *_differences(between, "clip"),
                row["verdict"],
                row["device"],
            )
        )
        if between and not between["comparable"]:
            words.append(f"{row['name']} is not compared: {between['reason']}")
        elif between and not between["latents"]:
            words.append(f"{row['name']} began with another latent: only its captions are the same")
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    notes = [f"Differences are from {found['baseline']}; brackets hold 95 % intervals.", *words]
    return "\n".join([*table, "", *notes])


def _differences(between: Mapping[str, Any] | None, name: str) -> tuple[str]:
    if between is None:
        return ("-",)
    return (_bounded(between[f"{name}_difference"], between[f"{name}_interval"], "+"),)


def _bounded(value: float | None, interval: Sequence[float] | None, sign: str) -> str:
    if value is None:
        return "-"
    low, high = interval or (None, None)
    bounds = "" if low is None else f" [{low:{sign}.3g}, {high:{sign}.3g}]"
    return f"{value:{sign}.3g}{bounds}"
