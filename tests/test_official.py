"""The official configuration: what it plans, and its data walked by a micro model."""

import json

import numpy as np
import pytest

from t2i.sources import file_digest
from workflow_run import (
    CONFIGS,
    PROJECT,
    Workplace,
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
    assert rules(jobs).isdisjoint({"draw_pictures", "make_micro_sdxl", "make_micro_scorers"})


@pytest.mark.slow
def test_fetch_alone_brings_all_published_inputs(official):
    jobs = planned_jobs(official.snakemake("fetch", "--dry-run"))
    assert jobs == {f"fetch_source {name}" for name in INPUTS}


@pytest.mark.slow
@pytest.mark.shared
def test_official_data_runs_through_to_the_report(official, shared_data):
    place = Workplace(official.folder, (MLPERF, CONFIGS / "official.yaml"))
    place.snakemake(overlay={"mirror": str(shared_data)})
    dataset, results = place.folder / "resources/coco2014", place.folder / "results/official"

    published = (shared_data / "coco2014/captions_source.tsv").read_bytes()
    assert (dataset / "captions.tsv").read_bytes() == published
    assert file_digest(dataset / "latents.npy", "sha256") == (
        "78cac10a20ea287f88b5851382e21504a755338d3f8ba8ffd2bcf9e9bf2404f9"
    )
    with np.load(dataset / "tokens.micro-sdxl.npz", allow_pickle=False) as tokens:
        assert {len(tokens[name]) for name in tokens.files if tokens[name].ndim == 2} == {5000}

    report = json.loads((results / "report.json").read_text())
    reasons = [entry["reason"] for entry in report["not_comparable"]]
    assert any("compliance samples lie beyond the 4 samples" in reason for reason in reasons)
    assert "compliance samples lie beyond" in (results / "report.html").read_text()
    compliance = json.loads((results / "fp32/compliance.json").read_text())
    verdicts = {check["id"]: check["verdict"] for check in compliance["checks"]}
    assert verdicts["inputs.coco2014/latents.npy"] == "pass"
    assert verdicts["accuracy.fid"] == "not applicable"
    assert compliance["division"] == "open"
