"""What the forecast takes from a model's files: sizes of engines, pixels of images."""

import os
import re
import subprocess
import sys

import pytest

from t2i.base.yaml import read_yaml
from t2i.config import forecast
from t2i.config.forecast import Job, engine_bytes
from t2i.fetch.table import read_sources
from t2i.micro.pictures import SIDE
from t2i.report.data import ROWS
from workflow_run import PROJECT

SOURCES = read_sources(read_yaml(PROJECT / "config/sources.yaml"))
SDXL = "sdxl-base-1.0"


def weight_sizes(suffix: str) -> int:
    """Bytes of the model's weights of one file type, from the table."""
    names = [name for name in SOURCES if name.startswith(SDXL) and name.endswith(".safetensors")]
    return sum(
        SOURCES[name].size or 0
        for name in names
        if name.endswith(".fp16.safetensors") == (suffix == "fp16")
    )


@pytest.mark.parametrize(
    ("dtype", "linked", "weights"),
    [
        ("fp16", True, 0),
        ("fp32", True, 0),
        ("bf16", True, weight_sizes("fp32") // 2),
        ("fp16", False, weight_sizes("fp16")),
        ("fp32", False, weight_sizes("fp32")),
        ("bf16", False, weight_sizes("fp32") // 2),
    ],
)
def test_engines_cost_what_is_not_linked(dtype, linked, weights):
    assert engine_bytes(SDXL, dtype, SOURCES, linked) - forecast.TOKENIZERS == weights


def test_images_have_the_size_that_the_models_configuration_says(tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert forecast.image_side("micro-sdxl", SOURCES) == SIDE
    assert forecast.image_side(SDXL, SOURCES) == 1024
    monkeypatch.chdir(tmp_path)
    assert forecast.image_side("micro-sdxl", SOURCES) == forecast.LARGEST_SIDE
    fetched = tmp_path / "resources/micro-sdxl/unet/config.json"
    fetched.parent.mkdir(parents=True)
    fetched.write_text('{"sample_size": 7}')
    assert forecast.image_side("micro-sdxl", SOURCES) == 56


def test_shipped_weights_are_cast_to_what_no_file_holds():
    sizes = {dtype: engine_bytes("micro-sdxl", dtype, SOURCES, True) for dtype in ("fp16", "bf16")}
    assert sizes["fp16"] == forecast.TOKENIZERS
    names = [name for name in SOURCES if re.fullmatch(r"micro-sdxl/.*\.safetensors", name)]
    assert sizes["bf16"] - forecast.TOKENIZERS == sum(SOURCES[name].size for name in names)


# One LoadGen test with images of SIDE pixels that take no time, in its own process.
LOADGEN_RUN = """
import sys, numpy as np, mlperf_loadgen as lg
folder, scenario, mode, side, count, config = sys.argv[1:7]
settings = lg.TestSettings()
settings.scenario = getattr(lg.TestScenario, scenario)
settings.mode = getattr(lg.TestMode, mode)
settings.min_duration_ms = 300
settings.min_query_count = 2000
settings.single_stream_expected_latency_ns = 10**5
settings.server_target_qps = settings.offline_expected_qps = 1e4
images = np.random.default_rng(0).integers(0, 256, (int(count), 3 * int(side) ** 2), np.uint8)
def issue(queries):
    lg.QuerySamplesComplete([
        lg.QuerySampleResponse(q.id, images[q.index].ctypes.data, images[q.index].nbytes)
        for q in queries
    ])
    np.save(folder + "/latencies.npy", np.zeros(1))
sut = lg.ConstructSUT(issue, lambda: None)
qsl = lg.ConstructQSL(int(count), int(count), lambda indices: None, lambda indices: None)
output = lg.LogOutputSettings()
output.outdir = folder
logs = lg.LogSettings()
logs.log_output = output
logs.enable_trace = True
lg.StartTestWithLogSettings(sut, qsl, settings, logs, config)
"""


def loadgen_sizes(folder, scenario, mode, side=16, count=200, audit=""):
    """Bytes of the files that a LoadGen test of 2000 queries or more writes, and its queries."""
    folder.mkdir()
    (folder / "audit.config").write_text(audit)
    arguments = [folder, scenario, mode, side, count, folder / "audit.config"]
    subprocess.run(
        [sys.executable, "-c", LOADGEN_RUN, *map(str, arguments)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=60,
    )
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    trace = (folder / "mlperf_log_trace.json").read_text()
    return sizes, trace.count('"Sample"')


def loadgen_job(mode, rule="run_loadgen", variant="fp32"):
    return Job(rule, {"variant": variant, "scenario": "Offline", "mode": mode, "test": mode})


def loadgen_config(**changes):
    loadgen = {"count": 200, "time": 0.0, **changes}
    loadgen = {key: value for key, value in loadgen.items() if value is not None}
    variants = {"fp32": {"dtype": "fp32"}, "drawn": {"dtype": "fp32", "stand_in": {"side": 8}}}
    return {"model": SDXL, "samples": 300, "loadgen": loadgen, "variants": variants}


def told(job, side=16, **changes):
    """What is forecast of one job, and that it counts as LoadGen's."""
    totals = forecast.forecast([job], loadgen_config(**changes), SOURCES, side, True)
    assert {what for what, size in totals.items() if size} <= {"LoadGen logs", "reports and logs"}
    return totals["LoadGen logs"]


def test_accuracy_logs_take_what_is_forecast(tmp_path):
    pytest.importorskip("mlperf_loadgen")
    sizes, _ = loadgen_sizes(tmp_path / "run", "Offline", "AccuracyOnly")
    forecasted = told(loadgen_job("accuracy"))
    assert sum(sizes.values()) <= forecasted + forecast.EVERY_JOB
    logged = sizes["mlperf_log_accuracy.json"]
    assert 0.9 * logged < 200 * (2 * 3 * 16**2 + forecast.LOGGED_ENTRY)
    assert logged < 200 * (2 * 3 * 16**2 + forecast.LOGGED_ENTRY) < 1.05 * logged


@pytest.mark.parametrize("scenario", ["SingleStream", "Server"])
def test_logs_of_queries_take_what_is_forecast(tmp_path, scenario):
    pytest.importorskip("mlperf_loadgen")
    sizes, queries = loadgen_sizes(tmp_path / "run", scenario, "PerformanceOnly")
    assert queries >= 2000
    taken = (sum(sizes.values()) - 50_000) / queries
    assert 0.25 * forecast.LOGGED_QUERY < taken <= forecast.LOGGED_QUERY


def test_the_audit_logs_no_more_images_than_forecast(tmp_path):
    pytest.importorskip("mlperf_loadgen")
    audit = (
        "*.*.mode = 2\n*.*.accuracy_log_rng_seed = 720381539243781796\n"
        "*.*.accuracy_log_sampling_target = 128\n"
    )
    sizes, _ = loadgen_sizes(tmp_path / "run", "Offline", "PerformanceOnly", audit=audit)
    images = sizes["mlperf_log_accuracy.json"] / (2 * 3 * 16**2 + forecast.LOGGED_ENTRY)
    assert 60 < images <= forecast.AUDITED_IMAGES


def test_forecasts_of_loadgen_follow_the_configuration():
    logged = 2 * 3 * 16**2 + forecast.LOGGED_ENTRY
    query = forecast.LOGGED_QUERY
    assert told(loadgen_job("performance")) == 200 * query
    assert told(loadgen_job("performance"), time=10.0) == 10 * forecast.QUERY_RATE * query
    assert told(loadgen_job("TEST04"), time=10.0, qps=500.5) == 5005 * query
    assert told(loadgen_job("TEST01")) == 200 * query + forecast.AUDITED_IMAGES * logged
    assert told(loadgen_job("accuracy"), count=None) == 300 * (logged + query)
    drawn = loadgen_job("accuracy", variant="drawn")
    assert told(drawn) == 200 * (2 * 3 * 8**2 + forecast.LOGGED_ENTRY + query)
    official = told(loadgen_job("accuracy"), 1024, count=5000)
    assert 31.46e9 < official < 31.5e9


def test_scores_and_verified_audits_are_small():
    scores = told(loadgen_job("", "score_accuracy"), 1024, count=5000)
    images = forecast.COMPLIANCE_IMAGES * forecast.image_bytes(1024)
    assert images < scores < images + 1_000_000
    assert told(loadgen_job("TEST01", "verify_audit"), 1024) < 20_000
    copied = {**loadgen_config(), "inference_checkout": "checkout"}
    for test, least in (("TEST01", 128 * 2 * 3 * 1024**2), ("TEST04", 0)):
        job = loadgen_job(test, "verify_audit")
        totals = forecast.forecast([job], copied, SOURCES, 1024, True)
        assert least < totals["LoadGen logs"] < 1.5 * least + 20_000
    assert told(loadgen_job("", "build_submission")) == 5_000_000
    assert told(loadgen_job("", "check_submission")) == told(loadgen_job("", "judge_scenario")) == 0


def test_a_page_has_whole_pictures_beside_it():
    assert forecast.GALLERY == ROWS
    config = loadgen_config()
    found = forecast.forecast([Job("make_report")], config, SOURCES, 1024, True)
    pictures = len(config["variants"]) * ROWS * forecast.image_bytes(1024)
    assert found["reports and logs"] == forecast.PAGE + pictures + forecast.EVERY_JOB


def test_a_stand_in_has_no_weights_and_images_of_its_own_size():
    jobs = [
        Job(rule, {"variant": "drawn", "shard": "00000-00010"})
        for rule in ("build_engine", "generate_shard", "extract_compliance_images")
    ]
    totals = forecast.forecast(jobs, loadgen_config(), SOURCES, 1024, False)
    assert totals["engines"] == 0
    images = (10 + forecast.COMPLIANCE_IMAGES) * forecast.image_bytes(8)
    assert totals["images"] == images + 10 * forecast.MANIFEST_ENTRY
