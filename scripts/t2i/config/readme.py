"""config/README.md, made from the schema of the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INTRODUCTION = Path(__file__).with_name("introduction.md")

TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys",
    "array": "list",
    "null": "null",
}


def markdown(schema: dict[str, Any]) -> str:
    """The whole document: how to write a configuration, and a table of every key."""
    lines = [
        INTRODUCTION.read_text(encoding="utf-8"),
        "Made from `schemas/config.schema.yaml` by `tools/write_config_readme.py`.",
        "",
        "| Key | Type | Allowed | Default | Meaning |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(schema, schema, "")),
    ]
    return "\n".join(lines) + "\n"


def _rows(schema: dict[str, Any], root: dict[str, Any], prefix: str) -> Iterator[list[str]]:
    """Path, type, allowed values, default and meaning of every key below a schema."""
    for key, entry in schema.get("properties", {}).items():
        facts = {**_referred(entry, root), **entry}
        path = f"{prefix}{key}"
        cells = [f"`{path}`", _type(facts), _allowed(facts)]
        cells += [_default(key, facts, schema), " ".join(facts["description"].split())]
        yield [cell.replace("|", "\\|") for cell in cells]
        yield from _rows(facts, root, f"{path}.")
        if isinstance(names := facts.get("additionalProperties"), dict):
            yield from _rows(names, root, f"{path}.NAME.")


def _referred(entry: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The definition that an entry refers to, if it does."""
    name = entry.get("$ref", "").removeprefix("#/$defs/")
    definition: dict[str, Any] = root["$defs"][name] if name else {}
    return definition


def _type(facts: dict[str, Any]) -> str:
    names = facts.get("type", "string")
    words = [TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    if "maxItems" in facts:
        words = [f"list of {facts['minItems']} {TYPES[facts['items']['type']]}s"]
    return " or ".join(words)


def _allowed(facts: dict[str, Any]) -> str:
    if names := facts.get("enum", facts.get("items", {}).get("enum")):
        return ", ".join(f"`{value}`" for value in names)
    pattern = facts.get("pattern", facts.get("propertyNames", {}).get("pattern"))
    if pattern:
        return f"{'names like ' if 'propertyNames' in facts else ''}`{pattern}`"
    if "minimum" in facts and "maximum" in facts:
        return f"{facts['minimum']} to {facts['maximum']}"
    if "minimum" in facts:
        return f"{facts['minimum']} or more"
    if "exclusiveMinimum" in facts:
        return f"more than {facts['exclusiveMinimum']}"
    names = (f"`{option['required'][0]}`" for option in facts.get("oneOf", []))
    return " or ".join(names)


def _default(key: str, facts: dict[str, Any], parent: dict[str, Any]) -> str:
    if key in parent.get("required", []):
        return "required"
    if "default" not in facts or facts["default"] == {}:
        return ""
    value = facts["default"]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
