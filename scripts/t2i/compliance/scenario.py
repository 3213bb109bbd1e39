"""The checks of LoadGen's tests, and the verdict on a scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from t2i.base.check import (
    CHECKER,
    FAIL,
    NOT_APPLICABLE,
    OURS,
    PASS,
    Check,
    Finding,
    verdict,
)
from t2i.compliance.predicates import Test
from t2i.compliance.record import record_sentence
from t2i.compliance.rules import STOPPED_EARLY, TestRule, rules
from t2i.compliance.variant import protocol_check, window_checks
from t2i.loadgen.conf import fewest_queries, shortened
from t2i.loadgen.logs import (
    Detail,
    Metric,
    Summary,
    latencies,
    metric,
    read_detail,
    read_summary,
)
from t2i.mlperf import (
    AUDITS,
    DETAIL,
    MODES,
    OFFICIAL_SAMPLES,
    ROUNDS,
    SUMMARY,
)

ACCURACY = {
    "fid": ("FID lies inside the accuracy window, neither worse nor better", CHECKER),
    "clip": ("CLIP lies inside the accuracy window, neither worse nor better", CHECKER),
    "protocol": ("scores are taken by MLPerf's protocol", CHECKER),
    "count": ("every sample of the accuracy test was scored", OURS),
    "images": ("the round's ten compliance images are there", CHECKER),
}
CONDITIONS = ("duration_met", "queries_met", "early_stopping", "latency_met")
# What all tests of a scenario must have in common, of run.json.
COMMON = ("run", "variant", "engine", "stand_in", "model", "round", "image", "inputs")


def run_checks(
    scenario: str,
    mode: str,
    summary: Summary,
    detail: Detail,
    run: Mapping[str, Any],
    round_name: str,
) -> list[Check]:
    """Every rule of one test, judged by its logs and run.json (`run`).

    A rule that is not kept only because the run is declared short does not apply. Nothing raises
    for what a log lacks: the rules that need it fail.
    """
    test = Test(scenario, mode, summary, detail, dict(run), ROUNDS[round_name])
    findings = {rule: _find(rule, test) for rule in rules(scenario, mode)}
    missed = [
        rule.what
        for rule, finding in findings.items()
        if rule.what in CONDITIONS and not finding.ok
    ]
    short = {line.split(":")[0]: line for line in shortened(test.time, test.count)}
    checks = []
    for rule, finding in findings.items():
        why = short.get(rule.waiver or "")
        if rule.what == "result":
            if finding.ok and missed:
                claim = f"{finding.value}, although not kept: {', '.join(missed)}"
                finding = replace(finding, value=claim, ok=False)
            elif finding.value == "INVALID" and missed == ["early_stopping"]:
                why = short.get("time")
        checks.append(_check(rule, _name(scenario, mode, rule), finding, why))
    return checks


def _find(rule: TestRule, test: Test) -> Finding:
    try:
        return rule.find(test)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        return Finding(f"cannot be judged: {error}", False)


def _name(scenario: str, mode: str, rule: TestRule) -> str:
    return f"loadgen.{scenario}.{mode}.{rule.what}"


def _check(rule: TestRule, name: str, finding: Finding, why: str | None) -> Check:
    """`why` the rule cannot hold, where the run is declared short."""
    if finding.ok or why is None:
        return rule.check(name, finding)
    shown = f"{finding.value:g}" if isinstance(finding.value, float) else finding.value
    check = rule.check(name, finding)
    return replace(check, value=f"{why}; found {shown}", verdict=NOT_APPLICABLE, margin=None)


def not_run_checks(scenario: str, mode: str, why: str = "not run") -> list[Check]:
    """The rules of a test that was not run, so that a verdict lists every rule of the benchmark."""
    return [rule.skipped(_name(scenario, mode, rule), why) for rule in rules(scenario, mode)]


def scenario_verdict(
    runs: Mapping[str, Path],
    accuracy: Mapping[str, Any] | None,
    audits: Sequence[Mapping[str, Any]],
    windows: dict[str, Any] | None,
    round_name: str,
    division: str,
) -> dict[str, Any]:
    """verdict.json: all that is known of one scenario of a variant.

    `runs` are the folders of its tests by mode, `accuracy` is accuracy.json, `audits` are the
    audit.json's, `windows` the accuracy windows of the configuration. Tests that are missing have
    their rules listed as not applicable. Raises ValueError without any run.
    """
    if not runs:
        raise ValueError("no runs given; a verdict needs at least one")
    modes = [mode for mode in MODES if mode in runs]
    records = {mode: json.loads((runs[mode] / "run.json").read_text()) for mode in modes}
    first = records[modes[0]]
    scenario = first["scenario"]
    logs: dict[str, tuple[Summary, Detail]] = {}
    checks = [_common_check(scenario, records), _finite_check(scenario, records)]
    for mode in MODES:
        if mode == "FindPeakPerformance" and scenario != "Server":
            continue
        if mode not in runs:
            checks += not_run_checks(scenario, mode)
            continue
        name, rule = f"loadgen.{scenario}.{mode}.logs", "both logs are whole"
        try:
            summary = read_summary(runs[mode] / SUMMARY)
            detail = read_detail(runs[mode] / DETAIL)
        except (OSError, ValueError) as error:
            checks.append(Check(name, rule, str(error), FAIL, CHECKER))
            checks += not_run_checks(scenario, mode, "the logs cannot be read")
            continue
        logs[mode] = summary, detail
        lines = f"{len(detail.records)} lines"
        checks.append(Check(name, rule, lines, PASS, CHECKER))
        checks += run_checks(scenario, mode, summary, detail, records[mode], round_name)
    short = _short(scenario, records, division)
    checks += _accuracy_checks(scenario, accuracy, windows, records.get("accuracy"), division)
    checks += _audit_checks(scenario, audits)
    performance = logs.get("performance")
    found: dict[str, Any] = {"metric": None, "valid": None, "early_stopping": None, "latency": {}}
    if performance:
        found = _performance(scenario, *performance)
    result = {
        "schema": 1,
        **{key: first[key] for key in ("run", "variant", "scenario")},
        "official": not short,
        "shortened": short,
        "verdict": verdict(checks),
        "summary": "",
        **found,
        "target": {
            "name": "99th percentile latency",
            "value": first["settings"]["max_latency"],
            "unit": "s",
        }
        if scenario == "Server"
        else None,
        "modes": modes,
        "checks": [asdict(check) for check in checks],
    }
    peak = _peak(*logs["FindPeakPerformance"]) if "FindPeakPerformance" in logs else None
    if peak is not None:
        result["peak"] = peak
    record = record_sentence(result, first, windows, division)
    return result | {"summary": _sentence(result, checks, record)}


def _finite_check(scenario: str, records: Mapping[str, Mapping[str, Any]]) -> Check:
    """Whether the decoder gave finite values in every image of every test."""
    counts = {mode: record["not_finite"] for mode, record in records.items()}
    broken = [f"{mode}: {count} images" for mode, count in counts.items() if count]
    rule = "no image of any test had NaN or infinite values"
    verdict = FAIL if broken else PASS
    return Check(f"loadgen.{scenario}.finite", rule, "; ".join(broken) or "none", verdict, OURS)


def _common_check(scenario: str, records: Mapping[str, Mapping[str, Any]]) -> Check:
    """Whether all tests are of one variant, engine and data set."""
    first, *others = records.values()
    differing = [key for key in COMMON if any(other[key] != first[key] for other in others)]
    differing += [
        f"settings.{key}"
        for key in ("count", "time", "samples_per_query", "max_latency", "max_batchsize", "workers")
        if any(other["settings"].get(key) != first["settings"].get(key) for other in others)
    ]
    if first["scenario"] != scenario or any(o["scenario"] != scenario for o in others):
        differing.append("scenario")
    return Check(
        f"loadgen.{scenario}.uniform",
        "all tests of the scenario have one engine, one data set and one set of settings",
        f"tests differ in {', '.join(differing)}" if differing else f"{len(records)} alike",
        FAIL if differing else PASS,
        OURS,
    )


def _short(scenario: str, records: Mapping[str, Mapping[str, Any]], division: str) -> list[str]:
    """Why the scenario's tests are not official; empty where they are."""
    settings = [record["settings"] for record in records.values()]
    reasons = shortened(min(s["time"] for s in settings), min(s["count"] for s in settings))
    if any(record["stand_in"] for record in records.values()):
        reasons.append("stand-in: the pictures are drawn without a model")
    if scenario == "MultiStream":
        reasons.append("scenario: MultiStream is none of the benchmark's")
    needed = ("performance", "accuracy", *(AUDITS if division == "closed" else ()))
    missing = [mode for mode in needed if mode not in records]
    return reasons + ([f"modes: without {', '.join(missing)}"] if missing else [])


def _accuracy_checks(
    scenario: str,
    accuracy: Mapping[str, Any] | None,
    windows: dict[str, Any] | None,
    record: Mapping[str, Any] | None,
    division: str,
) -> list[Check]:
    prefix = f"accuracy.{scenario}"
    if accuracy is None or record is None:
        why = "not run" if record is None else "not scored"
        return [
            Check(f"{prefix}.{what}", rule, why, NOT_APPLICABLE, source)
            for what, (rule, source) in ACCURACY.items()
        ]
    count, scored = record["settings"]["count"], accuracy["samples"]
    checks = [
        replace(check, id=f"{prefix}.{check.id.removeprefix('accuracy.')}")
        for check in [
            *window_checks(dict(accuracy), windows),
            protocol_check(accuracy["comparable"], division == "closed"),
        ]
    ]
    rule, source = ACCURACY["count"]
    kept = PASS if scored == count else FAIL
    checks.append(Check(f"{prefix}.count", rule, scored, kept, source, count, count))
    wanted = {*map(str, accuracy.get("compliance_images_beyond", []))}
    there = len(accuracy["compliance_images"])
    rule, source = ACCURACY["images"]
    value = f"{there} of {there + len(wanted)}"
    if count < OFFICIAL_SAMPLES and wanted:
        (why,) = shortened(float("inf"), count)
        return [*checks, Check(f"{prefix}.images", rule, f"{why}; {value}", NOT_APPLICABLE, source)]
    kept = FAIL if wanted or not there else PASS
    return [*checks, Check(f"{prefix}.images", rule, value, kept, source)]


def _audit_checks(scenario: str, audits: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The audits' own checks, and a line for each audit that was not verified."""
    checks = [Check(**check) for audit in audits for check in audit["checks"]]
    verified = {audit["test"] for audit in audits}
    return checks + [
        Check(f"audit.{scenario}.{test}", f"{test} is passed", "not run", NOT_APPLICABLE, CHECKER)
        for test in AUDITS
        if test not in verified
    ]


def _performance(scenario: str, summary: Summary, detail: Detail) -> dict[str, Any]:
    """What the performance test shows: figure, result, early stopping and latencies."""
    try:
        figure: Metric | None = metric(detail, scenario)
        spread = latencies(detail, scenario)
    except ValueError:  # the rules that need them have failed
        figure, spread = None, {}
    stopping = None
    if scenario in STOPPED_EARLY:
        stopping = {
            "met": detail.get("early_stopping_met"),
            "queries": detail.get("result_query_count"),
            "needed": fewest_queries(scenario),
        }
    shown = (
        {key: value for key, value in asdict(figure).items() if key != "key"} if figure else None
    )
    valid = summary.valid is True and detail.get("result_validity") == "VALID"
    return {"metric": shown, "valid": valid, "early_stopping": stopping, "latency": spread}


def _peak(summary: Summary, detail: Detail) -> dict[str, Any] | None:
    """The highest rate that kept to the latency limit; None where LoadGen found none."""
    try:
        rate = summary.number("target_qps")
    except ValueError:
        return None
    if detail.errors or rate is None:
        return None
    return {"name": "peak rate", "value": rate, "unit": "images/s"}


def _sentence(result: Mapping[str, Any], checks: Sequence[Check], record: str | None) -> str:
    """The verdict in one plain sentence, with a record if there is one."""
    figure, scenario = result["metric"], result["scenario"]
    parts = []
    if "performance" not in result["modes"]:
        parts.append("performance not run")
    else:
        shown = f"{figure['value']:.4g} {figure['unit']}" if figure else "no figure"
        parts.append(f"{shown}, {'VALID' if result['valid'] else 'INVALID'}")
    windows = [c.verdict for c in checks if c.id.split(".")[-1] in ("fid", "clip")]
    if FAIL in windows:
        parts.append("accuracy outside the windows")
    elif set(windows) == {PASS}:
        parts.append("accuracy inside the windows")
    else:
        parts.append("accuracy not judged")
    failed = [check.id for check in checks if check.verdict == FAIL]
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        parts.append(f"{len(failed)} checks failed ({', '.join(failed[:3])}{more})")
    if not result["official"]:
        parts.append(f"not official ({'; '.join(result['shortened'])})")
    return f"{scenario}: {'; '.join([*parts, *([record] if record else [])])}."
