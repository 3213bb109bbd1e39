"""The figures of a made-up LoadGen run of a given rate."""

from typing import Any

import numpy as np
from scipy.stats import binom

from t2i.mlperf import SERVER_LATENCY_SECONDS

IN_MULTISTREAM_QUERY = 8
PERCENTILES = (50.0, 90.0, 95.0, 97.0, 99.0, 99.9)
TARGET_PERCENTILE = {"SingleStream": 0.9, "MultiStream": 0.99, "Server": 0.99}
SHORTEST = {"SingleStream": 700, "MultiStream": 700, "Server": 700, "Offline": 5000}


def timing(
    scenario: str, target: float, rate: float, seconds: float, count: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Values of the detail log that tell of time, and the latency of each query in seconds."""
    values: dict[str, Any] = {"effective_min_duration_ms": round(1000 * seconds)}
    if scenario == "Offline":
        samples = max(count, round(1.1 * seconds * target))
        each = np.arange(1, samples + 1) / rate
        values |= {
            "effective_samples_per_query": samples,
            "effective_target_qps": target,
            "effective_min_sample_count": samples,
            "generated_samples_per_query": samples,
            "result_samples_per_second": float(f"{samples / each[-1]:.6g}"),
            **_spread(each, "latency"),
        }
        return values, each[-1:]
    noise = np.random.default_rng(0)
    mean = {"SingleStream": 1 / rate, "MultiStream": IN_MULTISTREAM_QUERY / rate}.get(
        scenario, 8.0 * target / rate
    )
    queries = (
        round(seconds * max(target, rate)) + 2
        if scenario == "Server"
        else int(1.01 * seconds / mean) + 1
    )
    queries = max(queries, SHORTEST[scenario])
    each = mean * (1 + 0.02 * noise.standard_normal(queries).clip(-3, 3))
    ordered = np.sort(each)
    percentile = TARGET_PERCENTILE[scenario]
    values |= {
        "effective_target_duration_ms": round(1000 * seconds),
        "generated_query_count": round(1.1 * queries),
        "result_query_count": queries,
        **_spread(each, "latency"),
    }
    if scenario == "Server":
        values |= {
            "effective_target_qps": target,
            "effective_target_latency_ns": round(1e9 * SERVER_LATENCY_SECONDS),
            "result_scheduled_samples_per_sec": rate,
            "result_completed_samples_per_sec": float(f"{0.99 * rate:.2f}"),
            "result_overlatency_query_count": 0,
        }
        return values, each
    beyond = int(np.flatnonzero(binom.cdf(np.arange(queries), queries, 1 - percentile) <= 0.01)[-1])
    estimate = round(1e9 * ordered[-beyond])
    needed = {0.9: 64, 0.99: 662}[percentile]
    lines = [
        f" * Processed at least {needed} queries ({queries}).",
        f" * Would discard {beyond - 1} highest latency queries.",
        f" * Early stopping {100 * percentile:.1f}th percentile estimate: {estimate}",
    ]
    if scenario == "SingleStream":
        last = int(np.flatnonzero(binom.cdf(np.arange(queries), queries, 0.01) <= 0.01)[-1])
        lines.append(
            f" * Early stopping 99.0th percentile estimate: {round(1e9 * ordered[-max(last, 1)])}"
        )
        values |= {
            "early_stopping_latency_ss": estimate,
            "result_qps_with_loadgen_overhead": float(f"{queries / each.sum():.6g}"),
            "result_qps_without_loadgen_overhead": float(f"{1 / each.mean():.6g}"),
        }
    else:
        values |= {"early_stopping_latency_ms": estimate, **_spread(each, "per_query_latency")}
    values["early_stopping_result"] = " ".join(line + " " for line in lines)
    return values, each


def _spread(each: np.ndarray, name: str) -> dict[str, int]:
    ordered = np.sort(each) * 1e9
    query = "query_" if name.startswith("per_query") else ""
    values = {
        f"result_min_{query}latency_ns": ordered[0],
        f"result_max_{query}latency_ns": ordered[-1],
        f"result_mean_{query}latency_ns": ordered.mean(),
    }
    for percentile in PERCENTILES:
        at = int(len(ordered) * percentile / 100)
        values[f"result_{percentile:.2f}_percentile_{name}_ns"] = ordered[at]
    return {key: round(value) for key, value in values.items()}
