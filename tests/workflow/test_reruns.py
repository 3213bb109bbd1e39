"""What a run repeats: exactly what was lost, damaged or changed, and never anything else."""

import ast
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kept_time import flip_bit
from workflow_run import SHARDS, VARIANTS, Workplace, copy_run, of_rule, rules

# The drawing of the rules and the record of inputs hold the whole configuration.
OF_CONFIG = {"record_provenance", "check_compliance", "make_report"}
OF_METRICS = {"reduce_metrics", "check_compliance", "compare_variants", "make_report"}
OF_INCEPTION = {"extract_features", "extract_reference_features"}
OF_STATISTICS = {"compute_reference_statistics", "record_provenance", *OF_METRICS}
OF_SHARDS = {
    "extract_features",
    "extract_compliance_images",
    "judge_pictures",
    "record_provenance",
    *OF_METRICS,
}


def copy_of(place: Workplace, folder: Path) -> Workplace:
    return Workplace(copy_run(place.folder, folder), place.config)


def lose_tar(folder: Path) -> None:
    (folder / "results/tiny/fp32/shards/00003-00006.tar").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "results/tiny/fp32/shards/00003-00006.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("harm", [lose_tar, lose_manifest])
def test_a_lost_shard_is_made_again_and_no_other(workplace, harm):
    harm(workplace.folder)
    jobs = workplace.plan()
    assert of_rule(jobs, "generate_shard") == {"fp32 00003-00006"}
    assert of_rule(jobs, "extract_features") == {"fp32 00003-00006"}
    assert of_rule(jobs, "reduce_metrics") == {"fp32"}
    assert rules(jobs) == {"generate_shard", *OF_SHARDS}


def on_disk(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, Snakemake's own logs and caches apart."""
    own = (".snakemake/log/", ".snakemake/iocache/")
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not any(name in str(path) for name in own)
    }


@pytest.mark.slow
def test_a_damaged_shard_is_reported_by_a_dry_run_and_made_again_by_a_real_one(finished, workplace):
    tar = workplace.folder / "results/tiny/fp32/shards/00003-00006.tar"
    flip_bit(tar)
    (workplace.folder / ".snakemake/t2i-verified.json").unlink(missing_ok=True)
    before = on_disk(workplace.folder)
    said = workplace.snakemake("--dry-run")
    assert "the next run sets aside, to be generated again: " in said and tar.name in said
    assert on_disk(workplace.folder) == before
    said = workplace.snakemake(cores=1)
    assert "set aside, to be generated again: " in said
    assert tar.with_name(f"{tar.name}.damaged").exists()
    assert workplace.images("fp32") == finished.images("fp32")
    assert workplace.scores("fp32") == finished.scores("fp32")


@pytest.mark.slow
def test_lost_features_are_extracted_again_without_generating(workplace):
    (workplace.folder / "results/tiny/bf16/features/00000-00003.npz").unlink()
    jobs = workplace.plan()
    assert of_rule(jobs, "extract_features") == {"bf16 00000-00003"}
    assert of_rule(jobs, "reduce_metrics") == {"bf16"}
    assert rules(jobs) == {"extract_features", *OF_METRICS}


@pytest.mark.slow
def test_a_lost_result_is_made_again(workplace):
    (workplace.folder / "results/tiny/comparison.json").unlink()
    assert workplace.plan() == {"compare_variants", "make_report"}


@pytest.mark.slow
def test_a_failed_shard_costs_no_other_and_says_what_to_do(patched, tmp_path):
    place = copy_of(patched, tmp_path / "project")
    trigger = place.folder / "raise-00003-00006"
    trigger.touch()
    target = "results/tiny/faulty/metrics.json"
    said = place.snakemake(target, "--keep-going", succeeds=False)
    log = "logs/tiny/faulty/generate_shard/00003-00006.log"
    summary = said[said.index("generate_shard failed") :]
    assert "FloatingPointError: this batch cannot be computed" in summary
    assert f"log: {log}" in summary
    assert f"snakemake {target} --keep-going" in summary
    assert "--configfile" in summary and "--cores 2" in summary
    assert "FloatingPointError" in (place.folder / log).read_text()
    done = place.folder / "results/tiny/faulty"
    assert [path.name for path in sorted((done / "shards").glob("[!.]*"))] == [
        "00000-00003.json",
        "00000-00003.tar",
    ]
    assert (done / "features/00000-00003.npz").exists()
    trigger.unlink()
    assert place.plan(target) == {
        "generate_shard faulty 00003-00006",
        "extract_features faulty 00003-00006",
        "reduce_metrics faulty",
    }


@pytest.mark.slow
def test_images_of_one_colour_or_without_numbers_fail_by_name(patched, tmp_path):
    place = copy_of(patched, tmp_path / "project")
    (place.folder / f"paint-{SHARDS[0]}").write_text("NaN black grey")
    place.snakemake("results/tiny/faulty/compliance.json")
    found = json.loads((place.folder / "results/tiny/faulty/compliance.json").read_text())
    assert found["verdict"] == "fail"
    failed = {
        check["id"]: check["value"] for check in found["checks"] if check["verdict"] == "fail"
    }
    assert failed["images.finite"] == "1 of 6: samples 0"
    assert failed["images.black"] == "2 of 6: samples 0, 1"  # what is not a number becomes black
    assert failed["images.constant"] == "1 of 6: samples 2"
    log = (place.folder / f"logs/tiny/faulty/generate_shard/{SHARDS[0]}.log").read_text()
    assert "the image of sample 0 had NaN or infinite values; the verdict will fail" in log
    assert "the image of sample 2 is a single colour; the verdict will fail" in log


def session_of(leader: int) -> list[int]:
    """Ids of the living processes in a session, its leader left out."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state not in "ZX" and stat.parent.name != str(leader):
            members.append(int(stat.parent.name))
    return members


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return bool(met)


@contextmanager
def hanging_job(place: Workplace, target: str, steps: int) -> Iterator[subprocess.Popen]:
    """A run of its own session whose job sleeps after some steps; all of it ends with the block."""
    shard = Path(target).stem
    trigger, hanging = place.folder / f"hang-{shard}", place.folder / f"hanging-{shard}"
    trigger.write_text(str(steps))
    said = place.folder / "said"
    run = place.start(place.command(target), said)
    try:
        assert wait_for(hanging.exists, 120), said.read_text()
        yield run
    finally:
        trigger.unlink(missing_ok=True)
        for process in (run.pid, *session_of(run.pid)):
            if run.poll() is None or process != run.pid:
                os.kill(process, signal.SIGKILL)
        run.wait()


@pytest.mark.slow
def test_a_killed_run_takes_its_jobs_along_and_the_same_command_continues(patched, tmp_path):
    place = copy_of(patched, tmp_path / "project")
    target = f"results/tiny/faulty/shards/{SHARDS[0]}.tar"
    one_batch = 2  # steps
    with hanging_job(place, target, one_batch) as run:
        # While it lives, a second run in the same folder is refused.
        refused = place.snakemake(target, succeeds=False)
        assert "lock" in refused
        assert run.poll() is None
        assert session_of(run.pid)

        run.kill()
        run.wait()
        assert wait_for(lambda: not session_of(run.pid), 8), session_of(run.pid)

    assert not (place.folder / target).exists()
    assert any((place.folder / ".snakemake/locks").iterdir())
    said = place.snakemake(target)
    assert "removed the lock of a run that was killed" in said
    assert "2 images of a job that was stopped are taken up" in said
    images = place.images("faulty")
    assert images == {index: place.images("fp32")[index] for index in range(3)}
    assert not list((place.folder / target).parent.glob(".*"))


@pytest.mark.slow
def test_a_shard_that_was_finished_while_its_run_was_stopped_is_kept(patched, tmp_path):
    place = copy_of(patched, tmp_path / "project")
    target = f"results/tiny/faulty/shards/{SHARDS[0]}.tar"
    tar = place.folder / target
    with hanging_job(place, target, 0) as run:
        run.send_signal(signal.SIGSTOP)  # it notices nothing from here on
        (place.folder / f"hang-{SHARDS[0]}").unlink()
        record = place.folder / f"results/tiny/.records/faulty/shards/{SHARDS[0]}.json.json"
        assert wait_for(record.exists, 60), (place.folder / "said").read_text()
        run.kill()
        run.wait()
        assert wait_for(lambda: not session_of(run.pid), 8), session_of(run.pid)
    before = tar.stat().st_ino
    assert any((place.folder / ".snakemake/incomplete").iterdir())
    said = place.snakemake(target)
    assert f"finished in a run that was stopped, kept: {target}" in said
    assert "Nothing to be done" in said
    assert tar.stat().st_ino == before


@pytest.mark.slow
def test_who_stops_a_run_is_told_how_to_go_on(patched, tmp_path):
    """Ctrl-C, which reaches Snakemake and its jobs: a batch is ended, then the command is told."""
    place = copy_of(patched, tmp_path / "project")
    target = f"results/tiny/faulty/shards/{SHARDS[0]}.tar"
    with hanging_job(place, target, 2) as run:
        os.killpg(run.pid, signal.SIGINT)
        (place.folder / f"hang-{SHARDS[0]}").unlink()
        run.wait(60)
        assert wait_for(lambda: not session_of(run.pid), 8), session_of(run.pid)
    said = (place.folder / "said").read_text()
    end = said[said.index("Stopped by you. Finished work is kept. To continue:") :]
    assert f"snakemake {target}" in end
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    assert "2 images of a job that was stopped are taken up" in place.snakemake(target)


@pytest.mark.slow
def test_a_run_ends_with_its_results_and_where_the_report_is(workplace):
    (workplace.folder / "results/tiny/report.html").unlink()
    said = workplace.snakemake()
    table = said[said.index("variant  samples  images/s") :]
    assert "fp32: " in table and "bf16: " in table
    assert table.index("Not comparable") < table.index("report: results/tiny/report.html")
    assert "variant  samples" not in workplace.snakemake("results/tiny/comparison.json", "--force")


@pytest.mark.slow
def test_a_lock_of_another_host_is_left_alone(workplace):
    locks = workplace.folder / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/tiny/report.html\n")
    (workplace.folder / ".snakemake/t2i-running").write_text("elsewhere")
    lose_tar(workplace.folder)
    said = workplace.snakemake(succeeds=False)
    assert "--unlock" in said
    assert list(locks.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("clip", "SCALE = ", "SCALE = 2 * ", {"extract_features", *OF_METRICS}),
        ("fid", "np.cov", "1 * np.cov", OF_STATISTICS),
    ],
)
def test_an_edit_of_a_library_module_repeats_what_it_computes(
    workplace, module, old, new, expected
):
    """Which edit reaches which rule is in test_edits.py; this shows that Snakemake follows."""
    path = workplace.folder / f"scripts/t2i/metrics/{module}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert rules(workplace.plan()) == expected


@pytest.mark.slow
def test_comments_and_docstrings_repeat_nothing(workplace):
    paths = [
        *(workplace.folder / "scripts").rglob("*.py"),
        *(workplace.folder / "rules").rglob("*.smk"),
    ]
    for path in paths:
        text = path.read_text()
        path.write_text(text.replace('"""', '"""Edited. ', 1) + "\n# edited\n")
        if path.suffix == ".py":
            ast.parse(path.read_text())
    assert workplace.plan() == set()


@pytest.mark.slow
def test_an_edit_of_the_page_repeats_the_page(workplace):
    page = workplace.folder / "scripts/t2i/report/templates/report.html.jinja"
    page.write_text(page.read_text() + "<!-- edited -->\n")
    assert workplace.plan() == {"make_report"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            {"windows": {"samples": 6, "fid": [1, 2], "clip": [3, 4]}},
            OF_CONFIG,
        ),
        (
            {"sampler": {"steps": 3}},
            {"build_engine", "generate_shard", *OF_SHARDS, *OF_CONFIG},
        ),
        (
            {"sampler": {"negative_prompt": "blurry"}},
            {"tokenize_prompts", "generate_shard", *OF_SHARDS, *OF_CONFIG},
        ),
    ],
    ids=["windows", "steps", "negative prompt"],
)
def test_a_change_of_configuration_repeats_what_follows_from_it(finished, overlay, expected):
    assert rules(finished.plan(overlay=overlay)) == expected


@pytest.mark.slow
def test_another_variant_repeats_nothing_of_the_others(finished):
    jobs = finished.plan(overlay={"variants": {"large": {"dtype": "fp32", "batch_size": 3}}})
    own = {job for job in jobs if " large" in job}
    assert rules(own) == {
        "build_engine",
        "generate_shard",
        "extract_features",
        "extract_compliance_images",
        "judge_pictures",
        "reduce_metrics",
        "check_compliance",
    }
    assert jobs - own == {
        "record_provenance",
        "compare_variants",
        "make_report",
        *(f"check_compliance {variant}" for variant in VARIANTS),
    }
