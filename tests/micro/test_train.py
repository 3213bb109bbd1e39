"""`snakemake train_micro` from nothing, with trainings of two steps, in a copy of the project."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from t2i.metrics import clip
from t2i.micro.evaluate import WAYS
from t2i.micro.pictures import SIDE
from workflow_run import PROJECT, Workplace, copy_project, cut_off

PARTS = ("vae", "clip", "unet")
FEW = {"steps": 2, "batch": 4, "scenes": 4}
OVERLAY = {"micro": {**dict.fromkeys(PARTS, FEW), "captions": 2}}
NOT_TRAINED = ("README.md", "reference_images")  # parts of models/ that are made afterwards

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Workplace:
    place = Workplace(copy_project(tmp_path_factory.mktemp("training") / "project"))
    place.snakemake("train_micro", overlay=OVERLAY, before=cut_off())
    return place


def read(place: Workplace, name: str) -> dict[str, Any]:
    return json.loads((place.folder / "micro" / name).read_text())


def files(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not set(path.parts) & set(NOT_TRAINED)}


def test_models_are_laid_out_as_those_of_the_repository(trained) -> None:
    models = trained.folder / "micro" / "models"
    assert files(models) == files(PROJECT / "models")
    sizes = read(trained, "evaluation.json")["bytes"]
    assert set(sizes) == {*files(models), "all"}
    for name in files(models):
        assert sizes[name] == (models / name).stat().st_size
    assert sizes["all"] == sum(size for name, size in sizes.items() if name != "all")
    for name in ("micro-sdxl/model_index.json", "micro-sdxl/scheduler/scheduler_config.json"):
        assert (models / name).read_bytes() == (PROJECT / "models" / name).read_bytes()


def test_diffusers_and_the_library_load_the_models(trained) -> None:
    models = trained.folder / "micro" / "models"
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        models / "micro-sdxl", variant="fp16", dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("A large red star.", num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (SIDE, SIDE, 3)
    assert np.isfinite(image).all()
    scorer = clip.load_clip(models / "micro-clip", "cpu")
    pictures = clip.image_embeddings(scorer, (255 * image[None]).astype(np.uint8), 1)
    captions = clip.caption_embeddings(scorer, ["A large red star."], 1)
    assert np.isfinite(clip.clip_scores(pictures, captions)).all()


def test_facts_of_each_part_are_those_of_its_training(trained) -> None:
    for name in PARTS:
        facts = read(trained, f"{name}.json")
        assert facts["part"] == name
        assert {key: facts["settings"][key] for key in FEW} == FEW
        assert facts["steps"] == 2
        assert [row["step"] for row in facts["curve"]] == [1, 2]
        assert facts["figures"]
        assert not (trained.folder / f"micro/{name}.checkpoint").exists()
    assert [row["step"] for row in read(trained, "unet.json")["judged"]] == [1, 2]


def test_every_way_is_evaluated(trained) -> None:
    evaluation = read(trained, "evaluation.json")
    assert list(evaluation["ways"]) == list(WAYS)
    assert evaluation["captions"] == 2
    assert evaluation["drawn"]["all"] == 1
    first, *others = evaluation["ways"].values()
    assert first["difference_from_first"] == 0
    for name, figures in zip(list(WAYS)[1:], others, strict=True):
        least, mean, most = (
            figures[f"{kind}difference_from_first"] for kind in ("least_", "", "largest_")
        )
        assert 0 < least <= mean <= most, name
        assert figures["fid"] > 0
    assert set(evaluation["ways"]["fp32"]) == set(evaluation["ways"]["4 steps"])


def test_samples_are_pictures(trained) -> None:
    folder = trained.folder / "micro" / "samples"
    sizes = {
        path.relative_to(folder).as_posix(): tuple(side // SIDE for side in Image.open(path).size)
        for path in folder.rglob("*.png")
    }
    looks = ("000001.png", "000002.png")
    assert sizes == {
        **{f"vae/{name}": (8, 1) for name in looks},
        **{f"unet/{name}": (4, 1) for name in looks},
        "final/final.png": (2, 1),
        "final/ways.png": (2, len(WAYS)),  # a row for each
    }


def test_the_report_and_the_model_card_name_the_device(trained) -> None:
    device = read(trained, "evaluation.json")["device"]
    assert device
    for name in ("report.html", "model_card.md"):
        assert device in (trained.folder / "micro" / name).read_text(), name


def test_a_second_call_has_nothing_to_do(trained) -> None:
    assert not trained.plan("train_micro", overlay=OVERLAY)


def test_a_change_of_one_recipe_trains_what_depends_on_it(trained) -> None:
    longer = {**OVERLAY["micro"], "clip": {**FEW, "steps": 3}}
    planned = trained.plan("train_micro", overlay={"micro": longer})
    assert planned == {"train_clip", "evaluate_micro", "make_micro_report", "train_micro"}
