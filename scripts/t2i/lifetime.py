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
    """The kernel's start time of a process, which tells it from a later one of the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def announce_scheduler(command: str) -> None:
    """Name this process and its command line in the environment of the jobs it will start."""
    os.environ[COMMAND_VARIABLE] = command
    os.environ[VARIABLE] = f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def die_with_scheduler() -> None:
    """End this job soon after the announced scheduler has gone, if it ran on this host.

    A job of Slurm belongs to Slurm and outlives the process that submitted it.
    """
    host, pid, started = [*os.environ.get(VARIABLE, "").split(":"), "", ""][:3]
    if "SLURM_JOB_ID" in os.environ or host != socket.gethostname():
        return
    if started == "None" or _start_time(int(pid)) != started:
        return

    def watch() -> None:
        while _start_time(int(pid)) == started:
            time.sleep(POLL_SECONDS)
        os._exit(1)  # exit handlers could wait for the very thread that computes

    threading.Thread(target=watch, daemon=True, name="scheduler-watch").start()
