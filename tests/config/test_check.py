"""Every mistake of a configuration is told at once, in words, before the first job."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from configurations import DEMO, MLPERF, SCHEMA, TABLE, changed, mistakes, only_mistake
from t2i.base.yaml import ConfigError
from t2i.config.check import checked_config, with_defaults


@pytest.mark.parametrize("config", [DEMO, MLPERF], ids=["config.yaml", "mlperf.yaml"])
def test_shipped_configurations_are_valid(config):
    checked_config(config, SCHEMA, TABLE)


def test_schema_is_a_valid_one():
    Draft202012Validator.check_schema(SCHEMA)


def objects(schema, path=""):
    """Every object of the schema with its path."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}.{key}")


def test_every_key_is_described_and_every_object_closed():
    found = dict(objects(SCHEMA))
    assert {"", ".properties.windows", ".properties.variants.additionalProperties"} <= set(found)
    for path, schema in found.items():
        assert schema["additionalProperties"] is False, path
        for key, property in schema["properties"].items():
            assert property.get("description", "").endswith("."), f"{path}.{key}"


def test_defaults_in_the_schema_are_allowed_by_it():
    for path, schema in objects(SCHEMA):
        for key, property in schema["properties"].items():
            if property.get("default") is not None:
                Draft202012Validator(property).validate(property["default"]), f"{path}.{key}"


@pytest.mark.parametrize("word", [True, False])
def test_true_and_false_may_come_from_the_command_line(word):
    """Snakemake's --config hands them over as text."""
    given = {**DEMO, "offline": str(word).lower()}
    assert checked_config(given, SCHEMA, TABLE)["offline"] is word


def test_defaults_are_filled_in_at_every_depth():
    config = {"variants": {"a": {"dtype": "fp32"}}, "sampler": {"steps": 4}, "scores": {}}
    filled = with_defaults(config, SCHEMA)
    assert filled["variants"]["a"] == {
        "dtype": "fp32",
        "batch_size": 4,
        "threads": 1,
        "backend": "reference",
    }
    assert filled["sampler"]["steps"] == 4
    assert filled["sampler"]["guidance"] == 8.0
    assert filled["sampler"]["negative_prompt"].startswith("normal quality")
    assert filled["scores"] == {"batch_size": 16, "threads": 1}
    assert filled["containers"]["torch"] == "containers/torch.sif"
    assert filled["division"] == "open"
    assert config == {"variants": {"a": {"dtype": "fp32"}}, "sampler": {"steps": 4}, "scores": {}}


def test_filled_configurations_share_nothing_with_the_schema():
    before = copy.deepcopy(SCHEMA)
    filled = with_defaults({}, SCHEMA)
    filled["sampler"]["steps"] = 1
    filled["containers"]["host"] = "other.sif"
    assert before == SCHEMA


def test_checking_does_not_change_the_given_configuration():
    config = copy.deepcopy(DEMO)
    checked_config(config, SCHEMA, TABLE)
    assert config == DEMO


@pytest.mark.parametrize("key", ["loadgen", "windows", "mirror", "offline", "division"])
def test_null_of_the_command_line_takes_a_value_back(key):
    """Snakemake's --config hands it over as text."""
    given = changed(DEMO, {key: "null", "submission": None})
    assert checked_config(given, SCHEMA, TABLE) == checked_config(
        changed(DEMO, {key: None, "submission": None}), SCHEMA, TABLE
    )


def test_a_run_may_be_called_null():
    assert checked_config(changed(DEMO, {"run": "null"}), SCHEMA, TABLE)["run"] == "null"


def test_null_takes_a_value_back():
    config = checked_config(changed(MLPERF, {"division": "open", "windows": None}), SCHEMA, TABLE)
    assert config["windows"] is None
    line = only_mistake({"samples": None})
    assert line.startswith("  samples: missing; Number of samples to generate")


@pytest.mark.parametrize(
    "changes, expected",
    [
        (
            {"smaples": 3},
            "smaples: unknown key; known are run, round, ...; did you mean 'samples'?",
        ),
        (
            {"variants.fp32.batchsize": 2},
            "variants.fp32.batchsize: unknown key...mean 'batch_size'?",
        ),
        (
            {"scores.reference.statistics": "x"},
            "scores.reference: got ...expected exactly one of statistics and images",
        ),
        (
            {"scores.reference": {"statistics": "coco2014/val2014.npz", "shards": 2}},
            "scores.reference: got ...expected images beside shards",
        ),
        ({"scores.reference.shards": 0}, "scores.reference.shards: got 0; expected at least 1"),
        (
            {"scores.reference.images": "coco2014/val2041.zip"},
            "scores.reference.images: got ...no folder, .zip or .tar...'coco2014/val2014.zip'?",
        ),
        ({"scores.reference.images": ""}, "scores.reference.images: got ''; expected a name"),
        ({"scores.reference.images": "coco2014"}, "scores.reference.images: got 'coco2014'; known"),
        ({"scores.reference.images": "{x}"}, "scores.reference.images: got '{x}'; expected a name"),
        ({"samples": "many"}, "samples: got 'many'; expected a whole number...(Number of samples"),
        ({"samples": True}, "samples: got True; expected a whole number"),
        ({"samples": 64.0}, "samples: got 64.0; expected a whole number"),
        ({"samples": 1}, "samples: got 1; expected at least 2"),
        ({"samples": 10_000_000}, "samples: got 10000000; expected at most 9999999"),
        ({"samples": 513}, "samples: got 513; the data set pictures has 512"),
        ({"shard_size": 0}, "shard_size: got 0; expected at least 1"),
        ({"offline": "no"}, "offline: got 'no'; expected true or false"),
        ({"mirror": ["a"]}, "mirror: got ['a']; expected text"),
        ({"run": 2024}, "run: got 2024; expected text (in quotes"),
        ({"run": "../x"}, "run: got '../x'; expected a name that matches"),
        ({"run": "demo\n"}, "run: got 'demo\\n'; expected a name that matches"),
        ({"run": "-rf"}, "run: got '-rf'; expected a name that matches"),
        ({"run": "a" * 65}, "run: got 'aaa...expected a name that matches"),
        ({"run": "$(touch x)"}, "run: got '$(touch x)'; expected a name that matches"),
        ({"device": "gpu"}, "device: got 'gpu'; allowed are cpu, cuda; did you mean 'cpu'?"),
        ({"device": False}, "device: got False; allowed are cpu, cuda"),
        ({"round": "v6.2"}, "round: got 'v6.2'; allowed are v5.0, ...; did you mean 'v6."),
        ({"variants": {}}, "variants: got {}; expected at least 1 entry (Ways of running"),
        ({"variants": ["fp32"]}, "variants: got ['fp32']; expected keys with values"),
        ({"variants.fp32": "fp32"}, "variants.fp32: got 'fp32'; expected keys with values"),
        (
            {"variants.fp32.dtype": "float32"},
            "variants.fp32.dtype: got 'float32'...did you mean 'fp32'?",
        ),
        ({"variants.fast": {}}, "variants.fast.dtype: missing; Number format of weights"),
        ({"variants.a/b": {"dtype": "fp32"}}, "variants: got 'a/b'; expected a name"),
        ({"variants.fp32.patch": "x.py"}, "variants.fp32.patch: got 'x.py'; expected a name"),
        ({"variants.fp32.cache": {"interval": 2}}, "variants.fp32.cache: only backend: native"),
        (
            {"variants.fp32.unet": "lite", "unets": {"light": {"feed_forward": 0.5}}},
            "variants.fp32.unet: got 'lite'; unets has light; did you mean 'light'?",
        ),
        ({"unets": {"a": {"blocks": ["conv_in"]}}}, "unets.a.blocks.0: got 'conv_in'"),
        ({"unets": {"a": {"weights": "x.safetensors"}}}, "unets.a.weights: there is no file"),
        ({"unets": {"a": {"feed_forward": 1.0}}}, "unets.a: takes nothing out; give blocks"),
        (
            {
                "model": "sdxl-base-1.0",
                "unets": {"a": {"feed_forward": 0.5, "recovery": {"steps": 9}}},
            },
            "unets.a.recovery: only micro-sdxl can be trained here",
        ),
        ({"variants.fp32.vae": "bf16"}, "variants.fp32.vae: only backend: native has it"),
        ({"variants.training": {"dtype": "fp32"}}, "variants.training: a run has something else"),
        ({"variants.images": {"dtype": "fp32"}}, "variants.images: a run has something else"),
        (
            {
                "variants.fp32": {
                    "dtype": "fp32",
                    "stand_in": {"side": 64, "images_per_second": 1},
                    "patch": f"{__file__}:f",
                }
            },
            "variants.fp32.patch: a stand_in runs no model; leave one of them out",
        ),
        ({"variants.fp32.fp8": {}}, "variants.fp32.fp8: only backend: native has it"),
        (
            {"variants.fp32": {"dtype": "fp16", "backend": "native", "fp8": {}}},
            "variants.fp32.fp8: what is not fp8 is bf16; add dtype: bf16",
        ),
        (
            {"variants.fp32.backend": "trt"},
            "variants.fp32.backend: got 'trt'; allowed are reference, inductor, native",
        ),
        (
            {"variants.fp32": {"dtype": "fp32", "backend": "native", "cache": {"deep": [1]}}},
            "variants.fp32.cache.deep: step 0 has nothing to reuse",
        ),
        (
            {"variants.fp32": {"dtype": "fp32", "backend": "native", "cache": {"deep": [0, 20]}}},
            "variants.fp32.cache.deep: got 20; the last of 20 steps is 19",
        ),
        ({"variants.fp32.patch": "no.py:f"}, "variants.fp32.patch: there is no file 'no.py'"),
        ({"sampler.guidance": math.nan}, "sampler.guidance: got nan; expected a finite number"),
        ({"sampler.guidance": math.inf}, "sampler.guidance: got inf; expected a finite number"),
        ({"sampler.guidance": 10**400}, "sampler.guidance: got 1000...expected a finite number"),
        ({"sampler.guidance": -1}, "sampler.guidance: got -1; expected at least 0"),
        (
            {"dataset": "coco2015"},
            "dataset: got 'coco2015'; known are pictures, coco2014-30k, coco2014; "
            "did you mean 'coco2014'?",
        ),
        (
            {"model": "sdxl-base"},
            "model: got 'sdxl-base'; known are micro-sdxl, ...mean 'sdxl-base-1.0'?",
        ),
        (
            {"scores.reference": {"statistics": "coco2014/val2041.npz"}},
            "scores.reference.statistics: got ...sources.yaml has ...mean 'coco2014/val2014.npz'?",
        ),
        ({"scores.reference": {}}, "scores.reference: got {}; expected exactly one of"),
        (
            {"scores.clip": "vit"},
            "scores.clip: got 'vit'; allowed are clip-vit-b-32, clip-vit-h-14, micro-clip",
        ),
        (
            {"windows": {"samples": 64, "fid": [2, 1], "clip": [1, 1]}},
            "windows.fid: got [2, 1]; bounds are reversed; give [low, high]",
        ),
        (
            {"windows": {"samples": 64, "fid": [1, 2, 3], "clip": [1, 1]}},
            "windows.fid: got [1, 2, 3]; expected 2 items",
        ),
        (
            {"windows": {"samples": 64, "fid": [1, math.nan], "clip": [1, 1]}},
            "windows.fid.1: got nan; expected a finite number",
        ),
        (
            {"windows": {"fid": [1, 2], "clip": [1, 1]}},
            "windows.samples: missing; Number of samples that the windows are meant for",
        ),
    ],
)
def test_mistake_is_named_with_place_value_and_what_is_allowed(changes, expected):
    start, *parts = expected.split("...")
    found = mistakes(changed(DEMO, changes))
    (line,) = [line for line in found if line.startswith(f"  {start}")]
    assert all(part in line for part in parts), line


def test_two_missing_keys_are_two_lines():
    lines = mistakes(changed(DEMO, {"samples": None, "model": None}))
    assert [line.partition(";")[0] for line in lines] == ["  model: missing", "  samples: missing"]


@pytest.mark.parametrize("place", [[], ["variants"], ["variants", "fp32"], ["sampler"]])
@pytest.mark.parametrize("key", [8, True, 1.5])
def test_keys_that_are_no_text_are_refused(place, key):
    config = changed(DEMO, {"sampler.steps": 4})
    parent = config
    for name in place:
        parent = parent[name]
    parent[key] = {"dtype": "fp32"}
    (line,) = mistakes(config)
    path = ".".join([*place, str(key)])
    assert line == f"  {path}: got {key!r} as a key; expected text, so write it in quotes"


def test_all_mistakes_are_told_at_once_each_in_one_line():
    config = {
        "run": "two words",
        "smaples": 3,
        "samples": "1e3",
        "shard_size": True,
        "dataset": "coco2015",
        "division": "closed",
        "sampler": {"guidance": "8e0"},
        "variants": {
            8: {"dtype": "fp32"},
            "bad name": {"dtype": "fp8"},
            "x": {"batch_size": 4.0, "dtype": "fp16", "patch": "no.py:f"},
        },
        "windows": {"fid": [2, 1], "clip": [1, math.nan]},
        "scores": {"inception": "micro-inception", "reference": {"statistics": "x.npz"}},
    }
    lines = mistakes(config)
    for start in (
        "  variants.8: ",
        "  smaples: ",
        "  model: missing",
        "  run: ",
        "  sampler.guidance: got '8e0'; expected a finite number such as 8.0",
        "  samples: got '1e3'; expected a whole number such as 1000",
        "  scores.clip: missing",
        "  shard_size: got True",
        "  variants: got 'bad name'",
        "  variants.bad name.dtype: got 'fp8'",
        "  variants.x.batch_size: got 4.0",
        "  windows.samples: missing",
        "  windows.clip.1: got nan",
        "  windows.fid: got [2, 1]",
        "  dataset: got 'coco2015'; known are",
        "  dataset: got 'coco2015'; the closed division allows only 'coco2014'",
        "  scores.reference.statistics: got 'x.npz'; config/sources.yaml has",
        "  scores.inception: got 'micro-inception'; the closed division",
        "  variants.x.patch: there is no file 'no.py'",
        "  variants.x.patch: a patched model",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, start


@pytest.mark.parametrize(
    "changes, start",
    [
        ({"dataset": "pictures", "samples": 5000}, "dataset: got 'pictures'"),
        ({"model": "micro-sdxl"}, "model: got 'micro-sdxl'"),
        ({"samples": 4999}, "samples: got 4999"),
        ({"sampler.steps": 19}, "sampler.steps: got 19"),
        ({"sampler.guidance": 7.5}, "sampler.guidance: got 7.5"),
        ({"sampler.negative_prompt": ""}, "sampler.negative_prompt: got ''"),
        ({"scores.inception": "micro-inception"}, "scores.inception: got 'micro-inception'"),
        ({"scores.clip": "micro-clip"}, "scores.clip: got 'micro-clip'"),
        ({"scores.reference": {"images": "pictures"}}, "scores.reference.statistics: missing"),
        ({"windows.fid": [23.0, 24.0]}, "windows: got {'samples': 5000, 'fid': [23.0, 24.0]"),
        ({"windows.samples": 64}, "windows: got {'samples': 64"),
        ({"windows": None}, "windows: got None"),
        (
            {"variants.fp16.unet": "light", "unets": {"light": {"feed_forward": 0.5}}},
            "variants.fp16.unet: another UNet is not allowed in the closed division",
        ),
        (
            {"variants.fp16.backend": "native", "variants.fp16.cache": {"interval": 2}},
            "variants.fp16.cache: DeepCache is not allowed in the closed division",
        ),
        ({"variants.fp16.patch": "rules/../README.md.py:f"}, "variants.fp16.patch: a patched"),
    ],
)
def test_closed_division_refuses_what_it_does_not_allow(changes, start):
    lines = mistakes(changed(MLPERF, changes))
    (line,) = [line for line in lines if "closed division" in line]
    assert line.startswith(f"  {start}")
    unrelated = [line for line in lines if "closed division" not in line]
    assert all("has 512" in line or "there is no file" in line for line in unrelated)


def test_same_changes_are_allowed_in_the_open_division():
    changes = {"division": "open", "samples": 64, "sampler.steps": 4, "sampler.guidance": 5}
    checked_config(changed(MLPERF, changes), SCHEMA, TABLE)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["pictures", "fp32", "closed", "cuda", "micro-sdxl", "coco2014/val2014.npz"]),
)
KEYS = st.one_of(
    st.text(max_size=5),
    st.integers(),
    st.sampled_from([key for _, schema in objects(SCHEMA) for key in schema["properties"]]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_configuration_is_checked_or_refused_in_words(config):
    for candidate in (config, {**DEMO, **config}):
        try:
            filled = checked_config(candidate, SCHEMA, TABLE)
        except ConfigError as error:
            assert len(str(error).splitlines()) >= 2
        else:
            Draft202012Validator(SCHEMA).validate(filled)


@pytest.mark.parametrize("config", [None, [], "x", 3])
def test_something_that_is_no_configuration_is_refused(config):
    (line,) = mistakes(config)
    assert line == f"  the top level: got {config!r}; expected keys with values"


def test_files_are_merged_as_the_readme_says():
    from snakemake.utils import update_config

    config = copy.deepcopy(MLPERF)
    later = {"run": "mine", "division": "open", "windows": None, "samples": 100}
    update_config(config, {**later, "variants": {"bf16": {"dtype": "bf16"}, "fp16": None}})
    filled = checked_config(config, SCHEMA, TABLE)
    assert (filled["run"], filled["samples"], filled["windows"]) == ("mine", 100, None)
    assert list(filled["variants"]) == ["bf16"]
    assert filled["dataset"] == "coco2014"
