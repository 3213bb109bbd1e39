"""A job's log holds everything it said; a failed run shows what a person needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from t2i.job.failures import TAIL_LINES, failed_jobs, failure_summary
from t2i.job.progress import Progress

SCRIPTS = Path(__file__).parents[2] / "scripts"
JOB = f"""
import logging, os, subprocess, sys, warnings
sys.path.insert(0, {str(SCRIPTS)!r})
from t2i.job.log import job_log
with job_log(sys.argv[1]) as terminal:
    print("printed")
    print("to stderr", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo from a child; echo its trouble >&2"], check=True)
    os.write(1, b"from compiled code\\n")
    logging.getLogger("t2i.fetch.table").info("logged")
    warnings.warn("something odd")
    print("for a person", file=terminal)
    {{fault}}
print("after")
print("after, on stderr", file=sys.stderr)
"""


def run_job(log, fault="pass"):
    """Run a job in its own process; returns the finished process and its log's text."""
    job = subprocess.run(
        [sys.executable, "-c", JOB.format(fault=fault), str(log)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return job, log.read_text()


def test_everything_a_job_says_is_in_its_log(tmp_path):
    job, log = run_job(tmp_path / "logs" / "deep" / "job.log")
    assert job.returncode == 0
    for words in (
        "printed\n",
        "to stderr\n",
        "from a child\n",
        "its trouble\n",
        "from compiled code\n",
        "INFO t2i.fetch.table: logged\n",
        "UserWarning: something odd",
    ):
        assert log.count(words) == 1, words
    assert "for a person" not in log


def test_both_streams_are_given_back(tmp_path):
    job, log = run_job(tmp_path / "job.log")
    assert job.stdout == "after\n"
    assert job.stderr == "for a person\nafter, on stderr\n"
    assert "after" not in log


def test_traceback_goes_to_the_log_and_the_message_to_the_terminal(tmp_path):
    path = tmp_path / "job.log"
    job, log = run_job(path, "raise ValueError('samples: too many')")
    assert job.returncode == 1
    assert job.stderr == f"for a person\nValueError: samples: too many\nlog: {path}\n"
    assert job.stdout == ""
    assert "Traceback (most recent call last)" in log
    assert log.endswith("ValueError: samples: too many\n")


def test_log_is_of_this_attempt_alone(tmp_path):
    path = tmp_path / "job.log"
    path.write_text("of an earlier attempt\n")
    assert "earlier" not in run_job(path)[1]


SNAKEFILE = """
rule all:
    input: "first.txt", "second.txt", "third.txt"

rule make_first:
    output: "first.txt"
    log: "logs/make_first.log"
    shell: "echo well > {log}; touch {output}"

rule make_second:
    output: "second.txt"
    log: "logs/with space/make_second.log"
    shell: "(for i in $(seq 50); do echo line $i; done; echo 'the cause') > {log:q}; exit 3"

rule make_third:
    output: "third.txt"
    log: "logs/make_third.log"
    shell: "exit 4"

onerror:
    shell("cp {log} seen.log")
"""


@pytest.fixture(scope="module")
def failed_run(tmp_path_factory):
    """Folder of a run of which two of three rules fail; seen.log is what Snakemake logged."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going"]
    command += ["--workflow-profile", "none"]
    environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=120, check=False
    )
    assert run.returncode == 1, run.stderr.decode()
    return folder


def test_failed_jobs_are_found_in_a_real_log(failed_run):
    jobs = failed_jobs((failed_run / "seen.log").read_text())
    assert sorted(jobs) == [
        ("make_second", Path("logs/with space/make_second.log")),
        ("make_third", Path("logs/make_third.log")),
    ]


def test_summary_shows_rule_last_lines_path_and_command(failed_run, monkeypatch):
    monkeypatch.chdir(failed_run)
    command = "snakemake --cores 2 --configfile 'my config.yaml'"
    summary = failure_summary((failed_run / "seen.log").read_text(), command)
    lines = summary.splitlines()
    second = lines.index("make_second failed; the end of its log:")
    shown = lines[second + 2 : second + 2 + TAIL_LINES]
    assert shown == [f"    line {n}" for n in range(32, 51)] + ["    the cause"]
    assert lines[second + 2 + TAIL_LINES + 1] == "    log: logs/with space/make_second.log"
    third = lines.index("make_third failed; the end of its log:")
    assert lines[third + 2] == "    (nothing was written to it)"
    assert "make_first" not in summary
    assert lines[-2:] == [
        "Finished work is kept. To continue, mend the cause and run:",
        f"    {command}",
    ]


def test_job_that_failed_twice_is_shown_once():
    report = "Error in rule {}:\n    jobid: 1\n    log: logs/{}.log (check log file(s) for ...)\n"
    report = report.replace("(check log file(s) for ...)", "(check log file(s) for error details)")
    log = report.format("a", "a") + report.format("b", "b") + report.format("a", "a")
    assert failed_jobs(log) == [("a", Path("logs/a.log")), ("b", Path("logs/b.log"))]


def test_failure_without_a_log_does_not_take_the_next_jobs():
    log = (
        "Error in rule fetch:\n    jobid: 1\n    output: x\n"
        "[Sun Nov 22 06:55:10 2026]\nlocalrule make_report:\n    log: logs/make_report.log\n"
    )
    assert failed_jobs(log) == []


def test_log_that_is_missing_is_said_to_be_empty(tmp_path):
    summary = failure_summary(f"Error in rule a:\n    log: {tmp_path}/none.log\n", "snakemake")
    assert "    (nothing was written to it)\n" in summary


def test_log_that_is_not_text_is_shown_all_the_same(tmp_path):
    path = tmp_path / "job.log"
    path.write_bytes(b"caf\xe9\n")
    summary = failure_summary(f"Error in rule a:\n    log: {path}\n", "snakemake")
    assert "    caf\ufffd\n" in summary


class Terminal:
    """A stream that is, or is not, a terminal."""

    def __init__(self, terminal):
        self.isatty = lambda: terminal
        self.lines = []

    def write(self, text):
        self.lines.append(text)


def test_progress_counts_and_tells_the_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("fp32 00000-00032", 32, Terminal(False))
    now[0] += 4
    progress.update(8)
    line = capsys.readouterr().err
    assert line == "fp32 00000-00032: 8/32 images, 2.00 images/s, 0:12 left\n"
    assert progress.seconds == 4


def test_a_steady_rate_leaves_the_first_update_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("x", 20, Terminal(False))
    now[0] = 10.0
    progress.update(8)
    assert progress.steady_rate == 0.8
    now[0] = 14.0
    progress.update(8)
    now[0] = 16.0
    progress.update(4)
    now[0] = 99.0
    assert progress.steady_rate == 2.0


def test_progress_shows_on_a_terminal_now_and_then_and_at_the_end(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    terminal = Terminal(True)
    progress = Progress("x", 4, terminal)
    for seconds in (1, 6, 7, 8):
        now[0] = seconds
        progress.update(1)
    shown = re.findall(r"\d/4", "".join(terminal.lines))
    assert shown == ["2/4", "4/4"]
    assert len(capsys.readouterr().err.splitlines()) == 4
    silent = Terminal(False)
    Progress("x", 1, silent).update(1)
    assert silent.lines == []


def test_a_job_stopped_by_its_user_says_so_once_and_without_a_traceback(tmp_path):
    fault = "import signal; os.kill(os.getpid(), signal.SIGINT)"
    job, log = run_job(tmp_path / "job.log", fault)
    assert job.returncode == 1
    assert log.splitlines()[-1] == "stopped by SIGINT"
    assert "Traceback" not in log + job.stderr
    assert job.stderr == "for a person\n"


def test_who_stopped_a_run_is_told_how_to_go_on():
    said = "Terminating processes on user request, this might take some time.\n"
    assert failure_summary(said, "snakemake --cores 2").splitlines() == [
        "Stopped by you. Finished work is kept. To continue:",
        "    snakemake --cores 2",
    ]
