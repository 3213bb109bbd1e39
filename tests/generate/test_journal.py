"""What a stopped job had finished of a shard is taken up, and nothing that differs from it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from t2i.generate import journal
from t2i.generate.shard import add_samples, read_manifest, read_shard, write_manifest

HERE = Path(__file__).parent
SIDE = 12
SIZE = 4  # of a batch
INDICES = range(20, 42)  # the last batch is short
ORIGIN = {"engine": "some", "shard": "00020-00042"}
BATCHES = [INDICES[start : start + SIZE] for start in range(0, len(INDICES), SIZE)]


def rows(batch):
    return [
        (n, 1000 + n, np.random.default_rng(n).integers(0, 256, (SIDE, SIDE, 3), np.uint8), n != 27)
        for n in batch
    ]


def make(tar: Path, origin=ORIGIN, stop: int | None = None) -> tuple[list, int]:
    """Make a shard, or fail after batch `stop`; its samples and how many batches were painted."""
    painted = 0
    with journal.begin(tar, origin) as made:
        for batch in BATCHES[-(-len(made.samples) // SIZE) :]:
            made.add(rows(batch), 2)
            painted += 1
            if painted == stop:
                raise KeyboardInterrupt
        archive = made.finish(tar)
    write_manifest(tar.with_suffix(".json"), archive, made.samples, {"seconds": made.seconds})
    return made.samples, painted


def stopped(tar: Path, after: int, origin=ORIGIN) -> Path:
    """The journal of a job that was stopped after some more batches."""
    with pytest.raises(KeyboardInterrupt):
        make(tar, origin, after)
    (only,) = journal.journals(tar)
    return only


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "00020-00042.tar"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    """The tar as it is written in one go, without a journal."""
    path = tmp_path_factory.mktemp("undisturbed") / "tar"
    with tarfile.open(path, "w") as archive:
        add_samples(archive, rows(INDICES))
    return path.read_bytes()


def check_whole(tar: Path, samples: list, undisturbed: bytes) -> None:
    assert tar.read_bytes() == undisturbed
    assert [sample.index for sample in samples] == list(INDICES)
    manifest = tar.with_suffix(".json")
    assert read_manifest(manifest)["samples"] == samples
    assert [sample for sample, _ in read_shard(tar, manifest)] == samples
    assert sorted(path.name for path in tar.parent.iterdir()) == sorted([tar.name, manifest.name])


def test_a_shard_made_in_one_go_leaves_no_journal(tar, undisturbed):
    samples, painted = make(tar)
    assert painted == len(BATCHES)
    check_whole(tar, samples, undisturbed)


def test_every_stop_costs_no_finished_batch(tar, undisturbed):
    for _ in range(3):
        stopped(tar, 1)
    stopped(tar, 2)
    samples, painted = make(tar)
    assert painted == len(BATCHES) - 5
    check_whole(tar, samples, undisturbed)


def test_seconds_are_those_of_all_jobs(tar):
    first = time.monotonic()
    stopped(tar, 3)
    second = time.monotonic()
    time.sleep(0.5)  # between jobs, which costs no device
    third = time.monotonic()
    make(tar)
    spent = second - first + time.monotonic() - third
    assert 0.1 * spent < read_manifest(tar.with_suffix(".json"))["seconds"] < spent


def test_a_stop_before_the_tar_has_its_name_costs_nothing(tar, undisturbed, monkeypatch):
    monkeypatch.setattr(journal, "settle", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        make(tar)
    assert not tar.exists()
    monkeypatch.undo()
    samples, painted = make(tar)
    assert painted == 0
    check_whole(tar, samples, undisturbed)


@pytest.mark.parametrize("key", ["engine", "shard", "code"])
def test_images_of_anything_else_are_not_taken_up(tar, undisturbed, key):
    stopped(tar, 3, {**ORIGIN, key: "another"})
    samples, painted = make(tar)
    assert painted == len(BATCHES)
    check_whole(tar, samples, undisturbed)


def test_the_journal_of_another_shard_is_left_alone(tar):
    other = stopped(tar.with_name("00042-00064.tar"), 2)
    make(tar)
    assert other.exists() and other.with_suffix(journal.BYTES).exists()


def test_of_several_jobs_the_one_that_came_farthest_is_taken_up(tar, tmp_path, undisturbed):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    short = stopped(elsewhere / tar.name, 1)
    stopped(tar, 3)
    for path in (short, short.with_suffix(journal.BYTES)):
        path.replace(tar.parent / path.name)
    elsewhere.rmdir()
    samples, painted = make(tar)
    assert painted == len(BATCHES) - 3
    check_whole(tar, samples, undisturbed)


def test_no_changed_bit_is_taken_up(tar, tmp_path, undisturbed):
    """Each flipped bit costs the batch that it is in and those after it, and nothing else."""
    kept = tmp_path / "kept"
    kept.mkdir()
    original = stopped(tar, 3)
    pair = [original, original.with_suffix(journal.BYTES)]
    for path in pair:
        path.replace(kept / path.name)
    tar = tmp_path / "again" / tar.name
    tar.parent.mkdir()
    choose = random.Random(20)
    painted_again = set()
    for trial in range(200):
        for path in pair:
            shutil.copy2(kept / path.name, tar.parent / path.name)
        harmed = tar.parent / pair[trial % 2].name
        data = bytearray(harmed.read_bytes())
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        harmed.write_bytes(data)
        samples, painted = make(tar)
        assert painted > len(BATCHES) - 3
        painted_again.add(painted)
        check_whole(tar, samples, undisturbed)
    assert painted_again == {len(BATCHES) - done for done in (0, 1, 2)}


def test_a_job_killed_at_its_start_leaves_nothing_for_good(tar, undisturbed):
    (tar.parent / f".{tar.name}.0123456789ab{journal.LINES}").touch()  # its bytes come after it
    samples, painted = make(tar)
    assert painted == len(BATCHES)
    check_whole(tar, samples, undisturbed)


@pytest.mark.parametrize("cut", [0, 1, 700, 4000, -2])
@pytest.mark.parametrize("suffix", [journal.LINES, journal.BYTES])
def test_torn_files_are_taken_up_as_far_as_they_go(tar, undisturbed, suffix, cut):
    path = stopped(tar, 3).with_suffix(suffix)
    os.truncate(path, cut % path.stat().st_size if cut else 0)
    samples, painted = make(tar)
    assert painted > len(BATCHES) - 3
    check_whole(tar, samples, undisturbed)


@pytest.mark.parametrize("suffix", [journal.LINES, journal.BYTES])
@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_something_else_by_the_name_of_a_journal_is_not_opened(tar, undisturbed, suffix, put):
    path = stopped(tar, 3).with_suffix(suffix)
    path.unlink()
    put(path)
    samples, painted = make(tar)
    assert painted == len(BATCHES)
    check_whole(tar, samples, undisturbed)


WORKER = """
import sys, time
from pathlib import Path
import test_journal
from t2i.generate.journal import Journal
rows, add = test_journal.rows, Journal.add
def slow(batch):
    time.sleep(0.05)
    return rows(batch)
def said(*arguments):
    add(*arguments)
    print("added", flush=True)
test_journal.rows, Journal.add = slow, said
print("ready", flush=True)
test_journal.make(Path(sys.argv[1]))
"""


def test_jobs_killed_at_random_lose_nothing_that_they_added(tar, undisturbed):
    choose = random.Random(5)
    kept = kills = 0
    while not tar.exists():
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tar)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])},
            stdout=subprocess.PIPE,
            text=True,
        ) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == "ready\n"
            time.sleep(choose.uniform(0.0, 0.12))
            job.send_signal(signal.SIGKILL)
            kept += job.stdout.read().count("added")
        kills += 1
        if not tar.exists():
            assert kept <= count(tar) <= kept + 1  # a line may be written and not said
            kept = count(tar)
    assert kills >= 3
    assert tar.read_bytes() == undisturbed


def count(tar: Path) -> int:
    """Batches that the next job takes up."""
    return max((journal._count(path, ORIGIN) for path in journal.journals(tar)), default=0)
