"""Damaged shards of finished runs."""

from __future__ import annotations

from pathlib import Path

from t2i.base.files import read_json, write_json
from t2i.job.lock import is_locked

VERIFIED = Path(".snakemake/t2i-verified.json")


def set_aside_damaged_shards(
    run: str, variants: list[str], shards: list[str], dry: bool = False
) -> list[str]:
    """Rename the shards of a run whose files are not what their manifests say; what was wrong.

    A scheduler that looks at existence and times alone would take them for finished. Nothing is
    touched while another run holds Snakemake's lock, and nothing at all by a `dry` run.
    """
    from t2i.generate.shard import find_damage, set_aside_damaged

    folders = [Path("results", run, variant, "shards") for variant in variants]
    if not any(folder.is_dir() for folder in folders) or is_locked():
        return []
    try:
        verified = dict(read_json(VERIFIED))
    except (OSError, TypeError, ValueError):
        verified = {}
    before, examine = dict(verified), find_damage if dry else set_aside_damaged
    problems = [
        examine(folder / f"{shard}.tar", folder / f"{shard}.json", verified)
        for folder in folders
        for shard in shards
    ]
    if verified != before and not dry:
        write_json(VERIFIED, verified)
    return [problem for problem in problems if problem]
