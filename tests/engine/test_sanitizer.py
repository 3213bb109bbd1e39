"""compute-sanitizer watches every kernel at small shapes: skipped without it or a Hopper GPU.

It comes with CUDA, and as the package nvidia-cuda-sanitizer-api; T2I_SANITIZER names it where PATH
does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SANITIZER = shutil.which(os.environ.get("T2I_SANITIZER", "compute-sanitizer"))
HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HOPPER, reason="torch sees no Hopper GPU"),
    pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not there"),
]
SCRIPT = Path(__file__).parents[1] / "support" / "every_kernel.py"
FOUND = 9
# Without gaps between allocations a write behind one of them is a write into the next.
TOOLS = {"memcheck": ["--padding", "256"], "racecheck": [], "synccheck": []}


def watched(tool: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The kernels below a tool; memory comes from CUDA itself, not from torch's pool."""
    assert SANITIZER is not None
    command = [SANITIZER, "--tool", tool, *TOOLS[tool], "--target-processes", "all"]
    command += ["--error-exitcode", str(FOUND), sys.executable, str(SCRIPT), *options]
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("tool", TOOLS)
def test_kernels_are_clean(tool) -> None:
    done = watched(tool)
    print(done.stdout[-2000:])
    assert "every kernel ran" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_a_broken_kernel_is_noticed(tool) -> None:
    done = watched(tool, "--broken")
    print(done.stdout[-2000:])
    assert done.returncode == FOUND
    assert "broken" in done.stdout
