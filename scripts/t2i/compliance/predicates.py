"""How a LoadGen test is judged: a function for each rule of `t2i.compliance.rules`.

LoadGen's conditions of a VALID result (loadgen/results.cc at b66003e1 of mlcommons/inference) are
recomputed from the numbers of the log, as its own verdict is one line that can be changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from t2i.base.check import Finding
from t2i.loadgen import conf
from t2i.loadgen.logs import Detail, Summary, metric
from t2i.mlperf import (
    CONFIDENCE,
    OFFICIAL_SAMPLES,
    OFFICIAL_SECONDS,
    PERCENTILES,
    SERVER_LATENCY_SECONDS,
    TEST01_SAMPLES,
    TEST01_SEED,
    Round,
)

LOADGEN_MODES = {"accuracy": "AccuracyOnly", "FindPeakPerformance": "FindPeakPerformance"}
VERSION = re.compile(r"\d+\.\d+(\.\d+)*\S* @ [0-9a-f]{7,}")
SIX_DIGITS = 1e-5  # LoadGen writes fractions with six significant digits
# What the summary lists of the settings, and its name in the detail log.
SHARED = {
    "samples_per_query": "samples_per_query",
    "target_qps": "target_qps",
    "target_latency (ns)": "target_latency_ns",
    "max_async_queries": "max_async_queries",
    "min_duration (ms)": "min_duration_ms",
    "max_duration (ms)": "max_duration_ms",
    "min_query_count": "min_query_count",
    "max_query_count": "max_query_count",
    "qsl_rng_seed": "qsl_rng_seed",
    "sample_index_rng_seed": "sample_index_rng_seed",
    "schedule_rng_seed": "schedule_rng_seed",
    "accuracy_log_rng_seed": "accuracy_log_rng_seed",
    "accuracy_log_sampling_target": "accuracy_log_sampling_target",
    "performance_issue_unique": "performance_issue_unique",
    "performance_issue_same": "performance_issue_same",
    "performance_issue_same_index": "performance_issue_same_index",
    "performance_sample_count": "performance_sample_count",
    "accuracy_sample_count": "accuracy_sample_count",
}


@dataclass(frozen=True)
class Test:
    """What is known of one test: its two logs, run.json and the round it is meant for."""

    scenario: str
    mode: str
    summary: Summary
    detail: Detail
    record: dict[str, Any]
    round: Round

    @property
    def time(self) -> float:
        """Seconds that the test was declared to last at least."""
        return float(self.record["settings"]["time"])

    @property
    def count(self) -> int:
        """Samples that the test was declared to have."""
        return int(self.record["settings"]["count"])

    def number(self, key: str) -> float:
        """A number of the detail log. Raises ValueError where the log has none."""
        value = self.detail.number(key)
        if value is None:
            raise ValueError(f"the detail log lacks {key}")
        return value


def equal(value: Any, wanted: Any) -> Finding:
    """Whether a value is the wanted one; true and 1 are two values."""
    return Finding(value, value == wanted and isinstance(value, bool) == isinstance(wanted, bool))


def least(value: float, low: float) -> Finding:
    """Whether a value is `low` or more."""
    return Finding(value, value >= low, low=low)


def _listed(problems: Iterable[str], fine: str) -> Finding:
    text = "; ".join(problems)
    return Finding(text or fine, not text)


def scenario(test: Test) -> Finding:
    """The scenario by both logs and the record; an accuracy test's summary has none."""
    names = [test.detail.get("effective_scenario"), test.record["scenario"]]
    if test.mode != "accuracy":
        names.append(test.summary.scenario)
    return Finding(", ".join(map(str, names)), all(name == test.scenario for name in names))


def mode(test: Test) -> Finding:
    """LoadGen's mode by both logs, and the record's."""
    wanted = LOADGEN_MODES.get(test.mode, "PerformanceOnly")
    names = [test.detail.get("effective_test_mode")]
    if test.mode != "accuracy":
        names.append(test.summary.mode)
    kept = all(name == wanted for name in names) and test.record["mode"] == test.mode
    return Finding(", ".join(map(str, [*names, test.record["mode"]])), kept)


def sut(test: Test) -> Finding:
    """The name of the system under test."""
    name = test.detail.get("sut_name")
    same = test.mode == "accuracy" or test.summary.values.get("SUT name") == name
    return Finding(name, bool(name) and same)


def version(test: Test) -> Finding:
    """LoadGen's version and commit."""
    version = str(test.detail.get("loadgen_version"))
    return Finding(version, bool(VERSION.fullmatch(version)))


def errors(test: Test) -> Finding:
    """What LoadGen counted as errors, by any of the three places that tell."""
    logged = [str(record.value) for record in test.detail.errors]
    counted = max(test.detail.all("num_errors"), default=0)
    if not logged and counted:
        logged = [f"{counted} by num_errors of the detail log"]
    if not logged and test.summary.errors:
        logged = [f"{test.summary.errors} by the summary"]
    return _listed(logged, "none")


def once(test: Test) -> Finding:
    """Settings and results that contradict themselves."""
    conflicts = test.detail.conflicts.items()
    return _listed((f"{key}: {values}" for key, values in conflicts), "no duplicates")


def seed(name: str) -> Callable[[Test], Finding]:
    """A judgement of one of the round's seeds."""
    return lambda test: equal(test.detail.get(f"effective_{name}"), getattr(test.round, name))


def record(test: Test) -> Finding:
    """The log's settings beside those that run.json declares."""
    declared = test.record["settings"]
    wanted = {
        "effective_performance_sample_count": test.count,
        "qsl_reported_total_count": test.count,
    }
    if test.mode != "accuracy":  # which ends with the last sample, however long that takes
        wanted["effective_min_duration_ms"] = max(1, round(1000 * test.time))
    if test.scenario == "MultiStream":
        wanted["effective_samples_per_query"] = declared["samples_per_query"]
    if test.scenario == "Server":
        wanted["effective_target_latency_ns"] = 10**6 * round(1000 * declared["max_latency"])
    differ = [
        f"{key}: {test.detail.get(key)} in the log, {value} declared"
        for key, value in wanted.items()
        if test.detail.get(key) != value
    ]
    if test.record["round"] != test.round.name:
        differ.append(f"round: {test.record['round']}, not {test.round.name}")
    return _listed(differ, "the same")


def shared(test: Test) -> Finding:
    """The settings that both logs list."""
    differ = []
    for label, key in SHARED.items():
        detail, text = test.detail.get(f"effective_{key}"), test.summary.values.get(label)
        if detail is None and text is None:
            continue  # LoadGen before 6.0 has no accuracy_sample_count
        if text is None or detail is None or _parsed(text) != detail:
            differ.append(f"{label}: {text} in the summary, {detail} in the detail log")
    return _listed(differ, "the same")


def _parsed(text: str) -> float:
    """A number of the summary; whole ones exactly, as seeds are beyond what a float holds."""
    return int(text) if text.isdigit() else float(text)


def shared_metric(test: Test) -> Finding:
    """The official figure in both logs."""
    measured, shown = metric(test.detail, test.scenario), test.summary.metric
    value = f"{measured and measured.value} in the detail log, {shown} in the summary"
    if measured is None or shown is None:
        return Finding(value, measured is None and shown is None)
    digits = 0.005 if test.scenario == "Server" else 0.0  # the summary has two decimals of it
    return Finding(value, abs(measured.value - shown) <= digits + SIX_DIGITS * measured.value)


def follows(test: Test) -> Finding:
    """Whether the official figure follows from the latencies and counts in the same log."""
    official = metric(test.detail, test.scenario)
    if official is None:
        return Finding("there is no figure", test.detail.get("early_stopping_met") is False)
    low, high = 0.0, math.inf
    if test.scenario == "Offline":
        samples = test.number("generated_samples_per_query")
        low = high = samples / (test.number("result_max_latency_ns") / 1e9)
    elif test.scenario == "Server":
        high = test.number("result_scheduled_samples_per_sec")
    else:
        part = "per_query_" if test.scenario == "MultiStream" else ""
        query = "query_" if test.scenario == "MultiStream" else ""
        percentile = 100 * PERCENTILES[test.scenario]
        low = test.number(f"result_{percentile:.2f}_percentile_{part}latency_ns") / 1e9
        high = test.number(f"result_max_{query}latency_ns") / 1e9
    low, high = low * (1 - SIX_DIGITS), high * (1 + SIX_DIGITS)
    return Finding(official.value, low <= official.value <= high, low, high)


def result(test: Test) -> Finding:
    """LoadGen's word on the whole."""
    return equal(test.detail.get("result_validity"), "VALID")


def shown_result(test: Test) -> Finding:
    """LoadGen's word in both logs."""
    shown, logged = test.summary.values.get("Result is"), test.detail.get("result_validity")
    value = f"{shown} in the summary, {logged} in the detail log"
    return Finding(value, shown == logged and shown is not None)


def duration(test: Test) -> float:
    """Seconds that count for LoadGen's shortest duration: of Offline's query, or until the last
    query was due (Server), issued (SingleStream) or answered (MultiStream)."""
    if test.scenario == "Offline":
        return test.number("result_max_latency_ns") / 1e9
    queries = test.number("result_query_count")
    if test.scenario == "MultiStream":
        return queries * test.number("result_mean_query_latency_ns") / 1e9
    server = test.scenario == "Server"
    key = "result_scheduled_samples_per_sec" if server else "result_qps_with_loadgen_overhead"
    rate = test.number(key)
    return (queries - 1) / rate if rate > 0 else 0.0


def _slack(test: Test) -> float:
    """Share by which `duration` may be off: MultiStream's lacks the time between queries."""
    return 0.01 if test.scenario == "MultiStream" else SIX_DIGITS


def duration_met(test: Test) -> Finding:
    """The real duration beside the one that was set."""
    seconds, low = duration(test), test.number("effective_min_duration_ms") / 1000
    slack = _slack(test)
    kept = test.detail.get("result_min_duration_met") is True and seconds >= low * (1 - slack)
    return Finding(seconds, kept, low=low)


def official_duration(test: Test) -> Finding:
    """The real duration beside the official one."""
    slack = _slack(test)
    return Finding(
        duration(test), duration(test) >= OFFICIAL_SECONDS * (1 - slack), low=OFFICIAL_SECONDS
    )


def queries_met(test: Test) -> Finding:
    """Queries and samples issued beside those set."""
    queries, least = test.number("result_query_count"), test.number("effective_min_query_count")
    kept = test.detail.get("result_min_queries_met") is True and queries >= least
    value, low = queries, least
    if test.scenario == "Offline":
        value = queries * test.number("generated_samples_per_query")
        low = test.number("effective_min_sample_count")
    return Finding(value, kept and value >= low, low=low)


def early_stopping_holds(scenario: str, queries: int, late: int) -> bool:
    """Whether `queries`, `late` of them beyond the limit (Server only), satisfy early stopping:
    with fewer than 1 % odds the wanted percentile lies beyond. Source: early_stopping.cc."""
    if queries < conf.fewest_queries(scenario):
        return False
    if scenario != "Server":
        return True
    log_p, log_q = (
        math.log(PERCENTILES[scenario]),
        math.log1p(-PERCENTILES[scenario]),
    )
    odds = sum(
        math.exp(
            math.lgamma(queries + 1)
            - math.lgamma(k + 1)
            - math.lgamma(queries - k + 1)
            + k * log_q
            + (queries - k) * log_p
        )
        for k in range(min(late, queries) + 1)
    )
    return odds < 1 - CONFIDENCE


def early_stopping(test: Test) -> Finding:
    """Early stopping, by word and by numbers."""
    queries = int(test.number("result_query_count"))
    late = int(test.number("result_overlatency_query_count")) if test.scenario == "Server" else 0
    value = f"{queries} queries" + (f", {late} too late" if test.scenario == "Server" else "")
    kept = test.detail.get("early_stopping_met") is True
    return Finding(value, kept and early_stopping_holds(test.scenario, queries, late))


def latency_met(test: Test) -> Finding:
    """Server's 99th percentile beside the limit that was set."""
    latency = test.number("result_99.00_percentile_latency_ns") / 1e9
    high = test.number("effective_target_latency_ns") / 1e9
    kept = test.detail.get("result_perf_constraints_met") is True
    return Finding(latency, kept and latency <= high, high=high)


def latency_limit(test: Test) -> Finding:
    """Server's limit that was set beside the official one."""
    limit = test.number("effective_target_latency_ns") / 1e9
    return Finding(limit, 0 < limit <= SERVER_LATENCY_SECONDS, high=SERVER_LATENCY_SECONDS)


def samples_per_query(test: Test) -> Finding:
    """Samples in Offline's query, as set and as issued."""
    keys = ("effective_samples_per_query", "generated_samples_per_query")
    return least(min(map(test.number, keys)), OFFICIAL_SAMPLES)


def accuracy_count(test: Test) -> Finding:
    """Size of the data set of an accuracy test."""
    values = [test.detail.get("qsl_reported_total_count")]
    values += test.detail.all("effective_accuracy_sample_count")  # not in logs before 6.0
    kept = all(value == OFFICIAL_SAMPLES for value in values)
    return Finding(", ".join(map(str, values)), kept, OFFICIAL_SAMPLES, OFFICIAL_SAMPLES)


def accuracy_all(test: Test) -> Finding:
    """The samples that an accuracy test issued."""
    issued = [index for part in test.detail.all("loaded_qsl_set") for index in part]
    if test.scenario == "MultiStream":  # its last query is filled up with samples known already
        issued = list(dict.fromkeys(issued))
    return Finding(f"{len(issued)} loaded", sorted(issued) == list(range(test.count)))


def audit_settings(test: Test) -> Finding:
    """What audits set: TEST01's log of answers, TEST04's one sample."""
    first, fourth = test.mode == "TEST01", test.mode == "TEST04"
    wanted: dict[str, Any] = {
        "accuracy_log_rng_seed": TEST01_SEED if first else 0,
        "accuracy_log_sampling_target": TEST01_SAMPLES if first else 0,
        "performance_issue_unique": False,
        "performance_issue_same": fourth,
        "performance_issue_same_index": conf.same_index(test.count) if fourth else 0,
    }
    effective = {key: test.detail.get(f"effective_{key}") for key in wanted}
    differ = (f"{key}: {effective[key]}, not {wanted[key]}" for key in wanted)
    return _listed(
        (
            text
            for key, text in zip(wanted, differ, strict=True)
            if not equal(effective[key], wanted[key]).ok
        ),
        "as they have to be",
    )
