"""Why each rule on a submission matters, and what to do if it fails: the table `mending.yaml`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from t2i.base.check import FAIL, Check
from t2i.base.yaml import read_yaml

LOADGEN_RULES = "loadgen"  # the entry for all rules on LoadGen's logs


@cache
def _table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = read_yaml(Path(__file__).with_name("mending.yaml"))
    return table


def advice(name: str) -> str:
    """The entry of the table for a check's id: the longest part of the id that is listed."""
    parts = name.split(".")
    for start in range(1, len(parts)):
        for stop in range(len(parts), start, -1):
            if (key := ".".join(parts[start:stop])) in _table():
                return key
    return LOADGEN_RULES


def explained(check: Check) -> Check:
    """The check; if it failed, with why its rule matters and what to do."""
    if check.verdict != FAIL:
        return check
    entry = _table()[advice(check.id)]
    return replace(check, why=entry["why"], mend=entry["mend"])
