"""Rules on the settings of a run: what was asked for, by file and log, and what LoadGen then did.

Meaning of the fields: loadgen/test_settings_internal.cc (mlcommons/inference at b66003e1). The
submission checker reads effective settings alone, and no configuration file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.base.check import OURS, Finding, Rule, listed
from t2i.loadgen.conf import read_conf
from t2i.mlperf import PERCENTILES
from t2i.submission.checks.logs import RunLogs

# Settings that LoadGen takes as they are asked for; an accuracy run has no duration.
TAKEN = (
    "scenario",
    "test_mode",
    "qsl_rng_seed",
    "sample_index_rng_seed",
    "schedule_rng_seed",
    "accuracy_log_rng_seed",
    "accuracy_log_probability",
    "accuracy_log_sampling_target",
    "performance_issue_unique",
    "performance_issue_same",
    "performance_issue_same_index",
    "sample_concatenate_permutation",
)
TAKEN_IN_TIME = ("min_duration_ms", "max_duration_ms", "max_query_count")
TARGETS = {  # by scenario: the name that is asked for, and the one that takes effect
    "Offline": (("offline_expected_qps", "target_qps"),),
    "Server": (
        ("server_target_qps", "target_qps"),
        ("server_target_latency_ns", "target_latency_ns"),
        ("server_target_latency_percentile", "target_latency_percentile"),
    ),
    "SingleStream": (("single_stream_target_latency_percentile", "target_latency_percentile"),),
    "MultiStream": (("multi_stream_target_latency_percentile", "target_latency_percentile"),),
}
# A configuration file's keys, and what they are in the detail log: its name, and by how much.
RATES = {"Offline": "offline_expected_qps", "Server": "server_target_qps"}
LATENCIES = {
    "Server": "server_target_latency_ns",
    "SingleStream": "single_stream_expected_latency_ns",
    "MultiStream": "multi_stream_expected_latency_ns",
}
PLAIN = {
    "min_duration": "min_duration_ms",
    "max_duration": "max_duration_ms",
    "min_query_count": "min_query_count",
    "max_query_count": "max_query_count",
    "qsl_rng_seed": "qsl_rng_seed",
    "sample_index_rng_seed": "sample_index_rng_seed",
    "schedule_rng_seed": "schedule_rng_seed",
    "performance_sample_count_override": "performance_sample_count_override",
}
# LoadGen ignores seeds in user.conf.
OFFICIAL_ALONE = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
CLOSE = 1e-5  # LoadGen writes six digits


def _requested(run: RunLogs) -> Finding:
    pairs = [(name, name) for name in TAKEN]
    if run.mode != "accuracy":
        pairs += [(name, name) for name in TAKEN_IN_TIME] + list(TARGETS[run.scenario])
    problems = []
    for asked, name in pairs:
        one, other = (run.detail.get(key) for key in (f"requested_{asked}", f"effective_{name}"))
        if one is None or other is None:
            lacking = f"requested_{asked}" if one is None else f"effective_{name}"
            problems.append(f"the detail log lacks {lacking}")
        elif one != other:
            problems.append(f"{name}: {one!r} was asked for, {other!r} took effect")
    return listed(problems, f"{len(pairs)} settings took effect as asked for")


def _limits(run: RunLogs) -> Finding:
    keys = ("effective_max_duration_ms", "effective_max_query_count")
    problems = (
        f"{key}: {value!r}; expected 0, no limit"
        for key in keys
        for value in [run.detail.get(key)]
        if value != 0
    )
    return listed(problems, "none")


def _percentile(run: RunLogs) -> Finding:
    wanted = PERCENTILES.get(run.scenario, 0.99)
    effective = run.detail.get("effective_target_latency_percentile")
    return listed([] if effective == wanted else [f"{effective!r}; expected {wanted}"], effective)


def _conf(run: RunLogs, folder: Path) -> Finding:
    own = read_conf(folder / "user.conf", run.scenario)
    if not own.keys() & {"target_qps", "target_latency"}:
        return Finding(f"user.conf says nothing of what to expect in {run.scenario}", False)
    problems = [
        f"user.conf: {key} is for mlperf.conf alone" for key in OFFICIAL_ALONE if key in own
    ]
    problems += _differences(own, run, "user.conf")
    official = folder / "mlperf.conf"
    if official.exists():
        settings = read_conf(official, run.scenario)
        rest = {key: value for key, value in settings.items() if key not in own}
        problems += _differences(rest, run, "mlperf.conf")
    return listed(problems, f"{len(own)} settings are those of the log")


def _differences(given: dict[str, float], run: RunLogs, name: str) -> Iterator[str]:
    names: dict[str, tuple[str | None, float]] = {key: (log, 1) for key, log in PLAIN.items()}
    names["target_qps"] = RATES.get(run.scenario), 1
    names["target_latency"] = LATENCIES.get(run.scenario), 1e6
    for key, value in given.items():
        log, factor = names.get(key, (None, 1))
        if log is None:
            continue
        logged: Any = run.detail.get(f"requested_{log}")
        wanted = value * factor
        same = isinstance(logged, int | float) and abs(logged - wanted) <= CLOSE * abs(wanted)
        if not same:
            yield f"{name}: {key} = {value:g}; the log has {log} {logged!r}"


SETTING_RULES = (
    Rule("requested", "every setting took effect as it was asked for", OURS, _requested),
)
TIMED_RULES = (
    Rule("no_limit", "no longest duration and no largest query count was set", OURS, _limits),
    Rule("percentile", "the latency's percentile is the scenario's", OURS, _percentile),
)
CONF_RULES = (
    Rule("conf", "user.conf and mlperf.conf are those that the run was made with", OURS, _conf),
)
