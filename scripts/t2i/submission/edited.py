"""Finished submission trees that were edited are set aside, so that they are built again."""

from __future__ import annotations

import shutil
from pathlib import Path

from t2i.base.files import file_table, files_of, read_json
from t2i.job.lock import is_locked
from t2i.submission.layout import BUILT, TREE


def find_edit(variant: Path) -> str | None:
    """What was changed in the tree of a variant since it was built, None where nothing was."""
    tree, table = variant / TREE, variant / BUILT
    if not (tree.is_dir() and table.is_file()):
        return None
    built, present = read_json(table)["files"], file_table(tree)
    changed = sorted(name for name in {*built, *present} if built.get(name) != present.get(name))
    changed += [str(path) for path in files_of(tree) if str(path) not in {*built, *present}]
    if not changed:
        return None
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{tree} was changed after it was built: {changed[0]}{more}"


def set_aside_edited(variant: Path) -> str | None:
    """Rename the tree of a variant that was edited, so that it is built again; what was changed."""
    problem = find_edit(variant)
    if problem is None:
        return None
    aside = variant / f"{TREE}.edited"
    shutil.rmtree(aside, ignore_errors=True)
    (variant / TREE).rename(aside)
    return f"{problem}; it is now {aside}"


def set_aside_edited_trees(run: str, variants: list[str], dry: bool = False) -> list[str]:
    """Rename the submission trees of a run that were edited; what was changed.

    Nothing is touched while another run holds Snakemake's lock, and nothing at all by a `dry` run.
    """
    folders = [Path("results", run, variant) for variant in variants]
    if not any((folder / TREE).is_dir() for folder in folders) or is_locked():
        return []
    problems = map(find_edit if dry else set_aside_edited, folders)
    return [problem for problem in problems if problem]
