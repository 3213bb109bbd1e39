"""What a configuration may ask of LoadGen and of the submission, beyond its schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.base.yaml import Config
from t2i.config.explain import _at
from t2i.loadgen.conf import own_audit_config, own_settings
from t2i.mlperf import (
    AUDITS,
    CLOSED,
    CLOSED_WINDOWS,
    INFERRED,
    MLPERF_STATISTICS,
    OFFICIAL_SAMPLES,
    OFFICIAL_SECONDS,
    SERVER_LATENCY_SECONDS,
    required_scenarios,
)
from t2i.submission.system import missing_fields, unknown_fields

CLOSED_LIMITS = {
    "time": (OFFICIAL_SECONDS, None),
    "count": (OFFICIAL_SAMPLES, OFFICIAL_SAMPLES),
    "max_latency": (None, SERVER_LATENCY_SECONDS),
}


def loadgen_mistakes(config: Config) -> Iterator[str]:
    """What LoadGen cannot be asked for: unknown variants, too many samples, modes without use."""
    loadgen = config.get("loadgen")
    if not config.get("sharded", True) and "performance" not in (loadgen or {}).get("modes", []):
        yield "  sharded: got False; then LoadGen's runs are all there is: add performance to them"
    if loadgen is None:
        return
    variants = list(config.get("variants", {}))
    for name in loadgen.get("variants", []):
        if variants and name not in variants:
            yield f"  loadgen.variants: got {name!r}; known are {', '.join(variants)}"
    count, samples = loadgen.get("count", 1), config.get("samples", 1)
    if count > samples:
        yield f"  loadgen.count: got {count}; the run has {samples} samples"
    modes, scenarios = loadgen.get("modes", []), loadgen.get("scenarios", [])
    yield from _own_conf_mistakes(loadgen)
    yield from _own_audit_mistakes(loadgen)
    if "FindPeakPerformance" in modes and scenarios and "Server" not in scenarios:
        yield (
            "  loadgen.modes: got 'FindPeakPerformance', which LoadGen knows for Server alone; "
            "add Server to loadgen.scenarios or leave it out"
        )
    if "TEST01" in modes and "accuracy" not in modes:
        yield "  loadgen.modes: TEST01 compares images with those of the accuracy run; add accuracy"
    if loadgen.get("part_iii") and not {"TEST01", "accuracy"} <= set(modes):
        yield "  loadgen.part_iii: got True; it scores what TEST01 logs, add TEST01 and accuracy"
    for test in AUDITS:
        if test in modes and "performance" not in modes:
            yield f"  loadgen.modes: {test} is measured against a performance run; add performance"


def _own_conf_mistakes(loadgen: dict[str, Any]) -> Iterator[str]:
    """What LoadGen could not take of a user.conf of the user's own."""
    path = loadgen.get("user_conf")
    if path is None:
        return
    try:
        for scenario in loadgen.get("scenarios", []):
            own_settings(Path(path), scenario)
    except (OSError, ValueError) as error:
        yield f"  loadgen.user_conf: {error}"


def _own_audit_mistakes(loadgen: dict[str, Any]) -> Iterator[str]:
    """What is wrong with audit.config files of the user's own."""
    for test, path in loadgen.get("audit_conf", {}).items():
        try:
            own_audit_config(Path(path), test)
        except (OSError, ValueError) as error:
            yield f"  loadgen.audit_conf.{test}: {error}"


def submission_mistakes(config: Config) -> Iterator[str]:
    """What keeps a submission tree from being built; every missing field at once."""
    submission = config.get("submission")
    if submission is None:
        return
    for name, hint in unknown_fields(submission.get("description", {})):
        yield f"  submission.description.{name}: no field of MLPerf's system description{hint}"
    for name in missing_fields(submission.get("description", {})):
        yield (
            f"  submission.description.{name}: missing; it cannot be detected, so please describe "
            "it, or write N/A"
        )
    loadgen = config.get("loadgen")
    if loadgen is None:
        if not config.get("training"):
            yield "  submission: there is nothing to submit without `loadgen` or `training`"
        return
    division = config.get("division", "open")
    try:
        wanted = required_scenarios(
            config.get("round", ""), division, submission.get("system_type", "edge")
        )
    except (KeyError, ValueError) as error:
        yield f"  submission.system_type: got {submission.get('system_type')!r}; {error}"
        return
    if submission.get("infer_offline"):
        if submission.get("system_type", "edge") != "edge":
            yield "  submission.infer_offline: got True; only an edge system may infer a scenario"
        for name in INFERRED:
            if name in loadgen.get("scenarios", []):
                yield (
                    f"  submission.infer_offline: got True, but {name} is in loadgen.scenarios; "
                    "take it out of one of them"
                )
        wanted = tuple(name for name in wanted if name not in INFERRED)
    modes = ("performance", "accuracy", *(AUDITS if division == "closed" else ()))
    for key, needed in (("scenarios", wanted), ("modes", modes)):
        if missing := [name for name in needed if name not in loadgen.get(key, needed)]:
            yield f"  loadgen.{key}: a submission needs {', '.join(missing)} too"


def closed_mistakes(config: Config) -> Iterator[str]:
    """What the closed division does not allow of LoadGen's settings and of stand-ins."""
    loadgen: dict[str, Any] = config.get("loadgen") or {}
    for key, (low, high) in CLOSED_LIMITS.items():
        value = loadgen.get(key)
        if value is None:
            continue
        if (low is not None and value < low) or (high is not None and value > high):
            allowed = f"at least {low:g}" if low is not None else f"at most {high:g}"
            yield f"  loadgen.{key}: got {value:g}; the closed division allows only {allowed}"
    for name, variant in config.get("variants", {}).items():
        if "stand_in" in variant and not config.get("rehearsal"):
            yield (
                f"  variants.{name}.stand_in: the closed division is for the model itself; set "
                "rehearsal: true where nothing is to be handed in"
            )


def rehearsal_mistakes(config: Config) -> Iterator[str]:
    """A rehearsal is made with stand-ins alone, so that nobody takes it for a result."""
    for name, variant in config.get("variants", {}).items():
        if "stand_in" not in variant:
            yield f"  variants.{name}: a rehearsal is made with a stand_in, not with a model"


def _against_closed_rules(config: Config) -> Iterator[str]:
    """What the closed division does not allow (MLPerf Inference rules for text-to-image)."""
    wanted = "; the closed division allows only {!r} (or set division: open)"
    for path, only in CLOSED.items():
        value = _at(config, path)
        if value is not None and value != only:
            yield f"  {path}: got {value!r}" + wanted.format(only)
    if _at(config, "scores.reference.images") is not None:
        yield "  scores.reference.statistics: missing" + wanted.format(MLPERF_STATISTICS)
    if config.get("windows") != CLOSED_WINDOWS:
        yield f"  windows: got {config.get('windows')}" + wanted.format(CLOSED_WINDOWS)
    for name, variant in config.get("variants", {}).items():
        for key in ("steps", "guidance"):
            only = CLOSED[f"sampler.{key}"]
            if variant.get(key, only) != only:
                yield f"  variants.{name}.{key}: got {variant[key]!r}" + wanted.format(only)
        if "cache" in variant:
            yield f"  variants.{name}.cache: DeepCache is not allowed in the closed division"
        if "unet" in variant:
            yield f"  variants.{name}.unet: another UNet is not allowed in the closed division"
        if "patch" in variant:
            yield f"  variants.{name}.patch: a patched model is not allowed in the closed division"
