"""Rules on LoadGen's logs in a submission: of a performance, accuracy or audit run.

They are those of `t2i.compliance.rules`, with what a submission's logs are declared to be in place
of a run's record, and what only a change of the files can bring about: logs that disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from t2i.base.check import CHECKER, FAIL, OURS, Check, Finding, Rule, at_least, judge, listed
from t2i.compliance.predicates import Test
from t2i.compliance.rules import rules
from t2i.compliance.scenario import run_checks
from t2i.loadgen import logs
from t2i.mlperf import (
    DETAIL,
    OFFICIAL_SAMPLES,
    OFFICIAL_SECONDS,
    ROUNDS,
    SCENARIOS,
    SERVER_LATENCY_SECONDS,
    SUMMARY,
)

FLAGS = {
    "Min duration satisfied": "result_min_duration_met",
    "Min queries satisfied": "result_min_queries_met",
    "Early stopping satisfied": "early_stopping_met",
    "Performance constraints satisfied": "result_perf_constraints_met",
}
FIGURES = {
    "Samples per second": "result_samples_per_second",
    "Completed samples per second": "result_completed_samples_per_sec",
    "Scheduled samples per second": "result_scheduled_samples_per_sec",
    "QPS w/ loadgen overhead": "result_qps_with_loadgen_overhead",
    "QPS w/o loadgen overhead": "result_qps_without_loadgen_overhead",
    **{f"{end} latency (ns)": f"result_{end.lower()}_latency_ns" for end in ("Min", "Max", "Mean")},
    **{
        f"{float(name):.2f} percentile latency (ns)": (
            f"result_{float(name):.2f}_percentile_latency_ns"
        )
        for name in logs.PERCENTILES
    },
}
SIX_DIGITS, TWO_DECIMALS = 1e-5, 0.006


@dataclass(frozen=True)
class RunLogs:
    """The two logs of one run; `mode` is performance, accuracy, or an audit's name."""

    folder: Path
    scenario: str
    mode: str
    round: str

    @cached_property
    def detail(self) -> logs.Detail:
        """The detail log. Raises ValueError for a damaged one."""
        return logs.read_detail(self.folder / DETAIL)

    @cached_property
    def summary(self) -> logs.Summary:
        """The summary. Raises ValueError for a damaged one."""
        return logs.read_summary(self.folder / SUMMARY)

    @property
    def metric(self) -> logs.Metric:
        """The scenario's figure. Raises ValueError without one."""
        metric = logs.metric(self.detail, self.scenario)
        if metric is None:
            raise ValueError(f"{self.detail.path}: no result of the scenario {self.scenario}")
        return metric

    def declared(self, shortened: bool, count: int) -> dict[str, Any]:
        """What run.json would say: official values, or more where the log has more; of a run that
        was declared short, on `count` samples, the log's own."""
        seconds = self.detail.number("effective_min_duration_ms") or 0.0
        limit = self.detail.number("effective_target_latency_ns") or 0.0
        settings = {
            "time": seconds / 1000 if shortened else max(seconds / 1000, OFFICIAL_SECONDS),
            "count": count if shortened else OFFICIAL_SAMPLES,
            "samples_per_query": 8,
            "max_latency": min(limit / 1e9, SERVER_LATENCY_SECONDS),
        }
        names = {"scenario": self.scenario, "mode": self.mode, "round": self.round}
        return {**names, "settings": settings}


def judged_test(run: RunLogs) -> Test:
    """A run as the judgements of `t2i.loadgen` take it."""
    record = run.declared(False, 0)
    return Test(run.scenario, run.mode, run.summary, run.detail, record, ROUNDS[run.round])


def log_checks(run: RunLogs, prefix: str, shortened: Sequence[str], count: int) -> list[Check]:
    """Every rule on the two logs of a run, with ids {prefix}.{what}.

    `shortened` says in what the run was declared short, `count` how many samples there are.
    """
    checks = judge(BOTH, prefix, (run,), closed=True, shortened=())
    if run.mode != "accuracy":
        checks += judge(AGREEMENT, prefix, (run,), closed=True, shortened=())
    if run.scenario not in SCENARIOS or checks[0].verdict == FAIL:
        why = "cannot be judged: the logs cannot be read"
        judged = [
            rule.check(f"{prefix}.{rule.what}", Finding(why, False))
            for rule in rules(run.scenario, run.mode)
        ]
        return [*checks, *judged]
    record = run.declared(bool(shortened), count)
    judged = run_checks(run.scenario, run.mode, run.summary, run.detail, record, run.round)
    start = f"loadgen.{run.scenario}.{run.mode}."
    return checks + [replace(c, id=f"{prefix}.{c.id.removeprefix(start)}") for c in judged]


def _whole(run: RunLogs) -> Finding:
    run.declared(False, 0)  # numbers that are none
    return Finding(f"{len(run.detail.records)} messages, {len(run.summary.values)} values", True)


def _asked(run: RunLogs) -> Finding:
    return at_least(run.detail.number("effective_min_query_count"), 1)


def _flags(run: RunLogs) -> Finding:
    problems = [
        f"{label}: {text!r} in the summary, {key}: {value!r} in the detail log"
        for label, key in FLAGS.items()
        for text, value in [(run.summary.values.get(label), run.detail.get(key))]
        if (text, value) not in {("Yes", True), (None, None)}
    ]
    if reason := run.detail.get("result_invalid_reason"):
        problems.append(f"result_invalid_reason: {reason}")
    problems += [f"the summary recommends: {text}" for text in run.summary.recommendations]
    return listed(problems, "every condition of a valid result is met")


def _figures(run: RunLogs) -> Finding:
    return listed(_differences(run), "both logs have the same figures")


def _differences(run: RunLogs) -> Iterator[str]:
    for label, key in FIGURES.items():
        shown, value = run.summary.number(label), run.detail.number(key)
        if shown is None or value is None:
            continue  # not every scenario has every figure
        if not math.isclose(shown, value, rel_tol=SIX_DIGITS, abs_tol=TWO_DECIMALS):
            yield f"{label}: {shown!r} in the summary, {value!r} in the detail log"
    query = "query_" if run.scenario == "MultiStream" else ""
    low, high = (run.detail.number(f"result_{end}_{query}latency_ns") for end in ("min", "max"))
    if low is None or high is None:
        yield "the detail log lacks its shortest or longest latency"
        return
    spread = logs.latencies(run.detail, run.scenario)
    mean = spread.pop("mean", math.nan)
    ordered = [low / 1e9, *spread.values(), high / 1e9]
    if any(second < first for first, second in pairwise(ordered)):
        yield f"percentiles of latency fall: {ordered} s"
    if not low - 1 <= 1e9 * mean <= high + 1:
        yield f"mean latency {mean} s lies outside {low / 1e9} to {high / 1e9} s"


BOTH = (Rule("log", "both logs are there and whole", OURS, _whole),)
AGREEMENT = (
    Rule("min_query_count", "at least one query was asked for", CHECKER, _asked),
    Rule("flags", "every condition of a valid result is met, by both logs", OURS, _flags),
    Rule("agree.figures", "both logs have the same rates and latencies", OURS, _figures),
)
