"""Whether a training's log is what MLPerf's rules ask for, with the mend of what is not.

Sources: MLPerf Training policies, text-to-image; mlperf-logging's ruleset 5.0.0.
"""

from __future__ import annotations

import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i.base.check import FAIL, PASS, Check, Finding, Rule, at_least, judge, listed
from t2i.compliance.checkout import Finished, run_command
from t2i.training.mllog import BENCHMARK, CLIP, FID, RULESET
from t2i.training.settings import checkpoint_interval

POLICY = "MLPerf Training policies, text-to-image"
CHECKER = "mlperf-logging, ruleset 5.0.0"
TRAIN_SAMPLES, EVAL_SAMPLES = 6_513_144, 30_000
CHECKER_SECONDS = 600.0
CHECKPOINTS = 2  # that have to be evaluated
Events = list[dict[str, Any]]

ONCE = (
    *("submission_benchmark", "submission_division", "submission_org", "submission_platform"),
    *("submission_status", "cache_clear", "init_start", "init_stop", "run_start", "run_stop"),
    *("seed", "global_batch_size", "gradient_accumulation_steps", "train_samples", "eval_samples"),
    *("opt_name", "opt_adamw_beta_1", "opt_adamw_beta_2", "opt_adamw_epsilon"),
    *("opt_adamw_weight_decay", "opt_base_learning_rate", "opt_learning_rate_warmup_steps"),
)
SEVERAL = "block_start", "block_stop", "eval_start", "eval_stop", "eval_accuracy"
FIXED = {
    "submission_benchmark": BENCHMARK,
    "gradient_accumulation_steps": 1,
    "opt_name": "adamw",
    "opt_adamw_beta_1": 0.9,
    "opt_adamw_beta_2": 0.999,
    "opt_adamw_epsilon": 1e-08,
    "opt_adamw_weight_decay": 0.01,
}
ORDER = "init_start", "init_stop", "run_start", "run_stop"


def _of(events: Events, key: str) -> Events:
    return [event for event in events if event["key"] == key]


def _value(events: Events, key: str) -> Any:
    return _of(events, key)[0]["value"]


def _scores(events: Events) -> dict[int, dict[str, float]]:
    """Metrics by the number of samples seen."""
    found: dict[int, dict[str, float]] = {}
    for event in _of(events, "eval_accuracy"):
        seen, metric = event["metadata"]["samples_count"], event["metadata"]["metric"]
        found.setdefault(seen, {})[metric] = event["value"]
    return dict(sorted(found.items()))


def _keys(events: Events) -> Finding:
    wrong = [f"{key}: {len(_of(events, key))} lines" for key in ONCE if len(_of(events, key)) != 1]
    wrong += [f"{key}: none" for key in SEVERAL if not _of(events, key)]
    return listed(wrong, f"{len(events)} lines")


def _differing(events: Events, wanted: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {_value(events, key)!r}, expected {value!r}"
        for key, value in wanted.items()
        if _value(events, key) != value
    ]


def _fixed(events: Events) -> Finding:
    return listed(_differing(events, FIXED), "as they have to be")


def _order(events: Events) -> Finding:
    times = [_of(events, key)[0]["time_ms"] for key in ORDER]
    wrong = [] if times == sorted(times) else [f"times {times}"]
    keys = [event["key"] for event in events]
    if "eval_accuracy" in keys[keys.index("run_stop") :]:
        wrong.append("evaluations stand after run_stop")
    return listed(wrong, " < ".join(ORDER))


def _stop(events: Events) -> Finding:
    status = _of(events, "run_stop")[0]["metadata"].get("status")
    wrong = [] if status in ("success", "aborted") else [f"run_stop has the status {status!r}"]
    passed = [seen for seen, own in _scores(events).items() if _passes(own)]
    if not wrong and (status == "success") != bool(passed):
        wrong = [f"status {status}, but {len(passed)} checkpoints reach both targets"]
    return listed(wrong, status)


def _passes(scores: dict[str, float]) -> bool:
    return scores["FID"] <= FID and scores["CLIP"] >= CLIP


def _evaluations(events: Events) -> Finding:
    scores = _scores(events)
    wrong = [
        f"{seen} samples: {', '.join(own)} alone" for seen, own in scores.items() if len(own) != 2
    ]
    wrong += [
        f"{seen} samples: {name} is {value}"
        for seen, own in scores.items()
        for name, value in own.items()
        if not (isinstance(value, float) and math.isfinite(value))
    ]
    return listed(wrong, len(scores)) if wrong else at_least(len(scores), CHECKPOINTS)


def _seed(events: Events) -> Finding:
    seed = _value(events, "seed")
    return Finding(seed, isinstance(seed, int) and not isinstance(seed, bool))


def _targets(events: Events) -> Finding:
    passed = [seen for seen, own in _scores(events).items() if _passes(own)]
    return listed([] if passed else ["no checkpoint reaches both"], f"{passed[:1]} samples")


def _data(events: Events) -> Finding:
    wanted = {"train_samples": TRAIN_SAMPLES, "eval_samples": EVAL_SAMPLES}
    return listed(_differing(events, wanted), "the benchmark's")


def _interval(events: Events) -> Finding:
    batch = _value(events, "global_batch_size")
    step = checkpoint_interval(batch) * batch
    wrong = [f"{seen} samples" for seen in _scores(events) if seen % step]
    return listed(wrong, f"multiples of {step} samples")


RULES = (
    Rule("keys", "Every line of the ruleset is there, as often as it may be.", CHECKER, _keys),
    Rule("values", "Optimiser and benchmark are the reference's.", CHECKER, _fixed),
    Rule(
        "order", "Initialisation ends before the run begins, and run_stop is last.", CHECKER, _order
    ),
    Rule("stop", "run_stop says whether the targets were reached.", CHECKER, _stop),
    Rule(
        "evaluations", "FID and CLIP of at least two checkpoints are finite.", CHECKER, _evaluations
    ),
    Rule("seed", "The run logs its seed.", CHECKER, _seed),
    Rule(
        "targets", f"A checkpoint has FID <= {FID:g} and CLIP >= {CLIP:g}.", POLICY, _targets, True
    ),
    Rule("data", "Samples of training and evaluation are the benchmark's.", POLICY, _data, True),
    Rule("interval", "Checkpoints lie CEIL(512000 / batch) steps apart.", POLICY, _interval, True),
)
MENDS = {
    "keys": "write the log by the rule write_training_log; an edited log does not count",
    "values": "nothing of AdamW may be changed; take training.yaml's values back",
    "order": "the log holds lines of several runs, or the clock was set: train again",
    "stop": "write the log again after all evaluations: delete it and run again",
    "evaluations": "evaluate at least two checkpoints: train longer, or with a shorter interval",
    "seed": "give the training a seed, a whole number",
    "targets": "train longer; the reference passes after about 2.6 million images at batch 512",
    "data": "use all 832 tars and all 30,000 captions; fewer belong into the open division",
    "interval": "leave training.interval_images at 512,000",
}


def with_mends(checks: list[Check], mends: dict[str, str]) -> list[Check]:
    """The checks, those that failed with their mend, by the last part of their ids."""
    return [
        replace(check, mend=mends[check.id.partition(".")[2]]) if check.verdict == FAIL else check
        for check in checks
    ]


def training_checks(events: Events, closed: bool) -> list[Check]:
    """A check of each rule for one run's log."""
    return with_mends(judge(RULES, "training", (events,), closed=closed, shortened=()), MENDS)


def run_mlperf_logging(*words: str) -> Finished:
    """Run one of mlperf-logging's checkers; it writes a log of its own where it is started."""
    with tempfile.TemporaryDirectory() as folder:
        return run_command([sys.executable, "-m", *words], Path(folder), CHECKER_SECONDS)


def run_official_checker(log: Path) -> Finished:
    """Run mlperf-logging's compliance checker on a log."""
    checker = "mlperf_logging.compliance_checker"
    return run_mlperf_logging(
        checker, "--usage", "training", "--ruleset", RULESET, str(log.resolve())
    )


def official_check(finished: Finished) -> Check:
    """What mlperf-logging's own checker said."""
    said = [line for line in finished.text.splitlines() if line.strip()]
    ok = finished.exit == 0 and any(line.endswith("SUCCESS") for line in said)
    value = "SUCCESS" if ok else "; ".join(said[-3:]) or f"no output, exit status {finished.exit}"
    text = "mlperf-logging's compliance checker says SUCCESS."
    return Check("training.checker", text, value, PASS if ok else FAIL, CHECKER)
