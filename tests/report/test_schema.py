"""report.json has the form that its schema says, whatever was run."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from fake_results import fake_run, not_run, scenario, submission
from t2i.base.yaml import read_yaml
from t2i.report.data import SCHEMA
from workflow_run import Workplace

FILE = Path(__file__).parents[2] / "config/schemas/report.schema.yaml"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    content = read_yaml(FILE)
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found, _ = fake_run(
        tmp_path_factory.mktemp("run"),
        ("fp32", "bf16"),
        samples=8,
        scenarios=[scenario("fp32", "Server"), scenario("bf16", "Offline", "fail", ["time"])],
        latencies={("fp32", "Server"): np.linspace(1, 2, 30)},
        submissions={"fp32": submission(not_run("no checkout"))},
    )
    return found


def test_every_kind_of_report_fits(
    schema: Draft202012Validator, report: dict[str, Any], tmp_path: Path
) -> None:
    schema.validate(json.loads(json.dumps(report)))
    bare, _ = fake_run(tmp_path, ("fp32",), samples=4, judge=False)
    bare["windows"] = None
    schema.validate(json.loads(json.dumps(bare)))
    assert schema.schema["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.slow
def test_a_real_report_fits(schema: Draft202012Validator, finished: Workplace) -> None:
    schema.validate(json.loads((finished.folder / "results/tiny/report.json").read_text()))


def required(schema: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all keys that the schema asks for, as far as it says them in place."""
    for key in schema.get("required", ()):
        yield (*way, key)
    for key, part in schema.get("properties", {}).items():
        yield from required(part, (*way, key))
    if "items" in schema:
        yield from required(schema["items"], (*way, 0))


def test_a_report_without_one_of_its_keys_does_not_fit(
    schema: Draft202012Validator, report: dict[str, Any]
) -> None:
    ways = list(required(schema.schema))
    assert len(ways) > 80
    for way in ways:
        changed = part = copy.deepcopy(report)
        *before, last = way
        for step in before:
            part = part[step]
        del part[last]
        assert not schema.is_valid(changed), way
    assert not schema.is_valid({**report, "new": 1})
