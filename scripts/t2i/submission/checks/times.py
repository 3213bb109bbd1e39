"""Rules on times in the logs of a submission, each alone and beside each other.

A log's figures must match its time stamps, which a forger may overlook.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

from t2i.base.check import OURS, Finding, Rule, listed
from t2i.compliance.predicates import duration
from t2i.submission.checks.logs import FIGURES, RunLogs, judged_test

STAMP = "%m-%d-%Y %H:%M:%S.%f"
APART = timedelta(days=90)  # between the first and the last run of a system
AHEAD = timedelta(days=1)  # of this machine's clock
ZONES = 26 * 3600.0  # seconds between two clocks of one moment, one of them with a local time
BEFORE, AFTER = 0.5, 60.0  # seconds by which stamps and durations may differ: the last answers
SHARE = 0.05  # the same, of the duration


def _moment(run: RunLogs, key: str) -> datetime:
    return datetime.strptime(str(run.detail.get(key)), STAMP)


def started(run: RunLogs) -> datetime:
    """When LoadGen started a run. Raises ValueError where the log does not say so."""
    text = str(run.detail.get("test_datetime"))
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _stamps(run: RunLogs) -> Finding:
    begin, end = _moment(run, "power_begin"), _moment(run, "power_end")
    seconds, stated = (end - begin).total_seconds(), duration(judged_test(run))
    problems = []
    if not stated - BEFORE - SHARE * stated <= seconds <= stated + AFTER + SHARE * stated:
        problems.append(
            f"power_begin to power_end are {seconds:.1f} s, the figures say {stated:.1f} s"
        )
    gap = abs((begin.replace(tzinfo=UTC) - started(run)).total_seconds())
    if gap > ZONES:
        problems.append(f"power_begin is {begin:%Y-%m-%d}, test_datetime {started(run):%Y-%m-%d}")
    last = max(record.time or 0 for record in run.detail.records) / 1000
    if last < seconds - BEFORE:
        problems.append(f"the last message came after {last:.1f} s, the test took {seconds:.1f} s")
    return listed(problems, f"{seconds:.1f} s by the clock, {stated:.1f} s by the figures")


def _counts(run: RunLogs) -> Finding:
    queries = run.detail.number("result_query_count") or 0
    generated = run.detail.number("generated_query_count") or 0
    seconds = duration(judged_test(run))
    problems = []
    if run.scenario == "Offline" and queries != 1:
        problems.append(f"result_query_count is {queries:g}; Offline has one query")
    if run.scenario != "Server" and queries > generated > 0:
        problems.append(f"{queries:g} queries were answered, {generated:g} generated")
    if run.scenario == "SingleStream":
        mean = (run.detail.number("result_mean_latency_ns") or 0) / 1e9
        if abs(mean * queries - (seconds + mean)) > SHARE * seconds + mean:
            problems.append(
                f"{queries:g} queries of {mean:g} s one after the other, in {seconds:.1f} s"
            )
    return listed(problems, f"{queries:g} queries in {seconds:.1f} s")


def _distinct(run: RunLogs, performance: RunLogs) -> Finding:
    """Whether an audit's run is a separate one: no two runs have the same nanoseconds."""
    names = [name for name in FIGURES.values() if name.endswith("latency_ns")]
    same = [name for name in names if _equal(run, performance, name)]
    problems = []
    if len(same) > 2:
        problems.append(f"the same latencies as the performance run's: {', '.join(same)}")
    if run.detail.get("power_begin") == performance.detail.get("power_begin"):
        problems.append(f"begun at the same moment: {run.detail.get('power_begin')}")
    return listed(problems, "a separate run")


def _equal(one: RunLogs, other: RunLogs, key: str) -> bool:
    value: Any = one.detail.get(key)
    return value is not None and value == other.detail.get(key)


def _dates(runs: Sequence[RunLogs]) -> Finding:
    moments = {f"{run.scenario} {run.mode}": started(run) for run in runs}
    first, last = min(moments, key=moments.__getitem__), max(moments, key=moments.__getitem__)
    problems = []
    if moments[last] - moments[first] > APART:
        problems.append(
            f"{first} is of {moments[first]:%Y-%m-%d}, {last} of {moments[last]:%Y-%m-%d}"
        )
    if moments[last] > datetime.now(UTC) + AHEAD:
        problems.append(f"{last} is of {moments[last]:%Y-%m-%d}, which is in the future")
    return listed(problems, f"{moments[first]:%Y-%m-%d} to {moments[last]:%Y-%m-%d}")


def _overlap(runs: Sequence[RunLogs]) -> Finding:
    spans = [
        (f"{run.scenario} {run.mode}", _moment(run, "power_begin"), _moment(run, "power_end"))
        for run in runs
    ]
    problems = [f"{name}: ends before it begins" for name, begin, end in spans if end < begin]
    problems += [
        f"{one} and {other} have one beginning and one end"
        for (one, *first), (other, *second) in combinations(spans, 2)
        if first == second
    ]
    return listed(problems, "each at its own time")


def _versions(runs: Sequence[RunLogs]) -> Finding:
    keys = ("loadgen_version", "loadgen_git_status_message", "loadgen_file_sha1", "sut_name")
    problems = []
    for key in keys:
        values = {str(run.detail.get(key)): f"{run.scenario} {run.mode}" for run in runs}
        if len(values) > 1:
            listing = "; ".join(f"{value[:60]} in {where}" for value, where in values.items())
            problems.append(f"{key}: {listing}")
    return listed(problems, str(runs[0].detail.get("loadgen_version")))


TIME_RULES = (
    Rule("stamps", "time stamps and figures agree on the duration", OURS, _stamps),
    Rule("counts", "queries, latencies and duration fit together", OURS, _counts),
)
DISTINCT_RULES = (
    Rule("distinct", "the audit is a separate run, not the performance run again", OURS, _distinct),
)
RUN_RULES = (
    Rule("runs.dates", f"all runs were made within {APART.days} days", OURS, _dates),
    Rule("runs.times", "no two runs have the same times", OURS, _overlap),
    Rule("runs.version", "one LoadGen and one system under test in all logs", OURS, _versions),
)
