"""Rules on the audits TEST01 and TEST04 of a submission, apart from their logs.

Sources: compliance/TEST01 and TEST04 verify_performance.py, verify_accuracy.py, and
compliance_check.py of the submission checker (mlcommons/inference at b66003e1).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from t2i.base.check import CHECKER, Finding, Rule, listed, within
from t2i.compliance.audit_images import expected_images
from t2i.submission.checks.accuracy import scores_in
from t2i.submission.checks.findings import number, read_text
from t2i.submission.checks.logs import RunLogs
from t2i.submission.layout import NOT_DETERMINISTIC

ALLOWED = 0.10  # TEST01 may be that share slower or faster, TEST04 that share faster
DELTAS = {"clip": 0.01, "fid": 0.02}
SCORE = re.compile(r"^(reference|test) score = (\S+)$", re.M | re.I)
# The same in the text that this workflow writes where the official script left none.
OUR_SCORES = re.compile(r" (\S+) (?:s|images/s), performance run (\S+) (?:s|images/s): ratio ")
OUR_IMAGES = re.compile(r"^pass: .*: (\d{1,9}) images, all equal$", re.M)
COUNTS = re.compile(r"^(num_\w+) = (\d{1,9})$", re.M)
NONE_OF = (
    "num_acc_log_duplicate_keys",
    "num_acc_log_data_mismatch",
    "num_perf_log_data_mismatch",
    "num_missing_qsl_idxs",
)


@dataclass(frozen=True)
class Audit:
    """An audit's folder, its run's logs, and those of the performance run it is compared with."""

    folder: Path
    logs: RunLogs
    performance: RunLogs


def _passed(path: Path) -> list[str]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    problems = [] if "TEST PASS" in lines else [f"{path.name}: no line 'TEST PASS'"]
    problems += [f"{path.name}: {line}" for line in lines if line.startswith("TEST FAIL")]
    return problems


def _verified(audit: Audit) -> Finding:
    path = audit.folder / "verify_performance.txt"
    problems = _passed(path)
    text = read_text(path)
    scores = {name.lower(): number(score) for name, score in SCORE.findall(text)}
    if not scores and (ours := OUR_SCORES.search(text)):
        scores = {"test": number(ours[1]), "reference": number(ours[2])}
    for name, run in (("reference", audit.performance), ("test", audit.logs)):
        if name not in scores:
            problems.append(f"{path.name}: no {name} score, which the script writes")
        elif not _tells(scores[name], run):
            problems.append(
                f"{path.name}: {name} score {scores[name]:g}; "
                f"the logs say {run.metric.value:g} {run.metric.unit}"
            )
    return listed(problems, "TEST PASS")


def _tells(score: float, run: RunLogs) -> bool:
    """Whether a score is a run's: TEST01 gives latencies in ns, TEST04 queries a second."""
    metric = run.metric
    forms = [metric.value] if metric.unit != "s" else [metric.value * 1e9, 1 / metric.value]
    return any(math.isclose(score, form, rel_tol=1e-2) for form in forms)


def _performance(audit: Audit) -> Finding:
    measured, wanted = audit.logs.metric, audit.performance.metric
    ratio = measured.value / wanted.value
    if audit.logs.mode == "TEST01":
        return within(ratio, 1 - ALLOWED, 1 + ALLOWED)
    faster = ratio if measured.better == "higher" else 1 / ratio
    return within(faster, 0, 1 + ALLOWED)


def _limit(audit: Audit) -> Finding:
    keys = ("effective_target_latency_ns", "effective_min_duration_ms")
    problems = (
        f"{key}: {limit!r}; the performance run has {wanted!r}"
        for key in keys
        for limit, wanted in [(audit.logs.detail.get(key), audit.performance.detail.get(key))]
        if limit != wanted
    )
    return listed(problems, "those of the performance run")


def _accuracy(audit: Audit) -> Finding:
    path = audit.folder / "verify_accuracy.txt"
    problems = _passed(path)
    text = read_text(path)
    counts = {name: int(number) for name, number in COUNTS.findall(text)}
    if ours := OUR_IMAGES.search(text):
        counts.setdefault("num_perf_log_entries", int(ours[1]))
    logged = counts.get("num_perf_log_entries")
    low, high = expected_images(audit.logs.detail)
    if logged is None:
        problems.append(f"{path.name}: no num_perf_log_entries, which the script writes")
    elif not low <= logged <= high:
        problems.append(
            f"{path.name}: num_perf_log_entries = {logged}; LoadGen logged {low} to {high}"
        )
    problems += [f"{name}: {counts[name]}" for name in NONE_OF if counts.get(name, 0)]
    if not problems:
        return Finding(f"TEST PASS, {counts.get('num_perf_log_entries', 'some')} images", True)
    baseline, compliance = (
        scores_in(audit.folder / "accuracy" / name) for name in NOT_DETERMINISTIC
    )
    deltas = {name: abs(1 - baseline[name] / compliance[name]) for name in DELTAS}
    problems = [
        f"{name}: {baseline[name]:g} in the accuracy run, {compliance[name]:g} in TEST01's"
        for name, delta in deltas.items()
        if not delta <= DELTAS[name]
    ]
    text = ", ".join(f"{name} {delta:.3%}" for name, delta in deltas.items())
    return listed(problems, f"images differ, scores differ by {text}")


AUDIT_RULES = (
    Rule("verified", "verify_performance.txt passes, with the logs' figures", CHECKER, _verified),
    Rule("speed", "the audit's performance is the performance run's", CHECKER, _performance),
    Rule("limits", "duration and latency limit are the performance run's", CHECKER, _limit),
)
TEST01_RULES = (
    *AUDIT_RULES,
    Rule("images", "the images are the accuracy run's", CHECKER, _accuracy),
)
