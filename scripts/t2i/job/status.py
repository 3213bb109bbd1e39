"""How far the newest run in a folder has come, from the files that it writes: for a second shell.

Snakemake's log names the jobs of the plan and those that have finished, and each job's own log
ends with how far that job is. So a run on a cluster is seen as well, from any host that has the
folder. Nothing is changed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from t2i.job.failures import failed_jobs
from t2i.job.lock import is_alive

LOGS = Path(".snakemake/log")
PLANNED = re.compile(r"^(\w+) +(\d+)$")
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\w+)\)$")
ENDED = ("Complete log(s): ", "Nothing to be done")
STARTED = "%Y-%m-%dT%H%M%S"  # in the name of Snakemake's log
RECENT = 120.0  # seconds since a job last wrote, after which it is not listed


@dataclass(frozen=True)
class State:
    """What Snakemake's log says: jobs by rule, in the plan's order, and whether it has ended."""

    planned: dict[str, int]
    finished: Counter[str]
    failed: list[tuple[str, Path]]
    ended: bool

    @property
    def done(self) -> bool:
        """Whether every job of the plan has finished."""
        return self.finished.total() >= sum(self.planned.values())


def state_of(log: str) -> State:
    """The state that the text of a log tells; one that was just begun has no plan yet."""
    planned: dict[str, int] = {}
    finished: Counter[str] = Counter()
    table = ended = False
    for line in log.splitlines():
        if line.startswith("Job stats:"):  # a run that finds out more plans again
            planned, table = {}, True
        elif table and (match := PLANNED.match(line.strip())):
            planned[match[1]] = int(match[2])
            table = match[1] != "total"
        elif match := FINISHED.match(line):
            finished[match[1]] += 1
        ended |= line.startswith(ENDED)
    planned.pop("total", None)
    return State(planned, finished, failed_jobs(log), ended)


def newest_log(folder: Path = LOGS) -> Path | None:
    """The log of the run that was started last; its name begins with the time."""
    logs = sorted(folder.glob("*.snakemake.log"))
    return logs[-1] if logs else None


def last_words(logs: Path, since: float, now: float) -> list[tuple[str, float, str]]:
    """What jobs have written last: name, seconds ago, line; the newest first.

    Of logs below `logs` that were written after `since` and at most `RECENT` seconds ago.
    """
    found = []
    for path in logs.rglob("*.log"):
        written = path.stat().st_mtime
        if written >= since and now - written <= RECENT:
            with path.open("rb") as handle:
                handle.seek(max(0, path.stat().st_size - 4096))
                end = handle.read().decode(errors="replace").replace("\r", "\n")
            line = next((line for line in reversed(end.splitlines()) if line.strip()), "")
            name = path.relative_to(logs).with_suffix("").as_posix()
            found.append((name, now - written, line.strip()))
    return sorted(found, key=lambda entry: entry[1])


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def status(now: float) -> str:
    """The newest run of the working folder in words; `now` in seconds since 1970."""
    log = newest_log()
    if log is None:
        return "No run was started in this folder."
    state = state_of(log.read_text(errors="replace"))
    begun = datetime.strptime(log.name.partition(".")[0], STARTED).timestamp()
    total = sum(state.planned.values())
    running = not state.ended and is_alive()
    if running:
        head = f"Running for {duration(now - begun)}"
    elif state.ended:
        took = duration(log.stat().st_mtime - begun)
        end = "Failed" if state.failed else "Finished" if state.done else "Stopped"
        head = f"{end} {duration(now - log.stat().st_mtime)} ago after {took}"
    else:
        head = f"Stopped without an end {duration(now - log.stat().st_mtime)} ago; start it again"
    lines = [f"{head}: {state.finished.total()} of {total} jobs done" if total else f"{head}."]
    for rule, number in state.planned.items():
        if running and rule != "all" and state.finished[rule] < number:
            lines.append(f"  {rule:30}{state.finished[rule]:6} of {number}")
    lines += [f"  failed: {rule}, log: {path}" for rule, path in state.failed]
    words = last_words(Path("logs"), begun, now) if running else []
    if words:
        lines.append("What jobs wrote last:")
        lines += [f"  {name}, {duration(ago)} ago: {line}" for name, ago, line in words]
    return "\n".join([*lines, f"log: {log}"])
