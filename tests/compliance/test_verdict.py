import json
from pathlib import Path

import pytest

from fake_loadgen import add_error, set_detail, set_summary, write_run
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS
from t2i.compliance import scenario
from t2i.loadgen import logs
from t2i.mlperf import CLOSED_WINDOWS, DETAIL, MLPERF_MODEL, SUMMARY

MODES = ("performance", "accuracy", "TEST01", "TEST04")


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    return {mode: write_run(tmp_path / mode, "Offline", mode, "v6.1") for mode in MODES}


ACCURACY = {
    "samples": 5000,
    "fid": 23.5,
    "clip": 31.75,
    "comparable": {"value": True, "reasons": []},
    "compliance_images": {str(i): "0" * 64 for i in range(10)},
    "compliance_images_beyond": [],
}
WINDOWS = {"samples": 5000, "fid": [23.0, 24.0], "clip": [31.6, 31.9]}


def decide(folders, accuracy=ACCURACY, audits=(), division="open") -> dict:
    return scenario.scenario_verdict(folders, accuracy, audits, WINDOWS, "v6.1", division)


def failed(result: dict) -> set[str]:
    return {check["id"] for check in result["checks"] if check["verdict"] == FAIL}


def test_a_sound_scenario_is_official_and_passes(folders):
    result = decide(folders)
    assert (result["verdict"], result["official"], result["shortened"]) == (PASS, True, [])
    assert result["summary"] == "Offline: 17 images/s, VALID; accuracy inside the windows."
    assert result["metric"] == {
        "name": "throughput",
        "value": 17.0,
        "unit": "images/s",
        "better": "higher",
    }
    assert result["valid"] is True
    assert result["early_stopping"] is None
    assert result["modes"] == list(MODES)
    assert set(result["latency"]) == {"mean", *logs.PERCENTILES}
    json.dumps(result, allow_nan=False)


def test_audits_are_taken_over(folders):
    check = {
        "id": "audit.Offline.TEST01.images",
        "rule": "r",
        "value": 1,
        "verdict": FAIL,
        "source": "s",
        "low": None,
        "high": None,
        "margin": None,
    }
    result = decide(folders, audits=[{"test": "TEST01", "checks": [check]}])
    assert failed(result) == {"audit.Offline.TEST01.images"}
    ids = {check["id"] for check in result["checks"]}
    assert "audit.Offline.TEST04" in ids
    assert "audit.Offline.TEST01" not in ids


def test_tests_of_two_engines_are_caught(folders):
    record = json.loads((folders["accuracy"] / "run.json").read_text())
    (folders["accuracy"] / "run.json").write_text(json.dumps(record | {"engine": "f" * 64}))
    assert failed(decide(folders)) == {"loadgen.Offline.uniform"}


def test_accuracy_is_judged(folders):
    result = decide(folders, ACCURACY | {"fid": 22.9, "samples": 5000})
    assert failed(result) == {"accuracy.Offline.fid"}
    assert "accuracy outside the windows" in result["summary"]
    result = decide(folders, ACCURACY | {"samples": 4999})
    assert failed(result) == {"accuracy.Offline.count"}
    lost = ACCURACY | {"compliance_images": {}, "compliance_images_beyond": [1] * 10}
    assert failed(decide(folders, lost)) == {"accuracy.Offline.images"}
    random = ACCURACY | {"comparable": {"value": False, "reasons": ["random weights"]}}
    assert not failed(decide(folders, random))
    assert failed(decide(folders, random, division="closed")) == {"accuracy.Offline.protocol"}


HOPPER = {"kind": "cuda", "name": "Some Hopper GPU", "arch": "sm_90"}


def decide_record(folders, number=6, windows=None, division="closed", **changes) -> str:
    """The sentence on the 17 images/s of `number` GPUs, where all that a record asks for is so."""
    other = changes.pop("run", {})
    for folder in folders.values():
        path = folder / "run.json"
        facts = json.loads(path.read_text())
        facts |= {"model": MLPERF_MODEL, "devices": [HOPPER] * number, **other}
        path.write_text(json.dumps(facts))
    checks = [{"test": test, "checks": []} for test in ("TEST01", "TEST04")]
    result = scenario.scenario_verdict(
        folders, ACCURACY | changes, checks, windows or CLOSED_WINDOWS, "v6.1", division
    )
    return result["summary"]


def test_a_record_is_named(folders):
    said = "2.833 images/s a GPU, faster than the last published record of a Hopper GPU (2.52 "
    assert said in decide_record(folders)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 7},
        {"division": "open"},
        {"windows": WINDOWS},
        {"fid": 24.0},
        {"fid": 24.0, "windows": WINDOWS | {"fid": [23.0, 25.0]}},
        {"comparable": {"value": False, "reasons": ["random weights"]}},
        {"run": {"model": "micro-sdxl"}},
        {"run": {"devices": [HOPPER | {"arch": "sm_100"}] * 6}},
        {"run": {"stand_in": {"side": 128}}},
    ],
    ids=str,
)
def test_no_record_is_named_without_everything(folders, changes):
    assert "record" not in decide_record(folders, **changes)


def test_what_was_not_run_is_listed_and_said(folders):
    result = decide({"performance": folders["performance"]}, None)
    assert result["verdict"] == PASS
    assert not result["official"]
    assert result["shortened"] == ["modes: without accuracy"]
    ids = {check["id"]: check for check in result["checks"]}
    assert ids["loadgen.Offline.accuracy.accuracy_count"]["value"] == "not run"
    assert ids["loadgen.Offline.TEST04.audit"]["verdict"] == NOT_APPLICABLE
    assert ids["accuracy.Offline.fid"]["value"] == "not run"
    without = decide({"accuracy": folders["accuracy"]})
    assert (without["valid"], without["metric"]) == (None, None)
    assert without["summary"].startswith("Offline: performance not run; accuracy inside")
    with pytest.raises(ValueError, match="no runs given"):
        decide({})


def test_damaged_logs_fail_and_are_named(folders):
    path = folders["performance"] / DETAIL
    path.write_text(path.read_text()[:-40])
    result = decide(folders)
    assert failed(result) == {"loadgen.Offline.performance.logs"}
    (check,) = (c for c in result["checks"] if c["id"] == "loadgen.Offline.performance.logs")
    assert "is not valid JSON" in check["value"]
    assert result["metric"] is None


def test_errors_and_relabelled_summaries_on_disk(folders):
    add_error(folders["performance"] / DETAIL, "worker lost")
    set_summary(folders["TEST04"] / SUMMARY, "Result is", "INVALID")
    set_detail(folders["TEST01"] / DETAIL, "result_validity", "INVALID")
    assert failed(decide(folders)) == {
        "loadgen.Offline.performance.errors",
        "loadgen.Offline.TEST04.result_shown",
        "loadgen.Offline.TEST01.result",
        "loadgen.Offline.TEST01.result_shown",
    }


def test_stand_ins_are_not_official(tmp_path):
    folder = write_run(tmp_path / "p", "Server", "performance", "v6.1", record={"stand_in": True})
    result = decide({"performance": folder}, None)
    assert "stand-in: the pictures are drawn without a model" in result["shortened"]
    assert result["target"] == {"name": "99th percentile latency", "value": 20.0, "unit": "s"}
    assert result["early_stopping"]["met"] is True
    assert result["early_stopping"]["needed"] == 459
