"""Mistakes in the section `training`: found before any work, with what is allowed."""

from pathlib import Path
from typing import Any

import pytest

from t2i.base.yaml import ConfigError, read_yaml
from t2i.config.check import checked_config
from t2i.config.forecast import Job, training_bytes
from t2i.training.settings import checkpoints

PROJECT = Path(__file__).parents[2]
SCHEMA = read_yaml(PROJECT / "config/schemas/config.schema.yaml")
SOURCES = read_yaml(PROJECT / "config/sources.yaml")


def config(**training: Any) -> dict[str, Any]:
    given = read_yaml(PROJECT / "config/training_micro.yaml")
    base = read_yaml(PROJECT / "config/config.yaml")
    filled = {**{key: base[key] for key in SCHEMA["required"]}, **given}
    section = filled["training"]
    for key, value in training.items():
        nested = isinstance(value, dict)
        section = {**section, key: {**section[key], **value} if nested else value}
    return {**filled, "training": section}


def test_the_shipped_configuration_is_sound() -> None:
    found = checked_config(config(), SCHEMA, SOURCES)
    assert found["training"]["evaluation"]["seed"] == 0
    assert found["training"]["captions"] == "ahead"


def given_tars(folder: Path) -> dict[str, Any]:
    (folder / "00000.tar").write_bytes(b"")
    return {"name": "mine", "folder": str(folder), "tars": 1, "kind": "moments"}


def test_a_folder_of_tars_and_the_published_checkpoint_are_accepted(tmp_path: Path) -> None:
    frozen = {
        "model": "stable-diffusion-2-base",
        "text_encoder": "text_encoder",
        "tokenizer": "tokenizer",
    }
    checked_config(config(data=given_tars(tmp_path), frozen=frozen), SCHEMA, SOURCES)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"data": {"name": "laion"}}, "'laion' is not drawn; give `folder`"),
        ({"data": {"kind": "moments"}}, "`pictures` is drawn: kind has to be images"),
        ({"data": {"tars": 8}}, "2048 pictures (tars x images); at most 1792 can be drawn"),
        ({"frozen": {"model": "micro-sdx"}}, "did you mean 'micro-sdxl'"),
        ({"frozen": {"text_encoder": "text"}}, "micro-sdxl has no files in text"),
        ({"precision": "fp16"}, "got 'fp16' with device: cpu"),
        ({"precision": "fp16", "parallel": "fsdp"}, "got 'fp16' with parallel: fsdp"),
        ({"steps": 0}, "training.steps"),
        ({"optimizer": "sgd"}, "training.optimizer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_named(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked_config(config(**training), SCHEMA, SOURCES)
    assert message in str(error.value)


def test_missing_tars_are_counted(tmp_path: Path) -> None:
    data = {**given_tars(tmp_path), "tars": 3}
    with pytest.raises(ConfigError) as error:
        checked_config(config(data=data), SCHEMA, SOURCES)
    assert "has no 00001.tar and 1 more of 3" in str(error.value)


def laion(parts: Path, **changes: Any) -> dict[str, Any]:
    """Data of a training of which the images are downloaded, by two parts of metadata."""
    for number in range(2):
        (parts / f"part-{number:05d}-5b54.snappy.parquet").touch()
    data = {"name": "laion", "tars": 40, "kind": "images", "metadata": {"folder": str(parts)}}
    return {**data, **changes}


def test_metadata_makes_its_tars(tmp_path: Path) -> None:
    checked = checked_config(config(data=laion(tmp_path)), SCHEMA, SOURCES)["training"]
    assert (checked["data"]["metadata"]["pieces"], checked["data"]["metadata"]["rows"]) == (26, 1e4)
    _, rows = training_bytes(Job("filter_metadata"), checked, 64)
    _, images = training_bytes(Job("fetch_training_images"), checked, 64)
    assert 26 * 1e4 * 100 < rows < images


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tars": 53}, "has 0 files part-00002*.parquet; expected one"),
        ({"kind": "moments"}, "training.data.kind: what `metadata` brings are images"),
        ({"folder": "elsewhere"}, "give one of `folder`, `published` and `metadata`"),
        ({"name": "pictures"}, "without `folder`, `published` or `metadata`"),
    ],
    ids=["parts", "kind", "two sources", "drawn"],
)
def test_a_mistake_of_metadata_is_named(changes, message, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        checked_config(config(data=laion(tmp_path, **changes)), SCHEMA, SOURCES)
    assert message in str(error.value)


@pytest.mark.parametrize("steps", [48, 144, 150])
def test_segments_take_the_disk_of_the_whole(steps: int) -> None:
    training = checked_config(config(steps=steps), SCHEMA, SOURCES)["training"]
    jobs = [Job("train_segment", {"step": f"{step:09d}"}) for step in checkpoints(training)]
    parts = [training_bytes(job, training, 64) for job in jobs]
    assert sum(size for _, size in parts) == training_bytes(Job("train_network"), training, 64)[1]


def test_published_tars_take_what_mlperf_says_of_them() -> None:
    published = {"address": "https://example.org/set", "sha256": "0" * 64}
    data = {"name": "laion", "tars": 832, "kind": "moments", "side": 512, "published": published}
    training = checked_config(config(data=data), SCHEMA, SOURCES)["training"]
    _, size = training_bytes(Job("fetch_training_tar"), training, 64)
    assert 0.85e12 < 832 * size < 0.95e12
