"""What a run was made of: inputs with digests and licences, software, device, commit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from t2i.base.files import file_digest, sha256_file
from t2i.fetch.table import Source


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of a working copy and whether it has changes; None for each where there is no git.

    A folder that merely lies inside somebody's working copy has no commit.
    """

    def git(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(folder), *words],
                check=True,
                capture_output=True,
                text=True,
                timeout=30,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    root = git("rev-parse", "--show-toplevel")
    if root is None or Path(root) != folder.resolve():
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else changes != ""}


def environment_state() -> dict[str, Any]:
    """How this Python's packages came: an Apptainer image, conda, a virtual environment, or none.

    CONDA_PREFIX and VIRTUAL_ENV do not tell: either may be active while another Python runs.
    """
    if image := os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME"):
        return {"mode": "apptainer", "name": image}
    name = Path(sys.prefix).name
    if Path(sys.prefix, "conda-meta").is_dir():
        return {"mode": "conda", "name": name}
    return {"mode": "venv" if sys.prefix != sys.base_prefix else "system", "name": name}


def changed_defaults(config: dict[str, Any], defaults: dict[str, Any], prefix: str = "") -> Any:
    """Keys (dotted) whose value differs from the default one, as {key: [default, value]}."""
    changes: dict[str, list[Any]] = {}
    for key in sorted({*config, *defaults}):
        value, default = config.get(key), defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            changes.update(changed_defaults(value, default, f"{prefix}{key}."))
        elif value != default:
            changes[f"{prefix}{key}"] = [default, value]
    return changes


def input_record(path: Path, source: Source | None) -> dict[str, Any]:
    """One input as provenance.json lists it.

    `source` is its entry in the table of inputs, None for what the workflow made itself. `matches`
    says whether the file has the published digest (None where there is none).
    """
    record = {
        "name": path.relative_to("resources").as_posix(),
        "path": path.as_posix(),
        "size": path.stat().st_size,
        "sha256": sha256_file(path),
        "licence": "Apache-2.0, made by this workflow",
        "source": "made by this workflow",
        "published": None,
        "matches": None,
    }
    if source is not None:
        record["licence"], record["source"] = source.licence, source.address
        record["published"] = f"{source.algorithm} {source.digest}"
        record["matches"] = file_digest(path, source.algorithm) == source.digest
    return record
