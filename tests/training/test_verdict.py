"""MLPerf's log of a training: complete by the official checker, and what our verdict refuses."""

import json
from pathlib import Path

import pytest

from t2i.compliance.checkout import Finished
from t2i.training.mllog import (
    PREFIX,
    Evaluation,
    Submitter,
    first_passing,
    log_lines,
    minutes,
    read_log,
    write_log,
)
from t2i.training.verdict import MENDS, official_check, run_official_checker, training_checks
from training_logs import facts

PASSING = Evaluation(3000, 1_536_000, 80.0, 0.16)
EVALUATIONS = [
    Evaluation(1000, 512_000, 250.0, 0.05),
    Evaluation(2000, 1_024_000, 90.5, 0.17),
    PASSING,
    Evaluation(4000, 2_048_000, 60.0, 0.19),
]


def written(path: Path, division: str, evaluations=EVALUATIONS) -> list[dict]:
    submitter = Submitter("example", division, "research", "machine")
    write_log(path, log_lines(facts(), list(evaluations), submitter, 30_000))
    return read_log(path)


@pytest.mark.parametrize("division", ["closed", "open"])
def test_a_log_is_what_the_official_checker_wants(division: str, tmp_path: Path) -> None:
    events = written(tmp_path / "result_0.txt", division)
    assert {check.verdict for check in training_checks(events, division == "closed")} <= {
        "pass",
        "not applicable",
    }
    assert official_check(run_official_checker(tmp_path / "result_0.txt")).verdict == "pass"


def test_the_time_is_that_of_the_first_passing_checkpoint(tmp_path: Path) -> None:
    events = written(tmp_path / "result_0.txt", "closed")
    assert first_passing(reversed(EVALUATIONS)) == PASSING
    assert minutes(events) == 3.0
    (stop,) = [event for event in events if event["key"] == "run_stop"]
    assert stop["metadata"]["status"] == "success"
    assert stop["metadata"]["samples_count"] == PASSING.samples


def test_without_a_passing_checkpoint_the_run_is_aborted(tmp_path: Path) -> None:
    events = written(tmp_path / "result_0.txt", "open", EVALUATIONS[:2])
    (stop,) = [event for event in events if event["key"] == "run_stop"]
    assert stop["metadata"]["status"] == "aborted"
    assert minutes(events) == 2.0


def edited(events: list[dict], key: str, **changes) -> list[dict]:
    return [{**event, **changes} if event["key"] == key else event for event in events]


def without(events: list[dict], key: str) -> list[dict]:
    return [event for event in events if event["key"] != key]


REFUSED = {
    "a missing line": ("keys", lambda events: without(events, "gradient_accumulation_steps")),
    "a line twice": (
        "keys",
        lambda events: events + [e for e in events if e["key"] == "global_batch_size"],
    ),
    "no block": ("keys", lambda events: without(events, "block_stop")),
    "another optimiser": ("values", lambda events: edited(events, "opt_name", value="adam")),
    "another beta": ("values", lambda events: edited(events, "opt_adamw_beta_2", value=0.95)),
    "a run before its initialisation": (
        "order",
        lambda events: edited(events, "run_start", time_ms=-5),
    ),
    "evaluations after the end": (
        "order",
        lambda events: [events[-1] if n == 20 else e for n, e in enumerate(events)] + events[20:21],
    ),
    "no status": ("stop", lambda events: edited(events, "run_stop", metadata={})),
    "a wrong status": (
        "stop",
        lambda events: edited(events, "run_stop", metadata={"status": "aborted"}),
    ),
    "one metric": (
        "evaluations",
        lambda events: [e for e in events if e["metadata"].get("metric") != "CLIP"],
    ),
    "no number": (
        "evaluations",
        lambda events: edited(events, "eval_accuracy", value=float("nan")),
    ),
    "no seed": ("seed", lambda events: edited(events, "seed", value="random")),
    "missed targets": (
        "targets",
        lambda events: [
            {**e, "value": 95.0} if e["metadata"].get("metric") == "FID" else e for e in events
        ],
    ),
    "fewer samples": ("data", lambda events: edited(events, "eval_samples", value=5000)),
    "another interval": ("interval", lambda events: edited(events, "global_batch_size", value=768)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_log_is_refused_with_its_mend(name: str, tmp_path: Path) -> None:
    what, edit = REFUSED[name]
    events = edit(written(tmp_path / "result_0.txt", "closed"))
    failed = {check.id: check for check in training_checks(events, True) if check.verdict == "fail"}
    assert failed[f"training.{what}"].mend == MENDS[what]


@pytest.mark.parametrize("name", ["a missing line", "another optimiser", "no status"])
def test_the_official_checker_refuses_it_too(name: str, tmp_path: Path) -> None:
    _, edit = REFUSED[name]
    path = tmp_path / "result_0.txt"
    events = edit(written(path, "closed"))
    write_log(path, [PREFIX + json.dumps(event) for event in events])
    assert official_check(run_official_checker(path)).verdict == "fail"


def test_a_checker_that_does_not_answer_has_not_passed() -> None:
    assert official_check(Finished(1, "")).verdict == "fail"
    assert official_check(Finished(0, "nothing")).verdict == "fail"
    assert official_check(Finished(1, "INFO - SUCCESS")).verdict == "fail"
