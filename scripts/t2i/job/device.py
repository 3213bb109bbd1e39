"""Which device a job computes on: exclusive GPUs, fixed threads. Call before torch is imported."""

from __future__ import annotations

import fcntl
import os
import platform
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from t2i.base.threads import limit_threads

SCHEMA = 1  # of what this module writes into files; part of the code digest of rules that use it


class DeviceError(RuntimeError):
    """The device that the configuration asks for cannot be used."""


def lock_folder() -> Path:
    """Folder on this host that holds one lock file for each GPU in use by this user."""
    folder = Path(tempfile.gettempdir(), f"t2i-gpu-locks-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise DeviceError(
            f"{folder} is not a folder that only you can write to; remove it, or set TMPDIR to a "
            "folder of your own"
        )
    return folder


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs this job may use: those assigned to it, else all of the host.

    CUDA_VISIBLE_DEVICES may hold indices, UUIDs or their beginnings. Raises DeviceError when there
    is no GPU, or one that this host does not list.
    """
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(
            f"device: cuda, but nvidia-smi cannot be asked for GPUs ({error}); run on a machine "
            "with an NVIDIA driver (in Apptainer with --nv), or set device: cpu"
        ) from error
    rows = [line.split(", ") for line in answer.stdout.splitlines() if ", " in line]
    uuids = {index.strip(): uuid.strip() for index, uuid in rows}
    assigned = _assigned()
    gpus = [_uuid(name, uuids) for name in (uuids if assigned is None else assigned)]
    if not gpus:
        raise DeviceError("device: cuda, but no GPU is visible (CUDA_VISIBLE_DEVICES is empty?)")
    return gpus


def _assigned() -> list[str] | None:
    """The names in CUDA_VISIBLE_DEVICES; None where it is not set."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _uuid(name: str, uuids: dict[str, str]) -> str:
    """The full UUID of a GPU; two jobs that name one differently have to take the same lock."""
    if name.startswith("MIG-"):  # a part of a GPU, which is not among those that are listed
        return name
    matches = [uuids[name]] if name in uuids else []
    if name.startswith("GPU-"):
        matches = [uuid for uuid in uuids.values() if uuid.startswith(name)]
    if len(matches) != 1:
        listed = ", ".join(f"{index} ({uuid})" for index, uuid in uuids.items()) or "none"
        raise DeviceError(f"CUDA_VISIBLE_DEVICES names {name}; the GPUs of this host are {listed}")
    return matches[0]


@contextmanager
def exclusive_gpu(gpus: list[str], locks: Path, poll_seconds: float = 1.0) -> Iterator[str]:
    """Hold a lock on the first of `gpus` that no other job holds, waiting for one to come free.

    The lock goes with the process, so a killed job leaves none behind.
    """
    told = False
    while True:
        for gpu in gpus:
            with (locks / f"{gpu.replace('/', '_')}.lock").open("w") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield gpu
                return
        if not told:
            print(f"waiting for a GPU: jobs use {', '.join(gpus)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(poll_seconds)


@contextmanager
def use_device(kind: str, threads: int) -> Iterator[str]:
    """Make one device the only one torch will see, and yield its torch name.

    `kind` is cpu or cuda; a GPU is locked for the length of the block. Raises DeviceError when
    there is no GPU or torch cannot use it.
    """
    from t2i.base.numerics import set_up_torch  # what results depend on, apart from this module

    limit_threads(threads)
    if kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        set_up_torch(threads)
        yield "cpu"
        return
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # the same sums in every run
    with exclusive_gpu(visible_gpus(), lock_folder()) as gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        set_up_torch(threads)
        import torch

        if not torch.cuda.is_available():
            raise DeviceError(
                f"torch {torch.__version__} cannot use the GPU {gpu}; install the CUDA build of "
                "torch that fits the driver, or set device: cpu"
            )
        yield "cuda"


@contextmanager
def use_devices(kind: str, count: int) -> Iterator[dict[str, str]]:
    """Hold `count` GPUs for processes that the block starts, and yield their environment.

    `kind` is cpu, where nothing is held, or cuda. Raises DeviceError when there are too few GPUs.
    """
    if kind == "cpu":
        yield {"CUDA_VISIBLE_DEVICES": ""}
        return
    gpus = visible_gpus()
    if len(gpus) < count:
        raise DeviceError(f"{count} GPUs are wanted, {len(gpus)} are visible: {', '.join(gpus)}")
    with ExitStack() as held:
        taken: list[str] = []
        while len(taken) < count:
            free = [gpu for gpu in gpus if gpu not in taken]
            taken.append(held.enter_context(exclusive_gpu(free, lock_folder())))
        yield {"CUDA_VISIBLE_DEVICES": ",".join(taken)}


def cpu_name() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_device(kind: str) -> dict[str, Any]:
    """Kind, name and architecture (instruction set or compute capability) of the device in use."""
    import torch

    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return {"kind": kind, "name": torch.cuda.get_device_name(), "arch": f"sm_{major}{minor}"}
    return {"kind": kind, "name": cpu_name(), "arch": torch.backends.cpu.get_cpu_capability()}


def local_gpus() -> int:
    """Number of GPUs of this host that jobs may use, at least 1.

    CUDA_VISIBLE_DEVICES says, or else the driver's list; nvidia-smi would take seconds.
    """
    assigned = _assigned()
    if assigned is not None:
        return max(1, len(assigned))
    folder = Path("/proc/driver/nvidia/gpus")
    return max(1, len(list(folder.iterdir()))) if folder.is_dir() else 1
