"""Error messages for a configuration: what is wrong, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from jsonschema.exceptions import ValidationError

TYPES = {
    "integer": "a whole number such as 1000",
    "number": "a finite number such as 8.0",
    "string": "text (in quotes where it looks like a number or a date)",
    "boolean": "true or false",
    "object": "keys with values",
    "array": "a list",
}


def _nearest(value: Any, allowed: list[Any]) -> str:
    names = difflib.get_close_matches(str(value), [str(name) for name in allowed], n=1, cutoff=0.4)
    return f"; did you mean {names[0]!r}?" if names else ""


def _explain(error: ValidationError) -> Iterator[str]:
    """Lines for one validation error: key path, value, what is allowed, nearest valid name."""
    place = _place(error)
    prefix = f"{place}." if place else ""
    schema = error.schema
    assert isinstance(schema, dict)
    if error.validator == "additionalProperties":
        known = list(schema.get("properties", {}))
        for key in sorted(set(error.instance) - set(known)):
            hint = _nearest(key, known)
            yield f"  {prefix}{key}: unknown key; known are {', '.join(known)}{hint}"
    elif error.validator == "required":
        missing = [key for key in schema["required"] if key not in error.instance]
        yield from (f"  {prefix}{key}: missing; {_meaning(schema, key)}" for key in missing)
    elif error.validator == "enum":
        allowed = ", ".join(map(str, schema["enum"]))
        hint = _nearest(error.instance, schema["enum"])
        yield f"  {place}: got {error.instance!r}; allowed are {allowed}{hint}"
    else:
        meaning = f" ({' '.join(schema['description'].split())})" if "description" in schema else ""
        yield f"  {place or 'the top level'}: got {_limits(error)}{meaning}"


def _meaning(schema: dict[str, Any], key: str) -> str:
    return " ".join(
        schema.get("properties", {}).get(key, {}).get("description", "required").split()
    )


def _limits(error: ValidationError) -> str:
    expected = {
        "type": "expected {}",
        "minimum": "expected at least {}",
        "exclusiveMinimum": "expected more than {}",
        "uniqueItems": "expected nothing twice",
        "maximum": "expected at most {}",
        "pattern": "expected a name that matches {}",
        "minItems": "expected {} items",
        "maxItems": "expected {} items",
        "minProperties": "expected at least {} entry",
        "oneOf": "expected exactly one of {}",
        "dependentRequired": "expected {}",
    }.get(str(error.validator), "expected " + str(error.validator) + " {}")
    wanted = error.validator_value
    if error.validator == "type":
        names = wanted if isinstance(wanted, list) else [wanted]
        wanted = " or ".join(TYPES[name] for name in names if name != "null")
    elif error.validator == "oneOf":
        wanted = " and ".join(option["required"][0] for option in wanted)
    elif error.validator == "dependentRequired":
        wanted = ", ".join(f"{', '.join(needed)} beside {key}" for key, needed in wanted.items())
    return f"{error.instance!r}; {expected.format(wanted)}"


def _at(config: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _place(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path)
