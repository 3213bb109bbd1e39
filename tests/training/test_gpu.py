"""Trainings on a GPU: skipped where torch sees none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2i.base.files import read_json, write_json
from t2i.training import rank
from t2i.training.checkpoints import read_facts, weights_file
from t2i.training.launch import launch
from t2i.training.trainer import Place
from trainings import ALONE, request, write_data

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
GPU = Place(0, 1, "cuda:0")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, list[str]]:
    return write_data(tmp_path_factory.mktemp("data"))


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_json(folder / "training.json")["curve"]]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Path:
    """The same training in float32, with what a GPU draws."""
    folder = tmp_path_factory.mktemp("alone")
    rank.train(request(data, folder, device="cuda"), GPU)
    return folder


@pytest.mark.parametrize(
    ("precision", "compiled", "error"),
    [
        ("fp32", "default", 1e-4),
        ("bf16", None, 0.01),
        ("bf16", "default", 0.01),
        ("fp16", None, 3e-3),
    ],
)
def test_formats_train_alike(precision, compiled, error, data, alone, tmp_path: Path) -> None:
    given = request(data, tmp_path, device="cuda", precision=precision, compile=compiled)
    rank.train(given, GPU)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=error)
    facts = read_facts(tmp_path)
    assert facts is not None
    assert bool(facts["scaler"]) == (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_goes_on(precision: str, data, tmp_path: Path) -> None:
    """As an undisturbed one, up to sums whose order a GPU does not promise."""
    for name, parts in (("whole", [6]), ("resumed", [3, 6])):
        for steps in parts:
            given = request(data, tmp_path / name, device="cuda", precision=precision, steps=steps)
            rank.train(given, GPU)
    whole, resumed = (load_file(weights_file(tmp_path / name, 6)) for name in ("whole", "resumed"))
    for name, value in whole.items():
        assert float((resumed[name] - value).abs().mean()) <= 2e-5, name
    assert losses(tmp_path / "resumed")[-1] == pytest.approx(
        losses(tmp_path / "whole")[-1], rel=1e-3
    )


def test_weights_and_record_are_those_of_any_device(data, alone, tmp_path: Path) -> None:
    rank.train(request(data, tmp_path), ALONE)
    one, other = (load_file(weights_file(folder, 6)) for folder in (alone, tmp_path))
    assert {name: value.shape for name, value in one.items()} == {
        name: value.shape for name, value in other.items()
    }


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees no two GPUs")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_gpus_are_one_with_the_double_batch(parallel: str, data, tmp_path: Path) -> None:
    """As two processes are on a CPU; sums on a GPU have another order."""
    given = request(data, tmp_path / "two", device="cuda", processes=2, parallel=parallel)
    write_json(tmp_path / "request.json", given)
    launch(tmp_path / "request.json")
    rank.train(request(data, tmp_path / "one", device="cuda"), GPU)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    two, one = (load_file(weights_file(tmp_path / name, 6)) for name in ("two", "one"))
    for name, value in one.items():
        assert float((two[name] - value).abs().mean()) <= 2e-5, name
