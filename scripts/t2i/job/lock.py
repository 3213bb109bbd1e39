"""The working folder's lock: what a killed run leaves behind is removed, a living one's is not."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path

LOCKS = Path(".snakemake/locks")
RUNNING = Path(".snakemake/t2i-running")


def is_locked() -> bool:
    """Whether a run holds Snakemake's lock on files of the working folder, or left it behind."""
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def _last_host() -> bytes | None:
    """The host of the last run, if nothing here holds that run's lock; None if something does."""
    with RUNNING.open("rb") as running:
        try:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        return running.read(256)


def has_dead_lock() -> bool:
    """Whether a killed run left a lock that `remove_dead_lock` would remove; changes nothing."""
    return is_locked() and RUNNING.is_file() and _last_host() == socket.gethostname().encode()


def is_alive() -> bool:
    """Whether a run is alive in the working folder; one of another host, if it holds files."""
    if not RUNNING.is_file():
        return False
    host = _last_host()
    return host is None or (is_locked() and host != socket.gethostname().encode())


def remove_dead_lock() -> bool:
    """Remove the lock that a killed run left in the working folder; whether there was one.

    Snakemake's lock is a file and outlives a run that was killed. So each run holds a lock of the
    kernel as well, which ends with the process: if nobody else holds that, nobody else runs. Where
    this is not certain (the last run was on another host, whose locks may not be seen here)
    nothing is touched; Snakemake then refuses to start and names its --unlock.
    """
    RUNNING.parent.mkdir(exist_ok=True)
    running = os.open(RUNNING, os.O_RDWR | os.O_CREAT, 0o666)  # never closed: held for life
    try:
        fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        alone = False
    else:
        alone = True
    locked = is_locked()
    here = socket.gethostname().encode()
    dead = alone and locked and os.pread(running, 256, 0) == here
    if dead:
        shutil.rmtree(LOCKS)
    if alone and (dead or not locked):
        os.ftruncate(running, 0)
        os.pwrite(running, here, 0)
    with suppress(OSError):  # a file system without such locks
        fcntl.flock(running, fcntl.LOCK_SH)
    return dead
