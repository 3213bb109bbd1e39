"""What runs leave behind, or can make again without network and GPU: found, removed, counted."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from t2i.job.disk import freed_bytes, held_bytes
from t2i.job.lock import is_locked
from t2i.job.records import was_set_aside

# Of `t2i.base.files.publish` (a process id) and of downloads (the beginning of a digest).
PART = re.compile(r"\.(?P<name>.+)\.(?:(?P<process>[0-9]{1,10})|[0-9a-f]{12})\.(?:part|old)")
# Of `t2i.generate.journal`.
BEGUN = re.compile(r"\.(?P<name>.+\.tar)\.[0-9a-f]{12}\.(?:journal|unfinished)")
QUIET = 3600.0  # seconds without a change after which nobody writes to a file, on any host


class BusyError(RuntimeError):
    """Another run may be using what would be removed."""


def check_alone() -> None:
    """Raise BusyError while a run holds Snakemake's lock on files of this working folder."""
    if is_locked():
        raise BusyError(
            "nothing was removed: a run works in this folder, or was killed on another host. Ask "
            "for `free` alone, after that run has ended (or after `snakemake --unlock`)"
        )


def leftovers(folders: list[Path]) -> Iterator[tuple[Path, str]]:
    """Files and folders below `folders` that nothing needs, and what each is.

    These are unfinished files of processes that have ended, parts of downloads that are complete
    by now, and results that were set aside. The part of a download that is not complete stays, and
    so do the finished images of a shard that is not: the next try resumes them. Links are neither
    followed nor removed.
    """
    for folder in folders:
        if any(part.is_symlink() for part in (folder, *folder.parents)):
            continue
        for parent, names, files in os.walk(folder):
            for name in sorted([*names, *files]):
                path = Path(parent, name)
                if path.is_symlink():
                    continue
                if match := PART.fullmatch(name):
                    if match["process"] is None:
                        if path.with_name(match["name"]).is_file():
                            yield path, "part of a download that is complete"
                    elif not Path("/proc", match["process"]).exists() and _is_quiet(path):
                        yield path, "unfinished, its process has ended"
                elif match := BEGUN.fullmatch(name):
                    if path.with_name(match["name"]).is_file():
                        yield path, "part of a shard that is complete"
                elif name.endswith(".damaged") and path.parent.name == "shards":
                    yield path, "set aside as damaged"
                elif was_set_aside(path):
                    yield path, "set aside"
            names[:] = [name for name in names if not PART.fullmatch(name)]


def _is_quiet(path: Path) -> bool:
    """Whether nothing of a file or folder has changed for a while."""
    changes = [path.lstat().st_mtime, *(entry.lstat().st_mtime for entry in path.rglob("*"))]
    return time.time() - max(changes) > QUIET


def spare_weights(run: Path, variants: list[str], shards: list[str]) -> Iterator[tuple[Path, str]]:
    """Weights of the engines that have generated all their shards, where removing them frees much.

    Weights that are mostly links to the model's cost little and stay. `engine.json` always stays:
    all shards are made again when Snakemake makes it again together with one of them.
    """
    for variant in variants:
        weights = run / variant / "engine/weights"
        if any(part.is_symlink() for part in (weights, *weights.parents)):
            continue
        finished = all(
            (run / variant / "shards" / f"{shard}{suffix}").is_file()
            for shard in shards
            for suffix in (".tar", ".json")
        )
        if finished and freed_bytes(weights) > held_bytes(weights) / 2:
            yield weights, "weights of a finished variant"


def remove(path: Path) -> int:
    """Remove a file or a folder with all it holds; the bytes that gave back."""
    size = freed_bytes(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size
