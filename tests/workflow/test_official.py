"""The official configuration: what it plans, and its data walked by a micro model."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from stand_ins import served, write_stand_ins
from t2i.base.files import file_digest
from workflow_run import (
    CONFIGS,
    PROJECT,
    Workplace,
    copy_project,
    copy_run,
    cut_off,
    of_rule,
    planned_jobs,
    rules,
)

MLPERF = PROJECT / "config/mlperf.yaml"
INPUTS = {
    "coco2014/captions_source.tsv",
    "coco2014/latents.npy",
    "coco2014/sample_ids.txt",
    "coco2014/val2014.npz",
    "sdxl-base-1.0/model_index.json",
    "sdxl-base-1.0/scheduler/scheduler_config.json",
    "sdxl-base-1.0/text_encoder/config.json",
    "sdxl-base-1.0/text_encoder/model.fp16.safetensors",
    "sdxl-base-1.0/text_encoder_2/config.json",
    "sdxl-base-1.0/text_encoder_2/model.fp16.safetensors",
    "sdxl-base-1.0/unet/config.json",
    "sdxl-base-1.0/unet/diffusion_pytorch_model.fp16.safetensors",
    "sdxl-base-1.0/vae/config.json",
    "sdxl-base-1.0/vae/diffusion_pytorch_model.fp16.safetensors",
    "inception-2015-12-05/pt_inception-2015-12-05-6726825d.pth",
    "clip-vit-b-32/ViT-B-32.pt",
}


@pytest.fixture
def official(finished, tmp_path) -> Workplace:
    """A project with the embedded networks already made, and the official configuration."""
    return Workplace(copy_run(finished.folder, tmp_path / "project"), (MLPERF,))


@pytest.mark.slow
def test_the_official_run_is_planned_without_network(official):
    jobs = planned_jobs(official.snakemake("--dry-run", before=cut_off()))
    assert of_rule(jobs, "fetch_source") == INPUTS
    assert of_rule(jobs, "generate_shard") == {
        f"fp16 {first:05d}-{first + 250:05d}" for first in range(0, 5000, 250)
    }
    assert {"convert_inception", "convert_clip", "build_tokenizer"} <= rules(jobs)
    assert rules(jobs).isdisjoint({"draw_pictures", "make_micro_inception"})


@pytest.mark.slow
def test_fetch_alone_brings_all_published_inputs(official):
    jobs = planned_jobs(official.snakemake("fetch", "--dry-run"))
    assert jobs == {f"fetch_source {name}" for name in INPUTS}


@pytest.fixture(scope="module")
def mirror(shared_data, tmp_path_factory):
    """A mirror with the real data and stand-ins for the weights, and its table of inputs."""
    folder = tmp_path_factory.mktemp("mirror")
    write_stand_ins(folder, shared_data)
    return folder


@pytest.mark.slow
@pytest.mark.shared
def test_offline_lists_exactly_what_is_missing(mirror, tmp_path):
    place = Workplace(copy_project(tmp_path / "project"), (MLPERF,))
    less = tmp_path / "mirror"
    shutil.copytree(mirror, less, copy_function=os.link)
    missing = {"coco2014/latents.npy", "sdxl-base-1.0/vae/diffusion_pytorch_model.fp16.safetensors"}
    for name in missing:
        (less / name).unlink()
    overlay = {"mirror": str(less), "sources": str(less / "sources.yaml"), "offline": True}
    answer = place.snakemake(overlay=overlay, succeeds=False)
    assert "2 of the inputs cannot be fetched" in answer
    listed = {name for name in INPUTS if f"  {name} (" in answer}
    assert listed == missing
    assert {name for name in INPUTS if f"mirror/{name} http" in answer} == missing
    assert "snakemake mirror" in answer
    assert not (place.folder / "resources").exists()


@pytest.mark.slow
@pytest.mark.shared
def test_official_configuration_walks_from_fetch_to_report(mirror, tmp_path):
    """Over HTTP, from a mirror on this host."""
    place = Workplace(copy_project(tmp_path / "project"), (MLPERF, CONFIGS / "official.yaml"))
    with served(mirror) as address:
        overlay = {"mirror": address, "sources": str(mirror / "sources.yaml")}
        place.snakemake(overlay=overlay, no_proxy="*")
    # And what was fetched serves others: a mirror made of it, by a run without any network.
    place.snakemake("mirror", overlay={**overlay, "offline": True}, before=cut_off())
    made = place.folder / "mirror"
    listed = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made, capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stderr
    assert {line.removesuffix(": OK") for line in listed.stdout.splitlines()} == INPUTS
    dataset, results = place.folder / "resources/coco2014", place.folder / "results/official"

    published = (mirror / "coco2014/captions_source.tsv").read_bytes()
    assert (dataset / "captions.tsv").read_bytes() == published
    assert file_digest(dataset / "latents.npy", "sha256") == (
        "78cac10a20ea287f88b5851382e21504a755338d3f8ba8ffd2bcf9e9bf2404f9"
    )
    with np.load(dataset / "tokens.sdxl-base-1.0.npz", allow_pickle=False) as tokens:
        assert {len(tokens[name]) for name in tokens.files if tokens[name].ndim == 2} == {5000}

    report = json.loads((results / "report.json").read_text())
    reasons = [entry["reason"] for entry in report["not_comparable"]]
    assert any("compliance samples lie beyond the 4 samples" in reason for reason in reasons)
    assert "compliance samples lie beyond" in (results / "report.html").read_text()
    compliance = json.loads((results / "fp16/compliance.json").read_text())
    verdicts = {check["id"]: check["verdict"] for check in compliance["checks"]}
    inputs = {name: verdicts[f"inputs.{name}"] for name in INPUTS}
    assert set(inputs.values()) == {"pass"}
    assert verdicts["accuracy.fid"] == "not applicable"
    assert compliance["division"] == "open"
