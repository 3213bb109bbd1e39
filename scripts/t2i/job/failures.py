"""What a person needs to see after a job has failed."""

from __future__ import annotations

import re
from pathlib import Path

TAIL_LINES = 20
STOPPED = "Terminating processes on user request"  # Snakemake, after Ctrl-C
FAILED_RULE = re.compile(r"^Error in rule (?P<rule>\w+)[,:]")
LOG_LINE = re.compile(r"^\s+log: (?P<paths>.+?)(?: \(check log file\(s\) for error details\))?$")


def failed_jobs(snakemake_log: str) -> list[tuple[str, Path]]:
    """Rule name and log file of each job that a Snakemake log reports as failed, in order."""
    jobs: dict[Path, str] = {}
    rule = ""
    for line in snakemake_log.splitlines():
        if match := FAILED_RULE.match(line.strip()):
            rule = match["rule"]
        elif rule and (match := LOG_LINE.match(line)):
            jobs[Path(match["paths"].split(",")[0].strip())] = rule
            rule = ""
        elif not line.startswith(" "):  # the report of that failure is over
            rule = ""
    return [(name, path) for path, name in jobs.items()]


def failure_summary(snakemake_log: str, command: str) -> str:
    """What a person needs after a failure: the end of each failed job's log, and what to type.

    Whoever stopped the run needs the last only.
    """
    lines = []
    for rule, path in failed_jobs(snakemake_log):
        text = path.read_text(errors="replace").rstrip() if path.exists() else ""
        lines += [f"{rule} failed; the end of its log:", ""]
        end = text.splitlines()[-TAIL_LINES:] or ["(nothing was written to it)"]
        lines += [f"    {line}" for line in end]
        lines += ["", f"    log: {path}", ""]
    if STOPPED in snakemake_log:
        lines += ["Stopped by you. Finished work is kept. To continue:", f"    {command}"]
    else:
        lines += ["Finished work is kept. To continue, mend the cause and run:", f"    {command}"]
    return "\n".join(lines)
