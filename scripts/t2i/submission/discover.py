"""What a submission tree claims to be, from the tree alone or from the run that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i.base.check import FAIL, NOT_APPLICABLE, Check
from t2i.base.files import read_json
from t2i.loadgen.conf import shortened
from t2i.loadgen.logs import read_detail
from t2i.mlperf import BENCHMARK, CLOSED_SIDE, DETAIL, ROUNDS
from t2i.submission.checks.run import run_checks
from t2i.submission.layout import BUILT
from t2i.submission.verdict import Expected, check_tree, recorded

DIVISIONS = ("closed", "open", "network")


def systems(tree: Path, captions: Sequence[str] | None) -> Iterator[Expected]:
    """What each system of a tree is to be judged by, from its folders, seeds and descriptions."""
    for results in sorted(tree.glob(f"*/*/results/*/{BENCHMARK}")):
        system, submitter, division = (
            results.parent.name,
            results.parents[2].name,
            results.parents[3].name,
        )
        if division in DIVISIONS:
            yield Expected(
                round=_round(results),
                division=division,
                system_type=_system_type(results.parents[2] / f"systems/{system}.json"),
                submitter=submitter,
                system=system,
                captions=captions,
                side=CLOSED_SIDE if division == "closed" else None,
            )


def _round(results: Path) -> str:
    """The round whose seed a log has; the newest of the layout if no log has one."""
    seeds = {entry.qsl_rng_seed: name for name, entry in ROUNDS.items()}
    for path in sorted(results.glob(f"*/performance/run_1/{DETAIL}")):
        with suppress(OSError, ValueError):
            if (seed := read_detail(path).get("effective_qsl_rng_seed")) in seeds:
                return seeds[seed]
    nested = any(results.glob("*/measurements.json"))
    return max(name for name, entry in ROUNDS.items() if entry.nested == nested)


def _system_type(path: Path) -> str:
    with suppress(OSError, ValueError, AttributeError):
        system_type = read_json(path).get("system_type")
        if system_type in ("edge", "datacenter", "datacenter,edge", "edge,datacenter"):
            return ",".join(sorted(system_type.split(",")))
    return "edge"


def run_of(tree: Path) -> Path | None:
    """The variant's folder that a tree lies in, None where it lies elsewhere."""
    folder = tree.resolve().parent
    return folder if (folder / BUILT).is_file() else None


def of_run(variant: Path, captions: Sequence[str] | None) -> tuple[Expected, dict[str, Any]]:
    """What the tree of a variant's folder is judged by, and its submission_files.json.

    Raises ValueError or OSError where the folder is not that of a run with a submission.
    """
    built = read_json(variant / BUILT)
    request, loadgen = built["request"], variant / "loadgen"
    runs = [read_json(loadgen / name / "performance/run.json") for name in request["scenarios"]]
    scores = [read_json(loadgen / name / "scores/accuracy.json") for name in request["scenarios"]]
    paths = (loadgen / name / "verdict.json" for name in request["scenarios"])
    verdicts = [read_json(path) for path in paths if path.is_file()]
    time = min(run["settings"]["time"] for run in runs)
    count = min(run["settings"]["count"] for run in runs)
    submission = request["submission"]
    expected = Expected(
        round=request["round"],
        division=request["division"],
        system_type=submission["system_type"],
        submitter=submission["submitter"],
        system=submission["system"],
        captions=None if captions is None else captions[:count],
        side=CLOSED_SIDE if request["division"] == "closed" else None,
        image_ids=[int(index) for index in scores[0]["compliance_images"]],
        files=built["files"],
        rehearsal=bool(request["settings"].get("stand_in")),
        shortened=tuple(shortened(time, count)),
    )
    return recorded(expected, scores, verdicts), built


def judge_tree(
    tree: Path, variant: Path | None = None, captions: Sequence[str] | None = None
) -> list[Check]:
    """Every rule on a tree, and beside the run of a variant's folder if that is given.

    `captions` are by sample index (None: unknown). All files are read again. Raises ValueError
    for a folder that is not a submission tree.
    """
    if not tree.is_dir():
        raise ValueError(f"{tree}: there is no such folder")
    if variant is not None:
        expected, built = of_run(variant, captions)
        return [*check_tree(tree, expected), *run_checks(tree, variant / "loadgen", built)]
    all_expected = list(systems(tree, captions))
    if not all_expected:
        raise ValueError(
            f"{tree}: no DIVISION/SUBMITTER/results/SYSTEM/{BENCHMARK} there; give the folder that "
            "holds closed/ or open/"
        )
    checks = []
    for expected in all_expected:
        where = "" if len(all_expected) == 1 else f"{expected.layout.root}/{expected.system}: "
        others = [other.layout for other in all_expected if other is not expected]
        checks += [replace(c, id=where + c.id) for c in check_tree(tree, expected, others)]
    return checks


def summary(checks: Sequence[Check], beside_run: bool) -> str:
    """The findings in plain words: what, where, why it matters, and the mend."""
    failed = [check for check in checks if check.verdict == FAIL]
    counted = sum(check.verdict != NOT_APPLICABLE for check in checks)
    lines = []
    for check in failed:
        lines += [
            f"{check.id}: {check.rule}",
            f"    found: {check.value}",
            f"    why:   {check.why}",
            f"    mend:  {check.mend}",
        ]
    lines.append(
        f"{len(failed)} of {counted} checks failed"
        if failed
        else f"all {counted} checks that apply passed"
    )
    if not beside_run:
        lines.append(
            "Checked without the run that made it: what only the run can show is listed in "
            "docs/loadgen.md."
        )
    return "\n".join(lines)
