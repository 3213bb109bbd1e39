"""A run in few lines: by the display itself, and by Snakemake with the plugin."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t2i.job import display
from t2i.job.display import CLEAR, Display

ROOT = Path(__file__).parents[2]
WORKFLOW = """
onsuccess:
    print("results")

rule all:
    input: "b0", "b1"

rule a:
    output: "a"
    shell: "touch a"

rule b:
    input: "a"
    output: "b{n}"
    log: "logs/b{n}.log"
    shell: "{COMMAND}"
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines on how far jobs are come twenty times a second."""
    monkeypatch.setattr(display, "LIVE", 0.05)
    monkeypatch.setattr(display, "PLAIN", 0.05)


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_stages_are_told_as_they_end(tmp_path: Path) -> None:
    stream = io.StringIO()
    shown = Display(stream, tmp_path)
    shown.plan({"a": 1, "b": 2, "all": 1, "total": 4})
    for rule in ("a", "b", "b", "all"):
        shown.finish(rule)
    lines = stream.getvalue().splitlines()
    assert lines == ["4 jobs of 3 stages", "0:00  a: 1 done", "0:00  b: 2 done"]
    shown.close()
    assert stream.getvalue().splitlines() == lines


def test_how_far_jobs_are(tmp_path: Path, quick: None) -> None:
    stream = io.StringIO()
    shown = Display(stream, tmp_path)
    shown.plan({"a": 1, "b": 2, "all": 1})
    shown.finish("a")
    for name, line in {
        "running": "fp32: 8/16 images, 2 images/s, 0:04 left",
        "finished": "bf16: 16/16 images, 2 images/s, 0:00 left",
        "other": "something else",
    }.items():
        (tmp_path / f"{name}.log").write_text(f"first\n{line}\n")
    told = "0:00  1 of 4 jobs; fp32: 8/16 images, 2 images/s, 0:04 left"
    wait_for(lambda: told in stream.getvalue().splitlines())
    shown.close()
    after = stream.getvalue()
    time.sleep(0.2)
    assert stream.getvalue() == after


def test_a_terminals_last_line_is_rewritten(tmp_path, quick, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    shown = Display(stream, tmp_path)
    shown.plan({"a": 1, "all": 1})
    (tmp_path / "a.log").write_text("a line that is longer than the terminal, 0:09 left\n")
    line = "0:00  0 of 2 jobs; a line tha"
    wait_for(lambda: f"{CLEAR}{line}{CLEAR}{line}" in stream.getvalue())
    shown.say("stays")
    shown.close()
    assert f"{CLEAR}stays\n" in stream.getvalue()
    assert stream.getvalue().endswith(CLEAR)


def written(folder: Path, command: str) -> list[str]:
    (folder / "Snakefile").write_text(WORKFLOW.replace("{COMMAND}", command))
    return [sys.executable, "-m", "snakemake", "--cores", "2", "--logger", "t2i"]


def told(folder: Path, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*written(folder, command), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_snakemake_shows_stages_and_results(tmp_path: Path) -> None:
    run = told(tmp_path, "touch {output}")
    assert run.returncode == 0, run.stderr
    assert [line.rpartition("  ")[2] for line in run.stderr.splitlines()] == [
        "4 jobs of 3 stages",
        "a: 1 done",
        "b: 2 done",
    ]
    assert run.stdout == "results\n"
    (log,) = (tmp_path / ".snakemake/log").iterdir()
    assert log.read_text().count("Finished jobid: ") == 4
    assert "rule b:" in log.read_text()
    again = told(tmp_path, "touch {output}", "--rerun-triggers", "mtime")
    assert "Nothing to be done" in again.stderr


def test_snakemake_shows_what_fails(tmp_path: Path) -> None:
    run = told(tmp_path, "echo cause > {log}; exit 3", "--keep-going")
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert {"b failed, log: logs/b0.log", "b failed, log: logs/b1.log"} <= set(lines)
    assert len(lines) < 10, run.stderr
    assert "Traceback" not in run.stderr


def test_snakemake_in_a_terminal(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    run = subprocess.Popen(
        written(tmp_path, "echo 1/2 images, 0:09 left > {log}; sleep 3; touch {output}"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "COLUMNS": "100"},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    try:
        while part := os.read(leader, 4096):
            seen += part
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(leader)
    assert run.wait(60) == 0, seen
    text = seen.decode()
    assert "1 of 4 jobs; 1/2 images, 0:09 left" in text
    # Snakemake's last words come from a thread of their own, and may clear the empty line below.
    line = text.removesuffix(CLEAR)
    assert line.endswith((f"{CLEAR}results\r\n", "\r\nresults\r\n"))
