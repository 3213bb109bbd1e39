"""This workflow's own judgement on a submission: every rule, whether or not it applies.

It asks for all that the submission checker (mlcommons/inference at b66003e1) asks for, and for what
that does not look at: the verdict on a run, errors of performance runs, the pixels of images, their
captions, and figures that are told twice. Nothing but the tree and `Expected` is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from t2i.compliance import (
    CHECKER,
    FAIL,
    NOT_APPLICABLE,
    OURS,
    Check,
    check_records,
    verdict,
)
from t2i.config import CLOSED_WINDOWS
from t2i.loadgen.rounds import AUDITS, ROUNDS, required_scenarios
from t2i.submission.accuracy_checks import ACCURACY_RULES, LOG_RULES, Accuracy
from t2i.submission.audit_checks import AUDIT_RULES, TEST01_RULES, Audit
from t2i.submission.findings import Finding, Rule, is_number, judge
from t2i.submission.image_checks import IMAGE_RULES, Shown
from t2i.submission.json_checks import SYSTEM_RULES, measurement_finding
from t2i.submission.layout import RUN, Layout, tree_files
from t2i.submission.log_checks import RunLogs, log_checks
from t2i.submission.official import official_checks
from t2i.submission.tree_checks import TREE_RULES, TreeFiles

CLIP_WINDOW: Sequence[float] = cast(list[float], CLOSED_WINDOWS["clip"])
FID_WINDOW: Sequence[float] = cast(list[float], CLOSED_WINDOWS["fid"])
# A figure of a log has six digits.
SAME_METRIC = 1e-4
NONE_SHOWN = "none of the samples that are shown is among those of the run"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a tree is judged by.

    `captions` are by sample index; `side` is the height and width of images (None: any single
    size). What follows may be left out, and is then not judged by: `windows` inclusive bounds of
    clip and fid (None: the closed division's), `image_ids` the samples shown (None: the round's),
    `scenarios` (None: those required), `files` {path: {"size", "sha256"}} of the tree as built,
    `images` sha256 of raw pixels by scenario and sample index, `logs` sha256 of the whole accuracy
    log and `metrics` the official figure by scenario. `shortened` says why a run is not official.
    """

    round: str
    division: str
    system_type: str
    submitter: str
    system: str
    captions: Sequence[str]
    side: int | None
    windows: Mapping[str, Sequence[float]] | None = None
    image_ids: Sequence[int] | None = None
    scenarios: Sequence[str] | None = None
    files: Mapping[str, Mapping[str, Any]] | None = None
    images: Mapping[str, Mapping[str, str]] | None = None
    logs: Mapping[str, str] | None = None
    metrics: Mapping[str, float] | None = None
    shortened: Sequence[str] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Samples whose images are shown; those beyond the samples only where none may be."""
        ids = self.image_ids or ROUNDS[self.round].image_ids
        return tuple(index for index in ids if not self.shortened or index < len(self.captions))

    def required(self) -> tuple[str, ...]:
        """Scenarios that must be there."""
        if self.scenarios is not None:
            return tuple(self.scenarios)
        if self.system_type == "datacenter":  # which `required_scenarios` refuses in some rounds
            return ("Server", "Offline")
        return required_scenarios(self.round, self.division, self.system_type)


def check_tree(tree: Path, expected: Expected) -> list[Check]:
    """Every rule on the tree in the folder `tree`, which holds closed/ or open/.

    A tree may be wrong in any way: what is missing or cannot be read fails its rules, nothing is
    raised for it. Ids are submission.{what}, submission.{scenario}.{what} and
    submission.{scenario}.{TEST}.{what}.
    """
    layout = Layout(expected.round, expected.division, expected.submitter, expected.system)
    required = expected.required()
    files = TreeFiles(tree, layout, expected.system_type, required, expected.ids, expected.files)
    checks = _judge(TREE_RULES, "submission", expected, files)
    checks += _judge(SYSTEM_RULES, "submission", expected, tree, layout, expected.system_type)
    for scenario in required:
        checks += _scenario(tree, layout, scenario, expected)
    return checks


def _judge(rules: Sequence[Rule], prefix: str, expected: Expected, *arguments: Any) -> list[Check]:
    closed = expected.division == "closed"
    return judge(rules, prefix, arguments, closed=closed, shortened=expected.shortened)


def _scenario(tree: Path, layout: Layout, scenario: str, expected: Expected) -> list[Check]:
    prefix = f"submission.{scenario}"
    results = tree / layout.results(scenario)
    performance = RunLogs(results / RUN, scenario, "performance", expected.round)
    accuracy = RunLogs(results / "accuracy", scenario, "accuracy", expected.round)
    digest = (expected.logs or {}).get(scenario)
    windows = expected.windows or {"clip": CLIP_WINDOW, "fid": FID_WINDOW}
    scores = Accuracy(results / "accuracy", digest, windows, bool(expected.shortened))
    images = (expected.images or {}).get(scenario)
    folder = results / "accuracy" / "images"
    shown = Shown(folder, expected.ids, expected.captions, expected.side, images)
    measured = (tree / layout.measurements(tree, scenario),)
    given = (performance, (expected.metrics or {}).get(scenario))
    checks = judge(MEASUREMENT_RULES, prefix, measured, closed=False, shortened=())
    short = (expected.shortened, len(expected.captions))
    checks += log_checks(performance, f"{prefix}.performance", *short)
    checks += _judge(METRIC_RULES, f"{prefix}.performance", expected, *given)
    checks += log_checks(accuracy, f"{prefix}.accuracy", *short)
    checks += _judge(ACCURACY_RULES, f"{prefix}.accuracy", expected, scores)
    if expected.ids:
        checks += _judge(IMAGE_RULES, f"{prefix}.accuracy", expected, shown)
    else:
        checks += [
            Check(
                f"{prefix}.accuracy.{rule.what}", rule.rule, NONE_SHOWN, NOT_APPLICABLE, rule.source
            )
            for rule in IMAGE_RULES
        ]
    for test in AUDITS:
        checks += _audit(tree / layout.audit(scenario, test), test, performance, expected)
    return checks


def _audit(folder: Path, test: str, performance: RunLogs, expected: Expected) -> list[Check]:
    prefix = f"submission.{performance.scenario}.{test}"
    if expected.division != "closed":
        why = "audits are asked for in the closed division only"
        return [Check(prefix, f"{test} passes", why, NOT_APPLICABLE, OURS)]
    run = RunLogs(folder / RUN, performance.scenario, test, expected.round)
    checks = log_checks(run, prefix, expected.shortened, len(expected.captions))
    rules = TEST01_RULES if test == "TEST01" else AUDIT_RULES
    checks += _judge(rules, prefix, expected, Audit(folder, run, performance))
    if test == "TEST01":
        short = bool(expected.shortened)
        accuracy = Accuracy(folder / "accuracy", None, {}, short)
        checks += _judge(LOG_RULES, f"{prefix}.accuracy", expected, accuracy)
    return checks


def _metric(performance: RunLogs, given: float | None) -> Finding:
    if given is None:
        return Finding("no figure was recorded", None)
    found = performance.metric.value
    same = is_number(given) and abs(found - given) <= SAME_METRIC * abs(given)
    return Finding(found if same else f"{found!r}; recorded as {given!r}", same)


MEASUREMENT_RULES = (
    Rule("measurements", "the measurement is described", CHECKER, measurement_finding),
)
METRIC_RULES = (Rule("recorded", "the result is the one that was recorded", OURS, _metric),)


def submission_result(
    tree: Path, expected: Expected, checks: Sequence[Check], official: Mapping[str, Any]
) -> dict[str, Any]:
    """submission.json: this workflow's checks, and what the submission checker said.

    `official` is from `t2i.submission.official`; its verdict counts as a check.
    """
    judged = [*checks, *official_checks(dict(official), bool(expected.shortened))]
    return {
        "schema": 1,
        "round": expected.round,
        "division": expected.division,
        "system_type": expected.system_type,
        "submitter": expected.submitter,
        "system": expected.system,
        "files": tree_files(tree),
        "checks": check_records(judged),
        "official": dict(official),
        "verdict": verdict(judged),
        "summary": _summary(judged, expected, official),
    }


def _summary(checks: Sequence[Check], expected: Expected, official: Mapping[str, Any]) -> str:
    failed = [check.id for check in checks if check.verdict == FAIL]
    counted = sum(check.verdict != NOT_APPLICABLE for check in checks)
    text = (
        f"{len(failed)} of {counted} checks failed: {', '.join(failed)}"
        if failed
        else f"All {counted} checks that apply passed"
    )
    if official["state"] != "run":
        text += f"; MLPerf's submission checker was not run: {official['why']}"
    if expected.shortened:
        text += f"; no official submission: {'; '.join(expected.shortened)}"
    return f"{text}."
