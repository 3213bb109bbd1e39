"""Which checkpoints are evaluated, beside the rules of reporting told another way."""

import itertools

import pytest

from t2i.training.reporting import first_passing, next_evaluation

STEPS = [10, 20, 30, 40, 50]


def evaluated(passing: set[int], start: int, steps: list[int] = STEPS) -> list[int]:
    """What is asked for one after another, when the checkpoints of `passing` pass."""
    passed: dict[int, bool] = {}
    while (step := next_evaluation(steps, passed, start)) is not None:
        assert step in steps and step not in passed
        passed[step] = step in passing
    return list(passed)


@pytest.mark.parametrize("first", range(5))
def test_of_the_first_run_all_up_to_the_first_that_passes(first: int) -> None:
    found = evaluated(set(STEPS[first:]), STEPS[0])
    assert found == STEPS[: max(first + 1, 2)]


@pytest.mark.parametrize(("first", "start"), [*itertools.product(range(5), STEPS)])
def test_of_others_the_first_that_passes_and_the_one_before(first: int, start: int) -> None:
    found = evaluated(set(STEPS[first:]), start)
    wanted = {STEPS[first], STEPS[first - 1] if first else STEPS[1]}
    assert wanted <= set(found)
    if STEPS.index(start) in (first - 1, first):
        assert set(found) == wanted


def test_no_more_are_asked_for_where_none_passes() -> None:
    assert evaluated(set(), STEPS[0]) == STEPS
    assert evaluated(set(), STEPS[-1]) == [50, 40]
    assert evaluated(set(), 10, [10]) == [10]
    assert evaluated({10}, 10, [10]) == [10]


def test_a_checkpoint_that_passes_by_chance_is_followed_down() -> None:
    assert evaluated({20, 40, 50}, 50) == [50, 40, 30]
    assert first_passing({50: True, 40: True, 30: False}) == 40
    assert first_passing({30: False}) is None
