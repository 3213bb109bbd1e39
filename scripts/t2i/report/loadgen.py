"""What the report says of LoadGen's runs and of the submissions made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i.mlperf import SCENARIOS

BINS = (10, 40)  # fewest and most of a histogram
MARKS = {"50": "p50", "90": "p90", "99": "p99"}


def distribution(latencies: NDArray[np.float64]) -> dict[str, Any]:
    """A histogram of latencies (queries,) in seconds, with as many bins as the square root says.

    Returns `edges` in seconds, one more than `counts`, and `unfinished`, the number of queries
    without a finite latency, which are in no bin. Without a finite one both lists are empty.
    """
    finite = latencies[np.isfinite(latencies)]
    unfinished = int(len(latencies) - len(finite))
    if not len(finite):
        return {"edges": [], "counts": [], "unfinished": unfinished}
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-6 * high:  # all alike: a bar of some width, not one of a second
        low, high = 0.99 * low, 1.01 * high + 1e-9
    bins = min(max(math.isqrt(len(finite)), BINS[0]), BINS[1])
    counts, edges = np.histogram(finite, bins, (low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist(), "unfinished": unfinished}


def _score(verdict: Mapping[str, Any], name: str) -> float | None:
    """A score of LoadGen's accuracy run, as its check says it."""
    wanted = f"accuracy.{verdict['scenario']}.{name}"
    values = [check["value"] for check in verdict["checks"] if check["id"] == wanted]
    return values[0] if values and isinstance(values[0], (int, float)) else None


def _limit(verdict: Mapping[str, Any]) -> float | None:
    """The latency in seconds that Server queries must keep to."""
    target = verdict["target"]
    if verdict["scenario"] != "Server" or target is None:
        return None
    return float(target["value"])


def _run(verdict: Mapping[str, Any], latencies: NDArray[np.float64] | None) -> dict[str, Any]:
    """What the report says of one scenario."""
    passed = verdict["latency"]
    return {
        **{key: value for key, value in verdict.items() if key not in ("schema", "run")},
        "fid": _score(verdict, "fid"),
        "clip": _score(verdict, "clip"),
        "peak": verdict.get("peak"),
        "limit": _limit(verdict),
        "percentiles": {MARKS[key]: passed[key] for key in MARKS if key in passed},
        "distribution": (  # Offline is a single query
            None
            if latencies is None or verdict["scenario"] == "Offline"
            else distribution(latencies)
        ),
    }


def runs(
    verdicts: Iterable[Mapping[str, Any]],
    latencies: Mapping[tuple[str, str], NDArray[np.float64]],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """One entry per variant and scenario that LoadGen ran, the variants in the order of `names`.

    `verdicts` are parsed verdict.json files; `latencies` (queries,) in seconds by variant and
    scenario, for those that have any. Raises ValueError for a variant that `names` lacks and for
    a duplicate scenario.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for verdict in verdicts:
        key = (verdict["variant"], verdict["scenario"])
        if verdict["variant"] not in names or key in found:
            what = "is listed twice" if key in found else f"is of none of {', '.join(names)}"
            raise ValueError(f"verdict of {' '.join(key)} {what}; remove its verdict.json")
        found[key] = verdict
    return [
        _run(found[name, scenario], latencies.get((name, scenario)))
        for name in names
        for scenario in SCENARIOS
        if (name, scenario) in found
    ]


def not_official(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why runs are not official: each set of reasons with the runs that it concerns."""
    concerned: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        if not entry["official"]:
            names = concerned.setdefault(tuple(entry["shortened"]), [])
            names.append(f"{entry['variant']} {entry['scenario']}")
    return [{"reasons": list(reasons), "runs": names} for reasons, names in concerned.items()]


def submissions(
    by_variant: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The parsed submission.json of each variant that has one, in the order of `names`.

    Of its files the number and the bytes remain, of the checker's messages all.
    """
    if unknown := [name for name in by_variant if name not in names]:
        raise ValueError(
            f"submission of {', '.join(unknown)}, which is none of {', '.join(names)}; remove it"
        )
    return [
        {
            "variant": name,
            **{key: by_variant[name][key] for key in by_variant[name] if key != "schema"},
            "files": {
                "count": len(by_variant[name]["files"]),
                "size": sum(file["size"] for file in by_variant[name]["files"].values()),
            },
        }
        for name in names
        if name in by_variant
    ]
