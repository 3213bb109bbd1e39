"""What a second shell is told of a run that runs, has ended, has failed or was killed."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from t2i.job import lock
from t2i.job.status import STARTED, duration, last_words, state_of, status

BEGUN = """Building DAG of jobs...
Job stats:
job               count
--------------  -------
build_engine          1
generate_shard        3
all                   1
total                 5

Select jobs to execute...
[Mon Nov 30 18:57:52 2026]
Finished jobid: 4 (Rule: build_engine)
1 of 5 steps (20%) done
[Mon Nov 30 18:58:52 2026]
Finished jobid: 7 (Rule: generate_shard)
2 of 5 steps (40%) done
"""
FAILED = """Error in rule generate_shard:
    jobid: 8
    log: logs/demo/fp32/generate_shard/00016-00032.log (check log file(s) for error details)
"""
DONE = "Finished jobid: 1 (Rule: generate_shard)\n" * 2 + "Finished jobid: 0 (Rule: all)\n"
END = "Complete log(s): .snakemake/log/x.snakemake.log\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which a run was begun 200 s ago, and an earlier one, which failed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake/log").mkdir(parents=True)
    write_log(tmp_path, BEGUN + FAILED + END, 5000)
    write_log(tmp_path, BEGUN)
    return tmp_path


def write_log(folder: Path, text: str, ago: float = 200) -> None:
    begun = datetime.fromtimestamp(time.time() - ago).strftime(STARTED)
    log = folder / ".snakemake/log" / f"{begun}.123456.snakemake.log"
    for older in folder.glob(f".snakemake/log/{begun[:-2]}*"):
        older.unlink()
    log.write_text(text)
    os.utime(log, (time.time() - ago / 2,) * 2)


def write_job(folder: Path, name: str, text: str, ago: float) -> None:
    path = folder / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - ago,) * 2)


def test_a_log_tells_what_is_planned_and_done() -> None:
    state = state_of(BEGUN)
    assert state.planned == {"build_engine": 1, "generate_shard": 3, "all": 1}
    assert state.finished == Counter(build_engine=1, generate_shard=1)
    assert not (state.ended or state.done or state.failed)
    assert state_of(BEGUN + DONE + END).done
    replanned = state_of(
        BEGUN + BEGUN.replace("generate_shard        3", "generate_shard        9")
    )
    assert replanned.planned["generate_shard"] == 9


def test_a_living_run_is_told_stage_by_stage(folder: Path) -> None:
    name = "demo/fp32/generate_shard/00000-00016"
    write_job(folder, name, "8/16 images\rfp32: 12/16 images, 2.1 images/s, 0:02 left\n\n", 3)
    write_job(folder, "demo/fp32/build_engine", "built\n", 100)
    write_job(folder, "demo/fp32/old", "of the run before\n", 1000)
    lock.RUNNING.write_text(socket.gethostname())
    with lock.RUNNING.open() as running:
        fcntl.flock(running, fcntl.LOCK_SH)
        told = status(time.time()).splitlines()
    assert told[0].startswith("Running for 3:2")
    assert told[0].endswith(": 2 of 5 jobs done")
    assert told[1].split() == ["generate_shard", "1", "of", "3"]
    assert told[2] == "What jobs wrote last:"
    assert told[3] == f"  {name}, 0:03 ago: fp32: 12/16 images, 2.1 images/s, 0:02 left"
    assert told[4] == "  demo/fp32/build_engine, 1:40 ago: built"
    assert len(told) == 6


def test_a_killed_run_is_no_living_one(folder: Path) -> None:
    lock.RUNNING.write_text(socket.gethostname())
    write_job(folder, "demo/fp32/generate_shard/00000-00016", "8/16 images", 3)
    told = status(time.time()).splitlines()
    assert told[0] == "Stopped without an end 1:40 ago; start it again: 2 of 5 jobs done"
    assert len(told) == 2


def test_a_run_of_another_host_lives_while_it_holds_files(folder: Path) -> None:
    lock.RUNNING.write_text("another-host")
    assert status(time.time()).startswith("Stopped without an end")
    lock.LOCKS.mkdir()
    (lock.LOCKS / "0.output.lock").touch()
    assert status(time.time()).startswith("Running for")


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (BEGUN + DONE + END, "Finished 1:40 ago after 1:40: 5 of 5 jobs done"),
        (BEGUN + FAILED + END, "Failed 1:40 ago after 1:40: 2 of 5 jobs done"),
        (BEGUN + END, "Stopped 1:40 ago after 1:40: 2 of 5 jobs done"),
        (
            "Nothing to be done (all requested files are present).\n",
            "Finished 1:40 ago after 1:40.",
        ),
    ],
)
def test_a_run_that_has_ended(folder: Path, text: str, head: str) -> None:
    write_log(folder, text)
    told = status(time.time()).splitlines()
    assert told[0] == head
    failed = "  failed: generate_shard, log: logs/demo/fp32/generate_shard/00016-00032.log"
    assert (failed in told) == (FAILED in text)


def test_where_nothing_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert status(time.time()) == "No run was started in this folder."
    assert not [*tmp_path.iterdir()]


def test_what_is_no_text_does_no_harm(folder: Path) -> None:
    path = folder / "logs/a.log"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe" * 5000 + b"\nend\xff")
    assert last_words(folder / "logs", 0, time.time())[0][2] == "end\ufffd"
    path.write_bytes(b"")
    assert last_words(folder / "logs", 0, time.time())[0][2] == ""


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 59.9, 61, 3661)] == [
        "0:00",
        "0:59",
        "1:01",
        "1:01:01",
    ]
