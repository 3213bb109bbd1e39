"""Starting a training's processes, on one node or several, and what they leave."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2i.base.files import read_json, sha256_file, sha256_json, write_json
from t2i.job.device import use_devices

LOG = logging.getLogger(__name__)
SCRIPTS = Path(__file__).resolve().parents[2]
MESSAGE = "a process of the training failed; its message stands above in the log"
FAILED = "failed"  # a file, left by a node whose processes have failed
GRACE = 30.0  # seconds for the other nodes to end
PORTS = 20_000, 60_000  # where nodes meet; a job's follows from its number


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


def launch(request: Path) -> None:
    """Run a training to its end, on its `nodes`; raises TrainingFailed.

    On several nodes, a launcher runs on each of them as a task of the Slurm job.
    """
    asked = read_json(request)
    nodes = asked["nodes"]
    if nodes == 1:
        run_node(asked, request)
        return
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise TrainingFailed(
            f"training.nodes is {nodes}, and this is no job of Slurm; start with --profile slurm, "
            "or set it to 1"
        )
    if shutil.which("srun") is None:
        raise TrainingFailed(
            f"training.nodes is {nodes}, and srun, which starts them, is not here. A container "
            "does not have it: run this workflow in its conda environments"
        )
    port = PORTS[0] + int(job) % (PORTS[1] - PORTS[0])
    asked["meeting"] = {"id": job, "endpoint": f"{socket.gethostname()}:{port}"}
    write_json(request, asked)
    command = [
        *("srun", f"--jobid={job}", f"--nodes={nodes}", f"--ntasks={nodes}"),
        *("--ntasks-per-node=1", "--cpu-bind=none", "--kill-on-bad-exit=1"),
        *(sys.executable, "-m", "t2i.training.launch", str(request)),
    ]
    _run_tasks(command, request.with_name(FAILED))


def run_node(asked: Mapping[str, Any], request: Path) -> None:
    """Run one node's processes of a training with torchrun, on GPUs that it holds.

    Processes of a single node find each other over loopback, those of several at the `meeting`.
    """
    meeting = asked.get("meeting", {"id": "alone", "endpoint": "127.0.0.1:0"})
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={asked['nodes']}"),
        *(f"--nproc_per_node={asked['processes']}", "--rdzv_backend=c10d"),
        *(f"--rdzv_id={meeting['id']}", f"--rdzv_endpoint={meeting['endpoint']}"),
        *(["--local_addr=127.0.0.1"] if asked["nodes"] == 1 else []),
        *("-m", "t2i.training.rank", str(request)),
    ]
    with use_devices(asked["device"], asked["processes"]) as environment:
        if subprocess.run(command, env={**_environment(), **environment}, check=False).returncode:
            request.with_name(FAILED).touch()
            raise TrainingFailed(MESSAGE)


def _run_tasks(command: list[str], failed: Path) -> None:
    """Run srun. It waits for tasks of a node that died: it is ended soon after one has failed."""
    failed.unlink(missing_ok=True)
    process = subprocess.Popen(command, env=_environment())
    left = GRACE
    while process.poll() is None:
        time.sleep(1)
        left -= failed.exists()
        if left <= 0:
            process.kill()
    if process.returncode:
        raise TrainingFailed(MESSAGE)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


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


if __name__ == "__main__":
    run_node(read_json(Path(sys.argv[1])), Path(sys.argv[1]))
