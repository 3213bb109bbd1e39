"""Results are what their jobs recorded, made from what is there now, with these parameters."""

import json
import random
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_job import Named, fake_job
from kept_time import flip_bit, rewrite
from t2i.job import records
from t2i.job.job import LibraryError, job
from t2i.job.records import RecordError

ROOT = Path("results/some")
FIRST, SECOND = ROOT / "first.json", ROOT / "fp32" / "second.txt"


def ran(rule: str, inputs: list[Path], output: Path, content: str, **params: Any) -> None:
    """A job that writes its one result."""
    log = Path("logs/some.log")
    with job(fake_job(Named(*inputs), Named(output), log, Named(**params), rule=rule)):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(content)


@pytest.fixture(autouse=True)
def chain(tmp_path: Path, monkeypatch) -> None:
    """Two jobs, the second of which reads the first's result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("t2i.job.job.job_log", lambda _: nullcontext(sys.stderr))
    ran("make_first", [], FIRST, '{"value": 1}', steps=20)
    ran("make_second", [FIRST], SECOND, "a line", windows=[1, 2])


def problems(dry: bool = True) -> list[str]:
    return records.set_aside_changed([ROOT, Path("resources")], dry)


def test_what_is_sound_stays() -> None:
    assert problems(dry=False) == []
    assert problems(dry=False) == []  # by signatures now
    assert records.check(FIRST) == records.facts_of(FIRST)


@pytest.mark.parametrize("content", [b'{"value": 2}', b"", b'{"value": 1}\n'])
def test_a_changed_result_is_set_aside_and_refused(content: bytes) -> None:
    assert problems(dry=False) == []
    rewrite(FIRST, content)
    (found,) = problems()
    assert "results/some/first.json is not what make_first made" in found
    assert FIRST.exists()
    with pytest.raises(RecordError, match="is not what make_first made"):
        ran("make_second", [FIRST], SECOND, "a line", windows=[1, 2])
    problems(dry=False)
    assert not FIRST.exists()
    assert (ROOT / "first.json.aside").read_bytes() == content
    assert problems() == []  # what needs it is made again because it is missing


def test_a_result_of_another_input_is_set_aside() -> None:
    """The first was made again, and the run was killed before the second was."""
    ran("make_first", [], FIRST, '{"value": 3}', steps=20)
    (found,) = problems(dry=False)
    assert found == (
        "results/some/fp32/second.txt was made from another results/some/first.json than is "
        "there now"
    )
    assert not SECOND.exists()


def test_what_was_made_from_an_outdated_result_is_outdated() -> None:
    """Snakemake would look for the second only if something needed it."""
    third = ROOT / "third.json"
    ran("make_third", [SECOND], third, "{}")
    ran("make_first", [], FIRST, '{"value": 3}', steps=20)
    assert problems()[1] == (
        "results/some/third.json was made from results/some/fp32/second.txt, which is no longer "
        "right"
    )
    assert len(problems(dry=False)) == 2
    assert FIRST.exists() and not SECOND.exists() and not third.exists()


def test_a_result_of_another_place_is_set_aside() -> None:
    """Copied with its record."""
    other = ROOT / "bf16" / "second.txt"
    other.parent.mkdir()
    other.write_bytes(SECOND.read_bytes())
    record, wanted = (records.record_of(path) for path in (SECOND, other))
    assert record is not None and wanted is not None
    wanted.parent.mkdir()
    wanted.write_bytes(record.read_bytes())
    (found,) = problems()
    assert "bf16/second.txt: its record" in found and "is another file's" in found


def test_a_damaged_record_concerns_its_own_result_alone() -> None:
    record = records.record_of(FIRST)
    assert record is not None
    record.write_text("{}")
    (found,) = problems(dry=False)
    assert "its record results/some/.records/first.json.json was changed" in found
    assert SECOND.exists()


def test_every_flipped_bit_is_noticed() -> None:
    """Of results and of records, below their old times."""
    chance = random.Random(0)
    paths = [FIRST, SECOND, records.record_of(FIRST), records.record_of(SECOND)]
    for number in range(200):
        path = paths[number % len(paths)]
        assert path is not None
        content = path.read_bytes()
        place = chance.randrange(8 * len(content))
        flip_bit(path, place)
        assert problems(), f"{path}: bit {place}"
        rewrite(path, content)
        assert not problems()


def test_a_folder_is_one_result() -> None:
    folder = ROOT / "images"
    with job(fake_job(Named(), Named(folder), Path("logs/a.log"), rule="make_images")):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"a")
    (folder / ".snakemake_timestamp").touch()  # by Snakemake, after the job
    assert not problems()
    (folder / "b.png").write_bytes(b"b")
    assert "images is not what make_images made" in problems(dry=False)[0]
    assert (ROOT / "images.aside" / "b.png").exists()


def test_a_large_file_is_known_by_its_size(monkeypatch) -> None:
    monkeypatch.setattr(records, "LARGEST", 3)
    ran("make_first", [], FIRST, "1234")
    assert records.check(FIRST) == {"size": 4, "sha256": None}
    FIRST.write_text("12345")
    with pytest.raises(RecordError):
        records.check(FIRST)


def test_files_elsewhere_have_no_record() -> None:
    for path in ("models/a.json", "results/a.json", "resources", "/results/run/a", "results/../a"):
        assert records.record_of(Path(path)) is None
    assert records.record_of(Path("resources/a.json")) == Path("resources/.records/a.json.json")
    assert records.check(Path("models/a.json")) is None


def test_a_failed_job_records_nothing() -> None:
    described = fake_job(Named(), Named(ROOT / "c"), Path("logs/c.log"))
    with pytest.raises(OSError, match="no space"), job(described):
        (ROOT / "c").write_text("half")
        raise OSError("no space")
    assert records.read_record(ROOT / "c") is None


def test_the_library_of_another_copy_is_refused(tmp_path: Path) -> None:
    """As PYTHONPATH may bring it in."""
    other = fake_job(Named(), Named("c"), Path("logs/c.log"), scriptdir=str(tmp_path / "scripts"))
    with pytest.raises(LibraryError, match="unset PYTHONPATH"), job(other):
        raise AssertionError("the script ran")


def jobs(**changed: Any) -> list[SimpleNamespace]:
    """Both jobs as Snakemake would describe them now."""
    params = {"steps": 20, "windows": (1, 2), **changed}
    return [
        SimpleNamespace(output=Named(FIRST), params=Named(steps=params["steps"])),
        SimpleNamespace(output=Named(SECOND), params=Named(windows=params["windows"])),
    ]


def test_results_of_other_parameters_are_set_aside() -> None:
    assert records.set_aside_foreign(jobs(), [ROOT]) == []
    FIRST.unlink()  # lost, too: its record says what it was
    first, second = records.set_aside_foreign(jobs(steps=30), [ROOT])
    assert first == "results/some/first.json: make_first made it with other parameters"
    assert second == (
        "results/some/fp32/second.txt was made from results/some/first.json, which is no longer "
        "right"
    )
    assert not SECOND.exists()


def test_what_came_of_a_freed_file_stays_when_its_code_changes() -> None:
    first, second = jobs()
    first.params = Named(steps=20, code="another digest")
    FIRST.unlink()
    assert records.set_aside_foreign([first, second], [ROOT]) == []
    first.params = Named(steps=30)
    assert len(records.set_aside_foreign([first, second], [ROOT])) == 2


def test_results_that_nobody_recorded_are_set_aside() -> None:
    record = records.record_of(SECOND)
    assert record is not None
    record.unlink()
    (found,) = records.set_aside_foreign(jobs(), [ROOT])
    assert found == "results/some/fp32/second.txt: nothing says what made it"


def test_a_lost_record_of_snakemake_plans_the_last_results() -> None:
    folder = Path(".snakemake/metadata")
    folder.mkdir(parents=True)

    def lost() -> str | None:
        return records.set_aside_unknown([ROOT], [SECOND, ROOT / "absent.json"], "state")

    from snakemake.persistence.file import FilePersistence

    def name(path: Path) -> Path:
        maker = SimpleNamespace(_fetch_max_len=lambda _: 255)
        return Path(FilePersistence._record_path(maker, str(folder), str(path)))  # type: ignore

    for path in (FIRST, SECOND):
        name(path).write_text("{}")
    assert lost() is None
    name(FIRST).write_text('{"params')
    records.remember_compared("state")  # with the configuration of now
    assert lost() is None
    records.remember_compared("another")
    assert lost() == (
        "Snakemake's record of results/some/first.json is lost; every result's parameters are "
        "compared"
    )
    assert not SECOND.exists() and FIRST.exists()


def test_a_mark_of_an_unfinished_job_is_taken_from_what_is_recorded_and_sound() -> None:
    marks = [records._stored("incomplete", path) for path in (FIRST, SECOND, ROOT / "other.json")]
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("{}")
    flip_bit(SECOND)
    assert records.unmark_finished([ROOT]) == [FIRST]
    assert [mark.exists() for mark in marks] == [False, True, True]
    assert records.unmark_finished([ROOT]) == []


def test_marks_stay_while_another_run_may_hold_them() -> None:
    mark = records._stored("incomplete", FIRST)
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    lock = Path(".snakemake/locks/0.output.lock")
    lock.parent.mkdir(parents=True)
    lock.write_text("some\n")
    assert records.unmark_finished([ROOT]) == []
    assert mark.exists()


def test_parameters_have_one_digest() -> None:
    one = {"a": (1, 2.5), "b": {"x", "y"}, "c": Path("p"), "d": None}
    other = {"a": [1, 2.5], "b": ["x", "y"], "c": "p", "d": None}
    digests = records.params_digests(one)
    assert digests == records.params_digests(json.loads(json.dumps(other)))
    assert not set(digests.values()) & set(records.params_digests({**other, "d": 0}).values())
    coded = records.params_digests({**one, "code": "1"})
    assert coded["settings"] == digests["settings"] and coded["params"] != digests["params"]
