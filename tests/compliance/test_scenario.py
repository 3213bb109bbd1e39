import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.stats import binom

from fake_loadgen import write_run
from t2i import mlperf
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS, verdict
from t2i.compliance import predicates, rules
from t2i.compliance.scenario import not_run_checks, run_checks
from t2i.loadgen import logs
from t2i.mlperf import DETAIL, SUMMARY

MODES = ("performance", "accuracy", "TEST01", "TEST04")
Loaded = tuple[logs.Summary, logs.Detail, dict]
SHORT = {"count": 128, "time": 5.0}


def load(folder: Path) -> Loaded:
    return (
        logs.read_summary(folder / SUMMARY),
        logs.read_detail(folder / DETAIL),
        json.loads((folder / "run.json").read_text()),
    )


def changed(run: Loaded, detail=(), shown=(), **settings) -> Loaded:
    """The same run with other values in its detail log, its summary and its settings."""
    summary, log, record = run
    values = dict(detail)
    records = tuple(replace(r, value=values.get(r.key, r.value)) for r in log.records)
    return (
        replace(summary, values=summary.values | dict(shown)),
        logs.Detail(log.path, tuple(r for r in records if r.value is not None)),
        record | {"settings": record["settings"] | settings},
    )


def judge(run: Loaded, round_name: str = "v6.1") -> dict[str, str]:
    summary, detail, record = run
    scenario, mode = record["scenario"], record["mode"]
    found = run_checks(scenario, mode, summary, detail, record, round_name)
    prefix = f"loadgen.{scenario}.{mode}."
    assert all(check.id.startswith(prefix) for check in found)
    assert [check.id.removeprefix(prefix) for check in found] == [
        rule.what for rule in rules.rules(scenario, mode)
    ]
    return {check.id.removeprefix(prefix): check.verdict for check in found}


def failing(run: Loaded, round_name: str = "v6.1") -> set[str]:
    return {what for what, found in judge(run, round_name).items() if found == FAIL}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, str], Loaded]:
    root = tmp_path_factory.mktemp("runs")
    loaded = {}
    for scenario in mlperf.SCENARIOS:
        for mode in MODES if scenario == "Offline" else ("performance", "TEST04"):
            folder = root / scenario / mode
            write_run(folder, scenario, mode, "v6.1")
            run = load(folder)
            if scenario == "Server":  # issued until 600 s are over
                rate = run[1].get("result_scheduled_samples_per_sec")
                run = changed(run, {"result_query_count": int(600 * rate) + 2})
            loaded[scenario, mode] = run
    return loaded


def test_sound_runs_pass_every_rule(runs):
    for run in runs.values():
        assert set(judge(run).values()) == {PASS}


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_seeds_of_another_round_fail_one_by_one(runs, scenario):
    run = runs[scenario, "performance"]
    assert failing(run, "v6.0") == {
        "seeds.qsl",
        "seeds.sample_index",
        "seeds.schedule",
        "record",
    }
    for name in ("qsl", "sample_index", "schedule"):
        key = f"{name}_rng_seed"
        other = changed(run, {f"effective_{key}": 7}, {key: "7"})
        assert failing(other) == {f"seeds.{name}"}


def single(what: str, *scenarios: str, detail=(), shown=()):
    return [pytest.param(s, dict(detail), dict(shown), {what}, id=f"{what}-{s}") for s in scenarios]


CASES = [
    *single("sut", "Offline", shown={"SUT name": "another"}),
    *single("version", "Offline", detail={"loadgen_version": "6.0.17"}),
    *single("errors", "Server", detail={"num_errors": 1}),
    *single("agree.settings", "Offline", shown={"qsl_rng_seed": "2085463073848966841"}),
    *single("agree.settings", "SingleStream", shown={"min_query_count": "64"}),
    *single("agree.metric", "Offline", shown={"Samples per second": "17.01"}),
    *single("agree.metric", "Server", shown={"Completed samples per second": "16.84"}),
    *single("result_shown", "Offline", shown={"Result is": "INVALID"}),
    *single("permutation", "Offline", detail={"effective_sample_concatenate_permutation": True}),
    *single(
        "audit",
        "Offline",
        detail={"effective_accuracy_log_sampling_target": 128},
        shown={"accuracy_log_sampling_target": "128"},
    ),
    pytest.param("Offline", {}, {"Mode": "FindPeakPerformance"}, {"mode"}, id="mode"),
    pytest.param("Offline", {}, {"Scenario": "Server"}, {"scenario", "agree.metric"}, id="scene"),
    pytest.param(
        "Offline",
        {"result_samples_per_second": 34.0},
        {"Samples per second": "34"},
        {"metric"},
        id="a faster figure in both logs",
    ),
    pytest.param(
        "SingleStream",
        {"early_stopping_latency_ss": 10**6},
        {},
        {"metric", "agree.metric"},
        id="a lower latency",
    ),
    pytest.param(
        "Server",
        {"effective_target_latency_ns": 21 * 10**9},
        {"target_latency (ns)": "21000000000"},
        {"record", "latency_limit"},
        id="a higher limit",
    ),
    pytest.param(
        "Offline",
        {"effective_min_duration_ms": 60000},
        {"min_duration (ms)": "60000"},
        {"record", "min_duration"},
        id="a shorter time set",
    ),
    pytest.param(
        "Offline",
        {"generated_samples_per_query": 500, "effective_samples_per_query": 500},
        {"samples_per_query": "500"},
        {"samples_per_query", "queries_met", "result", "metric"},
        id="the 500-sample shortcut",
    ),
    pytest.param(
        "Server",
        {"result_overlatency_query_count": 200},
        {},
        {"early_stopping", "result"},
        id="too many late",
    ),
    pytest.param(
        "Server",
        {"result_99.00_percentile_latency_ns": 21 * 10**9},
        {},
        {"latency_met", "result"},
        id="a late percentile",
    ),
    pytest.param(
        "SingleStream",
        {"result_query_count": 63},
        {},
        {"queries_met", "early_stopping", "duration", "duration_met", "result"},
        id="too few queries",
    ),
    pytest.param("Offline", {"result_samples_per_second": "17"}, {}, None, id="text"),
    pytest.param("Offline", {"result_max_latency_ns": None}, {}, None, id="missing"),
]


@pytest.mark.parametrize(("scenario", "detail", "shown", "expected"), CASES)
def test_one_fault_fails_its_own_rules(runs, scenario, detail, shown, expected):
    found = failing(changed(runs[scenario, "performance"], detail, shown))
    assert found == expected if expected else found


@pytest.mark.parametrize(
    ("scenario", "flag"),
    [
        ("Offline", "result_min_duration_met"),
        ("MultiStream", "result_min_queries_met"),
        ("SingleStream", "early_stopping_met"),
        ("Server", "result_perf_constraints_met"),
    ],
)
def test_an_invalid_result_relabelled_in_both_logs_is_caught(runs, scenario, flag):
    assert "result" in failing(changed(runs[scenario, "performance"], {flag: False}))


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_short_times_relabelled_in_both_logs_are_caught(runs, scenario):
    run = runs[scenario, "performance"]
    tenth = {"result_query_count": 700, "result_max_latency_ns": 6 * 10**10}
    assert {"result", "duration_met", "duration"} <= failing(changed(run, tenth))


def test_audits_need_their_own_settings(runs):
    for mode, key in (
        ("TEST01", "effective_accuracy_log_rng_seed"),
        ("TEST04", "effective_performance_issue_same_index"),
    ):
        assert failing(changed(runs["Offline", mode], {key: 4})) >= {"audit"}
    plain = {"effective_performance_issue_same": False}
    assert "audit" in failing(changed(runs["Offline", "TEST04"], plain))


def test_accuracy_runs_need_every_sample(runs):
    run = runs["Offline", "accuracy"]
    assert failing(changed(run, {"effective_accuracy_sample_count": 4999})) == {"accuracy_count"}
    fewer = {"qsl_reported_total_count": 4999}
    assert failing(changed(run, fewer)) == {"accuracy_count", "record"}
    twice = {"loaded_qsl_set": [*range(4999), 0]}
    assert failing(changed(run, twice)) == {"accuracy_all"}


def test_contradictions_within_one_log_are_caught(runs):
    summary, detail, record = runs["Offline", "performance"]
    again = replace(detail.records[-1], key="result_validity", value="INVALID")
    both = (summary, logs.Detail(detail.path, (*detail.records, again)), record)
    assert failing(both) == {"once"}


def short(run: Loaded, detail=(), shown=()) -> Loaded:
    """The run as one that is declared to last 5 s on 128 samples, and does."""
    numbers = {
        "effective_min_duration_ms": 5000,
        "effective_performance_sample_count": 128,
        "qsl_reported_total_count": 128,
    }
    shown_numbers = {"min_duration (ms)": "5000", "performance_sample_count": "128"}
    return changed(run, numbers | dict(detail), shown_numbers | dict(shown), **SHORT)


def test_declared_short_runs_waive_what_cannot_hold_and_nothing_else(runs):
    brief = {
        "result_query_count": 110,
        "effective_min_query_count": 100,
        "early_stopping_met": False,
        "result_validity": "INVALID",
    }
    shown = {"Result is": "INVALID", "min_query_count": "100"}
    run = short(runs["Server", "performance"], brief, shown)
    found = judge(run)
    waived = {what for what, outcome in found.items() if outcome == NOT_APPLICABLE}
    assert waived == {
        "samples",
        "min_duration",
        "duration",
        "early_stopping",
        "result",
    }
    assert verdict(run_checks("Server", "performance", *run, "v6.1")) == PASS
    late = changed(run, {"result_99.00_percentile_latency_ns": 21 * 10**9})
    assert failing(late) == {"latency_met", "result"}
    assert failing(changed(run, {"result_validity": "VALID"}, {"Result is": "VALID"})) == {"result"}
    assert failing(changed(run, {"effective_qsl_rng_seed": 1}, {"qsl_rng_seed": "1"})) == {
        "seeds.qsl"
    }


def test_waivers_give_their_reason(runs):
    run = short(runs["Offline", "performance"], {"result_max_latency_ns": 10**10})
    found = {c.id.split(".")[-1]: c for c in run_checks("Offline", "performance", *run, "v6.1")}
    assert found["duration"].value == "time: 5 s of 600 s; found 10"
    assert found["samples"].value == "count: 128 of 5000 samples; found 128"
    assert found["duration_met"].verdict == PASS
    assert found["duration_met"].margin == 5.0


WORSE = {  # how each field of a performance log gets worse, from its sound value
    "effective_min_duration_ms": lambda v, x: int(v * x),
    "result_query_count": lambda v, x: int(v * x),
    "effective_performance_sample_count": lambda v, x: int(v * x),
    "effective_samples_per_query": lambda v, x: int(v * x),
    "generated_samples_per_query": lambda v, x: int(v * x),
    "effective_qsl_rng_seed": lambda v, x: 2,
    "effective_sample_index_rng_seed": lambda v, x: 1,
    "effective_schedule_rng_seed": lambda v, x: 0,
    "result_validity": lambda v, x: "INVALID",
    "result_min_duration_met": lambda v, x: False,
    "result_min_queries_met": lambda v, x: False,
    "result_perf_constraints_met": lambda v, x: False,
    "early_stopping_met": lambda v, x: False,
    "result_overlatency_query_count": lambda v, x: v + int(300 * (1 - x)),
    "result_99.00_percentile_latency_ns": lambda v, x: int(v / max(x, 0.01)),
    "num_errors": lambda v, x: v + 1,
    "loadgen_version": lambda v, x: "",
    "sut_name": lambda v, x: "",
}
# Rules that compare two values with each other: worsening one can bring it nearer to the other.
RELATIVE = {"duration_met", "queries_met", "metric"}


STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(WORSE)), st.floats(0, 0.999)), min_size=1, max_size=4
)


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_worse_never_turns_a_fail_into_a_pass(runs, scenario):
    sound = runs[scenario, "performance"]

    @given(STEPS)
    @limits(max_examples=25, deadline=None)
    def worsen(steps):
        run, seen = sound, judge(sound)
        for key, factor in steps:
            old = run[1].get(key)
            if old is None:
                continue
            run = changed(run, {key: WORSE[key](old, factor)})
            found = judge(run)
            assert FAIL not in seen.values() or FAIL in found.values()
            for what in found.keys() - RELATIVE:
                assert (seen[what], found[what]) != (FAIL, PASS), (what, key)
            seen = found

    worsen()


@given(st.integers(1, 20000), st.floats(0, 0.02))
@limits(max_examples=50, deadline=None)
def test_early_stopping_is_the_binomial_tail(queries, share):
    late = int(queries * share)
    odds = binom.cdf(late, queries, 0.01)
    if abs(odds - 0.01) > 1e-9:
        assert predicates.early_stopping_holds("Server", queries, late) == (odds < 0.01)


def test_rules_that_were_not_run_are_listed():
    for scenario in mlperf.SCENARIOS:
        for mode in mlperf.MODES:
            found = not_run_checks(scenario, mode)
            assert {check.verdict for check in found} == {NOT_APPLICABLE}
            assert {check.value for check in found} == {"not run"}
            assert len(found) == len({check.id for check in found}) > 10


def test_the_published_logs_of_round_v5_1_pass(inference_checkout):
    sample = inference_checkout / "tools/submission/directory_structure_samples/sample_1/closed/AMD"
    for scenario in ("Offline", "Server"):
        (folder,) = sample.rglob(f"stable-diffusion-xl/{scenario}")
        for mode, at in (
            ("performance", "performance/run_1"),
            ("accuracy", "accuracy"),
            ("TEST01", "TEST01/performance/run_1"),
            ("TEST04", "TEST04/performance/run_1"),
        ):
            record = {
                "scenario": scenario,
                "mode": mode,
                "round": "v5.1",
                "settings": {"time": 600.0, "count": 5000, "max_latency": 20.0},
            }
            summary = logs.read_summary(folder / at / SUMMARY)
            detail = logs.read_detail(folder / at / DETAIL)
            assert failing((summary, detail, record), "v5.1") == set()
