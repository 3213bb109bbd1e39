"""The checks of a run, each once: of several variants and scenarios, what is the same in all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from t2i.mlperf import SCENARIOS

ORDER = ("fail", "pass", "not applicable")


def merged(variants: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> Any:
    """The checks of `variants` and of LoadGen's `runs`, as the report has both.

    Returns `rows` in order of verdict, each with the variants `of` which it holds, word for word;
    and the scenarios `not_run`, whose checks are left out, with their number.
    """
    names = [variant["name"] for variant in variants]
    asked = {(run["variant"], run["scenario"]) for run in runs}
    rows: dict[str, dict[str, Any]] = {}
    not_run: dict[str, int] = {}
    for name, check in _all(variants, runs):
        scenario = scenario_of(check["id"])
        if scenario and (name, scenario) not in asked and check["verdict"] == "not applicable":
            not_run[scenario] = not_run.get(scenario, 0) + 1
            continue
        row = rows.setdefault(json.dumps(check, sort_keys=True), {**check, "of": []})
        if name not in row["of"]:
            row["of"].append(name)
    ordered = sorted(rows.values(), key=lambda row: ORDER.index(row["verdict"]))
    for row in ordered:
        row["of"].sort(key=names.index)
    left_out = {name: not_run[name] for name in SCENARIOS if name in not_run}
    return {"rows": ordered, "not_run": left_out}


def scenario_of(check: str) -> str | None:
    """The scenario of LoadGen that a check's id names, None for another check."""
    return next((part for part in check.split(".")[1:] if part in SCENARIOS), None)


def _all(
    variants: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for variant in variants:
        for check in variant["compliance"]["checks"]:
            yield variant["name"], check
    for run in runs:
        for check in run["checks"]:
            yield run["variant"], check
