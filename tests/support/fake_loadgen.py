"""LoadGen's folders of a 600 s run, made in a fraction of a second.

LoadGen itself writes them, for a system under test that answers at once; what tells of time is
then rewritten to what a system of the given rate would have shown.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from loadgen_figures import IN_MULTISTREAM_QUERY, PERCENTILES, SHORTEST, TARGET_PERCENTILE, timing
from loadgen_logs import (
    DETAIL,
    LOG,
    SUMMARY,
    add_error,
    read_detail,
    set_detail,
    set_summary,
    write_detail,
)
from short_loadgen import SIDE, image_of, real_run
from t2i.base.files import file_table
from t2i.compliance.audit_images import expected_images
from t2i.loadgen import logs
from t2i.loadgen.accuracy_log import accuracy_text
from t2i.mlperf import (
    AUDITS,
    MODES,
    OFFICIAL_SAMPLES,
    ROUNDS,
    SERVER_LATENCY_SECONDS,
)

__all__ = ["DETAIL", "LOG", "SIDE", "SUMMARY", "add_error", "image_of"]  # for tests, from one place
RATE = 17.0


def captions(count: int = OFFICIAL_SAMPLES) -> tuple[str, ...]:
    """A caption for each sample index."""
    return tuple(f'Picture {index} shows "a thing", and another.' for index in range(count))


def write_run(
    folder: Path,
    scenario: str,
    mode: str,
    round_name: str = "v6.1",
    *,
    count: int = OFFICIAL_SAMPLES,
    seconds: float = 600.0,
    rate: float = RATE,
    factor: float = 1.0,
    side: int = SIDE,
    variant: str = "fp32",
    run: str = "fake",
    detail: dict[str, Any] | None = None,
    summary: dict[str, str] | None = None,
    record: dict[str, Any] | None = None,
) -> Path:
    """The folder of one LoadGen test of a system that makes `rate * factor` images a second.

    `seconds` is the shortest duration that was asked for. `detail`, `summary` and `record` change
    single values of the detail log, the summary and run.json.
    """
    shutil.copytree(real_run(scenario, mode, round_name, count, side), folder)
    if mode != "accuracy":
        # No run has another one's figures.
        own = rate * (factor + MODES.index(mode) / 1e4)
        values, latencies = timing(scenario, rate, own, seconds, count)
        _rewrite(folder, values, scenario, rate, seconds)
        _set_clock(folder, scenario, mode, _seconds(values, scenario, rate))
        (folder / "user.conf").write_text(_user_conf(scenario, rate, seconds))
        np.save(folder / "latencies.npy", latencies)
    else:
        _set_clock(folder, scenario, mode, count / rate)
        queries = {"Offline": 1, "MultiStream": -(-count // IN_MULTISTREAM_QUERY)}
        np.save(folder / "latencies.npy", np.full(queries.get(scenario, count), 1 / rate))
    content = _record(scenario, mode, round_name, count, seconds, rate, side, variant, run)
    for key, value in (detail or {}).items():
        set_detail(folder / DETAIL, key, value)
    for label, text in (summary or {}).items():
        set_summary(folder / SUMMARY, label, text)
    files = {"files": file_table(folder)}
    write_json(folder / "run.json", content | files | (record or {}))
    return folder


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _user_conf(scenario: str, rate: float, seconds: float) -> str:
    images = IN_MULTISTREAM_QUERY if scenario == "MultiStream" else 1
    target = (
        f"target_latency = {1000 * images / rate:g}"
        if scenario.endswith("Stream")
        else f"target_qps = {rate:g}"
    )
    return f"*.{scenario}.{target}\n*.{scenario}.min_duration = {round(1000 * seconds)}\n"


def _record(scenario, mode, round_name, count, seconds, rate, side, variant, run):
    streams = scenario in ("SingleStream", "MultiStream")
    images = IN_MULTISTREAM_QUERY if scenario == "MultiStream" else 1
    return {
        "schema": 1,
        "run": run,
        "variant": variant,
        "scenario": scenario,
        "mode": mode,
        "round": round_name,
        "engine": "e" * 64,
        "stand_in": False,
        "model": "micro-sdxl",
        "settings": {
            "count": count,
            "max_batchsize": 1 if scenario == "SingleStream" else 8,
            "qps": None if streams else rate,
            "target_latency": 1000 * images / rate if streams else None,
            "time": seconds,
            "samples_per_query": IN_MULTISTREAM_QUERY,
            "max_latency": SERVER_LATENCY_SECONDS,
            "batch_wait": 0.5,
            "workers": 1,
            "min_query_count": None,
        },
        "given": [],
        "measured": {"images_per_second": rate, "seconds_per_image": 1 / rate},
        "image": [side, side],
        "not_finite": 0,
        "devices": [{"kind": "cpu", "name": "Fake CPU", "arch": "x86_64"}],
        "machine": {},
        "software": {"python": "3.11.9"},
        "inputs": {"tokens": "a" * 64, "latents": "b" * 64, "captions": "c" * 64},
        "seconds": 1.02 * seconds,
    }


def _rewrite(folder: Path, values: dict[str, Any], scenario: str, rate: float, seconds: float):
    detail, summary = folder / DETAIL, folder / SUMMARY
    known = {line["key"] for line in read_detail(detail)}
    for key in values.keys() & known:
        set_detail(detail, key, values[key])
    images = IN_MULTISTREAM_QUERY if scenario == "MultiStream" else 1
    for requested, value in (
        ("min_duration_ms", round(1000 * seconds)),
        ("server_target_qps", rate),
        ("offline_expected_qps", rate),
        ("server_target_latency_ns", round(1e9 * SERVER_LATENCY_SECONDS)),
        ("single_stream_expected_latency_ns", 1e9 * images / rate),
        ("multi_stream_expected_latency_ns", 1e9 * images / rate),
    ):
        if f"requested_{requested}" in known:
            set_detail(detail, f"requested_{requested}", value)
    fewest = {"Offline": 1, "Server": 459, "MultiStream": 662}.get(scenario, 100)
    set_detail(detail, "effective_min_query_count", fewest)
    labels = {
        "Samples per second": f"{values.get('result_samples_per_second', 0):g}",
        "Completed samples per second": (
            f"{values.get('result_completed_samples_per_sec', 0):.2f}"
        ),
        "Scheduled samples per second": (
            f"{values.get('result_scheduled_samples_per_sec', 0):.2f}"
        ),
        "QPS w/ loadgen overhead": f"{values.get('result_qps_with_loadgen_overhead', 0):.2f}",
        "QPS w/o loadgen overhead": f"{values.get('result_qps_without_loadgen_overhead', 0):.2f}",
        "samples_per_query": values.get("effective_samples_per_query"),
        "target_qps": f"{rate:g}" if scenario in ("Server", "Offline") else None,
        "min_duration (ms)": round(1000 * seconds),
        "min_query_count": fewest,
    }
    for name in ("Min", "Max", "Mean"):
        labels[f"{name} latency (ns)"] = values[f"result_{name.lower()}_latency_ns"]
    for percentile in PERCENTILES:
        value = values[f"result_{percentile:.2f}_percentile_latency_ns"]
        labels[f"{percentile:.2f} percentile latency (ns)"] = value
    if scenario in ("SingleStream", "MultiStream"):
        percentile = 100 * TARGET_PERCENTILE[scenario]
        labels[f"{percentile:.1f}th percentile latency (ns)"] = values[
            f"result_{percentile:.2f}_percentile_latency_ns"
        ]
        stopping = values["early_stopping_result"].replace("  *", "\n *").rstrip()
        stopping = stopping.replace(" \n", "\n")
        text = summary.read_text()
        start = text.index("Early Stopping Result:\n")
        end = text.index("\n\n", start)
        summary.write_text(text[:start] + "Early Stopping Result:\n" + stopping + text[end:])
    present = summary.read_text()
    for label, value in labels.items():
        if value is not None and re.search(rf"^{re.escape(label)}\s*:", present, re.M):
            set_summary(summary, label, str(value))


def _seconds(values: dict[str, Any], scenario: str, rate: float) -> float:
    """How long a test took by its figures."""
    queries = values.get("result_query_count", 1)
    if scenario == "Offline":
        return values["result_max_latency_ns"] / 1e9
    if scenario == "Server":
        return (queries - 1) / values["result_scheduled_samples_per_sec"]
    if scenario == "MultiStream":
        return queries * values["result_mean_query_latency_ns"] / 1e9
    return (queries - 1) / values["result_qps_with_loadgen_overhead"]


def _set_clock(folder: Path, scenario: str, mode: str, seconds: float) -> None:
    """Time stamps of a test that took so many seconds; each began an hour after the one before."""
    began = datetime(2026, 7, 1, tzinfo=UTC) + timedelta(
        days=list(SHORTEST).index(scenario), hours=MODES.index(mode), seconds=1
    )
    ended = began + timedelta(seconds=seconds + 0.5)
    stamps = {
        "test_datetime": f"{began:%Y-%m-%dT%H:%M:%SZ}",
        "power_begin": f"{began:%m-%d-%Y %H:%M:%S}.000",
        "power_end": f"{ended:%m-%d-%Y %H:%M:%S.%f}"[:-3],
    }
    messages = read_detail(folder / DETAIL)
    for message in messages:
        message["value"] = stamps.get(message["key"], message["value"])
        if message["key"].startswith(("power_", "result_", "early_", "num_errors")):
            message["time_ms"] += 1000 * (seconds + 1)
    write_detail(folder / DETAIL, messages)


def write_scores(
    folder: Path,
    accuracy: Path,
    round_name: str = "v6.1",
    *,
    count: int = OFFICIAL_SAMPLES,
    side: int = SIDE,
    clip: float = 31.75,
    fid: float = 23.5,
) -> Path:
    """scores/ of the accuracy run in the folder `accuracy`."""
    facts = json.loads((accuracy / "run.json").read_text())
    (folder / "images").mkdir(parents=True)
    ids = [index for index in ROUNDS[round_name].image_ids if index < count]
    for index in ids:
        Image.fromarray(image_of(index, side)).save(folder / "images" / f"{index}.png")
    lines = "".join(f"{index}  {captions(count)[index]}\n" for index in ids)
    (folder / "images" / "captions.txt").write_text(lines)
    digest = truncate(accuracy / LOG, folder / LOG)
    (folder / "accuracy.txt").write_text(accuracy_text(fid, clip, digest))
    write_json(
        folder / "accuracy.json",
        {
            "schema": 1,
            **{key: facts[key] for key in ("run", "variant", "scenario")},
            "samples": count,
            "fid": fid,
            "clip": clip,
            "log": {"sha256": digest, "bytes": (accuracy / LOG).stat().st_size},
            "image": [side, side],
            "reused_features": 0,
            "compliance_images": {
                str(index): hashlib.sha256(image_of(index, side).tobytes()).hexdigest()
                for index in ids
            },
            "compliance_images_beyond": [
                index for index in ROUNDS[round_name].image_ids if index >= count
            ],
            "image_sha256": [
                hashlib.sha256(image_of(index, side).tobytes()).hexdigest()
                for index in range(count)
            ],
        },
    )
    return folder


def truncate(source: Path, target: Path) -> str:
    """Write the truncated form of an accuracy log, return the whole one's sha256."""
    content = source.read_bytes()
    target.write_bytes(content[:4096] + b"\n\n...\n\n" + content[-4096:])
    return hashlib.sha256(content).hexdigest()


def write_audit(folder: Path, test: str, scenario: str, runs: Path) -> Path:
    """audits/{test}/ of the runs in the folder `runs`."""
    folder.mkdir(parents=True)
    key = {
        "SingleStream": "early_stopping_latency_ss",
        "MultiStream": "early_stopping_latency_ms",
        "Server": "result_completed_samples_per_sec",
        "Offline": "result_samples_per_second",
    }[scenario]
    scores = [
        next(line["value"] for line in read_detail(runs / mode / DETAIL) if line["key"] == key)
        for mode in ("performance", test)
    ]
    (folder / "verify_performance.txt").write_text(
        f"Verifying performance.\nreference score = {scores[0]}\ntest score = {scores[1]}\n"
        "TEST PASS\n"
    )
    if test == "TEST01":
        # The short run behind the figures has logged fewer images than they would have it.
        least, most = expected_images(logs.read_detail(runs / test / DETAIL))
        logged = min(max((runs / test / LOG).read_text().count("qsl_idx"), least), most)
        (folder / "verify_accuracy.txt").write_text(
            "Verifying accuracy. This might take a while...\n"
            "Reading accuracy mode results...\nReading performance mode results...\n"
            f"num_acc_log_entries = {OFFICIAL_SAMPLES}\nnum_acc_log_duplicate_keys = 0\n"
            f"num_acc_log_data_mismatch = 0\nnum_perf_log_entries = {logged}\n"
            f"num_perf_log_qsl_idx_match = {logged}\nnum_perf_log_data_mismatch = 0\n"
            "num_missing_qsl_idxs = 0\nTEST PASS\n\n"
        )
        (folder / "accuracy").mkdir()
        digest = truncate(runs / test / LOG, folder / "accuracy" / LOG)
        (folder / "accuracy" / "accuracy.txt").write_text(f"\nhash={digest}\n")
    write_json(
        folder / "audit.json",
        {
            "schema": 1,
            "test": test,
            "scenario": scenario,
            "checks": [],
            "official": {
                "state": "not run",
                "why": "no checkout",
                "commit": None,
                "messages": [],
                "verdict": "not applicable",
            },
            "verdict": "pass",
            "files": file_table(folder),
        },
    )
    return folder


def write_variant(
    root: Path,
    scenarios: Sequence[str] = ("SingleStream", "Offline"),
    round_name: str = "v6.1",
    modes: Sequence[str] = ("performance", "accuracy", *AUDITS),
    *,
    side: int = SIDE,
    scores: Callable[..., Path] = write_scores,
    **settings: Any,
) -> Path:
    """A variant's loadgen/ folder: for each scenario its runs, scores and audits."""
    count = settings.get("count", OFFICIAL_SAMPLES)
    for scenario in scenarios:
        runs = root / scenario
        for mode in modes:
            write_run(runs / mode, scenario, mode, round_name, side=side, **settings)
        if "accuracy" in modes:
            scores(runs / "scores", runs / "accuracy", round_name, count=count, side=side)
        for test in AUDITS:
            if test in modes:
                write_audit(runs / "audits" / test, test, scenario, runs)
    return root
