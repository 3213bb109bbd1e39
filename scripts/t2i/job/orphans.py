"""Jobs of Slurm that outlive the run which submitted them.

Snakemake may be killed while its jobs wait or run. One that starts later, by itself, removes what
a run of since has finished of the same result: Snakemake clears a job's results at its beginning.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

SUBMITTED = Path(".snakemake/slurm_logs")  # exists once a run has submitted jobs
SECONDS = 60.0  # for Slurm to answer
PATIENCE = 90.0  # for cancelled jobs to end; Slurm kills them 30 s after its first signal
MARK = "rule_"  # begins the comment of each job that Snakemake submits


class OrphansError(RuntimeError):
    """Jobs of a run that is over could not be cancelled."""


def orphans() -> list[str]:
    """Slurm's numbers of this user's jobs that runs in this folder have submitted.

    To be asked while no run is alive in the folder. Empty where Slurm was never used.
    """
    if not SUBMITTED.is_dir() or shutil.which("squeue") is None:
        return []
    found = []
    for line in _call("squeue", "--me", "--noheader", "--format=%A|%Z|%k").splitlines():
        number, _, rest = line.partition("|")
        folder, _, comment = rest.rpartition("|")
        if folder == str(Path.cwd()) and comment.startswith(MARK):
            found.append(number)
    return found


def cancel_orphans() -> int:
    """Cancel them and wait for their end; how many there were.

    Raises OrphansError where some do not end: nothing may be planned beside them.
    """
    found = orphans()
    if not found:
        return 0
    _call("scancel", *found)
    end = time.monotonic() + PATIENCE
    while left := orphans():
        if time.monotonic() > end:
            raise OrphansError(
                f"jobs {', '.join(left)} of a run that was killed do not end; cancel them "
                "(scancel), and run the same command again"
            )
        time.sleep(1)
    return len(found)


def _call(*words: str) -> str:
    try:
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise OrphansError(
            f"{words[0]} does not answer ({error}), so jobs of a killed run may still start. Run "
            f"the same command when it does; without Slurm for good, delete {SUBMITTED}"
        ) from error
    return done.stdout
