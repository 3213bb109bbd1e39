"""What the forecast takes from a model's files: sizes of engines, pixels of images."""

import re

import pytest

from t2i import forecast
from t2i.forecast import engine_bytes
from t2i.pictures import SIDE
from t2i.sources import read_sources
from t2i.yaml_files import read_yaml
from workflow_run import PROJECT

SOURCES = read_sources(read_yaml(PROJECT / "config/sources.yaml"))
SDXL = "sdxl-base-1.0"


def weight_sizes(suffix: str) -> int:
    """Bytes of the model's weights of one file type, from the table."""
    names = [name for name in SOURCES if name.startswith(SDXL) and name.endswith(".safetensors")]
    return sum(
        SOURCES[name].size or 0
        for name in names
        if name.endswith(".fp16.safetensors") == (suffix == "fp16")
    )


@pytest.mark.parametrize(
    ("dtype", "linked", "weights"),
    [
        ("fp16", True, 0),
        ("fp32", True, 0),
        ("bf16", True, weight_sizes("fp32") // 2),
        ("fp16", False, weight_sizes("fp16")),
        ("fp32", False, weight_sizes("fp32")),
        ("bf16", False, weight_sizes("fp32") // 2),
    ],
)
def test_engines_cost_what_is_not_linked(dtype, linked, weights):
    assert engine_bytes(SDXL, dtype, SOURCES, linked) - forecast.TOKENIZERS == weights


def test_images_have_the_size_that_the_models_configuration_says(tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert forecast.image_side("micro-sdxl", SOURCES) == SIDE
    assert forecast.image_side(SDXL, SOURCES) == 1024
    monkeypatch.chdir(tmp_path)
    assert forecast.image_side("micro-sdxl", SOURCES) == forecast.LARGEST_SIDE
    fetched = tmp_path / "resources/micro-sdxl/unet/config.json"
    fetched.parent.mkdir(parents=True)
    fetched.write_text('{"sample_size": 7}')
    assert forecast.image_side("micro-sdxl", SOURCES) == 56


def test_shipped_weights_are_cast_to_what_no_file_holds():
    sizes = {dtype: engine_bytes("micro-sdxl", dtype, SOURCES, True) for dtype in ("fp16", "bf16")}
    assert sizes["fp16"] == forecast.TOKENIZERS
    names = [name for name in SOURCES if re.fullmatch(r"micro-sdxl/.*\.safetensors", name)]
    assert sizes["bf16"] - forecast.TOKENIZERS == sum(SOURCES[name].size for name in names)
