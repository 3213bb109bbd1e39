"""The configuration: its schema, its defaults, and every mistake in it at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from t2i.base import embedded
from t2i.base.backends import NATIVE, REFERENCE
from t2i.base.datasets import CAPTIONS, VALIDATION_SET, dataset_files
from t2i.base.yaml import Config, ConfigError, read_yaml
from t2i.config.addresses import address_mistakes
from t2i.config.closed import (
    _against_closed_rules,
    closed_mistakes,
    loadgen_mistakes,
    rehearsal_mistakes,
    submission_mistakes,
)
from t2i.config.explain import _at, _explain, _nearest, _place
from t2i.config.training import training_mistakes
from t2i.engine.cache import deep_steps
from t2i.fetch.image_sets import find_set, known_sets
from t2i.fetch.needed import NETWORK_SOURCES
from t2i.generate.plan import NUMBER
from t2i.mlperf import MLPERF_STEPS

REFERENCE_IMAGE = re.compile(rf"{NUMBER}\.png")


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _check_pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield ValidationError("")


# JSON Schema takes 64.0 for an integer, NaN for a number, and lets a name end with a line break.
_Validator = extend(
    Draft202012Validator,
    {"pattern": _check_pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)


def checked_config(config: Config, schema: dict[str, Any], sources: dict[str, Any]) -> Config:
    """The configuration with all defaults filled in.

    Raises ConfigError that lists every mistake with its key path, the value, what is allowed and
    the nearest valid name. A key with the value null counts as absent, so that a second file can
    take back what a first one says. `sources` is the table of inputs (its groups name data sets
    and models).
    """
    mistakes = list(_odd_keys(config))
    config = _without_nulls(_with_words(config, schema))
    errors = sorted(_Validator(schema).iter_errors(config), key=_place)
    mistakes += [line for error in errors for line in _explain(error)]
    filled: Config = with_defaults(_sound_part(config, errors), schema)
    mistakes += [
        *_unknown_inputs(filled, sources),
        *address_mistakes(filled, sources),
        *_too_many_samples(filled),
        *_bad_windows(filled),
        *_taken_names(filled),
        *_bad_backends(filled),
        *_bad_unets(filled),
        *_bad_reference_images(filled),
        *loadgen_mistakes(filled),
        *submission_mistakes(filled),
        *training_mistakes(filled, sources),
    ]
    if filled.get("rehearsal"):
        mistakes += rehearsal_mistakes(filled)
    if filled.get("division") == "closed":
        mistakes += closed_mistakes(filled)
        if not filled.get("rehearsal"):
            mistakes += _against_closed_rules(filled)
    if mistakes:
        lines = dict.fromkeys(mistakes)  # two missing keys are two errors that name both
        raise ConfigError("\n".join(["the configuration cannot be used:", *lines]))
    return filled


def with_required(config: Config, schema: dict[str, Any], embedded_run: Path) -> Config:
    """A training's configuration with the required keys that it leaves out.

    They are those of the file `embedded_run`. Other configurations stay as they
    are. Raises ConfigError for a file that cannot be read.
    """
    if not config.get("training"):
        return config
    default = read_yaml(embedded_run)
    return {**{key: default[key] for key in schema["required"]}, **config}


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
    """A copy without the keys whose value is null, and without keys that are not text."""
    if not isinstance(config, dict):
        return config
    return {
        key: _without_nulls(value)
        for key, value in config.items()
        if value is not None and isinstance(key, str)
    }


def _with_words(config: Any, schema: dict[str, Any]) -> Any:
    """A copy in which true, false and null are not text, as which --config hands them over."""
    if not isinstance(config, dict):
        return config
    words = {"boolean": {"true": True, "false": False, "null": None}, "string": {}}
    filled = dict(config)
    for key, value in config.items():
        if isinstance(value, str) and key in schema["properties"]:
            kind = str(schema["properties"][key].get("type"))  # a run may be called null
            filled[key] = words.get(kind, {"null": None}).get(value, value)
    return filled


def _odd_keys(config: Any, prefix: str = "") -> Iterator[str]:
    """Keys that YAML reads as numbers, dates, or true and false."""
    for key, value in config.items() if isinstance(config, dict) else []:
        if not isinstance(key, str):
            yield f"  {prefix}{key}: got {key!r} as a key; expected text, so write it in quotes"
        yield from _odd_keys(value, f"{prefix}{key}.")


def _sound_part(config: Any, errors: list[ValidationError]) -> Config:
    """A copy without the values that the schema refuses, for the checks that go beyond it."""
    sound: Config = deepcopy(config)
    for error in errors:
        if error.validator in ("additionalProperties", "required"):
            continue
        path = list(error.absolute_path)
        if "propertyNames" in error.absolute_schema_path:
            path.append(error.instance)
        while path and isinstance(path[-1], int):
            path.pop()  # an element of a list: the whole list is of no use
        if not path:
            return {}
        parent = sound
        for key in path[:-1]:
            parent = parent.get(key, {})
        parent.pop(path[-1], None)
    return sound


def _unknown_inputs(config: Config, sources: dict[str, Any]) -> Iterator[str]:
    for key, made, needed in (
        ("dataset", [embedded.DATASET, VALIDATION_SET], "captions_source.tsv"),
        ("model", [], "model_index.json"),
    ):
        known = [*made, *(name for name, group in sources.items() if needed in group["files"])]
        value = config.get(key)
        if value is not None and value not in known:
            hint = _nearest(value, known)
            yield f"  {key}: got {value!r}; known are {', '.join(known)}{hint}"
    dataset = sources.get(str(config.get("dataset")), {"files": dataset_files("published")})
    for file in dataset_files(config.get("captions", "published")):
        if file not in dataset["files"]:
            yield f"  dataset: got {config['dataset']!r}; {config['sources']} has no {file} of it"
    inputs = [f"{name}/{file}" for name, group in sources.items() for file in group["files"]]
    statistics = _at(config, "scores.reference.statistics")
    known = [name for name in inputs if name.endswith(".npz")]
    if statistics is not None and statistics not in known:
        yield (
            f"  scores.reference.statistics: got {statistics!r}; {config['sources']} has "
            f"{', '.join(known) or 'no npz'}{_nearest(statistics, known)}"
        )
    for key in ("inception", "clip"):
        network = _at(config, f"scores.{key}")
        in_table = network in (*NETWORK_SOURCES, embedded.CLIP)
        if in_table and not sources.get(network, {"files": {}})["files"]:
            yield f"  scores.{key}: got {network!r}; {config['sources']} has no file of it"
    images = _at(config, "scores.reference.images")
    known = known_sets(config.get("dataset", embedded.DATASET), inputs)
    if images is not None and find_set(images, known) is None:
        yield (
            f"  scores.reference.images: got {images!r}; known are {', '.join(known)}, and "
            f"there is no folder, .zip or .tar of that path{_nearest(images, known)}"
        )
    for name, variant in config.get("variants", {}).items():
        path = variant.get("patch", "").rpartition(":")[0]
        if path and not Path(path).is_file():
            yield f"  variants.{name}.patch: there is no file {path!r}"


# What lies beside the variants' folders in that of a run.
RESERVED = (
    *("report.html", "report.json", "comparison.json", "provenance.json", "summary.csv"),
    *("summary.md", "images", "training", "unets"),
)


def _taken_names(config: Config) -> Iterator[str]:
    for name in RESERVED:
        if name in config.get("variants", {}):
            yield f"  variants.{name}: a run has something else by this name; take another"


def _bad_backends(config: Config) -> Iterator[str]:
    """Options that a variant's back end has not, and deep steps that are none."""
    for name, variant in config.get("variants", {}).items():
        backend = variant.get("backend", REFERENCE)
        for key in ("cache", "vae", "fp8"):
            if key in variant and backend != NATIVE:
                yield f"  variants.{name}.{key}: only backend: native has it; add that"
        if "fp8" in variant and variant.get("dtype") != "bf16":
            yield f"  variants.{name}.fp8: what is not fp8 is bf16; add dtype: bf16"
        unet, known = variant.get("unet"), config.get("unets", {})
        if unet is not None and unet not in known:
            have = ", ".join(known) or "nothing"
            yield f"  variants.{name}.unet: got {unet!r}; unets has {have}{_nearest(unet, known)}"
        for key in ("backend", "patch"):
            if "stand_in" in variant and variant.get(key, REFERENCE) != REFERENCE:
                yield f"  variants.{name}.{key}: a stand_in runs no model; leave one of them out"
        try:
            deep_steps(variant.get("cache"), _steps(config, variant))
        except ValueError as error:
            yield f"  variants.{name}.{error}"


def _bad_unets(config: Config) -> Iterator[str]:
    """UNets of which nothing is asked, files that do not exist, and trainings without pictures."""
    for name, unet in config.get("unets", {}).items():
        own = unet.get("weights")
        if own is not None and not Path(own).is_file():
            yield f"  unets.{name}.weights: there is no file {own!r}"
        if own is None and not unet.get("blocks") and unet.get("feed_forward", 1) == 1:
            yield f"  unets.{name}: takes nothing out; give blocks, feed_forward or weights"
        if "recovery" in unet and config.get("model") != embedded.MODEL:
            yield (
                f"  unets.{name}.recovery: only {embedded.MODEL} can be trained here; train the "
                "UNet elsewhere and name its file as `weights`"
            )


def _steps(config: Config, variant: dict[str, Any]) -> int:
    steps: int = variant.get("steps", config.get("sampler", {}).get("steps", MLPERF_STEPS))
    return steps


def _too_many_samples(config: Config) -> Iterator[str]:
    dataset, samples = config.get("dataset", ""), config.get("samples", 0)
    size = CAPTIONS.get(dataset, samples)
    if samples > size:
        yield f"  samples: got {samples}; the data set {dataset} has {size}"


def _bad_windows(config: Config) -> Iterator[str]:
    windows = config.get("windows") or {}
    for key in ("fid", "clip"):
        low, high = windows.get(key, (0, 0))
        if low > high:
            yield f"  windows.{key}: got [{low}, {high}]; bounds are reversed; give [low, high]"


def _bad_reference_images(config: Config) -> Iterator[str]:
    given = (config.get("windows") or {}).get("images")
    if given is None:
        return
    names = [path.name for path in Path(given).glob("*.png")]
    odd = [name for name in sorted(names) if not REFERENCE_IMAGE.fullmatch(name)]
    if not names:
        yield f"  windows.images: there is no folder {given!r} that holds PNGs"
    elif odd:
        yield (
            f"  windows.images: {given}/{odd[0]} is not named by a sample index in at least five "
            "digits, such as 00042.png"
        )
