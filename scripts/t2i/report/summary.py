"""A run's results as a short table for a terminal, from its report.json."""

from __future__ import annotations

from typing import Any

COLUMNS = ("variant", "samples", "images/s", "speed-up", "FID", "CLIP", "verdict")


def table(report: dict[str, Any]) -> str:
    """One line for each variant, the verdicts in plain words, and why numbers are not comparable.

    Scenarios that LoadGen ran and submissions follow the variants.
    """
    rows = [COLUMNS]
    words = []
    for variant in report["variants"]:
        metrics, compliance = variant["metrics"], variant["compliance"]
        speed, gain = metrics["speed"], variant["speed_up"]
        rows.append(
            (
                variant["name"],
                str(metrics["samples"]),
                f"{speed['images_per_second']:.4g}",
                "-" if gain is None else f"{gain['ratio']:.2f}",
                f"{metrics['fid']:.4f}",
                f"{metrics['clip']:.4f}",
                compliance["verdict"],
            )
        )
        words.append(f"{variant['name']}: {compliance['summary']}")
        if speed["busy"]:
            words.append(f"{variant['name']}: the machine was busy: {'; '.join(speed['busy'])}.")
    words += [f"{run['variant']}, {run['summary']}" for run in report["loadgen"]]
    words += [f"{tree['variant']}, submission: {tree['summary']}" for tree in report["submissions"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    reasons = [f"  {obstacle['reason']}" for obstacle in report["not_comparable"]]
    if reasons:
        words += ["Not comparable with published scores, because:", *reasons]
    return "\n".join([*lines, "", *words])
