"""Files from the future: Snakemake takes what is made from them for outdated, again and again."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from pathlib import Path

TOLERANCE = 60.0  # seconds that the clocks of two machines may differ by


def from_the_future(paths: Iterable[Path]) -> list[str]:
    """A line for each file whose time is later than now, with the command that mends it."""
    now = time.time()
    lines = []
    for path in sorted(set(paths)):
        try:
            seconds = path.stat().st_mtime
        except OSError:
            continue
        if seconds > now + TOLERANCE:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
            command = shlex.join(["touch", str(path)])
            lines.append(f"{path} is dated {when}, which is later than now: {command}")
    return lines
