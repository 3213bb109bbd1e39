"""Each operation on the disk fails once, in each of the ways that results are written.

`python failing_disk.py STEP ACTION FOLDER`, with the library of faults/failing_disk.c
preloaded, lets a child process write over old results while its n-th operation fails, for n = 1, 2,
... until none is left to fail. It prints how many there were, and what went wrong: a result that is
neither the old one nor the new one, that is gone, or that a second try does not mend.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np

from t2i.base.arrays import write_arrays
from t2i.base.files import publish_folder, sha256_bytes, write_json
from t2i.generate import journal
from t2i.generate.shard import write_manifest
from t2i.job import records
from t2i.loadgen.accuracy_log import truncate

KILL, HALF = 0, -1
ACTIONS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "SIGKILL": KILL, "half a write": HALF}
MOST = 2000  # operations of a step
RESULTS = Path("results")


def rows(first: int, kind: int) -> Iterator[tuple[int, int, np.ndarray, bool]]:
    """Two samples of a shard."""
    choose = np.random.default_rng(first + 100 * kind)
    for index in (first, first + 1):
        yield index, 7, choose.integers(0, 255, (8, 8, 3), dtype=np.uint8), True


def write_shard(kind: int) -> None:
    """A shard of three batches, as generate_shard writes it."""
    tar = RESULTS / "00000-00006.tar"
    with journal.begin(tar, {"kind": kind}) as made:
        for first in range(len(made.samples), 6, 2):
            made.add(rows(first, kind))
        archive = made.finish(tar)
    write_manifest(tar.with_suffix(".json"), archive, made.samples, {"kind": kind})


def write_folder(kind: int) -> None:
    """A folder of files, as compliance images are."""
    with publish_folder(RESULTS / "folder") as part:
        for name in "ab":
            (part / name).write_bytes(bytes([kind]) * 9000)


def write_record(kind: int) -> None:
    """The record of a result."""
    result = RESULTS / "run/value.json"
    write_json(result, {"kind": kind})
    records.write_records("some_rule", {}, [result], {"kind": kind})


def write_truncated(kind: int) -> None:
    """The shown part of a LoadGen log."""
    log = Path("log.json")
    log.write_bytes(bytes([65 + kind]) * 20_000)
    truncate(log, RESULTS / "log.json")


STEPS: dict[str, Callable[[int], None]] = {
    "json": lambda kind: write_json(RESULTS / "value.json", [kind] * 9000),
    "arrays": lambda kind: write_arrays(
        RESULTS / "a.npz", {"a": np.full(5000, kind), "b": np.eye(kind + 2)}
    ),
    "folder": write_folder,
    "record": write_record,
    "truncated log": write_truncated,
    "shard": write_shard,
}
WHOLE = {"folder"}  # for an instant there is neither the old one nor the new one


def digests() -> dict[str, str]:
    """Results that have their names, by digest."""
    return {
        path.relative_to(RESULTS).as_posix(): sha256_bytes(path.read_bytes())
        for path in RESULTS.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") and part != records.FOLDER for part in path.parts)
    }


def in_child(step: Callable[[int], None], kind: int, number: int, action: int) -> tuple[int, bool]:
    """Run a step in a child whose n-th operation fails: its exit status, and whether one did."""
    disk = ctypes.CDLL(None)
    answer, question = os.pipe()
    child = os.fork()
    if not child:
        status = 0
        disk.disk_fails_at(ctypes.c_long(number), ctypes.c_int(action))
        try:
            step(kind)
        except Exception:
            traceback.print_exc()
            status = 1
        os.write(question, str(disk.disk_calls()).encode())
        os._exit(status)
    os.close(question)
    _, status = os.waitpid(child, 0)
    told = os.read(answer, 20)
    os.close(answer)
    return os.waitstatus_to_exitcode(status), not told or int(told) >= number


def remains() -> list[str]:
    """Files and folders that only a process that is gone could use."""
    return [str(path) for path in RESULTS.rglob(".*") if path.name != records.FOLDER]


def faults_of(name: str, action: int) -> tuple[int, list[str]]:
    """How many operations of a step failed, and what went wrong."""
    step, wrong = STEPS[name], []
    in_child(step, 1, 0, 0)
    new = digests()
    for number in range(1, MOST):
        shutil.rmtree(RESULTS)
        in_child(step, 0, 0, 0)
        old = digests()
        status, failed = in_child(step, 1, number, action)
        if not failed:
            return number - 1, wrong
        found = digests()
        here = f"operation {number}: "
        if status == 0 and found != new:
            wrong.append(f"{here}passed for done")
        if status not in ((0, 1) if action != KILL else (-9,)):
            wrong.append(f"{here}exit status {status}")
        if status:
            odd = [path for path in found if found[path] not in (old.get(path), new.get(path))]
            gone = old.keys() - found.keys()
            wrong += [f"{here}{path} is neither old nor new" for path in odd]
            if not (name in WHOLE and action == KILL):
                wrong += [f"{here}{path} is gone" for path in gone]
        if in_child(step, 1, 0, 0)[0] or digests() != new:
            wrong.append(f"{here}a second try does not mend it")
        wrong += [f"{here}{path} is left" for path in remains()]
    raise RuntimeError(f"{name}: more than {MOST} operations")


def main() -> None:
    """Do the step that the command line names."""
    name, action, folder = sys.argv[1:4]
    with chdir(folder):
        RESULTS.mkdir(exist_ok=True)
        number, wrong = faults_of(name, ACTIONS[action])
    print(json.dumps({"operations": number, "wrong": wrong}))


if __name__ == "__main__":
    main()
