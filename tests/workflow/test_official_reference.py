"""MLPerf's own pipeline and data set scripts beside ours, where a checkout of them is given."""

import t2i.job.torch_shim  # noqa: F401

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import peers
from micro_model import MicroModel
from t2i.micro.pictures import coco_annotations
from t2i.prompts import captions
from t2i.prompts.captions import Caption, format_captions

pytestmark = pytest.mark.slow

COUNT = 8
SHARE = 2e-4  # of the values may differ, by one grey level
MODULES = ("cv2", "backend", "backend_pytorch", "dataset", "coco", "tools")


@pytest.fixture(scope="module")
def modules(inference_checkout: Path) -> Iterator[dict[str, ModuleType]]:
    """The reference's modules, which import each other by bare names."""
    folder = str(inference_checkout / "text_to_image")
    sys.path.insert(0, folder)
    if importlib.util.find_spec("cv2") is None:  # imported for real pictures, which nobody has here
        sys.modules["cv2"] = ModuleType("cv2")
    try:
        yield {name: importlib.import_module(name) for name in ("backend_pytorch", "coco")}
    finally:
        sys.path.remove(folder)
        for name in [n for n in sys.modules if n.split(".")[0] in MODULES]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def checkpoint(micro_model: MicroModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random SDXL in the layout of MLCommons' snapshots."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "checkpoint_pipe").symlink_to(micro_model.model)
    (folder / "checkpoint_scheduler").mkdir()
    (folder / "checkpoint_scheduler/scheduler").symlink_to(micro_model.model / "scheduler")
    return folder


@pytest.fixture(scope="module")
def data(micro_model: MicroModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions and latent as the reference's data set reads them."""
    folder = tmp_path_factory.mktemp("coco2014")
    (folder / "captions").mkdir()
    (folder / "latents").mkdir()
    rows = [
        Caption(index, index, text, 64, 64, f"{index}.jpg", f"http://{index}")
        for index, text in enumerate(micro_model.prompts)
    ]
    (folder / "captions/captions.tsv").write_text(format_captions(rows), encoding="utf-8")
    np.save(folder / "latents/latents.npy", np.load(micro_model.latent))
    return folder


def reference_images(
    modules: dict[str, ModuleType], checkpoint: Path, data: Path, batch_size: int
) -> tuple[np.ndarray, Any]:
    """Images of all captions by BackendPytorch in fp32, and its data set."""
    backend = modules["backend_pytorch"].BackendPytorch(
        model_path=str(checkpoint), batch_size=batch_size, device="cpu", precision="fp32"
    )
    backend.load()
    backend.pipe.set_progress_bar_config(disable=True)
    dataset = modules["coco"].Coco(
        str(data),
        pipe_tokenizer=backend.pipe.tokenizer,
        pipe_tokenizer_2=backend.pipe.tokenizer_2,
        latent_device="cpu",
        latent_framework="numpy",
    )
    side = backend.pipe.unet.config.sample_size
    samples = [dataset.get_item(index) for index in range(COUNT)]
    samples = [{**item, "latents": item["latents"][..., :side, :side]} for item in samples]
    images = torch.stack(backend.predict(samples))
    pixels = images.permute(0, 2, 3, 1).to(torch.float32).numpy() * 255
    return pixels.round().astype(np.uint8), dataset


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_images_of_the_references_own_backend(
    modules: dict[str, ModuleType],
    checkpoint: Path,
    data: Path,
    micro_model: MicroModel,
    batch_size: int,
) -> None:
    """In batches of five, the reference's last one is short and ours is filled up."""
    theirs, dataset = reference_images(modules, checkpoint, data, batch_size)
    ours = micro_model.images(micro_model.pipeline, batch_size, COUNT)
    largest, share = peers.pixel_difference(ours, theirs)
    print(f"batches of {batch_size}: {largest} grey levels, {share:.2e} of the values")
    assert largest <= 1
    assert share <= SHARE
    tokens = micro_model.tokens()
    for index in range(COUNT):
        item = dataset.get_item(index)
        for key, known in (("input_tokens", tokens.first), ("input_tokens_2", tokens.second)):
            assert item[key].input_ids[0].tolist() == known[index].tolist()


def run_script(checkout: Path, name: str, *arguments: str) -> None:
    folder = checkout / "text_to_image/tools"
    done = subprocess.run(
        [sys.executable, folder / name, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def annotated(folder: Path, name: str) -> dict[str, Any]:
    """The drawn pictures' annotations, untidy, where the reference's scripts unpack COCO's."""
    table = coco_annotations()
    texts = ('A "red" star.\n', "  two\ndogs ", "A\tcat", "plain")
    draw = np.random.default_rng(3)
    order = draw.permutation(len(table["annotations"]))
    table["annotations"] = [
        {**table["annotations"][n], "caption": f"{texts[n % 4]}{n}"} for n in order
    ]
    (folder / "raw/annotations").mkdir(parents=True)
    (folder / "download_aux").mkdir()
    (folder / "raw/annotations" / name).write_text(json.dumps(table))
    return table


@pytest.mark.parametrize("count", [100, 5000])
def test_captions_of_the_references_own_script(
    inference_checkout: Path, tmp_path: Path, count: int
) -> None:
    table = annotated(tmp_path / "coco", "captions_val2014.json")
    run_script(
        inference_checkout,
        "coco.py",
        "--dataset-dir",
        str(tmp_path / "coco"),
        f"--max-images={count}",
    )
    rows = captions.sample_captions(table["annotations"], table["images"], count)
    theirs = (tmp_path / "coco/captions/captions.tsv").read_bytes()
    assert format_captions(rows).encode() == theirs


def test_calibration_captions_of_the_references_own_script(
    inference_checkout: Path, tmp_path: Path
) -> None:
    table = annotated(tmp_path / "coco", "captions_train2014.json")
    every = sorted(entry["id"] for entry in table["annotations"])
    ids = every[::7]
    (tmp_path / "ids").mkdir()
    (tmp_path / "ids/coco_cal_captions_list.txt").write_text("".join(f"{n}\n" for n in ids))
    run_script(
        inference_checkout,
        "coco_calibration.py",
        *("--dataset-dir", str(tmp_path / "coco"), "--calibration-dir", str(tmp_path / "ids")),
    )
    rows = captions.calibration_captions(table["annotations"], table["images"], ids)
    theirs = (tmp_path / "coco/calibration/captions.tsv").read_bytes()
    assert format_captions(rows).encode() == theirs
