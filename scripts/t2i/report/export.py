"""The results of a run as a flat table, for spreadsheets and for text: a row for each variant."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from t2i.mlperf import SCENARIOS


def rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One dict for each variant, unrounded, all with the same keys; None for what is not known.

    Seconds, bytes and joules per image; intervals are 95 %, `low` and `high`. A scenario that no
    variant ran has no column.
    """
    found = {(run["variant"], run["scenario"]): run for run in report["loadgen"]}
    scenarios = [name for name in SCENARIOS if any(name == key[1] for key in found)]
    return [_row(report, variant, found, scenarios) for variant in report["variants"]]


def _row(
    report: Mapping[str, Any],
    variant: Mapping[str, Any],
    found: Mapping[tuple[str, str], Mapping[str, Any]],
    scenarios: list[str],
) -> dict[str, Any]:
    metrics, name = variant["metrics"], variant["name"]
    speed, gain = metrics["speed"], variant["speed_up"] or {"ratio": None, "interval": None}
    row = {
        "run": report["run"],
        "variant": name,
        "verdict": variant["compliance"]["verdict"],
        "comparable": metrics["comparable"]["value"],
        "samples": metrics["samples"],
        **_with_interval("images_per_second", speed["images_per_second"], speed["interval"]),
        **_with_interval("speed_up", gain["ratio"], gain["interval"]),
        **_with_interval("fid", metrics["fid"], metrics["fid_interval"]),
        **_with_interval("clip", metrics["clip"], metrics["clip_interval"]),
    }
    for scenario in scenarios:
        run = found.get((name, scenario))
        metric = run["metric"] if run else None
        row |= {
            f"{scenario}": metric and metric["value"],
            f"{scenario}_unit": metric and metric["unit"],
            f"{scenario}_verdict": run and run["verdict"],
            f"{scenario}_official": run and run["official"],
        }
    return row | {
        "memory_bytes": speed["gpu_memory_bytes"] or speed["memory_bytes"],
        "joules_per_image": speed["joules"],
        "device": metrics["device"]["name"],
        "dtype": variant["settings"].get("dtype"),
        "backend": variant["settings"].get("backend", "reference"),
        "steps": variant["sampling"]["steps"],
        "guidance": variant["sampling"]["guidance"],
        "engine_sha256": metrics["engine"],
        "images_sha256": metrics["digest"],
    }


def _with_interval(name: str, value: Any, interval: Any) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def as_csv(report: Mapping[str, Any]) -> str:
    """RFC 4180 with a header; numbers unrounded, nothing for what is not known."""
    table = rows(report)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def as_markdown(report: Mapping[str, Any]) -> str:
    """The headline figures, rounded, and why they are not comparable."""
    table = rows(report)
    scenarios = [name for name in SCENARIOS if name in table[0]]
    head = ["variant", "verdict", "images/s", "speed-up", "FID", "CLIP", *scenarios]
    lines = [f"# Results of run {report['run']}", "", _line(head), _line(["---"] * len(head))]
    for row in table:
        cells = [row["variant"], row["verdict"]]
        for name in ("images_per_second", "speed_up", "fid", "clip"):
            cells.append(_number(row[name], row[f"{name}_low"], row[f"{name}_high"]))
        for name in scenarios:
            unit = row[f"{name}_unit"]
            told = "" if row[f"{name}_official"] else ", not official"
            cells.append("–" if row[name] is None else f"{row[name]:.4g} {unit}{told}")
        lines.append(_line(cells))
    lines += ["", "Brackets hold 95 % intervals."]
    reasons = [f"- {item['reason']}" for item in report["not_comparable"]]
    if reasons:
        lines += ["", "**Not comparable with published results**, because:", "", *reasons]
    return "\n".join(lines) + "\n"


def _number(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    bounds = "" if low is None else f" [{low:.4g}, {high:.4g}]"
    return f"{value:.4g}{bounds}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
