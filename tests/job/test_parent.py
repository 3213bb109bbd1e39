"""Jobs die with the scheduler that started them, and with no other."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t2i.job import parent

SCRIPTS = Path(__file__).parents[2] / "scripts"
PRELUDE = f"import os, subprocess, sys, time\nsys.path.insert(0, {str(SCRIPTS)!r})\n"
JOB = PRELUDE + (
    "from t2i.job import parent\n"
    "parent.POLL_SECONDS = 0.1\n"
    "parent.die_with_scheduler()\n"
    "print('watching', flush=True)\n"
    "time.sleep(60)\n"
)
# Announces itself, starts a job in a session of its own, and waits.
SCHEDULER = PRELUDE + (
    "from t2i.job import parent\n"
    "parent.announce_scheduler('snakemake --cores 2')\n"
    "change = sys.argv[2:]\n"
    "os.environ.update(pair.split('=', 1) for pair in change)\n"
    "job = subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)\n"
    "print(job.pid, os.environ[parent.VARIABLE], flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def environment():
    """An environment in which nobody has announced anything."""
    names = {parent.VARIABLE, parent.COMMAND_VARIABLE, "SLURM_JOB_ID"}
    return {key: value for key, value in os.environ.items() if key not in names}


def alive(pid):
    """Whether a process runs (one that has ended but was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid, seconds):
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def job_of_killed_scheduler(environment, *changes, job=JOB):
    """Start a scheduler and its job, kill the scheduler, and return the job's process id."""
    command = [sys.executable, "-c", SCHEDULER, job, *changes]
    scheduler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(scheduler.stdout.readline().split()[0])
    if job == JOB:
        assert scheduler.stdout.readline() == "watching\n"
    assert alive(pid)
    scheduler.send_signal(signal.SIGKILL)
    scheduler.wait(60)
    scheduler.stdout.close()
    return pid


def test_job_dies_with_its_scheduler(environment):
    assert ends(job_of_killed_scheduler(environment), 5)


def test_poll_is_short_enough_to_free_a_gpu_within_five_seconds():
    assert parent.POLL_SECONDS < 4


def test_job_that_was_still_starting_dies_too(environment):
    late = JOB.replace("from t2i", "time.sleep(0.5)\nfrom t2i", 1)
    assert ends(job_of_killed_scheduler(environment, job=late), 5)


def test_job_lives_while_its_scheduler_does(environment):
    command = [sys.executable, "-c", SCHEDULER, JOB]
    scheduler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(scheduler.stdout.readline().split()[0])
    try:
        assert scheduler.stdout.readline() == "watching\n"
        assert not ends(pid, 0.7)
    finally:
        scheduler.kill()
    assert ends(pid, 5)  # even before anybody has waited for the scheduler
    scheduler.communicate(timeout=60)


@pytest.mark.parametrize(
    "change",
    [
        "SLURM_JOB_ID=17",
        f"{parent.VARIABLE}=another-host pid:[1] 1 1",
        f"{parent.VARIABLE}=",
        f"{parent.VARIABLE}=nonsense",
    ],
    ids=["in a job of Slurm", "on another host", "without a scheduler", "malformed"],
)
def test_job_of_nobody_here_lives_on(environment, change):
    pid = job_of_killed_scheduler(environment, change)
    try:
        assert not ends(pid, 0.7)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_other_process_with_the_schedulers_id_is_not_the_scheduler(environment):
    # This very process has the announced id, but not the announced start time.
    announced = f"{parent._namespace()} {os.getpid()} 1"
    started = time.monotonic()
    job = subprocess.run(
        [sys.executable, "-c", JOB],
        env={**environment, parent.VARIABLE: announced},
        timeout=30,
        check=False,
    )
    assert job.returncode == 1
    assert time.monotonic() - started < 20


def test_announcement_names_host_process_start_and_command(monkeypatch):
    for name in (parent.VARIABLE, parent.COMMAND_VARIABLE):
        monkeypatch.setenv(name, "")
    parent.announce_scheduler("snakemake --cores 2")
    assert os.environ[parent.COMMAND_VARIABLE] == "snakemake --cores 2"
    pattern = rf"\S+ pid:\[\d+\] {os.getpid()} \d+"
    assert re.fullmatch(pattern, os.environ[parent.VARIABLE])


def test_start_time_survives_odd_process_names(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    child = subprocess.Popen([program, "-c", "import time; time.sleep(60)"])
    try:
        assert int(parent._start_time(child.pid)) >= int(parent._start_time(os.getpid()))
    finally:
        child.kill()
        child.wait(60)
    assert parent._start_time(child.pid) is None
