"""The configuration: its schema, its defaults, and every mistake in it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from t2i.datasets import CAPTIONS

Config = dict[str, Any]

CLOSED_SAMPLES = 5000
CLOSED_SAMPLER = {
    "steps": 20,
    "guidance": 8.0,
    "negative_prompt": "normal quality, low quality, worst quality, low res, blurry, nsfw, nude",
}
CLOSED_WINDOWS = {
    "samples": 5000,
    "fid": [23.01085758, 23.95007626],
    "clip": [31.68631873, 31.81331801],
}
CLOSED_NAMES = {
    "dataset": "coco2014",
    "model": "sdxl-base-1.0",
    "scores.inception": "inception-2015-12-05",
    "scores.clip": "clip-vit-b-32",
}
CLOSED_STATISTICS = "coco2014/val2014.npz"
EMBEDDED = {"dataset": "pictures", "model": "micro-sdxl"}


class ConfigError(ValueError):
    """All mistakes of a configuration, one line each."""


def read_yaml(path: Path) -> Any:
    """Read a YAML file without executing anything; raises ConfigError that names the place."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error


def checked_config(config: Config, schema: dict[str, Any], sources: dict[str, Any]) -> Config:
    """The configuration with all defaults filled in.

    Raises ConfigError that lists every mistake with its key path, the value, what is allowed and
    the nearest valid name. A key with the value null counts as absent, so that a second file can
    take back what a first one says. `sources` is the table of inputs (its groups name data sets and models).
    """
    config = _without_nulls(config)
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=_place)
    mistakes = [line for error in errors for line in _explain(error)]
    filled: Config = with_defaults(config, schema)
    if not mistakes:
        mistakes = [
            *_unknown_inputs(filled, sources),
            *_too_many_samples(filled),
            *_bad_windows(filled),
        ]
        if filled["division"] == "closed":
            mistakes += _against_closed_rules(filled)
    if mistakes:
        raise ConfigError("\n".join(["the configuration cannot be used:", *mistakes]))
    return filled


def with_defaults(config: Any, schema: dict[str, Any]) -> Any:
    """A copy of `config` in which absent keys have the schema's defaults, at every depth."""
    if not isinstance(config, dict):
        return deepcopy(config)
    properties = schema.get("properties", {})
    filled = {
        key: with_defaults(value, properties.get(key, schema.get("additionalProperties") or {}))
        for key, value in config.items()
    }
    for key, subschema in properties.items():
        if key not in filled and "default" in subschema:
            filled[key] = with_defaults(subschema["default"], subschema)
    return filled


def _without_nulls(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {key: _without_nulls(value) for key, value in config.items() if value is not None}


def _place(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path)


def _nearest(value: Any, allowed: list[Any]) -> str:
    names = difflib.get_close_matches(str(value), [str(name) for name in allowed], n=1, cutoff=0.4)
    return f"; did you mean {names[0]!r}?" if names else ""


def _explain(error: ValidationError) -> Iterator[str]:
    """Lines for one validation error: key path, value, what is allowed, nearest valid name."""
    place = _place(error)
    prefix = f"{place}." if place else ""
    schema = error.schema
    assert isinstance(schema, dict)
    if error.validator == "additionalProperties":
        known = list(schema.get("properties", {}))
        for key in sorted(set(error.instance) - set(known)):
            hint = _nearest(key, known)
            yield f"  {prefix}{key}: unknown key; known are {', '.join(known)}{hint}"
    elif error.validator == "required":
        missing = [key for key in schema["required"] if key not in error.instance]
        yield from (f"  {prefix}{key}: missing; {_meaning(schema, key)}" for key in missing)
    elif error.validator == "enum":
        allowed = ", ".join(map(str, schema["enum"]))
        hint = _nearest(error.instance, schema["enum"])
        yield f"  {place}: got {error.instance!r}; allowed are {allowed}{hint}"
    else:
        meaning = f" ({' '.join(schema['description'].split())})" if "description" in schema else ""
        yield f"  {place or 'the top level'}: got {_limits(error)}{meaning}"


def _meaning(schema: dict[str, Any], key: str) -> str:
    return " ".join(
        schema.get("properties", {}).get(key, {}).get("description", "required").split()
    )


def _limits(error: ValidationError) -> str:
    expected = {
        "type": "expected {}",
        "minimum": "expected at least {}",
        "maximum": "expected at most {}",
        "pattern": "expected a name that matches {}",
        "minItems": "expected {} items",
        "maxItems": "expected {} items",
        "minProperties": "expected at least {} entry",
        "maxProperties": "expected at most {} entry",
    }.get(str(error.validator), "expected " + str(error.validator) + " {}")
    wanted = error.validator_value
    wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
    return f"{error.instance!r}; {expected.format(wanted)}"


def _unknown_inputs(config: Config, sources: dict[str, Any]) -> Iterator[str]:
    for key, needed in (("dataset", "captions_source.tsv"), ("model", "model_index.json")):
        known = [EMBEDDED[key]]
        known += [name for name, group in sources.items() if needed in group["files"]]
        if config[key] not in known:
            hint = _nearest(config[key], known)
            yield f"  {key}: got {config[key]!r}; known are {', '.join(known)}{hint}"
    statistics = config["scores"]["reference"].get("statistics")
    known = [f"{name}/{file}" for name, group in sources.items() for file in group["files"]]
    known = [path for path in known if path.endswith(".npz")]
    if statistics is not None and statistics not in known:
        yield (
            f"  scores.reference.statistics: got {statistics!r}; {config['sources']} has "
            f"{', '.join(known) or 'no npz'}{_nearest(statistics, known)}"
        )
    for name, variant in config["variants"].items():
        path = variant.get("patch", "").rpartition(":")[0]
        if path and not Path(path).is_file():
            yield f"  variants.{name}.patch: there is no file {path!r}"


def _too_many_samples(config: Config) -> Iterator[str]:
    size = CAPTIONS.get(config["dataset"])
    if size is not None and config["samples"] > size:
        yield f"  samples: got {config['samples']}; the data set {config['dataset']} has {size}"


def _bad_windows(config: Config) -> Iterator[str]:
    windows = config["windows"] or {}
    for key in ("fid", "clip"):
        low, high = windows.get(key, (0, 0))
        if low > high:
            yield f"  windows.{key}: got [{low}, {high}]; the lower bound stands first"


def _against_closed_rules(config: Config) -> Iterator[str]:
    """What the closed division does not allow (MLPerf Inference rules for text-to-image)."""
    wanted = "; the closed division allows only {!r} (or set division: open)"
    for path, name in CLOSED_NAMES.items():
        value: Any = config
        for key in path.split("."):
            value = value[key]
        if value != name:
            yield f"  {path}: got {value!r}" + wanted.format(name)
    statistics = config["scores"]["reference"].get("statistics")
    if statistics != CLOSED_STATISTICS:
        yield f"  scores.reference.statistics: got {statistics!r}" + wanted.format(
            CLOSED_STATISTICS
        )
    if config["samples"] != CLOSED_SAMPLES:
        yield f"  samples: got {config['samples']}" + wanted.format(CLOSED_SAMPLES)
    for key, value in CLOSED_SAMPLER.items():
        if config["sampler"][key] != value:
            yield f"  sampler.{key}: got {config['sampler'][key]!r}" + wanted.format(value)
    if config["windows"] != CLOSED_WINDOWS:
        yield f"  windows: got {config['windows']}" + wanted.format(CLOSED_WINDOWS)
    for name, variant in config["variants"].items():
        if "patch" in variant:
            yield f"  variants.{name}.patch: a patched model is not allowed in the closed division"
