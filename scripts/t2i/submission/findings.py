"""What a rule on a submission finds, and how it becomes a check."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.compliance import FAIL, NOT_APPLICABLE, PASS, Check

LISTED = 8
# A round's digits may be read in full; a number of thousands of digits is no number of ours.
NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Finding:
    """A rule's outcome, with the fields of `t2i.compliance.Check`.

    `ok` is None where nothing can be judged, and `value` then says why.
    """

    value: Any
    ok: bool | None
    low: float | None = None
    high: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Rule:
    """A rule: its id's last part, what it asks for, whose rule it is, and what finds it out.

    A rule of the closed division only (`closed`), or one that cannot hold in a run that was
    declared short (`whole`), is listed as not applicable elsewhere.
    """

    what: str
    rule: str
    source: str
    find: Callable[..., Finding]
    closed: bool = False
    whole: bool = False


def listed(problems: Iterable[str], otherwise: Any) -> Finding:
    """A pass with the value `otherwise`, or a fail that names the problems."""
    found = list(problems)
    more = [f"and {len(found) - LISTED} more"] if len(found) > LISTED else []
    return Finding("; ".join([*found[:LISTED], *more]) or otherwise, not found)


def at_least(value: Any, low: float) -> Finding:
    """Whether a number reaches its lower bound."""
    return within(value, low, None)


def within(value: Any, low: float | None, high: float | None) -> Finding:
    """Whether a finite number lies inside its bounds, both ends included."""
    if not is_number(value):
        return Finding(f"{value!r} is no finite number", False, low, high)
    distances = [value - low] if low is not None else []
    distances += [high - value] if high is not None else []
    margin = min(distances)
    return Finding(value, margin >= 0, low, high, margin)


def is_number(value: Any) -> bool:
    """Whether a value of a log or of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(text: str) -> float:
    """A finite decimal number. Raises ValueError with the text."""
    if not NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise ValueError(f"{text[:40]!r} is no finite number")
    return float(text)


def judge(
    rules: Sequence[Rule],
    prefix: str,
    arguments: tuple[Any, ...],
    *,
    closed: bool,
    shortened: Sequence[str],
) -> list[Check]:
    """A check of each rule, its `find` called with `arguments`.

    Nothing is raised: a submission may be wrong in any way, and what cannot be judged has failed.
    """
    checks = []
    for rule in rules:
        name = f"{prefix}.{rule.what}"
        if rule.closed and not closed:
            why = "asked for in the closed division only"
            checks.append(Check(name, rule.rule, why, NOT_APPLICABLE, rule.source))
            continue
        if rule.whole and shortened:
            why = "the run was declared short: " + "; ".join(shortened)
            checks.append(Check(name, rule.rule, why, NOT_APPLICABLE, rule.source))
            continue
        found = _find(rule, arguments)
        verdict = {True: PASS, False: FAIL, None: NOT_APPLICABLE}[found.ok]
        bounds = (found.low, found.high, found.margin)
        checks.append(Check(name, rule.rule, found.value, verdict, rule.source, *bounds))
    return checks


def _find(rule: Rule, arguments: tuple[Any, ...]) -> Finding:
    try:
        return rule.find(*arguments)
    except FileNotFoundError as error:
        return Finding(f"{error.filename}: missing", False)
    except Exception as error:
        return Finding(f"cannot be judged: {type(error).__name__}: {error}"[:500], False)


def read_text(path: Path, limit: int = 1 << 20) -> str:
    """A small text file. Raises ValueError for one that is longer than `limit` bytes."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: {size} bytes; expected at most {limit}")
    return path.read_text(encoding="utf-8")
