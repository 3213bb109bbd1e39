"""A line for every finished run, in a file that only grows: how results changed over time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t2i.base.files import sha256_json
from t2i.report import export

SCHEMA = 1


def append(path: Path, report: Mapping[str, Any], now: datetime | None = None) -> bool:
    """Add a run's results to a history unless they are there already; whether they were added.

    A line is JSON: schema, time (UTC), run, commit, digest (of the whole report) and rows (those of
    `export.rows`). It is written in one piece, so that runs that end at once lose none. Lines that
    cannot be read are left alone.
    """
    digest = sha256_json(report)
    if digest in _digests(path):
        return False
    line = {
        "schema": SCHEMA,
        "time": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "run": report["run"],
        "commit": report["provenance"]["git"]["commit"],
        "digest": digest,
        "rows": export.rows(report),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, 0o666)
    try:
        size = os.fstat(handle).st_size
        cut = size and os.pread(handle, 1, size - 1) != b"\n"  # by a machine that stopped
        os.write(handle, b"\n" * bool(cut) + json.dumps(line).encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


def _digests(path: Path) -> set[Any]:
    if not path.exists():
        return set()
    found = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.add(json.loads(line)["digest"])
        except (KeyError, TypeError, ValueError):
            continue
    return found
