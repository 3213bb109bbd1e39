"""Damage below old times, lost records, and results of another configuration, through Snakemake."""

import os
import shutil
import time
from pathlib import Path

import pytest

from kept_time import flip_bit, rewrite
from t2i.job import records
from workflow_run import Workplace, rules

RUN = Path("results/tiny")
# One result of each kind, of different stages.
DAMAGED = (
    RUN / "fp32/judged.json",
    RUN / "fp32/features/00000-00003.npz",
    RUN / "bf16/metrics.json",
    RUN / "fp32/compliance.json",
    RUN / "provenance.json",
)


def content(folder: Path) -> dict[str, bytes]:
    """What a run has found, without times, machines and paths."""
    names = ["fp32/metrics.json", "bf16/metrics.json", "comparison.json", "fp32/compliance.json"]
    return {name: (folder / RUN / name).read_bytes() for name in names}


@pytest.mark.slow
def test_damage_is_reported_by_a_dry_run_and_mended_by_a_real_one(
    finished: Workplace, workplace: Workplace
) -> None:
    """One bit, no content at all, and another variant's file in its place."""
    for number, path in enumerate(DAMAGED):
        size = (workplace.folder / path).stat().st_size
        flip_bit(workplace.folder / path, 8 * (size // 2) + number)
    empty = workplace.folder / RUN / "fp32/influence.npz"
    rewrite(empty, b"")
    other = workplace.folder / RUN / "bf16/features/00003-00006.npz"
    rewrite(other, (workplace.folder / RUN / "fp32/features/00003-00006.npz").read_bytes())
    said = workplace.snakemake("--dry-run")
    for path in (*DAMAGED, empty, other):
        name = str(path if path in DAMAGED else path.relative_to(workplace.folder))
        assert f"the next run sets aside, to be made again: {name} is not what" in said
    said = workplace.snakemake()
    assert said.count("set aside, to be made again") == 7
    assert content(workplace.folder) == content(finished.folder)
    assert "Nothing to be done" in workplace.snakemake()


@pytest.mark.slow
def test_results_of_another_configuration_are_not_taken_for_this_ones(
    workplace: Workplace,
) -> None:
    """Snakemake has lost its own records: it knows times alone."""
    shutil.rmtree(workplace.folder / ".snakemake")
    said = workplace.snakemake()
    assert "every result's parameters are compared" in said
    assert said.count("localrule ") == 2  # make_report and all
    assert "localrule make_report" in said
    assert "Nothing to be done" in workplace.snakemake()
    shutil.rmtree(workplace.folder / ".snakemake")
    steps = {"sampler": {"steps": 3}}
    said = workplace.snakemake(overlay=steps, succeeds=False)
    assert "results/tiny/fp32/engine/engine.json: build_engine made it with other" in said
    assert "The same command makes them again" in said
    assert (workplace.folder / RUN / "fp32/engine/engine.json.aside").exists()
    assert not (workplace.folder / RUN / "report.json").exists()
    assert {"build_engine", "generate_shard", "make_report"} <= rules(workplace.plan(overlay=steps))


@pytest.mark.slow
def test_inputs_from_the_future_are_refused_before_the_first_job(workplace: Workplace) -> None:
    """Snakemake would make again what came of them in every run."""
    metrics = workplace.folder / RUN / "fp32/metrics.json"
    (workplace.folder / RUN / "comparison.json").unlink()
    os.utime(metrics, (time.time() + 86400,) * 2)
    said = workplace.snakemake(succeeds=False)
    assert f"{RUN}/fp32/metrics.json is dated " in said
    assert "localrule compare_variants" not in said and metrics.exists()
    os.utime(metrics)
    workplace.snakemake()


@pytest.mark.slow
def test_a_job_refuses_what_was_changed_after_the_run_began(workplace: Workplace) -> None:
    """And the next run mends it."""
    metrics = RUN / "fp32/metrics.json"
    (workplace.folder / RUN / "comparison.json").unlink()
    script = workplace.folder / "scripts/compare_variants.py"
    source = script.read_text()
    change = f"open({str(workplace.folder / metrics)!r}, 'a').write(' ')\n"
    place = source.index("from t2i.")
    script.write_text(source[:place] + change + source[place:])
    said = workplace.snakemake(succeeds=False)
    assert f"RecordError: {metrics} is not what reduce_metrics made" in said
    script.write_text(source)
    workplace.snakemake()
    assert (workplace.folder / f"{metrics}.aside").exists()
    assert records.record_of(metrics) is not None
