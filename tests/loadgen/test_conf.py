import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binom

from t2i import mlperf
from t2i.loadgen import conf, logs, test_object
from t2i.mlperf import DETAIL
from tiny_loadgen import COUNT, RATE, SECONDS, issued, request, start

TESTS = [
    (scenario, mode)
    for scenario in mlperf.SCENARIOS
    for mode in ("performance", "accuracy", "TEST01", "TEST04")
]
GIVEN = {
    "count": 16,
    "time": 600.0,
    "qps": 0.5,
    "target_latency": 62.5,
    "samples_per_query": 8,
    "max_latency": 20.0,
}


def written(scenario: str, **changes) -> dict[str, str]:
    text = conf.user_conf(scenario, **(GIVEN | changes))
    lines = [line.split(" = ") for line in text.splitlines()]
    prefix = f"{mlperf.BENCHMARK}.{scenario}."
    assert all(key.startswith(prefix) for key, _ in lines)
    return {key.removeprefix(prefix): value for key, value in lines}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("runs")
    asked = {test: request(*test) for test in TESTS}
    asked["Server", "FindPeakPerformance"] = request(
        "Server", "FindPeakPerformance", max_latency=0.002, time=0.05, qps=20000.0
    )
    asked["Offline", "two samples"] = request("Offline", "TEST04", count=2)
    folders = {test: root / test[0] / test[1] for test in asked}
    for test in asked:
        assert start(folders[test], asked[test]).wait(60) == 0
    return folders


@pytest.mark.parametrize(("scenario", "mode"), TESTS)
def test_loadgen_takes_every_setting(runs, scenario, mode):
    detail = logs.read_detail(runs[scenario, mode] / DETAIL)
    seeds = mlperf.ROUNDS["v5.0"]
    samples = {"Offline": round(1.1 * SECONDS * RATE), "MultiStream": 8}.get(scenario, 1)
    expected = {
        "effective_scenario": scenario,
        "effective_test_mode": "AccuracyOnly" if mode == "accuracy" else "PerformanceOnly",
        "effective_min_duration_ms": round(1000 * SECONDS),
        "effective_max_duration_ms": 0,
        "effective_performance_sample_count": COUNT,
        "effective_accuracy_sample_count": COUNT,
        "effective_samples_per_query": samples,
        "effective_qsl_rng_seed": seeds.qsl_rng_seed,
        "effective_sample_index_rng_seed": seeds.sample_index_rng_seed,
        "effective_schedule_rng_seed": seeds.schedule_rng_seed,
        "effective_accuracy_log_sampling_target": 128 if mode == "TEST01" else 0,
        "effective_performance_issue_same": mode == "TEST04",
        "effective_performance_issue_same_index": 3 if mode == "TEST04" else 0,
        "effective_target_latency_ns": 20 * 10**9 if scenario == "Server" else 0,
        "effective_target_latency_percentile": 0.9 if scenario == "SingleStream" else 0.99,
        "effective_target_qps": RATE,
        "effective_sample_concatenate_permutation": False,
    }
    assert {key: detail.get(key) for key in expected} == expected
    assert not detail.errors


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_accuracy_issues_each_sample_of_the_count_once(runs, scenario):
    queries = issued(runs[scenario, "accuracy"])
    assert sorted(index for query in queries for index in query) == list(range(COUNT))


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_performance_stays_within_the_count(runs, scenario):
    queries = issued(runs[scenario, "performance"])
    assert {index for query in queries for index in query} == set(range(COUNT))


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_test04_issues_one_query_again_and_again_all_of_the_test_long(runs, scenario):
    queries, usual = (issued(runs[scenario, mode]) for mode in ("TEST04", "performance"))
    assert len({tuple(query) for query in queries}) == 1
    assert len(set(queries[0])) == (8 if scenario == "MultiStream" else 1)
    if scenario == "Offline":
        assert len(queries[0]) == len(usual[0]) > 128


def test_test04_of_two_samples_issues_the_second(runs):
    folder = runs["Offline", "two samples"]
    detail = logs.read_detail(folder / DETAIL)
    assert set(issued(folder)[0]) == {detail.get("loaded_qsl_set")[1]}
    assert not detail.errors


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_test01_logs_answers_of_a_performance_run(runs, scenario):
    logged = json.loads((runs[scenario, "TEST01"] / "mlperf_log_accuracy.json").read_text())
    answers = sum(len(query) for query in issued(runs[scenario, "TEST01"]))
    assert 0 < len(logged) < answers


def test_find_peak_runs_in_its_own_mode(runs):
    detail = logs.read_detail(runs["Server", "FindPeakPerformance"] / DETAIL)
    assert detail.get("effective_test_mode") == "FindPeakPerformance"


def test_user_conf_of_each_scenario():
    assert written("Offline", count=5000)["min_query_count"] == "5000"
    assert written("Offline")["target_qps"] == written("Server")["target_qps"] == "0.5"
    assert written("SingleStream")["target_latency"] == "62.5"
    assert written("MultiStream")["samples_per_query"] == "8"
    assert written("Server")["target_latency"] == "20000"
    assert written("Server", time=0.0001, max_latency=1e-9)["min_duration"] == "1"
    assert written("Server", max_latency=1e-9)["target_latency"] == "1"  # 0 would be no limit
    assert written("SingleStream", min_query_count=7)["min_query_count"] == "7"


def test_slow_systems_issue_what_early_stopping_needs():
    floors = {scenario: written(scenario)["min_query_count"] for scenario in mlperf.SCENARIOS}
    assert floors == {
        "SingleStream": "100",
        "MultiStream": "662",
        "Server": "459",
        "Offline": "16",
    }
    assert written("Server", time=599.0)["min_query_count"] == "16", (
        "a short test: one for each sample"
    )
    assert written("Server", time=599.0, count=500)["min_query_count"] == "100"
    assert written("Server", time=3600.0)["min_query_count"] == "459"


@pytest.mark.parametrize(
    ("scenario", "late", "percentile"),
    [("SingleStream", 1, 0.9), ("MultiStream", 1, 0.99), ("Server", 0, 0.99)],
)
def test_fewest_queries_are_the_binomial_distribution_s(scenario, late, percentile):
    fewest = conf.fewest_queries(scenario)
    assert binom.cdf(late, fewest, 1 - percentile) < 0.01
    assert binom.cdf(late, fewest - 1, 1 - percentile) >= 0.01


@pytest.mark.parametrize(
    ("scenario", "changes", "message"),
    [
        ("Offline", {"qps": None}, "qps of Offline is None"),
        ("Server", {"qps": 0.0}, "qps of Server is 0.0"),
        ("SingleStream", {"target_latency": None}, "target_latency of SingleStream"),
        ("MultiStream", {"target_latency": float("inf")}, "target_latency of MultiStream"),
        ("MultiStream", {"samples_per_query": 0}, "samples_per_query of MultiStream is 0"),
        ("Server", {"max_latency": -1.0}, "max_latency of Server"),
        ("Offline", {"time": float("nan")}, "time of Offline is nan"),
        ("Offline", {"count": 0}, "of Offline is 0"),
        ("SingleStream", {"min_query_count": 0}, "min_query_count of SingleStream is 0"),
        ("Burst", {}, "unknown scenario 'Burst'"),
    ],
)
def test_what_loadgen_cannot_take_is_refused(scenario, changes, message):
    with pytest.raises(ValueError, match=message):
        conf.user_conf(scenario, **(GIVEN | changes))


def test_audit_configs():
    assert conf.audit_config("TEST01", 5000).splitlines() == [
        "*.*.mode = 2",
        "*.*.accuracy_log_rng_seed = 720381539243781796",
        "*.*.accuracy_log_sampling_target = 128",
    ]
    assert "min_query_count" not in conf.audit_config("TEST04", 5000)
    assert conf.audit_config("TEST04", 5000).endswith("same_index = 3\n")
    assert conf.audit_config("TEST04", 1).endswith("same_index = 0\n")
    with pytest.raises(ValueError, match="unknown audit 'TEST05'"):
        conf.audit_config("TEST05", 5000)


@pytest.mark.parametrize(("qps", "decimals"), [(0.5, 2), (0.04, 3), (8.0, 1), (300.0, 1)])
def test_find_peak_looks_for_two_digits(tmp_path, monkeypatch, qps, decimals):
    monkeypatch.setattr(test_object, "_configured", [])
    path = tmp_path / "user.conf"
    path.write_text(conf.user_conf("Server", **(GIVEN | {"qps": qps})))
    made = test_object.test_settings(
        path, "Server", "FindPeakPerformance", mlperf.ROUNDS["v6.1"].seeds
    )
    assert made.server_target_qps == qps
    assert made.server_find_peak_qps_decimals_of_precision == decimals


def test_wrong_calls_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(test_object, "_configured", [])
    path = tmp_path / "user.conf"
    with pytest.raises(ValueError, match="unknown mode 'submission'"):
        test_object.test_settings(path, "Offline", "submission", mlperf.ROUNDS["v6.1"].seeds)
    with pytest.raises(ValueError, match="for Server alone, not for Offline"):
        test_object.test_settings(
            path, "Offline", "FindPeakPerformance", mlperf.ROUNDS["v6.1"].seeds
        )
    with pytest.raises(ValueError, match="LoadGen cannot read it"):
        test_object.test_settings(path, "Offline", "performance", mlperf.ROUNDS["v6.1"].seeds)
    with pytest.raises(RuntimeError, match="one user.conf per process"):
        test_object.test_settings(path, "Offline", "performance", mlperf.ROUNDS["v6.1"].seeds)


def test_shortened_names_what_is_short():
    assert conf.shortened(600.0, 5000) == conf.shortened(700.0, 6000) == []
    assert conf.shortened(5.0, 128) == ["time: 5 s of 600 s", "count: 128 of 5000 samples"]


def test_light_modules_import_without_loadgen():
    code = (
        "import sys, t2i.loadgen.conf, t2i.loadgen.logs;"
        "sys.exit(any(m in sys.modules for m in ('mlperf_loadgen', 'torch', 'numpy')))"
    )
    folder = str(Path(conf.__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": folder}).returncode == 0
