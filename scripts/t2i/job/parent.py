"""Jobs die with the scheduler that started them, so that no orphan holds a GPU."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

VARIABLE = "T2I_SCHEDULER"
COMMAND_VARIABLE = "T2I_COMMAND"
POLL_SECONDS = 2.0


def _start_time(pid: int) -> str | None:
    """The kernel's start time of a process, to distinguish it from a later one with the same id.

    None when there is no such process, or it has ended and its parent has yet to notice.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def _namespace() -> str:
    """Where process ids mean the same: this host, and this container if it has its own ids."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def announce_scheduler(command: str) -> None:
    """Name this process and its command line in the environment of the jobs it will start."""
    os.environ[COMMAND_VARIABLE] = command
    os.environ[VARIABLE] = f"{_namespace()} {os.getpid()} {_start_time(os.getpid())}"


def die_with_scheduler() -> None:
    """End this job soon after the announced scheduler has gone, if it ran on this host.

    A scheduler that went while this job was starting counts too. A job of Slurm belongs to Slurm
    and outlives the process that submitted it.
    """
    announced = os.environ.get(VARIABLE, "").rsplit(" ", 2)
    if "SLURM_JOB_ID" in os.environ or len(announced) < 3 or announced[0] != _namespace():
        return
    pid, started = int(announced[1]), announced[2]

    def watch() -> None:
        while _start_time(pid) == started:
            time.sleep(POLL_SECONDS)
        os._exit(1)  # exit handlers could wait for the very thread that computes

    threading.Thread(target=watch, daemon=True, name="scheduler-watch").start()
