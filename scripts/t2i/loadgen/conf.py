"""LoadGen's settings: user.conf and audit.config.

Meaning of the fields: loadgen/test_settings_internal.cc and loadgen.cc (mlcommons/inference at
b66003e1).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from t2i.base.files import read_text
from t2i.mlperf import (
    AUDITS,
    BENCHMARK,
    CONFIDENCE,
    LOADGEN_QUERIES,
    OFFICIAL_SAMPLES,
    OFFICIAL_SECONDS,
    PERCENTILES,
    SCENARIOS,
    TEST01_SAMPLES,
    TEST01_SEED,
    TEST04_INDEX,
)

LONGEST_CONF = 1 << 16  # bytes
# Keys of a user.conf of one's own: the setting of the same meaning, and by what it differs.
OWN_KEYS = {
    "target_qps": ("qps", 1.0),
    "min_duration": ("time", 0.001),
    "min_query_count": ("min_query_count", 1.0),
    "samples_per_query": ("samples_per_query", 1.0),
    "performance_sample_count_override": ("count", 1.0),
}
AUDIT_KEYS = {
    "TEST01": {"mode", "accuracy_log_rng_seed", "accuracy_log_sampling_target"},
    "TEST04": {
        "mode",
        "performance_issue_unique",
        "performance_issue_same",
        "performance_issue_same_index",
        "min_query_count",
        "min_duration",
    },
}
WHOLE = ("min_query_count", "samples_per_query", "count")


def fewest_queries(scenario: str) -> int:
    """Queries with which early stopping can be met at all; 1 where there is none (Offline).

    Server needs n with percentile^n < 0.01, all of them in time. The streams estimate a percentile
    from at least one query above it: smallest n with p^n + n (1-p) p^(n-1) < 0.01.
    Source: loadgen/early_stopping.cc and results.cc.
    """
    if scenario == "Offline":
        return 1
    percentile = PERCENTILES[scenario]
    above = 0 if scenario == "Server" else 1
    queries = 1
    while _odds(queries, above, percentile) >= 1 - CONFIDENCE:
        queries += 1
    return queries


def _odds(queries: int, above: int, percentile: float) -> float:
    """Probability that at most `above` of `queries` lie above their `percentile`."""
    return sum(
        math.comb(queries, k) * (1 - percentile) ** k * percentile ** (queries - k)
        for k in range(above + 1)
    )


def query_floor(scenario: str, count: int, time: float) -> int:
    """The min_query_count of a test on `count` samples that lasts `time` seconds or more.

    Offline's one query holds as many samples, so that it covers the data set. The others issue as
    many queries as fit into the time; a slow system must not end with fewer than early stopping
    needs. Short tests are not official anyway: LoadGen's own number, or one for each sample.
    """
    if scenario == "Offline":
        return count
    if time < OFFICIAL_SECONDS:
        return min(LOADGEN_QUERIES, count)
    return max(LOADGEN_QUERIES, fewest_queries(scenario))


def user_conf(
    scenario: str,
    *,
    count: int,
    time: float,
    qps: float | None,
    target_latency: float | None,
    samples_per_query: int,
    max_latency: float,
    min_query_count: int | None = None,
) -> str:
    """The text of user.conf: a test of `count` samples that lasts at least `time` seconds.

    `qps` (samples/s) is needed by Offline and Server, `target_latency` (ms of one query, which has
    `samples_per_query` samples in MultiStream) by the streams; `max_latency` (s) is Server's limit.
    `min_query_count` None takes query_floor's. There is no longest duration: it would end slow
    tests with an error. Raises ValueError for a value that LoadGen cannot take.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"unknown scenario {scenario!r}; one of {', '.join(SCENARIOS)}")
    given: dict[str, Any] = {}
    if scenario in ("Offline", "Server"):
        given["target_qps"] = _positive("qps", qps, scenario)
    else:
        given["target_latency"] = _positive("target_latency", target_latency, scenario)
    if scenario == "Server":
        given["target_latency"] = _milliseconds("max_latency", max_latency, scenario)
    if scenario == "MultiStream":
        given["samples_per_query"] = _whole("samples_per_query", samples_per_query, scenario)
    given["min_duration"] = _milliseconds("time", time, scenario)
    floor = query_floor(scenario, count, time) if min_query_count is None else min_query_count
    given["min_query_count"] = _whole("min_query_count", floor, scenario)
    samples = _whole("count", count, scenario)
    given["performance_sample_count_override"] = samples
    given["accuracy_sample_count_override"] = samples
    return "".join(f"{BENCHMARK}.{scenario}.{key} = {value}\n" for key, value in given.items())


def read_conf(path: Path, scenario: str) -> dict[str, float]:
    """Values of a LoadGen configuration file that apply to the benchmark in a scenario.

    A later and a more special line wins, as in LoadGen. Raises ValueError for a line that is none.
    """
    if path.stat().st_size > LONGEST_CONF:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are too many for a settings file")
    settings: dict[str, tuple[int, float]] = {}
    for line_number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        parts = name.split(".")
        if not equals or len(parts) != 3 or parts[1] not in ("*", *SCENARIOS):
            raise ValueError(
                f"{path}:{line_number}: {text[:80]!r} is not MODEL.SCENARIO.KEY = VALUE"
            )
        model, where, key = parts
        if model in ("*", BENCHMARK) and where in ("*", scenario):
            special = (model != "*") + (where != "*")
            if key not in settings or special >= settings[key][0]:
                settings[key] = special, _number(value, f"{path}:{line_number}")
    return {key: value for key, (_, value) in settings.items()}


def _number(text: str, where: str) -> float:
    if not re.fullmatch(r"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?", text):
        raise ValueError(f"{where}: {text[:40]!r} is not a number")
    return float(text)


def own_settings(path: Path, scenario: str) -> dict[str, Any]:
    """Settings of a test, by their names here, that a user.conf of the user's own asks for.

    Raises ValueError for a key that has no place in one: LoadGen passes over it, or the workflow
    decides it.
    """
    settings: dict[str, Any] = {}
    for key, value in read_conf(path, scenario).items():
        if key == "target_latency":
            name, number = "target_latency", value
            if scenario == "Server":
                name, number = "max_latency", value / 1000
        elif key in OWN_KEYS:
            name, factor = OWN_KEYS[key]
            number = value * factor
        else:
            known = ", ".join(sorted({*OWN_KEYS, "target_latency"}))
            raise ValueError(f"{path}: {key} is not supported in a user.conf; supported: {known}")
        settings[name] = round(number) if name in WHOLE else number
    return settings


def _positive(name: str, value: float | None, scenario: str) -> float:
    if value is None or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} of {scenario} is {value}; it must be a number above 0")
    return float(value)


def _milliseconds(name: str, seconds: float, scenario: str) -> int:
    """Whole milliseconds: LoadGen cuts off what is smaller, and 0 would mean no limit."""
    return max(1, round(1000 * _positive(name, seconds, scenario)))


def _whole(name: str, value: int, scenario: str) -> int:
    if value < 1:
        raise ValueError(f"{name} of {scenario} is {value}; it must be 1 or more")
    return value


def audit_config(test: str, count: int) -> str:
    """The text of an audit's audit.config, for a data set of `count` samples.

    TEST01 logs some 128 answers in performance mode (all of them where fewer are issued). TEST04
    issues one sample again and again, all of the test long: the official file's shortcut to 500
    samples is refused by the submission checker.
    Source: compliance/TEST01/stable-diffusion-xl and compliance/TEST04 (audit.config).
    """
    if test not in AUDITS:
        raise ValueError(f"unknown audit {test!r}; one of {', '.join(AUDITS)}")
    if test == "TEST01":
        given = {
            "mode": 2,
            "accuracy_log_rng_seed": TEST01_SEED,
            "accuracy_log_sampling_target": TEST01_SAMPLES,
        }
    else:
        given = {
            "mode": 2,
            "performance_issue_unique": 0,
            "performance_issue_same": 1,
            "performance_issue_same_index": same_index(count),
        }
    return "".join(f"*.*.{key} = {value}\n" for key, value in given.items())


def own_audit_config(path: Path, test: str) -> str:
    """The text of an audit.config of the user's own.

    Raises ValueError for a line that is not a setting, for a setting that no audit has, and for a
    mode other than 2 (performance), in which every audit runs.
    """
    given = read_conf(path, "SingleStream")
    if unknown := sorted(given.keys() - AUDIT_KEYS[test]):
        known = ", ".join(sorted(AUDIT_KEYS[test]))
        raise ValueError(f"{path}: {', '.join(unknown)} is not a setting of {test}; known: {known}")
    if given.get("mode") != 2:
        raise ValueError(f"{path}: *.*.mode = 2 is missing; {test} runs in performance mode")
    return read_text(path)


def same_index(count: int) -> int:
    """Place, among the loaded samples, of the one that TEST04 issues again and again."""
    return min(TEST04_INDEX, count - 1)


def shortened(time: float, count: int) -> list[str]:
    """In what a test falls short of an official one; empty where it does not."""
    reasons = []
    if time < OFFICIAL_SECONDS:
        reasons.append(f"time: {time:g} s of {OFFICIAL_SECONDS:g} s")
    if count < OFFICIAL_SAMPLES:
        reasons.append(f"count: {count} of {OFFICIAL_SAMPLES} samples")
    return reasons
