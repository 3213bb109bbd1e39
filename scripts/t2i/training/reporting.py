"""Which checkpoints MLPerf's rules of reporting want to see evaluated (Training policies).

Of one run all up to the first that passes; of the others the first that passes and the one before.
The ruleset's checker wants two of each run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def first_passing(passed: Mapping[int, bool]) -> int | None:
    """The earliest step whose checkpoint passes."""
    return min((step for step, passes in passed.items() if passes), default=None)


def next_evaluation(steps: Sequence[int], passed: Mapping[int, bool], start: int) -> int | None:
    """The step to evaluate next, or None when nothing more has to be known.

    `steps` are all checkpoints in order, `passed` those evaluated so far. From `start` it goes up
    to the first that passes, or down while the one before passes, too. Started at the first
    checkpoint, these are all of them up to the first that passes.
    """
    if not passed:
        return start
    first = first_passing(passed)
    if first is None:
        later = [step for step in steps if step > max(passed)]
        if later:
            return later[0]
        earlier = [step for step in steps if step < min(passed)]
        return earlier[-1] if earlier and len(passed) < 2 else None
    before = [step for step in steps if step < first]
    if before:
        return before[-1] if before[-1] not in passed else None
    others = [step for step in steps if step not in passed]
    return others[0] if others and len(passed) < 2 else None
