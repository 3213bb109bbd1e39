"""Addresses as they may be shown."""

from __future__ import annotations

import re

# The environment variable with user:password of a mirror on the web.
MIRROR_LOGIN = "T2I_MIRROR_LOGIN"


def shown(address: str) -> str:
    """An address without what may be secret in it: user, password and query."""
    return re.sub(r"(?<=//)[^/]*@", "", re.split(r"[?#]", address, maxsplit=1)[0])
