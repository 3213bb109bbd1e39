"""What follows from a configuration: settings, inputs, and the document of its keys."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from t2i.base.yaml import ConfigError, read_yaml
from t2i.config.check import checked_config
from t2i.config.derive import needed_sources, variant_settings
from t2i.config.readme import markdown
from t2i.fetch.needed import (
    TOKENIZER_FILES,
    TOKENIZERS,
    model_sources,
    own_tokenizers,
    tokenizer_sources,
)
from t2i.fetch.table import read_sources

CONFIG = Path(__file__).parents[2] / "config"
SCHEMA = read_yaml(CONFIG / "schemas" / "config.schema.yaml")
TABLE = read_yaml(CONFIG / "sources.yaml")
DEMO = read_yaml(CONFIG / "config.yaml")
DEMO_REFERENCE = DEMO["scores"]["reference"]
MLPERF = read_yaml(CONFIG / "mlperf.yaml")
VARIANTS = {"fp32": {"dtype": "fp32", "device": "cuda"}, "bf16": {"dtype": "bf16"}}
SOURCES = read_sources(TABLE)


def test_settings_of_a_variant_join_its_entry_with_what_holds_for_all():
    config = checked_config(
        {**DEMO, "variants": VARIANTS, "sampler": {"guidance": 5}}, SCHEMA, TABLE
    )
    assert variant_settings(config, "fp32") == {
        "dtype": "fp32",
        "batch_size": 4,
        "threads": 1,
        "device": "cuda",
        "patch": None,
        "stand_in": None,
        "steps": 20,
        "guidance": 5.0,
        "backend": "reference",
        "cache": None,
        "fp8": None,
        "vae": None,
        "unet": None,
    }
    assert variant_settings(config, "bf16")["device"] == "cpu"


def test_half_precision_takes_half_weights_and_every_other_format_the_full_ones():
    half, full = (model_sources("sdxl-base-1.0", dtype, SOURCES) for dtype in ("fp16", "fp32"))
    assert model_sources("sdxl-base-1.0", "bf16", SOURCES) == full
    assert "sdxl-base-1.0/unet/diffusion_pytorch_model.fp16.safetensors" in half
    assert "sdxl-base-1.0/unet/diffusion_pytorch_model.safetensors" in full
    for names in (half, full):
        assert sum(name.endswith(".safetensors") for name in names) == 4
        assert "sdxl-base-1.0/model_index.json" in names


def test_embedded_run_needs_nothing_but_the_shipped_models():
    needed = needed_sources(checked_config(DEMO, SCHEMA, TABLE), SOURCES)
    assert needed == sorted(
        name for name in SOURCES if name.startswith(("micro-sdxl/", "micro-clip/"))
    )
    assert {SOURCES[name].address for name in needed} == {f"file:models/{name}" for name in needed}
    scored = {"inception": "micro-inception", "clip": "clip-vit-b-32", "reference": DEMO_REFERENCE}
    config = checked_config({**DEMO, "scores": scored}, SCHEMA, TABLE)
    needed = needed_sources(config, SOURCES)
    assert [name for name in needed if "clip" in name] == ["clip-vit-b-32/ViT-B-32.pt"]


def test_a_model_brings_its_own_tokenizers_or_gets_sdxls():
    assert own_tokenizers(SOURCES) == ["micro-sdxl/tokenizer", "micro-sdxl/tokenizer_2"]
    for model in ("micro-sdxl", "sdxl-base-1.0"):
        assert sorted(tokenizer_sources(model, SOURCES)) == sorted(
            f"{model}/{folder}/{file}" for folder in TOKENIZERS for file in TOKENIZER_FILES
        )
    mine = replace(SOURCES["micro-sdxl/model_index.json"], name="mine/tokenizer_2/vocab.json")
    assert tokenizer_sources("mine", {**SOURCES, mine.name: mine}) == [
        *(f"mine/tokenizer/{file}" for file in TOKENIZER_FILES),
        mine.name,
    ]


@pytest.mark.parametrize(
    ("key", "network"),
    [("inception", "inception-2015-12-05"), ("clip", "clip-vit-b-32"), ("clip", "micro-clip")],
)
def test_a_scoring_network_needs_files_in_the_table(key, network):
    table = {name: group for name, group in TABLE.items() if name != network}
    config = {**DEMO, "scores": {**DEMO["scores"], key: network}}
    checked_config(config, SCHEMA, TABLE)
    for files in (table, {**table, network: {**TABLE[network], "files": {}}}):
        with pytest.raises(ConfigError) as caught:
            checked_config(config, SCHEMA, files)
        expected = f"  scores.{key}: got {network!r}; config/sources.yaml has no file of it"
        assert str(caught.value).splitlines()[1:] == [expected]


def test_official_run_needs_each_input_once():
    needed = needed_sources(checked_config(MLPERF, SCHEMA, TABLE), SOURCES)
    assert needed == sorted(set(needed))
    assert set(needed) <= set(SOURCES)
    assert {
        "coco2014/captions_source.tsv",
        "coco2014/val2014.npz",
        "clip-vit-b-32/ViT-B-32.pt",
    } <= {*needed}
    assert not any(name.endswith("model.safetensors") for name in needed)


def keys(schema):
    """Every key that the schema describes, at any depth."""
    for name, part in schema.items() if isinstance(schema, dict) else []:
        if name == "properties":
            yield from part
        yield from keys(part)


def test_readme_is_the_one_that_the_schema_makes():
    text = (CONFIG / "README.md").read_text(encoding="utf-8")
    assert text == markdown(SCHEMA), "run tools/write_config_readme.py"


def test_readme_has_every_key_with_its_facts():
    _, table = markdown(SCHEMA).split("## Every key")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    by_key = {row.split("`")[1]: row for row in rows}
    assert sorted(path.rpartition(".")[2] for path in by_key) == sorted(keys(SCHEMA))
    words = {
        "samples": "| whole number | 2 to 9999999 | required | Number of samples",
        "sampler.guidance": "| number | 0 or more | `8.0` | Scale",
        "division": "| text | `closed`, `open` | `open` | MLPerf division",
        "variants.NAME.dtype": "| text | `fp32`, `fp16`, `bf16` | required |",
        "windows.fid": "| list of 2 numbers |  | required | Smallest",
        "mirror": "| text or null |  | `null` | Folder",
        "offline": "| true or false |  | `false` | Never",
        "scores.reference": "| keys | `statistics` or `images` | required | Reference",
    }
    for key, start in words.items():
        assert by_key[key].startswith(f"| `{key}` {start}"), by_key[key]


def test_readme_follows_the_schema():
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["samples"]["maximum"] = 7
    schema["properties"]["extra"] = {"type": "string", "pattern": "^a|b$", "description": "New."}
    text = markdown(schema)
    assert "2 to 7" in text
    assert "| `extra` | text | `^a\\|b$` |  | New. |" in text
