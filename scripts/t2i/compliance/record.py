"""Whether a run is faster than what MLPerf published; only what passed everything may say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2i.base.check import PASS
from t2i.mlperf import CLOSED_WINDOWS, HOPPER_RECORD, MLPERF_MODEL


def record_sentence(
    result: Mapping[str, Any],
    run: Mapping[str, Any],
    windows: Mapping[str, Any] | None,
    division: str,
) -> str | None:
    """What to say of an Offline run's verdict (`result`) and run.json, or None: no record.

    Asked for are the closed division, MLPerf's model, windows and test length, a verdict that
    passed, FID and CLIP inside their windows, and Hopper GPUs alone.
    """
    judged = {check["id"]: check["verdict"] for check in result["checks"]}
    inside = all(judged.get(f"accuracy.Offline.{name}") == PASS for name in ("fid", "clip"))
    kept = windows is not None and all(
        windows.get(key) == value for key, value in CLOSED_WINDOWS.items()
    )
    devices = run["devices"]
    if (
        result["scenario"] != "Offline"
        or division != "closed"
        or run["model"] != MLPERF_MODEL
        or (result["verdict"], result["official"], result["valid"]) != (PASS, True, True)
        or not (inside and kept)
        or any(device["arch"] != "sm_90" for device in devices)
    ):
        return None
    rate = result["metric"]["value"] / len(devices)
    if rate <= HOPPER_RECORD:
        return None
    return (
        f"{rate:.3f} images/s a GPU, faster than the last published record of a Hopper GPU "
        f"({HOPPER_RECORD} images/s, GH200, MLPerf v5.0)"
    )
