"""Faults of every kind at every file of a run: noticed, and mended by the documented commands.

`tests/support/campaign.py` does more of them; docs/reliability.md has its table.
"""

import shutil
from pathlib import Path

import pytest

import campaign
from campaign import DAMAGES, Tally
from workflow_run import Workplace

pytestmark = pytest.mark.slow
SEED = 20


@pytest.fixture
def copy(finished: Workplace, tmp_path: Path) -> Workplace:
    """A copy of the finished run that shares no file with it."""
    folder = shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Workplace(folder)


def test_every_damage_below_an_old_time_is_noticed(copy: Workplace) -> None:
    number = len(DAMAGES) * len(campaign.files_of(copy.folder))
    faults = campaign.damages(copy.folder, number, SEED)
    assert len({(fault.kind, fault.path) for fault in faults}) == number
    tally = Tally()
    campaign.check_damages(copy.folder, faults, tally)
    campaign.check_damages(copy.folder, campaign.flips(copy.folder, 100, SEED), tally)
    assert tally.wrong == []
    assert sum(tally.done.values()) == number + 100 - tally.skipped
    assert tally.skipped < 0.1 * number


def test_damage_is_mended_by_the_documented_commands(finished: Workplace, copy: Workplace) -> None:
    tally = Tally()
    campaign.damage_many(copy, campaign.damages(copy.folder, 20, SEED), tally)
    campaign.recover(copy, campaign.content(finished.folder), tally)
    assert tally.wrong == []
    assert sum(tally.done.values()) >= 15


def test_a_run_in_which_every_result_fails_once_and_that_is_killed_ends_equal(
    finished: Workplace, copy: Workplace
) -> None:
    wanted = campaign.content(finished.folder)
    shutil.rmtree(copy.folder / "results")
    results = {name: value for name, value in wanted.items() if name.startswith("results/")}
    tally = Tally()
    campaign.run_with_failures(copy, campaign.failures(results, SEED), 1, SEED, tally)
    campaign.recover(copy, wanted, tally)
    assert tally.wrong == []
    assert sum(tally.done.values()) >= 20
