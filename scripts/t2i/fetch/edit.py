"""Groups of the table of inputs (config/sources.yaml) as text, one line for each file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from t2i.base.files import sha256_file

NOT_FETCHED = ("reference_images",)  # of a shipped folder; they are read where they lie


def group_text(
    group: str, licence: str, address: str, files: Mapping[str, Mapping[str, Any]]
) -> str:
    """A group of the table as YAML; `files` are facts by name, where None means unknown."""
    lines = [f"{_yaml(group)}:", f"  licence: {_yaml(licence)}", f"  address: {_yaml(address)}"]
    lines.append("  files:")
    for name, facts in files.items():
        known = {key: value for key, value in facts.items() if value is not None}
        lines.append(f"    {_yaml(name)}: {_yaml(known)}")
    return "\n".join(lines) + "\n"


def _yaml(value: object) -> str:
    """A value on one line, quoted where YAML would take it for something else."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()


def shipped_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file below a shipped folder, by its path there.

    Raises ValueError where there is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    files = {
        name: {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for name, path in names.items()
        if not name.startswith(tuple(f"{other}/" for other in NOT_FETCHED))
    }
    if not files:
        raise ValueError(f"{folder}: no files to pin; expected a folder such as models/micro-sdxl")
    return files


def with_group(table: str, group: str, text: str) -> str:
    """The table's text with `text` for a group, in the place of the old one or at the end.

    Every other line, comments among them, stays as it is.
    """
    lines = table.splitlines(keepends=True)
    if f"{group}:\n" not in lines:
        return table + text
    first = lines.index(f"{group}:\n")
    last = first + 1
    while last < len(lines) and lines[last].startswith(" "):
        last += 1
    return "".join([*lines[:first], text, *lines[last:]])
