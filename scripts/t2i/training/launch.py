"""Starting a training's processes on one node, and what they leave."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from t2i.base.files import read_json, sha256_file, sha256_json, write_json

LOG = logging.getLogger(__name__)
SCRIPTS = Path(__file__).resolve().parents[2]


class TrainingFailed(RuntimeError):
    """A process of the training failed."""


def origin(code: str, indices: Sequence[str], hidden: Sequence[str]) -> dict[str, str]:
    """What a training's numbers come from, besides its settings: code and data, by digests.

    An index has a digest of each sample, `hidden` are the files with those of encoded captions.
    """
    data = [sha256_file(Path(path)) for path in (*indices, *hidden)]
    return {"code": code, "data": sha256_json(data)}


def prepare_work(work: Path, made_from: dict[str, str]) -> None:
    """Keep a work folder of the same code and data; set one of others aside, to start over."""
    note = work / "origin.json"
    if work.exists() and not (note.exists() and read_json(note) == made_from):
        older = work.with_name(f"{work.name}.older")
        shutil.rmtree(older, ignore_errors=True)
        work.replace(older)
        LOG.warning("%s is of other code or data; it is now %s. Starting over", work, older)
    write_json(note, made_from)


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
