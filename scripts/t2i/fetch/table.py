"""The table of inputs (config/sources.yaml): where each comes from and what it must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

ALGORITHMS = {"sha256": 64, "sha512": 128, "git_blob": 40, "md5": 32}  # hex digits


@dataclass(frozen=True)
class Source:
    """One input. `name` is its path below resources/, `size` is in bytes where it is published.

    `algorithm` is sha256, sha512, md5, or git_blob (git's object id: sha1 of a short header and
    content). `token` is the environment variable with the token that its host wants, if it wants
    one.
    """

    name: str
    address: str
    licence: str
    size: int | None
    algorithm: str
    digest: str
    token: str | None = None


def read_sources(table: dict[str, Any]) -> dict[str, Source]:
    """All inputs of the table by name; raises ValueError that lists every malformed entry."""
    sources = {}
    mistakes = []
    for group, entry in (table if isinstance(table, dict) else {"": None}).items():
        if not (isinstance(entry, dict) and entry.get("licence") and _is_table(entry.get("files"))):
            mistakes.append(f"  {group or 'the top level'}: expected groups with licence and files")
            continue
        if not re.fullmatch("[A-Z][A-Z0-9_]*", str(entry.get("token", "T"))):
            mistakes.append(f"  {group}: token is {entry['token']!r}; expected a variable's name")
            continue
        for file, facts in entry["files"].items():
            name = f"{group}/{file}"
            if mistake := _mistake(name, facts):
                mistakes.append(f"  {name}: {mistake}")
                continue
            algorithm = next(known for known in ALGORITHMS if known in facts)
            address = facts.get("address", entry.get("address", ""))
            path = facts.get("path", file)
            if not (isinstance(address, str) and isinstance(path, str)):
                mistakes.append(f"  {name}: address {address!r}, path {path!r}; expected texts")
                continue
            address = address.replace("{path}", path)
            sources[name] = Source(
                name,
                address,
                entry["licence"],
                facts.get("size"),
                algorithm,
                facts[algorithm],
                entry.get("token"),
            )
    if mistakes:
        raise ValueError("\n".join(["the table of inputs cannot be used:", *mistakes]))
    return sources


def _is_table(files: Any) -> bool:
    return isinstance(files, dict) and all(isinstance(facts, dict) for facts in files.values())


def _mistake(name: str, facts: dict[str, Any]) -> str | None:
    """What is wrong with one entry of the table."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "the name leaves resources/"
    given = [known for known in ALGORITHMS if known in facts]
    if not given:
        return f"give one of the digests {', '.join(ALGORITHMS)}"
    digits, digest = ALGORITHMS[given[0]], facts[given[0]]
    if not isinstance(digest, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", digest):
        return f"{given[0]} is {digest!r}; expected {digits} lower-case hex digits, in quotes"
    size = facts.get("size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return f"size is {size!r}; expected a number of bytes"
    return None
