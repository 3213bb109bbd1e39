"""The audits TEST01 and TEST04, by rules stricter than the official scripts', and by those.

Official rules: compliance/TEST01 and compliance/TEST04 of mlcommons/inference at b66003e1. They
compare the first byte of each image, and allow SingleStream 20 % in TEST04 whatever its latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2i.base.check import FAIL, NOT_APPLICABLE, OURS, PASS, RULES, Check, check_records, verdict
from t2i.base.files import file_table, publish_folder, write_json, write_text
from t2i.compliance.audit_images import compare_images, image_checks, sampling_checks
from t2i.compliance.checkout import NO_CHECKOUT, Checkout
from t2i.compliance.official_audits import WHOLE_LOG, not_run, run_official
from t2i.loadgen.accuracy_log import hash_line, truncate
from t2i.loadgen.conf import same_index
from t2i.loadgen.logs import Detail, metric, read_detail
from t2i.mlperf import ACCURACY_LOG, DETAIL, OFFICIAL_SAMPLES

SCHEMA = 1
NOISE = 0.10  # share by which an audit's figure may differ from the performance run's
OUR_WORDS = "Written by t2i-bench: the official script was not run, or wrote nothing."


def verify_test01(
    scenario: str,
    runs: Path,
    folder: Path,
    checkout: Checkout | None,
    shortened: bool,
    why: str = NO_CHECKOUT,
) -> dict[str, Any]:
    """Audit that performance mode answers as accuracy mode does; publishes `folder`.

    `runs` holds the scenario's performance/, accuracy/ and TEST01/. The folder gets audit.json,
    which is returned, verify_accuracy.txt, verify_performance.txt, and accuracy/ with the
    truncated log and its digest. The official scripts are run from `checkout`; without one `why`
    says the reason. `shortened`: the configuration declares a short run, by whose times and number
    of samples nothing is judged. Raises ValueError or OSError for a log that cannot be read.
    """
    test, prefix = "TEST01", f"audit.{scenario}.TEST01"
    reference, tested = _details(runs, test)
    accuracy = runs / "accuracy" / ACCURACY_LOG
    with publish_folder(folder) as part:
        # The official script has the whole log in memory, three times over.
        large = checkout is not None and accuracy.stat().st_size > WHOLE_LOG
        extract = part / "extract.json" if large else None
        compared = compare_images(accuracy, runs / test / ACCURACY_LOG, extract)
        judged = image_checks(prefix, compared)
        timing = _timing_checks(prefix, scenario, test, reference, tested, shortened)
        checks = [
            *_run_checks(prefix, scenario, test, reference, tested, shortened),
            *sampling_checks(prefix, tested, compared.logged),
            *judged,
            *timing,
        ]
        if checkout is None:
            official = not_run(why)
        else:
            official = run_official(checkout, test, runs, part, extract)
        if extract is not None:
            extract.unlink()
        _write_ours(part / "verify_accuracy.txt", judged)
        _write_ours(part / "verify_performance.txt", timing)
        truncate(runs / test / ACCURACY_LOG, part / "accuracy" / ACCURACY_LOG)
        write_text(part / "accuracy" / "accuracy.txt", hash_line(compared.sha256))
        return _write_audit(part, test, scenario, checks, official, shortened)


def verify_test04(
    scenario: str,
    runs: Path,
    folder: Path,
    checkout: Checkout | None,
    shortened: bool,
    why: str = NO_CHECKOUT,
) -> dict[str, Any]:
    """Audit that no answer comes from a cache; publishes `folder` as `verify_test01` does.

    `runs` holds performance/ and TEST04/; the folder gets audit.json and verify_performance.txt.
    """
    test, prefix = "TEST04", f"audit.{scenario}.TEST04"
    reference, tested = _details(runs, test)
    with publish_folder(folder) as part:
        timing = _timing_checks(prefix, scenario, test, reference, tested, shortened)
        checks = [
            *_run_checks(prefix, scenario, test, reference, tested, shortened),
            _same_check(prefix, tested),
            *timing,
        ]
        if checkout is None:
            official = not_run(why)
        else:
            official = run_official(checkout, test, runs, part, None)
        _write_ours(part / "verify_performance.txt", timing)
        return _write_audit(part, test, scenario, checks, official, shortened)


def _failed(shortened: bool) -> str:
    """The verdict on what was missed: nothing is judged by the times of a run declared short."""
    return NOT_APPLICABLE if shortened else FAIL


def _details(runs: Path, test: str) -> tuple[Detail, Detail]:
    return read_detail(runs / "performance" / DETAIL), read_detail(runs / test / DETAIL)


def _run_checks(
    prefix: str, scenario: str, test: str, reference: Detail, tested: Detail, shortened: bool
) -> list[Check]:
    """What has to hold for the two runs, regardless of what they measured."""
    wanted = (scenario, "PerformanceOnly")
    modes = {
        run: (log.get("effective_scenario"), log.get("effective_test_mode"))
        for run, log in (("performance", reference), (test, tested))
    }
    left_behind = [
        key
        for key in ("effective_performance_issue_same", "effective_accuracy_log_sampling_target")
        if reference.get(key)
    ]
    checks = [
        _check(
            f"{prefix}.mode",
            f"both runs are {' '.join(wanted)}",
            _by_run({run: " ".join(map(str, mode)) for run, mode in modes.items()}),
            set(modes.values()) == {wanted},
        ),
        _check(
            f"{prefix}.reference",
            "the performance run was made without an audit's settings",
            ", ".join(left_behind) or "none of them",
            not left_behind,
            source=OURS,
        ),
    ]
    if scenario == "Offline":
        samples = tested.get("effective_samples_per_query") or 0
        rule = f"the audit issues at least {OFFICIAL_SAMPLES} samples"
        margin = float(samples - OFFICIAL_SAMPLES)
        verdict_ = PASS if margin >= 0 else _failed(shortened)
        name = f"{prefix}.samples"
        checks.append(Check(name, rule, samples, verdict_, RULES, OFFICIAL_SAMPLES, None, margin))
    return checks


def _check(
    name: str, rule: str, value: str, kept: bool, missed: str = FAIL, source: str = RULES
) -> Check:
    """A rule without bounds; `missed` is the verdict where it is not kept."""
    return Check(name, rule, value, PASS if kept else missed, source)


def _by_run(values: Mapping[str, object]) -> str:
    return "; ".join(f"{run}: {value}" for run, value in values.items())


def _same_check(prefix: str, tested: Detail) -> Check:
    """Whether one sample was issued again and again."""
    count = tested.get("effective_performance_sample_count") or 0
    wanted = {"unique": False, "same": True, "same_index": same_index(count)}
    effective = {key: tested.get(f"effective_performance_issue_{key}") for key in wanted}
    return _check(
        f"{prefix}.same",
        "the same sample is issued again and again (performance_issue_same)",
        ", ".join(f"{key} {value}" for key, value in effective.items()),
        effective == wanted,
    )


def _timing_checks(
    prefix: str, scenario: str, test: str, reference: Detail, tested: Detail, shortened: bool
) -> list[Check]:
    """Whether both runs are valid, without errors, and about equally fast."""
    logs = {"performance": reference, test: tested}
    results = {run: log.get("result_validity") for run, log in logs.items()}
    errors = [f"{run}: {error.value}" for run, log in logs.items() for error in log.errors]
    checks = [
        _check(
            f"{prefix}.valid",
            "LoadGen calls both runs VALID",
            _by_run(results),
            set(results.values()) == {"VALID"},
            _failed(shortened),
        ),
        _check(
            f"{prefix}.errors",
            "LoadGen logged no errors in both runs",
            "; ".join(errors) or "none",
            not errors,
        ),
    ]
    if scenario == "Server":
        limits = {run: log.get("effective_target_latency_ns") for run, log in logs.items()}
        checks.append(
            _check(
                f"{prefix}.latency",
                "both runs have the same latency limit",
                _by_run({run: f"{limit} ns" for run, limit in limits.items()}),
                len(set(limits.values())) == 1,
            )
        )
    return [*checks, _speed_check(prefix, scenario, test, reference, tested, shortened)]


def _speed_check(
    prefix: str, scenario: str, test: str, reference: Detail, tested: Detail, shortened: bool
) -> Check:
    """The audit's figure in units of the performance run's; for TEST04 latencies become speeds."""
    name = f"{prefix}.performance"
    low = 1 - NOISE if test == "TEST01" else None
    rule = (
        f"the audit's figure differs from the performance run's by at most {NOISE:.0%}"
        if test == "TEST01"
        else f"the audit's run is at most {NOISE:.0%} faster than the performance run"
    )
    ours, theirs = metric(tested, scenario), metric(reference, scenario)
    if ours is None or theirs is None:
        lacking = "performance" if theirs is None else test
        value = f"the run of {lacking} has no figure: too few queries, or none answered"
        return Check(name, rule, value, _failed(shortened), RULES)
    ratio = ours.value / theirs.value
    if test == "TEST04" and ours.better == "lower":
        ratio = 1 / ratio
    margin = 1 + NOISE - ratio if low is None else min(ratio - low, 1 + NOISE - ratio)
    value = (
        f"{ours.name} {ours.value:.6g} {ours.unit}, performance run {theirs.value:.6g} "
        f"{theirs.unit}: ratio {ratio:.4f}"
    )
    verdict_ = PASS if margin >= 0 else _failed(shortened)
    return Check(name, rule, value, verdict_, RULES, low, 1 + NOISE, margin)


def _write_ours(path: Path, checks: list[Check]) -> None:
    """Publish our findings in the form that the submission checker reads, unless the official
    script has left its own."""
    if path.exists():
        return
    lines = [f"{check.verdict}: {check.rule}: {check.value}" for check in checks]
    end = "TEST PASS" if all(check.verdict == PASS for check in checks) else "TEST FAIL"
    write_text(path, "\n".join([OUR_WORDS, *lines, end, ""]))


def _write_audit(
    folder: Path,
    test: str,
    scenario: str,
    checks: list[Check],
    official: dict[str, Any],
    shortened: bool,
) -> dict[str, Any]:
    value = f"not run: {official['why']}" if official["state"] != "run" else official["verdict"]
    rule = f"MLCommons' own scripts pass {test}"
    official_verdict = _failed(shortened) if official["verdict"] == FAIL else official["verdict"]
    own = Check(f"audit.{scenario}.{test}.official", rule, value, official_verdict, RULES)
    checks = [*checks, own]
    audit = {
        "schema": SCHEMA,
        "test": test,
        "scenario": scenario,
        "checks": check_records(checks),
        "official": official,
        "verdict": verdict(checks),
        "files": file_table(folder),
    }
    write_json(folder / "audit.json", audit)
    return audit
