"""The settings of one test as LoadGen's own object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg

from t2i.mlperf import BENCHMARK, MODES

_configured: list[Path] = []  # the user.conf that this process gave to LoadGen


def test_settings(user_conf: Path, scenario: str, mode: str, seeds: Mapping[str, int]) -> Any:
    """mlperf_loadgen.TestSettings of one test: LoadGen's mlperf.conf, then `user_conf`, then the
    round's `seeds` by the names of the settings (LoadGen carries those of one round only).

    audit.config is left to LoadGen, which reads it when the test starts. Raises ValueError where
    LoadGen refuses the file, and RuntimeError for a second test in one process: LoadGen would
    leave out mlperf.conf and count an error.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; one of {', '.join(MODES)}")
    if mode == "FindPeakPerformance" and scenario != "Server":
        raise ValueError(f"{mode} is for Server alone, not for {scenario}")
    if _configured:
        raise RuntimeError(
            f"{user_conf}: this process has already run a test with {_configured[0]}; LoadGen "
            "takes one user.conf per process, start another one"
        )
    _configured.append(user_conf)
    settings = lg.TestSettings()
    code = settings.FromConfig(str(user_conf), BENCHMARK, scenario)
    if code:
        raise ValueError(f"{user_conf}: LoadGen cannot read it (error {code})")
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = {
        "accuracy": lg.TestMode.AccuracyOnly,
        "FindPeakPerformance": lg.TestMode.FindPeakPerformance,
    }.get(mode, lg.TestMode.PerformanceOnly)
    for name, seed in seeds.items():
        setattr(settings, name, seed)
    if mode == "FindPeakPerformance":
        # Two significant digits: one decimal would be all of a slow system's rate.
        decimals = 1 - math.floor(math.log10(settings.server_target_qps))
        settings.server_find_peak_qps_decimals_of_precision = max(1, decimals)
    return settings
