import json
import sys
from pathlib import Path

import pytest

from t2i import mlperf
from t2i.loadgen import logs
from t2i.mlperf import DETAIL, SUMMARY
from tiny_loadgen import issued, request, start

SDXL = "tools/submission/directory_structure_samples/sample_1/closed/AMD"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    asked = {scenario: request(scenario, "performance") for scenario in mlperf.SCENARIOS}
    asked["accuracy"] = request("Offline", "accuracy")
    asked["too slow"] = request("Server", "FindPeakPerformance", max_latency=1e-3, qps=50000.0)
    asked["too few"] = request("SingleStream", "performance", min_query_count=1, time=0.01)
    for name, what in asked.items():
        assert start(root / name, what).wait(60) == 0
    return {name: root / name for name in asked}


def both(folder: Path) -> tuple[logs.Summary, logs.Detail]:
    return logs.read_summary(folder / SUMMARY), logs.read_detail(folder / DETAIL)


def close(one: float, other: float) -> bool:
    return abs(one - other) <= 0.005 + 1e-5 * other


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_both_logs_of_a_performance_run(runs, scenario):
    summary, detail = both(runs[scenario])
    queries = issued(runs[scenario])
    assert summary.scenario == detail.get("effective_scenario") == scenario
    assert summary.mode == detail.get("effective_test_mode") == "PerformanceOnly"
    assert summary.valid is (detail.get("result_validity") == "VALID") is True
    assert (summary.errors, summary.warnings) == (0, 0)
    assert detail.errors == detail.warnings == ()
    assert not detail.conflicts
    assert detail.get("result_query_count") == len(queries)
    seeds = mlperf.ROUNDS["v5.0"]
    assert summary.values["schedule_rng_seed"] == str(seeds.schedule_rng_seed)
    assert detail.get("effective_schedule_rng_seed") == seeds.schedule_rng_seed
    figure = logs.metric(detail, scenario)
    assert close(summary.metric, figure.value)
    assert figure.unit == ("s" if scenario.endswith("Stream") else "images/s")
    assert figure.better == ("lower" if scenario.endswith("Stream") else "higher")


@pytest.mark.parametrize("scenario", mlperf.SCENARIOS)
def test_latencies_are_seconds_in_order(runs, scenario):
    summary, detail = both(runs[scenario])
    found = logs.latencies(detail, scenario)
    assert list(found) == ["mean", *logs.PERCENTILES]
    percentiles = [found[name] for name in logs.PERCENTILES]
    assert percentiles == sorted(percentiles)
    assert percentiles[0] == summary.number("50.00 percentile latency (ns)") / 1e9
    assert found["mean"] == summary.number("Mean latency (ns)") / 1e9
    if scenario == "MultiStream":
        assert found["50"] * 1e9 == detail.get("result_50.00_percentile_per_query_latency_ns")


def test_early_stopping_lines(runs):
    summary, detail = both(runs["SingleStream"])
    assert summary.estimate("90") == detail.get("early_stopping_latency_ss") / 1e9
    assert summary.estimate("99") is None
    assert summary.early_stopping[0].startswith("* Processed at least 64 queries")
    assert summary.early_stopping[-1].endswith("least 662 total queries).")  # three lines in one
    assert both(runs["Server"])[0].early_stopping == ("* Run successful.",)


def test_a_run_without_a_result(runs):
    summary, detail = both(runs["too few"])
    assert summary.valid is False
    assert summary.metric is None
    assert logs.metric(detail, "SingleStream") is None
    assert detail.get("early_stopping_latency_ss") == 0


def test_errors_and_recommendations(runs):
    summary, detail = both(runs["too slow"])
    assert summary.errors == len(detail.errors) == detail.get("num_errors") == 1
    assert "does not satisfy performance constraints" in detail.errors[0].value
    assert summary.recommendations == ("Reduce target QPS to improve latency.",)
    assert summary.mode == "FindPeakPerformance"


def test_an_accuracy_run_has_no_result(runs):
    summary, detail = both(runs["accuracy"])
    assert summary.values == {}
    assert summary.scenario is summary.mode is summary.valid is summary.metric is None
    assert detail.get("result_validity") is None
    assert logs.metric(detail, "Offline") is None
    assert logs.latencies(detail, "Offline") == {}


def line(key: str, value, **metadata) -> str:
    facts = {"is_error": False, "is_warning": False} | metadata
    return f":::MLLOG {json.dumps({'key': key, 'value': value, 'metadata': facts})}\n"


def detail_of(tmp_path: Path, text: str) -> logs.Detail:
    path = tmp_path / "detail.txt"
    path.write_text(text)
    return logs.read_detail(path)


def test_keys_that_come_again(tmp_path):
    text = line("result_validity", "VALID") + line("generic_message", "a")
    text += line("generic_message", "b") + line("result_validity", "INVALID")
    detail = detail_of(tmp_path, text)
    assert (detail.get("result_validity"), detail.last("result_validity")) == ("VALID", "INVALID")
    assert detail.all("generic_message") == ["a", "b"]
    assert detail.conflicts == {"result_validity": ["VALID", "INVALID"]}
    assert detail.get("missing", 7) == detail.last("missing", 7) == 7
    assert detail.number("missing") is None


def test_errors_by_flag_and_by_key(tmp_path):
    text = line("a", "1", is_error=True) + line("error_runtime", "2") + line("b", 3)
    text += line("warning_generic_message", "4", is_warning=True)
    detail = detail_of(tmp_path, text)
    assert [record.value for record in detail.errors] == ["1", "2"]
    assert [record.line for record in detail.warnings] == [4]


@pytest.mark.parametrize("value", [True, "7", None, [7]])
def test_what_is_no_number_is_named(tmp_path, value):
    detail = detail_of(tmp_path, line("a", 0) + line("n", value))
    if value is None:
        assert detail.number("n") is None
    else:
        with pytest.raises(ValueError, match=r"detail.txt:2: n is .* not a number"):
            detail.number("n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: the file is empty"),
        ("hello\n", r":1: does not begin with :::MLLOG"),
        (line("a", 1) + " " + line("b", 2), r":2: does not begin with :::MLLOG"),
        (line("a", 1) + "\n" + line("b", 2)[:20], r":3: is not valid JSON"),
        (':::MLLOG {"key": "a", "value": 1}\n', r":1: lacks key, value or metadata"),
        (":::MLLOG [1]\n", r":1: lacks key, value or metadata"),
        (line("a", 1, is_error=1), r":1: .*not a boolean"),
        (line(7, 1), r":1: key is not text"),
    ],
)
def test_damaged_details_are_refused_by_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=r"detail\.txt" + message):
        detail_of(tmp_path, text)


def test_a_detail_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "detail.txt"
    path.write_bytes(line("a", 1).encode() + b":::MLLOG \xff\n")
    with pytest.raises(ValueError, match=r"detail\.txt:\d: is not UTF-8 text"):
        logs.read_detail(path)


def test_damaged_summaries_are_refused(runs, tmp_path):
    text = (runs["Offline"] / SUMMARY).read_text()
    path = tmp_path / "summary.txt"
    for damaged, message in (
        ("", "summary.txt: ends without LoadGen's count of warnings"),
        (text[: text.index("No errors")], "summary.txt: ends without LoadGen's count of errors"),
        ("Result is : INVALID\n" + text, r"summary.txt:\d+: 'Result is' is 'VALID' here"),
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=message):
            logs.read_summary(path)
    path.write_text(text.replace("Samples per second: ", "Samples per second: about "))
    with pytest.raises(ValueError, match="'Samples per second' is 'about"):
        _ = logs.read_summary(path).metric


def test_real_logs_as_the_official_parser_reads_them(inference_checkout):
    sys.path.insert(0, str(inference_checkout / "tools/submission"))
    try:
        from submission_checker.parsers.loadgen_parser import LoadgenParser
    finally:
        sys.path.pop(0)
    paths = sorted((inference_checkout / SDXL).rglob(f"stable-diffusion-xl/**/{DETAIL}"))
    assert len(paths) > 8
    for path in paths:
        summary, detail = both(path.parent)
        official = LoadgenParser(str(path))
        assert set(detail.by_key) == official.get_keys()
        assert all(detail.get(key) == official[key] for key in official.get_keys())
        assert len(detail.errors) == official.num_errors() == summary.errors
        assert sum(map(len, official.get_messages().values())) == len(detail.records)
        if summary.scenario:
            scenario = detail.get("effective_scenario")
            assert summary.valid is (detail.get("result_validity") == "VALID")
            assert close(summary.metric, logs.metric(detail, scenario).value)
