"""Profiles: what they set, that they are found, and what they make of a job."""

import re

import pytest
import yaml

from t2i.job.device import local_gpus
from workflow_run import PROJECT, planned_jobs, rules

SHARD = "results/tiny/fp32/shards/00003-00006.tar"
ON_GPUS = {"variants": {"fp32": {"device": "cuda"}}}


def facts_of(output: str, rule: str) -> str:
    """What a dry run says of the jobs of one rule."""
    return "".join(re.findall(rf"^(?:local)?rule {rule}:\n(?:    .*\n)*", output, re.MULTILINE))


def test_the_default_profile_leaves_the_machine_to_the_others():
    default = yaml.safe_load((PROJECT / "profiles/default/config.yaml").read_text())
    assert default["rerun-incomplete"] is True
    assert default.keys().isdisjoint(
        {"cores", "jobs", "executor", "resources", "default-resources", "retries", "set-resources"}
    )


def test_the_root_link_leads_to_the_slurm_profile():
    assert (PROJECT / "slurm").is_symlink()
    assert (PROJECT / "slurm").resolve() == PROJECT / "profiles/slurm"


@pytest.mark.slow
def test_the_slurm_profile_keeps_its_partition_and_resources(finished):
    said = finished.snakemake("--dry-run", "--forceall", "--profile", "slurm", cores=None)
    assert "Using profiles slurm and workflow specific profile profiles/default" in said
    shard = facts_of(said, "generate_shard")
    assert shard.count("rule generate_shard:") == shard.count("slurm_partition=main") == 4
    assert "mem_mb=4000" in shard and "runtime=120" in shard
    assert "mem_mb=16000" in facts_of(said, "build_engine")


@pytest.mark.slow
def test_the_workstation_profile_is_found_and_plans_the_same(workplace):
    (workplace.folder / SHARD).unlink()
    said = workplace.snakemake("--dry-run", "--profile", "profiles/workstation", cores=None)
    assert "generate_shard" in rules(planned_jobs(said))


@pytest.mark.slow
def test_a_gpu_job_takes_its_share_of_the_cores(workplace):
    (workplace.folder / SHARD).unlink()
    said = workplace.snakemake(SHARD, "--dry-run", overlay=ON_GPUS, cores=8)
    shard = facts_of(said, "generate_shard")
    share = 8 // local_gpus()
    assert (f"threads: {share}" in shard) == (share > 1)
    assert "gpu=1" in shard
    assert "gpu=0" in facts_of(workplace.snakemake(SHARD, "--dry-run"), "generate_shard")


@pytest.mark.slow
def test_slurm_is_asked_for_one_gpu_and_for_more_memory_and_time_again(workplace, tmp_path):
    """Submission is refused by a stand-in for sbatch that only writes down its call."""
    tools, calls = tmp_path / "bin", tmp_path / "calls"
    tools.mkdir()
    for name, answer in {
        "sbatch": f'printf "%s\\n" "$*" >> {calls}; echo refused >&2; exit 1',
        "squeue": "exit 0",
        "sacct": "exit 0",
        "sacctmgr": "exit 0",
        "sinfo": "echo main",
        "scancel": "exit 0",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{workplace.environment['PATH']}"
    words = ("--profile", "slurm", "--rerun-triggers", "mtime", "--retries", "0")
    words += ("--slurm-init-seconds-before-status-checks", "1")
    again = (*words[:-4], "--retries", "1", *words[-2:])

    light = "results/tiny/comparison.json"  # of a local rule: no job of Slurm
    (workplace.folder / light).unlink()
    workplace.snakemake(light, *words, cores=None, PATH=path)
    assert not calls.exists()

    (workplace.folder / SHARD).unlink()
    said = workplace.snakemake(
        SHARD, *again, overlay=ON_GPUS, cores=None, succeeds=False, PATH=path
    )
    assert calls.exists(), said
    submitted = calls.read_text().splitlines()
    assert [re.search(r"--mem (\d+)", call)[1] for call in submitted] == ["4000", "6000"]
    assert [re.search(r"-t (\d+)", call)[1] for call in submitted] == ["120", "180"]
    for call in submitted:
        assert "--gpus=1" in call
        assert re.search(r"(-p|--partition)[ =]'?main", call)
        assert "--ntasks-per-gpu" not in call
