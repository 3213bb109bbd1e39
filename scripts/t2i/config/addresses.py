"""Secrets in addresses are refused: provenance, report and submission show the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from t2i.base.addresses import MIRROR_LOGIN, shown

# Of a query's key, in any case.
SECRET = re.compile(
    r"token|secret|password|passwd|credential|signature|api.?key|^(sig|auth|key)$", re.I
)


def has_secret(address: str) -> bool:
    """Whether an address names a user, or its query has a key that sounds like a secret's."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    keys = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return "@" in parts.netloc or any(SECRET.search(key) for key in keys)


def address_mistakes(
    config: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """A line for the mirror, and for every address in the table of inputs, that has a secret."""
    found = {"mirror": config.get("mirror")}
    for name, group in sources.items():
        found[f"sources: {name}.address"] = group.get("address")
        for file, entry in group["files"].items():
            if isinstance(entry, Mapping):
                found[f"sources: {name}.files.{file}.address"] = entry.get("address")
    for key, address in found.items():
        if isinstance(address, str) and has_secret(address):
            yield (
                f"  {key}: {shown(address)} has a user, a password or a token in it, which whoever "
                "reads the results would see; put user:password of a mirror into the environment "
                f"variable {MIRROR_LOGIN}, and name the variable that holds a token with `token` "
                "in the table of inputs"
            )
