"""MLPerf's log of a training: its lines, complete and in order, from facts and evaluations.

The clock is the training's own. Evaluation is offline and not timed: the run stops at the first
checkpoint that passes (MLPerf Training policies, text-to-image).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.base.files import read_text, write_text

BENCHMARK = "stable_diffusion"
RULESET = "5.0.0"
FID, CLIP = 90.0, 0.15
PREFIX = ":::MLLOG "
POINT, BEGIN, END = "POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint's scores: `samples` images seen, CLIP as a cosine."""

    step: int
    samples: int
    fid: float
    clip: float

    @property
    def passes(self) -> bool:
        """Whether both targets are met."""
        return self.fid <= FID and self.clip >= CLIP


@dataclass(frozen=True)
class Submitter:
    """Who trains, in which division, on what (onprem, cloud, preview, research)."""

    organisation: str
    division: str
    status: str
    platform: str


def evaluation(scores: dict[str, Any]) -> Evaluation:
    """A checkpoint's scores, of those that its rule writes."""
    return Evaluation(scores["step"], scores["samples_count"], scores["fid"], scores["clip"])


def first_passing(evaluations: Iterable[Evaluation]) -> Evaluation | None:
    """The evaluation of the earliest checkpoint that meets both targets."""
    return min((each for each in evaluations if each.passes), key=lambda e: e.step, default=None)


def log_lines(
    facts: dict[str, Any],
    evaluations: list[Evaluation],
    submitter: Submitter,
    eval_samples: int,
) -> list[str]:
    """Lines of a run's log. `facts` is what the training's manifest holds.

    Without a checkpoint that passes, the run stops as aborted at its last. All evaluations are
    logged, those of later checkpoints too: the ruleset wants two.
    """
    settings = facts["settings"]
    passed = first_passing(evaluations)
    last = passed.samples if passed else max(each.samples for each in evaluations)
    kept = [event for event in facts["events"] if _samples(event) <= last]
    first = facts["events"][0]["time_ms"]
    ended = max(event["time_ms"] for event in kept if event["key"] == "block_stop")
    lines = [_line(first, POINT, key, value) for key, value in _header(submitter)]
    lines.append(_line(first, POINT, "cache_clear", True))
    named = _settings(settings, facts["samples"], eval_samples)
    for event in kept:
        lines.append(
            _line(
                event["time_ms"],
                event["event_type"],
                event["key"],
                event["value"],
                event["metadata"],
            )
        )
        if event["key"] == "init_start":
            lines += [_line(event["time_ms"], POINT, key, value) for key, value in named]
    status = {"status": "success" if passed else "aborted", "samples_count": last}
    for each in sorted(evaluations, key=lambda e: e.step):
        lines += _evaluation(ended, each)
    # The checker of convergence looks for evaluations only in the lines before this one.
    lines.append(_line(ended, END, "run_stop", None, status))
    return lines


def write_log(path: Path, lines: list[str]) -> None:
    """Publish a log."""
    write_text(path, "\n".join(lines) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log, whose other lines are passed over.

    Raises ValueError with file and line for an event that is not JSON.
    """
    events = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.startswith(PREFIX):
            try:
                events.append(json.loads(line.removeprefix(PREFIX)))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: not valid JSON ({error})") from error
    return events


def minutes(events: list[dict[str, Any]]) -> float:
    """Minutes from run_start to run_stop."""
    times = {event["key"]: event["time_ms"] for event in events}
    return float(times["run_stop"] - times["run_start"]) / 60_000


def _line(
    time_ms: int, kind: str, key: str, value: Any, metadata: dict[str, Any] | None = None
) -> str:
    event = {
        "namespace": "",
        "time_ms": time_ms,
        "event_type": kind,
        "key": key,
        "value": value,
        # The seed checker compares places in the source, which have to be the same in all runs.
        "metadata": {"file": "t2i/training/trainer.py", "lineno": 1, **(metadata or {})},
    }
    return PREFIX + json.dumps(event)


def _samples(event: dict[str, Any]) -> int:
    seen: int = event["metadata"].get("samples_count", 0)
    return seen


def _header(submitter: Submitter) -> list[tuple[str, Any]]:
    return [
        ("submission_benchmark", BENCHMARK),
        ("submission_division", submitter.division),
        ("submission_org", submitter.organisation),
        ("submission_platform", submitter.platform),
        ("submission_status", submitter.status),
    ]


def _settings(
    settings: dict[str, Any], train_samples: int, eval_samples: int
) -> list[tuple[str, Any]]:
    return [
        ("seed", settings["seed"]),
        ("global_batch_size", settings["batch"]),
        ("gradient_accumulation_steps", 1),
        ("train_samples", train_samples),
        ("eval_samples", eval_samples),
        ("opt_name", "adamw"),
        ("opt_adamw_beta_1", 0.9),
        ("opt_adamw_beta_2", 0.999),
        ("opt_adamw_epsilon", 1e-08),
        ("opt_adamw_weight_decay", 0.01),
        ("opt_base_learning_rate", settings["learning_rate"]),
        ("opt_learning_rate_warmup_steps", settings["warm_up"]),
    ]


def _evaluation(time_ms: int, each: Evaluation) -> list[str]:
    seen = {"samples_count": each.samples}
    return [
        _line(time_ms, BEGIN, "eval_start", None, seen),
        _line(time_ms, POINT, "eval_accuracy", each.fid, {**seen, "metric": "FID"}),
        _line(time_ms, POINT, "eval_accuracy", each.clip, {**seen, "metric": "CLIP"}),
        _line(time_ms, END, "eval_stop", None, seen),
    ]
