"""Kills of the embedded run: its process group dies at random times, and the same command goes on.

`python tests/support/kills.py FOLDER --kills 100` runs the default configuration once undisturbed,
then again and again from nothing, until so many kills have met it. After each kill, nothing that
was finished may be gone: no result, and no image that a shard's journal had. After each whole run,
images, features and scores must be those of the undisturbed one. docs/reliability.md has figures.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import campaign
from t2i.generate.journal import LINES
from t2i.job import records
from workflow_run import Workplace, copy_project

ROOT = Path("results/demo")
MEASURED = "loadgen|provenance|report|compliance|submission"  # these have rates and latencies
SHORTEST, LONGEST = 3.0, 30.0  # seconds between a start and its kill
ENOUGH = 1200.0  # for a run that is left alone


@dataclass
class Found:
    """What the kills met and cost."""

    kills: int = 0
    in_shards: int = 0  # kills while a shard was being made
    kept: int = 0  # images that journals had at those kills
    runs: int = 0
    wrong: list[str] = field(default_factory=list)


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Results that have been recorded, with what tells whether they are the same files still."""
    with chdir(folder):
        present = (path for path in records.all_records([ROOT]) if path.is_file())
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in present}


def journalled(folder: Path) -> dict[str, int]:
    """Images in the longest journal of each unfinished shard; a last line may be half written."""
    counts: dict[str, int] = {}
    for journal in (folder / ROOT).glob(f"*/shards/.*{LINES}"):
        tar = journal.with_name(journal.name[1:].partition(".tar")[0] + ".tar")
        name = tar.relative_to(folder).as_posix()
        lines = journal.read_text().splitlines(keepends=True)
        images = sum(line.count('"index"') for line in lines if line.endswith("\n"))
        counts[name] = max(images, counts.get(name, 0))
    return counts


def turn(place: Workplace, seconds: float) -> bool:
    """One call of the command, killed with its children after `seconds`; whether it ended."""
    said = place.folder / "said"
    run = place.start(place.command(*campaign.QUIET), said)
    ended = campaign.ended_within(run, seconds)
    if ended and run.returncode:
        raise RuntimeError(said.read_text()[-5000:])
    return ended


def compare(place: Workplace, before: tuple[dict, dict], found: Found) -> tuple[dict, dict]:
    """Note what a turn lost of what had been finished before it; what is finished now."""
    now = finished(place.folder), journalled(place.folder)
    for name, status in before[0].items():
        if now[0].get(name) != status:
            found.wrong.append(f"made again or gone: {name}")
    for name, images in before[1].items():
        if not (place.folder / name).exists() and now[1].get(name, 0) < images:
            found.wrong.append(f"{name}: {images} images were finished, {now[1].get(name)} are")
    return now


def killed_runs(
    project: Path, folder: Path, wanted: dict[str, Any], kills: int, seed: int
) -> Found:
    """Runs from nothing, each killed at random times until so many kills have met them."""
    choose, found = random.Random(seed), Found()
    while found.kills < kills:
        place = Workplace(
            shutil.copytree(project, folder / f"run-{found.runs}", symlinks=True), config=()
        )
        state: tuple[dict, dict] = ({}, {})
        done = False
        while not done:
            left = found.kills < kills
            done = turn(place, choose.uniform(SHORTEST, LONGEST) if left else ENOUGH)
            state = compare(place, state, found)
            if not done:
                found.kills += 1
                found.in_shards += bool(state[1])
                found.kept += sum(state[1].values())
                print(f"kill {found.kills}: {len(state[0])} results, {state[1]}", flush=True)
        got = campaign.content(place.folder, MEASURED)
        found.wrong += [
            f"run {found.runs} differs: {name}"
            for name in sorted(got.keys() | wanted.keys())
            if got.get(name) != wanted.get(name)
        ]
        found.runs += 1
        shutil.rmtree(place.folder)
    return found


def main() -> None:
    """Run undisturbed, run with kills, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    campaign.ROOTS = ROOT, Path("resources")
    begin = time.monotonic()
    project = copy_project(options.folder / "project")
    first = Workplace(
        shutil.copytree(project, options.folder / "undisturbed", symlinks=True), config=()
    )
    first.snakemake()
    print(f"undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
    wanted = campaign.content(first.folder, MEASURED)
    found = killed_runs(project, options.folder, wanted, options.kills, options.seed)
    print(
        f"{found.kills} kills in {found.runs} runs, {found.in_shards} while shards were made, "
        f"whose journals had {found.kept} images; {len(wanted)} results compared; "
        f"{len(found.wrong)} wrong; {time.monotonic() - begin:.0f} s"
    )
    print(*found.wrong, sep="\n")
    sys.exit(bool(found.wrong))


if __name__ == "__main__":
    main()
