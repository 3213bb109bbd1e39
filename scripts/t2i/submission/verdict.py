"""This workflow's own judgement on a submission: every rule, whether or not it applies.

It asks for all that the submission checker (mlcommons/inference at b66003e1) asks for, and for what
that does not look at: the verdict on a run, errors of performance runs, the pixels of images, their
captions, and figures that appear twice. It reads the tree and `Expected` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from t2i.base.check import (
    CHECKER,
    FAIL,
    NOT_APPLICABLE,
    OURS,
    RULES,
    Check,
    Finding,
    Rule,
    check_records,
    is_number,
    judge,
    listed,
    verdict,
)
from t2i.base.files import file_table
from t2i.loadgen.logs import read_detail
from t2i.mlperf import (
    AUDITS,
    CLOSED_WINDOWS,
    DETAIL,
    INFERRED,
    OFFICIAL_SAMPLES,
    ROUNDS,
    required_scenarios,
)
from t2i.submission.checks.accuracy import ACCURACY_RULES, AUDIT_LOG_RULES, Accuracy
from t2i.submission.checks.audits import AUDIT_RULES, TEST01_RULES, Audit
from t2i.submission.checks.images import IMAGE_RULES, Shown
from t2i.submission.checks.logs import RunLogs, log_checks
from t2i.submission.checks.mending import explained
from t2i.submission.checks.settings import CONF_RULES, SETTING_RULES, TIMED_RULES
from t2i.submission.checks.system import (
    SYSTEM_RULES,
    engine_finding,
    measurement_finding,
    retraining_finding,
)
from t2i.submission.checks.times import DISTINCT_RULES, RUN_RULES, TIME_RULES
from t2i.submission.checks.tree import TREE_RULES, TreeFiles
from t2i.submission.layout import RUN, Layout
from t2i.submission.official import official_checks

CLIP_WINDOW: Sequence[float] = cast(list[float], CLOSED_WINDOWS["clip"])
FID_WINDOW: Sequence[float] = cast(list[float], CLOSED_WINDOWS["fid"])
# A figure of a log has six digits.
SAME_METRIC = 1e-4
DOCUMENTS = ("measurements.json", "README.md", "user.conf", "mlperf.conf")
NONE_SHOWN = "none of the samples that are shown is among those of the run"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a tree is judged by.

    `captions` are by sample index (None: unknown); `side` is the height and width of images
    (None: any single size). What follows may be left out, and is then not judged by: `windows`
    inclusive bounds of clip and fid (None: the closed division's), `image_ids` the samples shown
    (None: the round's), `scenarios` (None: those required), `files` {path: {"size", "sha256"}} of
    the tree as built, `images` sha256 of raw pixels by scenario and sample index, `logs` sha256 of
    the whole accuracy log and `metrics` the official figure by scenario. `shortened` says why a run
    is not official, `rehearsal` that no model was run.
    """

    round: str
    division: str
    system_type: str
    submitter: str
    system: str
    captions: Sequence[str] | None
    side: int | None
    windows: Mapping[str, Sequence[float]] | None = None
    image_ids: Sequence[int] | None = None
    scenarios: Sequence[str] | None = None
    files: Mapping[str, Mapping[str, Any]] | None = None
    images: Mapping[str, Mapping[str, str]] | None = None
    logs: Mapping[str, str] | None = None
    metrics: Mapping[str, float] | None = None
    shortened: Sequence[str] = ()
    rehearsal: bool = False

    @property
    def layout(self) -> Layout:
        """Where the system's files lie."""
        return Layout(self.round, self.division, self.submitter, self.system)

    @property
    def count(self) -> int:
        """Samples of the data set."""
        return OFFICIAL_SAMPLES if self.captions is None else len(self.captions)

    @property
    def ids(self) -> tuple[int, ...]:
        """Samples whose images are shown; those beyond the samples only where none may be."""
        ids = self.image_ids or ROUNDS[self.round].image_ids
        return tuple(index for index in ids if not self.shortened or index < self.count)

    def required(self) -> tuple[str, ...]:
        """Scenarios that must be there."""
        if self.scenarios is not None:
            return tuple(self.scenarios)
        if self.system_type == "datacenter":  # which `required_scenarios` refuses in some rounds
            return ("Server", "Offline")
        return required_scenarios(self.round, self.division, self.system_type)


def recorded(
    expected: Expected, scores: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]
) -> Expected:
    """With what a run's accuracy.json's and verdict.json's say of images, logs and figures."""
    metrics = {entry["scenario"]: entry["metric"] for entry in verdicts}
    return replace(
        expected,
        images={score["scenario"]: score["compliance_images"] for score in scores},
        logs={score["scenario"]: score["log"]["sha256"] for score in scores},
        metrics={name: metric["value"] for name, metric in metrics.items() if metric},
    )


def check_tree(tree: Path, expected: Expected, others: Sequence[Layout] = ()) -> list[Check]:
    """Every rule on the tree in the folder `tree`, which holds closed/ or open/.

    A tree may be wrong in any way: what is missing or cannot be read fails its rules, nothing is
    raised for it. `others` are further systems of the tree, which are judged apart. Ids are
    submission.{what}, submission.{scenario}.{what} and submission.{scenario}.{TEST}.{what}.
    """
    layout = expected.layout
    required = expected.required()
    files = TreeFiles(
        tree, layout, expected.system_type, required, expected.ids, expected.files, others
    )
    checks = _judge(TREE_RULES, "submission", expected, files)
    checks += _judge(SYSTEM_RULES, "submission", expected, tree, layout, expected.system_type)
    runs = {name: list(_runs(tree, layout, name, expected)) for name in required}
    for scenario in required:
        checks += _scenario(tree, layout, scenario, runs[scenario], expected)
    # Those of an inferred scenario are another one's.
    own = [run for name in required for run in runs[name] if run.scenario == name]
    checks += _judge(RUN_RULES, "submission", expected, own)
    return [explained(check) for check in checks]


def _logged(tree: Path, layout: Layout, scenario: str) -> str:
    """The scenario whose logs a scenario's folder shows: itself, or the one it is inferred from."""
    source = INFERRED.get(scenario)
    if source is not None:
        folder = tree / layout.results(scenario)
        logs = (folder / RUN / DETAIL, folder / "accuracy" / DETAIL)
        with suppress(OSError, ValueError):
            if all(read_detail(log).get("effective_scenario") == source for log in logs):
                return source
    return scenario


def _runs(tree: Path, layout: Layout, scenario: str, expected: Expected) -> Iterator[RunLogs]:
    """The runs that a scenario of a tree is made of."""
    results, logged = tree / layout.results(scenario), _logged(tree, layout, scenario)
    yield RunLogs(results / RUN, logged, "performance", expected.round)
    yield RunLogs(results / "accuracy", logged, "accuracy", expected.round)
    for test in AUDITS if expected.division == "closed" else ():
        yield RunLogs(tree / layout.audit(scenario, test) / RUN, logged, test, expected.round)


def _judge(rules: Sequence[Rule], prefix: str, expected: Expected, *arguments: Any) -> list[Check]:
    closed = expected.division == "closed"
    return judge(rules, prefix, arguments, closed=closed, shortened=expected.shortened)


def _scenario(
    tree: Path, layout: Layout, scenario: str, runs: Sequence[RunLogs], expected: Expected
) -> list[Check]:
    prefix = f"submission.{scenario}"
    results = tree / layout.results(scenario)
    performance, accuracy, *audits = runs
    logged = performance.scenario
    digest = (expected.logs or {}).get(logged)
    windows = expected.windows or {"clip": CLIP_WINDOW, "fid": FID_WINDOW}
    images = (expected.images or {}).get(logged)
    folder = results / "accuracy" / "images"
    shown = Shown(folder, expected.ids, expected.captions, expected.side, images)
    scores = Accuracy(
        folder=results / "accuracy",
        digest=digest,
        windows=windows,
        logs=accuracy,
        shown=shown,
        count=expected.count,
        shortened=bool(expected.shortened),
        rehearsal=expected.rehearsal,
    )
    measured, code = tree / layout.measurements(tree, scenario), tree / layout.code
    given = (performance, (expected.metrics or {}).get(logged))
    checks = _judge(MEASUREMENT_RULES, prefix, expected, measured, code)
    if logged != scenario:
        inferred = (tree, layout, scenario, logged, expected.system_type)
        checks += _judge(INFERRED_RULES, prefix, expected, *inferred)
    short = (expected.shortened, expected.count)
    checks += _run(performance, f"{prefix}.performance", expected)
    checks += _judge(METRIC_RULES, f"{prefix}.performance", expected, *given)
    checks += _judge(
        CONF_RULES,
        f"{prefix}.performance",
        expected,
        performance,
        tree / layout.documents(scenario),
    )
    checks += log_checks(accuracy, f"{prefix}.accuracy", *short)
    checks += _judge(SETTING_RULES, f"{prefix}.accuracy", expected, accuracy)
    checks += _judge(ACCURACY_RULES, f"{prefix}.accuracy", expected, scores)
    if expected.ids:
        checks += _judge(IMAGE_RULES, f"{prefix}.accuracy", expected, shown)
    else:
        checks += [
            rule.skipped(f"{prefix}.accuracy.{rule.what}", NONE_SHOWN) for rule in IMAGE_RULES
        ]
    if not audits:
        why = "audits are asked for in the closed division only"
        checks += [
            Check(f"{prefix}.{test}", f"{test} passes", why, NOT_APPLICABLE, OURS)
            for test in AUDITS
        ]
    for run in audits:
        checks += _audit(f"{prefix}.{run.mode}", run, performance, scores, expected)
    return checks


def _run(run: RunLogs, prefix: str, expected: Expected) -> list[Check]:
    """The rules on the logs of a run that was timed."""
    checks = log_checks(run, prefix, expected.shortened, expected.count)
    return checks + _judge((*SETTING_RULES, *TIMED_RULES, *TIME_RULES), prefix, expected, run)


def _audit(
    prefix: str, run: RunLogs, performance: RunLogs, scores: Accuracy, expected: Expected
) -> list[Check]:
    folder = run.folder.parents[1]
    checks = _run(run, prefix, expected)
    checks += _judge(DISTINCT_RULES, prefix, expected, run, performance)
    rules = TEST01_RULES if run.mode == "TEST01" else AUDIT_RULES
    checks += _judge(rules, prefix, expected, Audit(folder, run, performance))
    if run.mode == "TEST01":
        own = replace(
            scores, folder=folder / "accuracy", digest=None, logs=run, accuracy=scores.folder
        )
        checks += _judge(AUDIT_LOG_RULES, f"{prefix}.accuracy", expected, own)
    return checks


def _inferred(tree: Path, layout: Layout, scenario: str, logged: str, system_type: str) -> Finding:
    """Whether an edge system's scenario has the very logs of the one that it is inferred from."""
    problems = [] if "edge" in system_type else [f"{system_type} systems may infer no scenario"]
    places = [tuple(map(layout.results, (scenario, logged)))]
    places += [(layout.audit(scenario, test), layout.audit(logged, test)) for test in AUDITS]
    for here, there in places:
        own, other = file_table(tree / here), file_table(tree / there)
        names = {name for name in {*own, *other} if PurePosixPath(name).name not in DOCUMENTS}
        problems += [
            f"{here / name}: not the file of {logged}"
            for name in sorted(names)
            if own.get(name) != other.get(name)
        ]
    return listed(problems, f"the logs of {logged}")


def _metric(performance: RunLogs, given: float | None) -> Finding:
    if given is None:
        return Finding("no figure was recorded", None)
    measured = performance.metric.value
    same = is_number(given) and abs(measured - given) <= SAME_METRIC * abs(given)
    return Finding(measured if same else f"{measured!r}; recorded as {given!r}", same)


MEASUREMENT_RULES = (
    Rule(
        "measurements",
        "the measurement is described",
        CHECKER,
        lambda path, _: measurement_finding(path),
    ),
    Rule(
        "measurements.retraining",
        "the weights are the published ones, not trained again",
        RULES,
        lambda path, _: retraining_finding(path),
        closed=True,
    ),
    Rule(
        "measurements.engine",
        "the weights' number format is that of the engine",
        OURS,
        engine_finding,
    ),
)
INFERRED_RULES = (
    Rule("inferred", "an inferred scenario shows the logs of its source", CHECKER, _inferred),
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
        "files": file_table(tree),
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
