"""Whichever operation on the disk fails, a result is the old or the new one, and mended later."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from failing_disk import ACTIONS, STEPS

SUPPORT = Path(__file__).parents[1] / "support"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc) is there")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lets operations fail."""
    path = tmp_path_factory.mktemp("library") / "failing_disk.so"
    source = SUPPORT / "faults/failing_disk.c"
    command = [str(COMPILER), "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return path


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("step", STEPS)
def test_a_result_is_whole_whatever_fails(
    step: str, action: str, library: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "failing_disk.py"), step, action, str(tmp_path)],
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "PYTHONPATH": str(SUPPORT.parents[1] / "scripts"),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["operations"] >= 8
    print(f"{step}, {action}: {told['operations']} operations")
