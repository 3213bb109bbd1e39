"""Cutting a run into shards, and putting features of shards together again."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.generate.plan import batches, parse, plan
from t2i.metrics.features import (
    NAMES,
    Features,
    check_coverage,
    gather,
    read_features,
    write_features,
)

SAMPLES = st.integers(1, 3000)
SIZES = st.integers(1, 400)


@given(SAMPLES, SIZES)
def test_plan_is_a_partition_in_order(samples, shard_size):
    shards = plan(samples, shard_size)
    assert [index for shard in shards for index in parse(shard)] == list(range(samples))
    assert shards == sorted(shards)
    assert all(len(parse(shard)) == shard_size for shard in shards[:-1])


@given(SAMPLES, SIZES, st.integers(0, 1000))
def test_growing_samples_keeps_the_names_of_all_full_shards(samples, shard_size, more):
    full = [shard for shard in plan(samples, shard_size) if len(parse(shard)) == shard_size]
    assert plan(samples + more, shard_size)[: len(full)] == full


def test_names_are_what_the_files_are_called():
    assert plan(70, 32) == ["00000-00032", "00032-00064", "00064-00070"]
    assert parse("00500-00750") == range(500, 750)
    assert plan(99_999, 99_999) == ["00000-99999"]
    assert plan(100_250, 250)[-2:] == ["99750-100000", "100000-100250"]
    assert parse("9999000-9999999") == range(9_999_000, 9_999_999)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0-5",
        "00005-00005",
        "00007-00005",
        "00000-00005 ",
        "00000-00005\n",
        "00000_00005",
        "-0001-00005",
        "000000-00005",
        "00005-010000",
        "00000-10000000",
        "00000-00005/..",
        "٠٠٠٠٠-٠٠٠٠٥",
        "00000-0000x",
    ],
)
def test_bad_names_are_refused_and_quoted(name):
    with pytest.raises(ValueError) as caught:
        parse(name)
    assert repr(name) in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_parses_to_its_own_range_or_is_refused(name):
    try:
        indices = parse(name)
    except ValueError:
        return
    assert name == f"{indices.start:05d}-{indices.stop:05d}"


@given(st.integers(0, 500), st.integers(1, 100), st.integers(1, 40))
def test_batches_cover_a_shard_in_order_and_never_leave_it(start, length, batch_size):
    shard = range(start, start + length)
    cut = batches(shard, batch_size)
    assert [index for batch in cut for index in batch] == list(shard)
    assert all(len(batch) == batch_size for batch in cut[:-1])


def some_features(indices, seed=0):
    """Features whose values are a function of the sample index."""
    rows = [np.random.default_rng([seed, index]) for index in indices]
    n = len(rows)
    return Features(
        index=np.asarray(list(indices), np.int64),
        inception=np.array([row.random(2048) for row in rows], np.float32).reshape(n, 2048),
        clip=np.array([row.random() for row in rows], np.float32),
        clip_shifted=np.array([row.random() for row in rows], np.float32),
        sha256=np.array([f"{index:064x}" for index in indices]),
        low=np.zeros(n, np.uint8),
        high=np.full(n, 255, np.uint8),
        size=np.full((n, 2), 64, np.int64),
    )


def equal(one, other):
    """Whether two sets of features are equal bit for bit."""
    return all(
        getattr(one, name).dtype == getattr(other, name).dtype
        and np.array_equal(getattr(one, name), getattr(other, name))
        for name in NAMES
    )


def test_features_come_back_bit_for_bit(tmp_path):
    features = some_features(range(5))
    write_features(tmp_path / "f.npz", features)
    assert equal(read_features(tmp_path / "f.npz"), features)
    with zipfile.ZipFile(tmp_path / "f.npz") as archive:
        assert sorted(archive.namelist()) == sorted(f"{name}.npy" for name in NAMES)


@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_gathering_depends_on_neither_order_nor_cut(random, shard_size):
    whole = some_features(range(12))
    parts = [some_features(parse(shard)) for shard in plan(12, shard_size)]
    random.shuffle(parts)
    assert equal(gather(parts, 12), whole)


def test_missing_doubled_and_surplus_samples_are_named():
    index = np.array([0, 1, 1, 3, 7, 9, 9])
    with pytest.raises(ValueError) as caught:
        check_coverage(index, 6)
    message = str(caught.value)
    assert message == ("samples 0 to 5: 3 missing: 2, 4, 5; 2 more than once: 1, 9; 2 beyond: 7, 9")


def test_long_lists_are_cut_and_odd_indices_are_no_trouble():
    with pytest.raises(ValueError, match="90 missing: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."):
        check_coverage(np.arange(90, 100), 100)
    with pytest.raises(ValueError, match="2 beyond: -1, 4000000000000"):
        check_coverage(np.array([0, 1, -1, 4_000_000_000_000]), 2)


def test_shard_given_twice_is_refused():
    part = some_features(range(4))
    with pytest.raises(ValueError, match="4 more than once: 0, 1, 2, 3"):
        gather([part, part], 4)


def test_every_flipped_byte_of_features_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "00000-00002.npz"
    features = some_features(range(2))
    write_features(path, features)
    content = path.read_bytes()
    draw = np.random.default_rng(7)
    # Headers are a small part of the file and the delicate one: flip there more often.
    head = [n + k for n in range(len(content)) if content[n : n + 2] == b"PK" for k in range(130)]
    offsets = {*draw.integers(0, len(content), 150).tolist(), *draw.choice(head, 250).tolist()}
    noticed = 0
    for offset in sorted(offsets & set(range(len(content)))):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        try:
            assert equal(read_features(path), features), f"offset {offset} changed the features"
        except ValueError as error:
            assert str(path) in str(error)
            assert "delete it and run again" in str(error)
            noticed += 1
    assert noticed > 150


def test_array_cut_short_by_its_own_header_is_noticed(tmp_path):
    path = tmp_path / "f.npz"
    write_features(path, some_features(range(2)))
    content = path.read_bytes()
    assert content.count(b"'descr': '<f4'") == 3
    path.write_bytes(content.replace(b"'descr': '<f4'", b"'descr': '<f2'", 1))
    with pytest.raises(ValueError, match="another checksum"):
        read_features(path)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_cut_features_are_named(tmp_path, keep):
    path = tmp_path / "f.npz"
    write_features(path, some_features(range(2)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="f.npz: damaged"):
        read_features(path)


def test_features_with_an_array_of_objects_are_refused(tmp_path):
    path = tmp_path / "f.npz"
    fields = {**vars(some_features(range(2))), "clip": np.array([{}, []], object)}
    with path.open("wb") as handle:
        np.savez(handle, **fields)
    with pytest.raises(ValueError, match="f.npz: damaged"):
        read_features(path)
