"""Forgeries of a submission that leave its results as they are: MLPerf's checker passes most."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_loadgen import DETAIL, LOG, read_detail, set_detail, set_summary
from loadgen_logs import write_detail
from tampering import (
    ACCURACY,
    CHECK,
    IMAGES,
    OFFLINE,
    PERFORMANCE,
    ROOT,
    RUN,
    SHOWN,
    STREAM,
    SYSTEM,
    Case,
    both,
    copied,
    detail,
    edit,
    put,
    score,
    system,
)

SOURCE = ROOT / "src/stable-diffusion-xl/my-box"
TEST01, TEST04 = OFFLINE / "TEST01", OFFLINE / "TEST04"
CONF = OFFLINE / "user.conf"


def swap(path: Path, pattern: str, text: str) -> Callable[[Path], None]:
    return edit(path, lambda old: re.sub(pattern, text, old, count=1, flags=re.M))


def short_stamps(tree: Path) -> None:
    """Time stamps of a test of ten seconds, beside figures of eleven minutes."""
    begin = next(m for m in read_detail(tree / PERFORMANCE / DETAIL) if m["key"] == "power_begin")
    minute = begin["value"].replace(":01.", ":11.")
    set_detail(tree / PERFORMANCE / DETAIL, "power_end", minute)


def early_messages(tree: Path) -> None:
    """Messages that all came within the first second."""
    path = tree / PERFORMANCE / DETAIL
    messages = read_detail(path)
    for message in messages:
        message["time_ms"] = min(message["time_ms"], 900.0)
    write_detail(path, messages)


def performance_as(test: str) -> Callable[[Path], None]:
    """The performance run's logs again, with an audit's settings written into them."""

    def apply(tree: Path) -> None:
        settings = {
            message["key"]: message["value"]
            for message in read_detail(tree / OFFLINE / test / RUN / DETAIL)
            if "issue_same" in message["key"] or "accuracy_log" in message["key"]
        }
        copied(PERFORMANCE, OFFLINE / test / RUN)(tree)
        run = tree / OFFLINE / test / RUN
        for key, value in settings.items():
            set_detail(run / DETAIL, key, value)
            if key.startswith("effective_"):
                label = key.removeprefix("effective_")
                if re.search(rf"^{label} ", (run / "mlperf_log_summary.txt").read_text(), re.M):
                    set_summary(run / "mlperf_log_summary.txt", label, str(int(value)))

    return apply


def twice(path: Path, key: str, value: Any) -> Callable[[Path], None]:
    """A key of a JSON file with another value in front of it; readers take the last."""
    return edit(path, lambda text: text.replace("{", "{" + f'"{key}": {json.dumps(value)},', 1))


def appended(tree: Path) -> None:
    path = tree / ACCURACY / f"images/{SHOWN}.png"
    path.write_bytes(path.read_bytes() + b"PK\x03\x04 something else")


def binary(tree: Path) -> None:
    (tree / SOURCE / "weights.bin").write_bytes(bytes(range(256)))


def made(path: Path, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    return lambda tree: make(tree / path)


def large(path: Path) -> None:
    with path.open("w") as handle:
        handle.write("text\n")
        handle.truncate(50_000_001)


def second_name(tree: Path) -> None:
    os.link(tree / CONF, tree.parent / f"{tree.name}.elsewhere")


def same_hash(tree: Path) -> None:
    text = (tree / ACCURACY / "accuracy.txt").read_text()
    (tree / TEST01 / "accuracy/accuracy.txt").write_text(f"\n{text.splitlines()[-1]}\n")


def first_record(path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> Any:
    """Change the first record of a truncated log and keep its length."""

    def apply(text: str) -> str:
        found = re.search(r'"seq_id" : (\d+), "qsl_idx" : (\d+), "data" : "([0-9A-F]+)', text)
        assert found is not None
        old = {"seq": found[1], "qsl": found[2], "data": found[3]}
        new = {**old, **change(old)}
        record = f'"seq_id" : {new["seq"]}, "qsl_idx" : {new["qsl"]}, "data" : "{new["data"]}'
        return text[: found.start()] + record + text[found.end() :]

    return edit(path, apply)


def other_digit(data: str) -> str:
    return ("0" if data[0] != "0" else "1") + data[1:]


def other_pixels(tree: Path) -> None:
    """TEST01's log begins with the accuracy run's first sample, and other pixels of it."""
    found = re.search(
        r'"qsl_idx" : (\d+), "data" : "([0-9A-F]+)', (tree / ACCURACY / LOG).read_text()
    )
    assert found is not None
    given = {"qsl": found[1], "data": other_digit(found[2])}
    first_record(TEST01 / "accuracy" / LOG, lambda _: given)(tree)


FORGERIES = (
    Case(
        "seed asked for",
        f"{CHECK}.performance.requested",
        detail(PERFORMANCE, requested_qsl_rng_seed=1),
    ),
    Case(
        "duration asked for in the log",
        f"{CHECK}.performance.requested",
        detail(PERFORMANCE, requested_min_duration_ms=60000),
    ),
    Case(
        "seed asked for in the accuracy run",
        f"{CHECK}.accuracy.requested",
        detail(ACCURACY, requested_sample_index_rng_seed=1),
    ),
    Case(
        "rate asked for",
        f"{CHECK}.performance.requested",
        detail(PERFORMANCE, requested_offline_expected_qps=1.0),
    ),
    Case("short time stamps", f"{CHECK}.performance.stamps", short_stamps),
    Case("messages of one second", f"{CHECK}.performance.stamps", early_messages),
    Case(
        "begun on another day",
        f"{CHECK}.performance.stamps",
        detail(PERFORMANCE, test_datetime="2026-07-20T00:00:00Z"),
    ),
    Case(
        "two queries in Offline",
        f"{CHECK}.performance.counts",
        detail(PERFORMANCE, result_query_count=2),
    ),
    Case(
        "more queries than there was time for",
        "submission.SingleStream.performance.stamps",
        detail(STREAM / RUN, result_query_count=12000, generated_query_count=12000),
    ),
    Case(
        "latencies of another run",
        "submission.SingleStream.performance.counts",
        detail(STREAM / RUN, result_mean_latency_ns=20_000_000),
    ),
    Case(
        "duration in user.conf",
        f"{CHECK}.performance.conf",
        swap(CONF, r"min_duration = \d+", "min_duration = 60000"),
    ),
    Case("rate in user.conf", f"{CHECK}.performance.conf", swap(CONF, "qps = .*", "qps = 99")),
    Case(
        "user.conf of another scenario",
        f"{CHECK}.performance.conf",
        lambda tree: (tree / CONF).write_text((tree / STREAM / "user.conf").read_text()),
    ),
    Case(
        "seeds in user.conf",
        f"{CHECK}.performance.conf",
        edit(CONF, lambda text: text + "*.*.qsl_rng_seed = 2085463073848966840\n"),
    ),
    Case("user.conf in prose", f"{CHECK}.performance.conf", put(CONF, "as usual\n")),
    Case(
        "mlperf.conf of another round",
        f"{CHECK}.performance.conf",
        put(OFFLINE / "mlperf.conf", "*.*.qsl_rng_seed = 1780908523862526354\n"),
    ),
    Case(
        "TEST04 verified in one line",
        f"{CHECK}.TEST04.verified",
        put(TEST04 / "verify_performance.txt", "TEST PASS\n"),
    ),
    Case(
        "TEST01 verified in one line",
        f"{CHECK}.TEST01.images",
        put(TEST01 / "verify_accuracy.txt", "TEST PASS\n"),
    ),
    Case(
        "TEST01 verified on no images",
        f"{CHECK}.TEST01.images",
        swap(TEST01 / "verify_accuracy.txt", r"(num_perf_log_entries) = \d+", r"\1 = 0"),
    ),
    Case("TEST01 with the accuracy run's hash", f"{CHECK}.TEST01.accuracy.hash.own", same_hash),
    Case(
        "sample that does not exist",
        f"{CHECK}.accuracy.log.indices",
        first_record(ACCURACY / LOG, lambda old: {"qsl": "9999"}),
    ),
    Case(
        "samples in another order",
        f"{CHECK}.accuracy.log.indices",
        first_record(ACCURACY / LOG, lambda old: {"qsl": str((int(old["qsl"]) + 1) % 1000 + 1000)}),
    ),
    Case(
        "sample of TEST01 that does not exist",
        f"{CHECK}.TEST01.accuracy.log.indices",
        first_record(TEST01 / "accuracy" / LOG, lambda old: {"qsl": "9999"}),
    ),
    Case("other pixels in TEST01", f"{CHECK}.TEST01.accuracy.log.pixels", other_pixels),
    Case(
        "other pixels than the image's",
        f"{CHECK}.accuracy.log.pixels",
        first_record(ACCURACY / LOG, lambda old: {"qsl": str(SHOWN)}),
    ),
    Case(
        "no hex digits in the log",
        f"{CHECK}.accuracy.log.indices",
        first_record(ACCURACY / LOG, lambda old: {"data": "x" + old["data"][1:]}),
    ),
    Case("exponent in a score", f"{CHECK}.accuracy.form", score("23.5", "23.5e0")),
    Case("negative score", f"{CHECK}.accuracy.form", score("31.75", "-31.75")),
    Case("score with a word", f"{CHECK}.accuracy.form", score("31.75", "31.75 (about)")),
    Case(
        "trained again",
        f"{CHECK}.measurements.retraining",
        swap(OFFLINE / "measurements.json", '"retraining": "[^"]*"', '"retraining": "Yes"'),
    ),
    Case(
        "another number format",
        f"{CHECK}.measurements.engine",
        swap(
            OFFLINE / "measurements.json",
            '"weight_data_types": "[^"]*"',
            '"weight_data_types": "int4"',
        ),
    ),
    Case("performance run as TEST04", f"{CHECK}.TEST04.distinct", performance_as("TEST04")),
    Case("performance run as TEST01", f"{CHECK}.TEST01.distinct", performance_as("TEST01")),
    Case("system key twice", "submission.system.fields", twice(SYSTEM, "cooling", "water")),
    Case(
        "measurement key twice",
        f"{CHECK}.measurements",
        twice(OFFLINE / "measurements.json", "retraining", "Yes"),
    ),
    Case(
        "key of the log twice",
        f"{CHECK}.performance.log",
        swap(
            PERFORMANCE / DETAIL,
            '"key": "result_validity", ',
            '"key": "result_validity", "value": "INVALID", ',
        ),
    ),
    Case(
        "another LoadGen in one log",
        "submission.runs.version",
        detail(TEST04 / RUN, loadgen_version="5.0.1 @ 0123456789"),
    ),
    Case(
        "changed source of LoadGen",
        "submission.runs.version",
        detail(PERFORMANCE, loadgen_git_status_message=" M loadgen.cc"),
    ),
    Case(
        "percentile of latency",
        "submission.SingleStream.performance.percentile",
        detail(
            STREAM / RUN,
            effective_target_latency_percentile=0.5,
            requested_single_stream_target_latency_percentile=0.5,
        ),
    ),
    Case(
        "longest duration",
        f"{CHECK}.performance.no_limit",
        both(PERFORMANCE, "max_duration (ms)", "effective_max_duration_ms", 700000),
    ),
    Case(
        "largest number of queries",
        f"{CHECK}.performance.no_limit",
        both(PERFORMANCE, "max_query_count", "effective_max_query_count", 1),
    ),
    Case(
        "run of a year ago",
        "submission.runs.dates",
        detail(ACCURACY, test_datetime="2025-07-01T00:00:00Z"),
    ),
    Case(
        "run of the future",
        "submission.runs.dates",
        detail(ACCURACY, test_datetime="2126-07-01T00:00:00Z"),
    ),
    Case(
        "two runs at one time",
        "submission.runs.times",
        lambda tree: [
            set_detail(tree / ACCURACY / DETAIL, message["key"], message["value"])
            for message in read_detail(tree / PERFORMANCE / DETAIL)
            if message["key"].startswith("power_")
        ],
    ),
    Case(
        "accelerators without a name",
        "submission.system.agree",
        system(accelerators_per_node="8"),
    ),
    Case(
        "another machine in the README",
        "submission.system.agree",
        swap(OFFLINE / "README.md", "on Fake CPU", "on NVIDIA H200"),
    ),
    *(
        Case(f"empty folder {path}", "submission.files.folders", made(path, lambda p: p.mkdir()))
        for path in (
            OFFLINE / "extra",
            OFFLINE.parent / "empty",
            OFFLINE.parents[1] / "bert",
            Path("closed/nobody"),
            SOURCE / "nothing",
        )
    ),
    Case(
        "link to a file",
        "submission.files.links",
        made(SOURCE / "a.txt", lambda p: p.symlink_to("README.md")),
    ),
    Case(
        "link to a folder",
        "submission.files.links",
        made(SOURCE / "b", lambda p: p.symlink_to("/")),
    ),
    Case("second name of a file", "submission.files.links", second_name),
    Case("pipe", "submission.files.links", made(SOURCE / "pipe", os.mkfifo)),
    Case("large file", "submission.files.size", made(SOURCE / "large.txt", large)),
    Case("binary in the source", "submission.files.secrets", binary),
    Case(
        "private key in the source",
        "submission.files.secrets",
        put(SOURCE / "id", "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n"),
    ),
    Case(
        "token in the source",
        "submission.files.secrets",
        put(SOURCE / "run.sh", "export HF_TOKEN=" + "hf_" + "a" * 34 + "\n"),
    ),
    Case(
        "local path in the source",
        "submission.files.places",
        edit(SOURCE / "config.yaml", lambda text: text + "mirror: /home/me/mirror\n"),
    ),
    Case("data behind an image", f"{IMAGES}.ends", appended),
)
