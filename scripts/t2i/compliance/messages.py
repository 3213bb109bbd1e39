"""What messages of MLPerf's programs mean: the table `messages.yaml` beside this module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from t2i.base.yaml import read_yaml

LONGEST = 4000  # characters of a message that are kept


@dataclass(frozen=True)
class Meaning:
    """What a message means and what to do; `once`: harmless, so that one report is enough."""

    meaning: str
    mend: str = ""
    level: str = "error"
    once: bool = False


UNKNOWN = Meaning(
    "This workflow does not know this message.",
    "look it up in tools/submission/submission_checker of the checkout",
)


@cache
def _table(section: str) -> tuple[tuple[re.Pattern[str], Meaning], ...]:
    rows = read_yaml(Path(__file__).with_name("messages.yaml"))[section]
    return tuple((re.compile(row.pop("pattern"), re.MULTILINE), Meaning(**row)) for row in rows)


def explain(section: str, text: str) -> Meaning:
    """The meaning of a message: the first entry of a section whose pattern occurs in it."""
    for pattern, meaning in _table(section):
        if pattern.search(text):
            return meaning
    return UNKNOWN


def message(level: str, text: str, meaning: str, mend: str) -> dict[str, str]:
    """An entry of the list of messages that submission.json and audit.json hold."""
    return {"level": level, "text": text[:LONGEST], "meaning": meaning, "mend": mend}
