"""Checks: what a verdict lists, the rules that they come from, and the verdict itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"
# Whose rule it is.
CHECKER = "MLPerf Inference submission checker, stable-diffusion-xl"
RULES = "MLPerf Inference rules, text-to-image"
OURS = "this workflow"
LISTED = 8  # problems that one check names


@dataclass(frozen=True)
class Check:
    """One rule's outcome. `low` and `high` are inclusive bounds, `margin` the distance to the
    nearer one (negative outside), each None where the rule has no such thing. A failed check of a
    submission says `why` its rule matters, and the `mend`."""

    id: str
    rule: str
    value: Any
    verdict: str
    source: str
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    why: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Finding:
    """What a rule found: a value, whether it is as it should be, and inclusive bounds.

    `ok` is None where nothing can be judged, and `value` then says why.
    """

    value: Any
    ok: bool | None
    low: float | None = None
    high: float | None = None

    @property
    def margin(self) -> float | None:
        """Distance of a number to its nearer bound, negative outside; None without bounds."""
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            return None
        distances = [self.value - self.low] if self.low is not None else []
        distances += [self.high - self.value] if self.high is not None else []
        return min(distances, default=None)


@dataclass(frozen=True)
class Rule:
    """A rule: the last part of its checks' ids, its text, its source, and what applies it.

    A rule of the closed division only (`closed`), or one that cannot hold in a run that was
    declared short (`whole`), is listed as not applicable elsewhere.
    """

    what: str
    text: str
    source: str
    find: Callable[..., Finding]
    closed: bool = False
    whole: bool = False

    def check(self, name: str, finding: Finding) -> Check:
        """The check that a finding makes."""
        verdict = {True: PASS, False: FAIL, None: NOT_APPLICABLE}[finding.ok]
        bounds = finding.low, finding.high, finding.margin
        return Check(name, self.text, finding.value, verdict, self.source, *bounds)

    def skipped(self, name: str, why: Any) -> Check:
        """The check of a rule that does not apply."""
        return Check(name, self.text, why, NOT_APPLICABLE, self.source)


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
            checks.append(rule.skipped(name, "asked for in the closed division only"))
        elif rule.whole and shortened:
            why = "the run was declared short: " + "; ".join(shortened)
            checks.append(rule.skipped(name, why))
        else:
            checks.append(rule.check(name, _find(rule, arguments)))
    return checks


def _find(rule: Rule, arguments: tuple[Any, ...]) -> Finding:
    try:
        return rule.find(*arguments)
    except FileNotFoundError as error:
        return Finding(f"{error.filename}: missing", False)
    except Exception as error:
        return Finding(f"cannot be judged: {type(error).__name__}: {error}"[:500], False)


def listed(problems: Iterable[str], otherwise: Any) -> Finding:
    """A pass with the value `otherwise`, or a fail that names the problems."""
    named = list(problems)
    more = [f"and {len(named) - LISTED} more"] if len(named) > LISTED else []
    return Finding("; ".join([*named[:LISTED], *more]) or otherwise, not named)


def within(value: Any, low: float | None, high: float | None) -> Finding:
    """Whether a finite number lies inside its bounds, both ends included."""
    if not is_number(value):
        return Finding(f"{value!r} is not a finite number", False, low, high)
    inside = (low is None or value >= low) and (high is None or value <= high)
    return Finding(value, inside, low, high)


def at_least(value: Any, low: float) -> Finding:
    """Whether a number reaches its lower bound."""
    return within(value, low, None)


def is_number(value: Any) -> bool:
    """Whether a value of a log or of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def verdict(checks: list[Check]) -> str:
    """fail if any check fails, pass if any passes, else not applicable."""
    verdicts = {check.verdict for check in checks}
    return FAIL if FAIL in verdicts else PASS if PASS in verdicts else NOT_APPLICABLE


def check_records(checks: list[Check]) -> list[dict[str, Any]]:
    """The checks as compliance.json lists them."""
    return [asdict(check) for check in checks]
