"""LoadGen itself, run for a second for a system under test that answers at once."""

import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from loadgen_figures import SHORTEST
from loadgen_logs import DETAIL, SUMMARY, read_detail, write_detail
from t2i.mlperf import AUDITS, BENCHMARK, OFFICIAL_SAMPLES, ROUNDS

SIDE = 16
AUDIT_CONFIG = {
    "TEST01": "*.*.mode = 2\n*.*.accuracy_log_rng_seed = 720381539243781796\n"
    "*.*.accuracy_log_sampling_target = 128\n",
    "TEST04": "*.*.mode = 2\n*.*.performance_issue_same = 1\n"
    "*.*.performance_issue_same_index = 3\n",
}


def image_of(index: int, side: int = SIDE) -> np.ndarray:
    """The image of a sample, (side, side, 3) uint8, never of one colour."""
    ramp = np.arange(side * side * 3, dtype=np.uint32).reshape(side, side, 3)
    return ((ramp * 7 + index * 31 + (index // 256) * ramp) % 256).astype(np.uint8)


@cache
@cache
def _cache() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="fake-loadgen-")


@cache
def real_run(scenario: str, mode: str, round_name: str, count: int, side: int) -> Path:
    """The folder of a short real run."""
    folder = Path(_cache().name) / f"{scenario}-{mode}-{round_name}-{count}-{side}"
    folder.mkdir()
    (folder / "user.conf").write_text(
        f"*.{scenario}.min_duration = 1\n*.{scenario}.min_query_count = {SHORTEST[scenario]}\n"
        + (f"*.{scenario}.target_qps = 50000\n" if scenario in ("Server", "Offline") else "")
        + (f"*.{scenario}.target_latency = 1\n" if scenario.endswith("Stream") else "")
    )
    if mode in AUDITS:
        (folder / "audit.config").write_text(AUDIT_CONFIG[mode])
    command = [sys.executable, __file__, scenario, mode, round_name, str(count), str(side)]
    library = {"PYTHONPATH": str(Path(__file__).parents[2] / "scripts")}
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **library}, timeout=120)
    kept = [m for m in read_detail(folder / DETAIL) if not m["metadata"]["is_warning"]]
    write_detail(folder / DETAIL, kept)
    text = (folder / SUMMARY).read_text()
    text = re.sub(
        r"^\d+ warnings? encountered.*$", "No warnings encountered during test.", text, flags=re.M
    )
    (folder / SUMMARY).write_text(text)
    (folder / "mlperf_log_trace.json").write_text("{}\n")
    return folder


def _run_loadgen(scenario: str, mode: str, round_name: str, count: int, side: int) -> None:
    """Run LoadGen in the working directory for a system that answers at once."""
    import mlperf_loadgen as lg

    images = [image_of(index, side) for index in range(count)]

    def answer(queries):
        responses = [
            lg.QuerySampleResponse(query.id, images[query.index].ctypes.data, side * side * 3)
            for query in queries
        ]
        lg.QuerySamplesComplete(responses)

    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.AccuracyOnly if mode == "accuracy" else lg.TestMode.PerformanceOnly
    settings.FromConfig("user.conf", BENCHMARK, scenario)
    seeds = ROUNDS[round_name]
    settings.qsl_rng_seed = seeds.qsl_rng_seed
    settings.sample_index_rng_seed = seeds.sample_index_rng_seed
    settings.schedule_rng_seed = seeds.schedule_rng_seed
    if count != OFFICIAL_SAMPLES:
        settings.performance_sample_count_override = count
    sut = lg.ConstructSUT(answer, lambda: None)
    qsl = lg.ConstructQSL(count, count, lambda _: None, lambda _: None)
    log = lg.LogSettings()
    log.log_output.outdir = "."
    log.log_output.copy_summary_to_stdout = False
    log.enable_trace = False
    audit = "audit.config" if mode in AUDITS else ""
    lg.StartTestWithLogSettings(sut, qsl, settings, log, audit)


if __name__ == "__main__":
    scenario, mode, round_name, count, side = sys.argv[1:]
    _run_loadgen(scenario, mode, round_name, int(count), int(side))
