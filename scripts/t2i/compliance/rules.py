"""The rules that one LoadGen test has to keep: one table, each rule with its text and its source.

CHECKER rules are those of the submission checker; VALIDITY ones are LoadGen's conditions of a VALID
result (loadgen/results.cc), recomputed from the numbers of the log, as the checker believes any
log; OURS closes its other gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2i.base.check import CHECKER, OURS, Rule
from t2i.compliance import predicates
from t2i.mlperf import (
    AUDITS,
    MODES,
    OFFICIAL_SAMPLES,
    OFFICIAL_SECONDS,
    SCENARIOS,
    SERVER_LATENCY_SECONDS,
)

VALIDITY = "LoadGen's conditions of a valid result"
PERFORMANCE = ("performance", *AUDITS)


@dataclass(frozen=True)
class TestRule(Rule):
    """A rule on one test of LoadGen, in some modes and scenarios.

    `waiver` names what a test may be declared short in, so that the rule cannot hold.
    """

    __test__ = False  # a name that pytest would take for its own

    modes: tuple[str, ...] = MODES
    scenarios: tuple[str, ...] = SCENARIOS
    waiver: str | None = None


STOPPED_EARLY = ("SingleStream", "MultiStream", "Server")
RULES = (
    TestRule(
        "scenario",
        "both logs and the run's record name this scenario",
        CHECKER,
        predicates.scenario,
    ),
    TestRule("mode", "both logs and the run's record name this mode", OURS, predicates.mode),
    TestRule("sut", "the system under test has one name in both logs", OURS, predicates.sut),
    TestRule("version", "the log names LoadGen's version and commit", OURS, predicates.version),
    TestRule("errors", "LoadGen counted no error", CHECKER, predicates.errors),
    TestRule("once", "no setting and no result has two different values", OURS, predicates.once),
    TestRule("seeds.qsl", "qsl_rng_seed is the round's", CHECKER, predicates.seed("qsl_rng_seed")),
    TestRule(
        "seeds.sample_index",
        "sample_index_rng_seed is the round's",
        CHECKER,
        predicates.seed("sample_index_rng_seed"),
    ),
    TestRule(
        "seeds.schedule",
        "schedule_rng_seed is the round's",
        CHECKER,
        predicates.seed("schedule_rng_seed"),
    ),
    TestRule("record", "the log's settings are those of the run's record", OURS, predicates.record),
    TestRule(
        "permutation",
        "samples are not issued in equal numbers (sample_concatenate_permutation is off)",
        OURS,
        lambda test: predicates.equal(
            test.detail.get("effective_sample_concatenate_permutation"), False
        ),
    ),
    TestRule(
        "audit",
        "an audit has its own settings, another test none of them",
        OURS,
        predicates.audit_settings,
    ),
    TestRule(
        "samples",
        f"performance_sample_count is at least {OFFICIAL_SAMPLES}",
        CHECKER,
        lambda t: predicates.least(
            t.number("effective_performance_sample_count"), OFFICIAL_SAMPLES
        ),
        modes=PERFORMANCE,
        waiver="count",
    ),
    TestRule(
        "samples_per_query",
        f"the query has at least {OFFICIAL_SAMPLES} samples",
        CHECKER,
        predicates.samples_per_query,
        modes=PERFORMANCE,
        scenarios=("Offline",),
        waiver="count",
    ),
    TestRule(
        "min_duration",
        f"the test was set to last at least {OFFICIAL_SECONDS:g} s",
        CHECKER,
        lambda t: predicates.least(t.number("effective_min_duration_ms") / 1000, OFFICIAL_SECONDS),
        modes=PERFORMANCE,
        waiver="time",
    ),
    TestRule(
        "duration",
        f"the test lasted at least {OFFICIAL_SECONDS:g} s",
        OURS,
        predicates.official_duration,
        modes=PERFORMANCE,
        waiver="time",
    ),
    TestRule(
        "result", "LoadGen found the result VALID", OURS, predicates.result, modes=PERFORMANCE
    ),
    TestRule(
        "result_shown",
        "the summary and the detail log have the same result",
        OURS,
        predicates.shown_result,
        modes=PERFORMANCE,
    ),
    TestRule(
        "duration_met",
        "the test lasted as long as it was set to",
        VALIDITY,
        predicates.duration_met,
        modes=PERFORMANCE,
    ),
    TestRule(
        "queries_met",
        "as many queries and samples were issued as were set",
        VALIDITY,
        predicates.queries_met,
        modes=PERFORMANCE,
    ),
    TestRule(
        "early_stopping",
        "early stopping is met, by LoadGen's word and by the number of queries",
        CHECKER,
        predicates.early_stopping,
        modes=PERFORMANCE,
        scenarios=STOPPED_EARLY,
        waiver="time",
    ),
    TestRule(
        "latency_met",
        "the 99th percentile of latency lies within the limit that was set",
        VALIDITY,
        predicates.latency_met,
        modes=PERFORMANCE,
        scenarios=("Server",),
    ),
    TestRule(
        "latency_limit",
        f"the limit of latency is at most {SERVER_LATENCY_SECONDS:g} s",
        CHECKER,
        predicates.latency_limit,
        modes=PERFORMANCE,
        scenarios=("Server",),
    ),
    TestRule(
        "agree.settings",
        "both logs have the same settings",
        OURS,
        predicates.shared,
        modes=PERFORMANCE,
    ),
    TestRule(
        "agree.metric",
        "both logs have the same figure",
        OURS,
        predicates.shared_metric,
        modes=PERFORMANCE,
    ),
    TestRule(
        "metric",
        "the figure follows from latencies and counts",
        OURS,
        predicates.follows,
        modes=PERFORMANCE,
    ),
    TestRule(
        "accuracy_count",
        f"accuracy is measured on {OFFICIAL_SAMPLES} samples",
        CHECKER,
        predicates.accuracy_count,
        modes=("accuracy",),
        waiver="count",
    ),
    TestRule(
        "accuracy_all",
        "each sample of the data set is issued once",
        OURS,
        predicates.accuracy_all,
        modes=("accuracy",),
    ),
)


def rules(scenario: str, mode: str) -> list[TestRule]:
    """The rules of one test."""
    return [rule for rule in RULES if scenario in rule.scenarios and mode in rule.modes]
