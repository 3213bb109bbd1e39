"""Faults done to a run: damage below old times, processes that fail or are killed; and what then.

As a program it does many, and prints a table; docs/reliability.md has one of them:
`python tests/support/campaign.py FOLDER --damages 2000 --flips 1000 --rounds 5 --kills 20`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import chdir
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kept_time import flipped, rewrite
from t2i.generate.damage import set_aside_damaged_shards
from t2i.generate.plan import plan
from t2i.job import records
from workflow_run import VARIANTS, Workplace, copy_project

ROOTS = Path("results/tiny"), Path("resources")
DAMAGES = ("bit", "truncation", "no content", "exchange")
QUIET = ("--quiet", "host", "rules", "reason")
MOST_RUNS = 12  # of the same command, while jobs fail
OPERATIONS = (("open", "before"), ("fsync", "before"), ("replace", "before"), ("replace", "after"))
ACTIONS = ("SIGKILL", "SIGTERM", "SIGINT", "EIO", "ENOSPC", "EROFS")
FAULTS = Path(__file__).with_name("faults")
NAMED = re.compile(r"`snakemake --cores all (\S+)`")
# What no two runs have in common.
OWN = {"seconds", "images_per_second", "speed", "speed_up", "usage", "command"}


@dataclass(frozen=True)
class Damage:
    """A file that is changed below its old time; `seed` says where or by which other file."""

    kind: str
    path: str
    seed: int


@dataclass(frozen=True)
class Failure:
    """A process that fails at an operation on a result, and how."""

    number: int
    path: str
    operation: str
    when: str
    action: str


@dataclass
class Tally:
    """Faults by stage and kind: done, noticed or recovered; and what went wrong."""

    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    skipped: int = 0


def stage_of(path: str) -> str:
    """The part of the pipeline that a file belongs to."""
    parts = [part for part in Path(path).parts if part != records.FOLDER]
    if parts[0] == "resources":
        return "inputs"
    names = {"engine": "engine", "shards": "shards", "features": "features"}
    return next((names[part] for part in parts if part in names), "scores and report")


def files_of(folder: Path) -> list[str]:
    """Every file below results/ and resources/ that has content, records too."""
    found = (path for root in ROOTS for path in (folder / root).rglob("*"))
    plain = (path for path in found if path.is_file() and path.stat().st_size)
    return sorted(
        path.relative_to(folder).as_posix() for path in plain if path.name != records.TIMESTAMP
    )


def damages(folder: Path, number: int, seed: int) -> list[Damage]:
    """Distinct damages, as evenly over files and kinds as their number allows."""
    choose, files = random.Random(seed), files_of(folder)
    pairs = [(kind, path) for kind in DAMAGES for path in files]
    found: list[Damage] = []
    while len(found) < number:
        choose.shuffle(pairs)
        found += [Damage(kind, path, choose.randrange(1 << 30)) for kind, path in pairs]
    return found[:number]


def flips(folder: Path, number: int, seed: int) -> list[Damage]:
    """Single bits, at random files and places."""
    choose, files = random.Random(seed), files_of(folder)
    return [Damage("bit", choose.choice(files), choose.randrange(1 << 60)) for _ in range(number)]


def damaged(folder: Path, damage: Damage) -> bytes | None:
    """What a damage makes of a file's content; None where it would change nothing."""
    content = (folder / damage.path).read_bytes()
    if damage.kind == "no content":
        return b""
    if damage.kind == "truncation":
        return content[: damage.seed % len(content)]
    if damage.kind == "bit":
        return flipped(content, damage.seed % (8 * len(content)))
    suffix = Path(damage.path).suffix
    others = [path for path in files_of(folder) if path.endswith(suffix) and path != damage.path]
    if not others:
        return None
    other = (folder / others[damage.seed % len(others)]).read_bytes()
    return other if other != content else None


def problems() -> list[str]:
    """What a run in this folder finds wrong before its first job."""
    return [
        *set_aside_damaged_shards("tiny", list(VARIANTS), plan(6, 3), dry=True),
        *records.set_aside_changed(ROOTS, dry=True),
    ]


def concerned(path: str) -> Path:
    """The result whose problem a damaged file is: of a record, what it records."""
    parts = Path(path).parts
    if records.FOLDER in parts:
        return Path(*(part for part in parts if part != records.FOLDER)).with_suffix("")
    return Path(path)


def is_noticed(folder: Path, damage: Damage, tally: Tally) -> None:
    """Do a damage, ask what a run would say, and undo it."""
    path = folder / damage.path
    content = damaged(folder, damage)
    if content is None:
        tally.skipped += 1
        return
    before = path.read_bytes()
    rewrite(path, content)
    found = problems()
    rewrite(path, before)
    tally.done[stage_of(damage.path), damage.kind] += 1
    result = concerned(damage.path)
    said = {Path(line.split(": ")[0].split(" ")[0]) for line in found}
    stems = {name.with_suffix("") for name in said}  # a shard's problem names its tar or manifest
    if not ({result, *result.parents} & said or result.with_suffix("") in stems):
        tally.wrong.append(f"not noticed: {damage}: {found}")


def check_damages(folder: Path, faults: list[Damage], tally: Tally) -> None:
    """Each damage by itself, in a finished run."""
    with chdir(folder):
        records.set_aside_changed(ROOTS)  # so that later ones need no digests of sound files
        tally.wrong += [f"unharmed: {line}" for line in problems()]
        for damage in faults:
            is_noticed(folder, damage, tally)
        tally.wrong += [f"undone: {line}" for line in problems()]


def without_own(value: Any) -> Any:
    """JSON without what is a run's own: times, and the command line."""
    if isinstance(value, dict):
        return {key: without_own(each) for key, each in value.items() if key not in OWN}
    return [without_own(each) for each in value] if isinstance(value, list) else value


def content(folder: Path, leave: str = "$^") -> dict[str, Any]:
    """All results and inputs of a run, comparable with another's; what people read by report.json.

    Those whose names have the pattern `leave` are left out.
    """
    found: dict[str, Any] = {}
    for name in files_of(folder):
        path = folder / name
        if records.FOLDER in path.parts or re.search(rf"\.aside|\.damaged|{leave}", name):
            continue
        if path.suffix == ".json":
            value = json.loads(path.read_text())
            if path.parent.name == "shards":
                value.pop("digest")  # over the times too
            found[name] = without_own(value)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: (arrays[key].dtype, arrays[key].tobytes()) for key in arrays}
        elif path.suffix != ".html" and path.stem != "summary":
            found[name] = path.read_bytes()
    return found


def differences(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Names of the results that are not as in the undisturbed run."""
    found = content(folder)
    return sorted(
        name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
    )


def recover(place: Workplace, wanted: dict[str, Any], tally: Tally, tries: int = 4) -> int:
    """The documented recovery: the same command again, or first the one that the error names.

    Returns how many commands were needed.
    """
    words: list[str] = []
    for number in range(1, tries + 1):
        done = place.run(place.command(*words, *QUIET))
        named = NAMED.search(done.stdout)
        if done.returncode == 0 and not words:
            different = differences(place.folder, wanted)
            if different:
                tally.wrong.append(f"recovered, but different: {different}")
            return number
        words = [named[1]] if named else []
    tally.wrong.append(f"not recovered by {tries} commands: {done.stdout[-5000:]}")
    return tries


def damage_many(place: Workplace, faults: list[Damage], tally: Tally) -> None:
    """Several damages at once, at most one for each file."""
    once = {damage.path: damage for damage in faults}
    for damage in once.values():
        new = damaged(place.folder, damage)
        if new is None:
            tally.skipped += 1
        else:
            rewrite(place.folder / damage.path, new)
            tally.done[stage_of(damage.path), f"{damage.kind}, recovery"] += 1


def failures(wanted: dict[str, Any], seed: int) -> list[Failure]:
    """A failure for each result of a run, at a place and of a kind by chance.

    Of the page's pictures, which one job writes, one of each variant.
    """
    of_pages = {Path(path).parent: path for path in wanted if "/images/" in path}
    paths = [path for path in wanted if "/images/" not in path] + list(of_pages.values())
    choose = random.Random(seed)
    places = [(*place, action) for place in OPERATIONS for action in ACTIONS]
    return [
        Failure(number, path, *choose.choice(places)) for number, path in enumerate(sorted(paths))
    ]


def ended_within(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a run ends by itself in that time; otherwise its process group is killed."""
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        return False
    return True


def run_with_failures(
    place: Workplace, faults: list[Failure], kills: int, seed: int, tally: Tally
) -> None:
    """A run from nothing in which jobs fail, and all of it is killed at random times."""
    table = place.folder / "faults.json"
    table.write_text(json.dumps({fault.path: asdict(fault) for fault in faults}))
    choose = random.Random(seed)
    for turn in range(kills + MOST_RUNS):
        run = place.start(
            place.command("--keep-going", "--retries", "1", *QUIET),
            place.folder / f"said-{turn}",
            T2I_FAULTS=str(table),
            PYTHONPATH=str(FAULTS),
        )
        if not ended_within(run, choose.uniform(5, 30) if turn < kills else 900):
            tally.done["whole run", "SIGKILL of its process group"] += 1
        if run.returncode == 0:
            break
    for fault in faults:
        if Path(f"{table}.{fault.number}").exists():
            tally.done[stage_of(fault.path), f"{fault.action}"] += 1
        else:
            tally.skipped += 1


def table(tally: Tally) -> str:
    """Markdown: stages down, kinds of faults across."""
    kinds = sorted({kind for _, kind in tally.done})
    stages = sorted({stage for stage, _ in tally.done})
    lines = [f"| | {' | '.join(kinds)} |", f"|---{'|---:' * len(kinds)}|"]
    for stage in stages:
        counts = (str(tally.done[stage, kind] or "") for kind in kinds)
        lines.append(f"| {stage} | {' | '.join(counts)} |")
    return "\n".join(lines)


def main() -> None:
    """Do many faults in copies below a folder, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--damages", type=int, default=2000)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--recoveries", type=int, default=4, help="runs after 20 damages each")
    parser.add_argument("--rounds", type=int, default=3, help="runs with a failure at each result")
    parser.add_argument("--kills", type=int, default=3, help="of the process group in each of them")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    begin, tally = time.monotonic(), Tally()
    project = copy_project(options.folder / "project")  # an edit on the way reaches no round
    first = Workplace(shutil.copytree(project, options.folder / "undisturbed", symlinks=True))
    first.snakemake()
    wanted = content(first.folder)
    harmed = shutil.copytree(first.folder, options.folder / "harmed", symlinks=True)
    check_damages(harmed, damages(harmed, options.damages, options.seed), tally)
    check_damages(harmed, flips(harmed, options.flips, options.seed), tally)
    for number in range(options.recoveries):
        copy = shutil.copytree(first.folder, options.folder / f"copy-{number}", symlinks=True)
        damage_many(Workplace(copy), damages(copy, 20, options.seed + number), tally)
        recover(Workplace(copy), wanted, tally)
        shutil.rmtree(copy)
    for number in range(options.rounds):
        folder = options.folder / f"round-{number}"
        place = Workplace(shutil.copytree(project, folder, symlinks=True))
        seed = options.seed + number
        run_with_failures(place, failures(wanted, seed), options.kills, seed, tally)
        recover(place, wanted, tally)
        shutil.rmtree(place.folder)
    print(table(tally))
    print(
        f"{sum(tally.done.values())} faults, seed {options.seed}, {len(tally.wrong)} wrong, "
        f"{tally.skipped} skipped, {time.monotonic() - begin:.0f} s"
    )
    print(*tally.wrong, sep="\n")
    sys.exit(bool(tally.wrong))


if __name__ == "__main__":
    main()
