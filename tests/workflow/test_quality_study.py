"""The study of what the verdict catches, and what a variant may say of its own sampling."""

import ast
import copy
from pathlib import Path

import pytest

from t2i.base.yaml import ConfigError, read_yaml
from t2i.config.check import checked_config
from t2i.config.derive import variant_settings

CONFIG = Path(__file__).parents[2] / "config"
SCHEMA = read_yaml(CONFIG / "schemas" / "config.schema.yaml")
TABLE = read_yaml(CONFIG / "sources.yaml")
DEMO = read_yaml(CONFIG / "config.yaml")
QUALITY = read_yaml(CONFIG / "quality.yaml")
MLPERF = read_yaml(CONFIG / "mlperf.yaml")


def with_variant(config, **settings):
    """A copy of a configuration whose first variant has more settings."""
    config = copy.deepcopy(config)
    next(iter(config["variants"].values())).update(settings)
    return config


def mistakes(config):
    with pytest.raises(ConfigError) as caught:
        checked_config(config, SCHEMA, TABLE)
    return str(caught.value).splitlines()[1:]


def test_the_study_measures_the_demos_samples_by_the_demos_windows():
    measured = {key: DEMO[key] for key in DEMO if key not in ("loadgen", "submission")}
    assert {**QUALITY, "run": DEMO["run"], "variants": DEMO["variants"]} == measured
    assert QUALITY["run"] != DEMO["run"]
    assert QUALITY["variants"].items() >= DEMO["variants"].items()
    assert next(iter(QUALITY["variants"])) == "fp32"


def test_the_study_has_every_fault_once_and_nothing_else_at_reduced_precision():
    config = checked_config(QUALITY, SCHEMA, TABLE)
    variants = {name: variant_settings(config, name) for name in config["variants"]}
    tree = ast.parse((CONFIG / "faults.py").read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    faults = [f"config/faults.py:{name}" for name in functions if not name.startswith("_")]
    patches = [settings["patch"] for settings in variants.values() if settings["patch"]]
    assert sorted(patches) == sorted(faults)
    assert {name for name, found in variants.items() if found["dtype"] != "fp32"} == {"bf16"}
    sampling = {name: (found["steps"], found["guidance"]) for name, found in variants.items()}
    others = {
        "steps-8": (8, 8.0),
        "steps-4": (4, 8.0),
        "guidance-1": (20, 1.0),
        "guidance-4": (20, 4.0),
    }
    assert sampling == {name: others.get(name, (20, 8.0)) for name in variants}


def test_a_variant_says_what_it_samples_otherwise():
    config = with_variant({**DEMO, "sampler": {"steps": 12, "guidance": 5}}, steps=3)
    config["variants"]["bf16"]["guidance"] = 0
    config = checked_config(config, SCHEMA, TABLE)
    found = {name: variant_settings(config, name) for name in ("fp32", "bf16")}
    assert (found["fp32"]["steps"], found["fp32"]["guidance"]) == (3, 5.0)
    assert (found["bf16"]["steps"], found["bf16"]["guidance"]) == (12, 0.0)
    assert isinstance(found["bf16"]["guidance"], float)


@pytest.mark.parametrize(
    "settings, start",
    [
        ({"steps": 0}, "steps: got 0; expected at least 1"),
        ({"steps": 1001}, "steps: got 1001; expected at most 1000"),
        ({"steps": 8.0}, "steps: got 8.0; expected a whole number"),
        ({"guidance": -1}, "guidance: got -1; expected at least 0"),
        ({"guidance": "8"}, "guidance: got '8'; expected a finite number"),
        ({"step": 8}, "step: unknown key"),
    ],
)
def test_impossible_sampling_is_refused(settings, start):
    (line,) = mistakes(with_variant(DEMO, **settings))
    assert line.startswith(f"  variants.fp32.{start}")


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"steps": 19}, "steps: got 19; the closed division allows only 20"),
        ({"guidance": 7.5}, "guidance: got 7.5; the closed division allows only 8.0"),
    ],
)
def test_the_closed_division_samples_one_way(settings, line):
    assert mistakes(with_variant(MLPERF, **settings)) == [
        f"  variants.fp16.{line} (or set division: open)"
    ]
    opened = {**with_variant(MLPERF, **settings), "division": "open"}
    checked_config(opened, SCHEMA, TABLE)


def test_the_closed_division_allows_its_own_sampling_to_be_said():
    checked_config(with_variant(MLPERF, steps=20, guidance=8), SCHEMA, TABLE)
