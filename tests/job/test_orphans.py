"""Slurm's jobs that outlive their run: which they are, and that they are gone before a plan."""

from pathlib import Path

import pytest

from t2i.job import orphans
from t2i.job.orphans import OrphansError, cancel_orphans


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs that answer as Slurm's; the queue is the file `queue`."""
    programs, folder = tmp_path / "programs", tmp_path / "a folder | with a bar"
    programs.mkdir()
    (folder / ".snakemake/slurm_logs").mkdir(parents=True)
    cancel = 'echo "$job" >> "$QUEUE.cancelled"; sed -i "/^$job|/d" "$QUEUE"'
    texts = {"squeue": 'cat "$QUEUE"', "scancel": f"for job; do {cancel}; done"}
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    monkeypatch.chdir(folder)
    lines = [
        f"12|{folder}|rule_generate_shard_wildcards_demo_fp32_00000-00064",
        f"13|{folder}|rule_record_provenance",
        f"14|{folder}|my own job",
        f"15|{folder}/below|rule_generate_shard",
        "16|/elsewhere|rule_generate_shard",
    ]
    (tmp_path / "queue").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def test_jobs_of_this_folders_runs_are_cancelled(slurm: Path) -> None:
    assert cancel_orphans() == 2
    assert (slurm / "queue.cancelled").read_text().split() == ["12", "13"]
    assert cancel_orphans() == 0


def test_without_slurm_nothing_is_asked(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert cancel_orphans() == 0
    monkeypatch.undo()
    assert not (slurm / "queue.cancelled").exists()


def test_where_no_job_was_submitted_nothing_is_asked(slurm: Path) -> None:
    Path(".snakemake/slurm_logs").rmdir()
    assert cancel_orphans() == 0
    assert not (slurm / "queue.cancelled").exists()


def test_jobs_that_do_not_end_are_an_error(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm / "programs/scancel").write_text("#!/bin/sh\n")
    monkeypatch.setattr(orphans, "PATIENCE", 0.1)
    with pytest.raises(OrphansError, match="jobs 12, 13 of a run that was killed do not end"):
        cancel_orphans()


def test_a_queue_that_does_not_answer_is_an_error(slurm: Path) -> None:
    (slurm / "programs/squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(OrphansError, match="squeue does not answer"):
        cancel_orphans()
