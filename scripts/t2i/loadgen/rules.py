"""The rules that one LoadGen test has to keep: one table, each rule with its text and its source.

CHECKER rules are those of the submission checker; VALIDITY ones are LoadGen's conditions of a VALID
result (loadgen/results.cc), taken anew from the numbers of the log, as the checker believes any
log; OURS closes its other gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from t2i.compliance import CHECKER, OURS
from t2i.loadgen import judgements
from t2i.loadgen.judgements import Outcome, Test
from t2i.loadgen.rounds import (
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
class Rule:
    """`waiver` names what a test may be declared short in, so that the rule cannot hold."""

    what: str
    text: str
    source: str
    judge: Callable[[Test], Outcome]
    modes: tuple[str, ...] = MODES
    scenarios: tuple[str, ...] = SCENARIOS
    waiver: str | None = None


STOPPED_EARLY = ("SingleStream", "MultiStream", "Server")
RULES = (
    Rule(
        "scenario",
        "both logs and the run's record name this scenario",
        CHECKER,
        judgements.scenario,
    ),
    Rule("mode", "both logs and the run's record name this mode", OURS, judgements.mode),
    Rule("sut", "the system under test has one name in both logs", OURS, judgements.sut),
    Rule("version", "the log names LoadGen's version and commit", OURS, judgements.version),
    Rule("errors", "LoadGen counted no error", CHECKER, judgements.errors),
    Rule(
        "once", "no setting and no result stands twice with different values", OURS, judgements.once
    ),
    Rule("seeds.qsl", "qsl_rng_seed is the round's", CHECKER, judgements.seed("qsl_rng_seed")),
    Rule(
        "seeds.sample_index",
        "sample_index_rng_seed is the round's",
        CHECKER,
        judgements.seed("sample_index_rng_seed"),
    ),
    Rule(
        "seeds.schedule",
        "schedule_rng_seed is the round's",
        CHECKER,
        judgements.seed("schedule_rng_seed"),
    ),
    Rule("record", "the log's settings are those of the run's record", OURS, judgements.record),
    Rule(
        "permutation",
        "samples are not issued in equal numbers (sample_concatenate_permutation is off)",
        OURS,
        lambda test: judgements.equal(
            test.detail.get("effective_sample_concatenate_permutation"), False
        ),
    ),
    Rule(
        "audit",
        "an audit has its own settings, another test none of them",
        OURS,
        judgements.audit_settings,
    ),
    Rule(
        "samples",
        f"performance_sample_count is at least {OFFICIAL_SAMPLES}",
        CHECKER,
        lambda t: judgements.least(
            t.number("effective_performance_sample_count"), OFFICIAL_SAMPLES
        ),
        PERFORMANCE,
        waiver="count",
    ),
    Rule(
        "samples_per_query",
        f"the query has at least {OFFICIAL_SAMPLES} samples",
        CHECKER,
        judgements.samples_per_query,
        PERFORMANCE,
        ("Offline",),
        "count",
    ),
    Rule(
        "min_duration",
        f"the test was set to last at least {OFFICIAL_SECONDS:g} s",
        CHECKER,
        lambda t: judgements.least(t.number("effective_min_duration_ms") / 1000, OFFICIAL_SECONDS),
        PERFORMANCE,
        waiver="time",
    ),
    Rule(
        "duration",
        f"the test lasted at least {OFFICIAL_SECONDS:g} s",
        OURS,
        judgements.official_duration,
        PERFORMANCE,
        waiver="time",
    ),
    Rule("result", "LoadGen found the result VALID", OURS, judgements.result, PERFORMANCE),
    Rule(
        "result_shown",
        "the summary and the detail log have the same result",
        OURS,
        judgements.shown_result,
        PERFORMANCE,
    ),
    Rule(
        "duration_met",
        "the test lasted as long as it was set to",
        VALIDITY,
        judgements.duration_met,
        PERFORMANCE,
    ),
    Rule(
        "queries_met",
        "as many queries and samples were issued as were set",
        VALIDITY,
        judgements.queries_met,
        PERFORMANCE,
    ),
    Rule(
        "early_stopping",
        "early stopping is met, by LoadGen's word and by the number of queries",
        CHECKER,
        judgements.early_stopping,
        PERFORMANCE,
        STOPPED_EARLY,
        "time",
    ),
    Rule(
        "latency_met",
        "the 99th percentile of latency lies within the limit that was set",
        VALIDITY,
        judgements.latency_met,
        PERFORMANCE,
        ("Server",),
    ),
    Rule(
        "latency_limit",
        f"the limit of latency is at most {SERVER_LATENCY_SECONDS:g} s",
        CHECKER,
        judgements.latency_limit,
        PERFORMANCE,
        ("Server",),
    ),
    Rule(
        "agree.settings", "both logs have the same settings", OURS, judgements.shared, PERFORMANCE
    ),
    Rule(
        "agree.metric",
        "both logs have the same figure",
        OURS,
        judgements.shared_metric,
        PERFORMANCE,
    ),
    Rule(
        "metric",
        "the figure follows from latencies and counts",
        OURS,
        judgements.follows,
        PERFORMANCE,
    ),
    Rule(
        "accuracy_count",
        f"accuracy is measured on {OFFICIAL_SAMPLES} samples",
        CHECKER,
        judgements.accuracy_count,
        ("accuracy",),
        waiver="count",
    ),
    Rule(
        "accuracy_all",
        "each sample of the data set is issued once",
        OURS,
        judgements.accuracy_all,
        ("accuracy",),
    ),
)


def rules(scenario: str, mode: str) -> list[Rule]:
    """The rules of one test."""
    return [rule for rule in RULES if scenario in rule.scenarios and mode in rule.modes]
