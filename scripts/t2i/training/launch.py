"""Starting a training's processes on one node, and what they leave."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]


class TrainingFailed(RuntimeError):
    """A process of the training failed."""


def launch(request: Path, processes: int, environment: Mapping[str, str]) -> None:
    """Run a training to its end with torchrun; raises TrainingFailed, whose cause is in the log.

    The processes find each other over loopback.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1"),
        *(f"--nproc_per_node={processes}", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"),
        *("--local_addr=127.0.0.1", "-m", "t2i.training.rank", str(request)),
    ]
    path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
    given = {**os.environ, **environment, "PYTHONPATH": path}
    if subprocess.run(command, env=given, check=False).returncode:
        raise TrainingFailed(
            "a process of the training failed; its message stands above in the log"
        )


def publish_checkpoints(work: Path, outputs: list[Path]) -> None:
    """Give checkpoints their names among a rule's outputs; the work folder keeps them, too.

    Links cost nothing. A failed job loses its outputs, but not the work folder, from which the
    training goes on.
    """
    for output in outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        try:
            os.link(work / output.name, output)
        except OSError:  # a file system without hard links
            shutil.copyfile(work / output.name, output)
