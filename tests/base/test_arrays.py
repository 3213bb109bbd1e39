"""Arrays come back as they were written, or the file is named."""

import random
from pathlib import Path

import numpy as np
import pytest

from t2i.base.arrays import read_array, read_arrays, write_arrays
from t2i.engine.latents import read_latent

VALUES = np.random.default_rng(3).standard_normal((1, 4, 16, 16), dtype=np.float32)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", VALUES)
    assert np.array_equal(read_array(tmp_path / "one.npy"), VALUES)
    write_arrays(tmp_path / "two.npz", {"a": VALUES, "b": VALUES[0]})
    read = read_arrays(tmp_path / "two.npz", ("b", "a"))
    assert list(read) == ["b", "a"] and np.array_equal(read["a"], VALUES)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"text", b"\x80\x04N.", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff"],
)
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    for name, read in (("x.npy", read_array), ("x.npz", lambda path: read_arrays(path, "a"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: damaged \(.*delete it and run again"):
            read(tmp_path / name)


def test_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="damaged"):
        read_array(tmp_path / "x.npy")


def test_mutated_files_are_read_as_they_were_or_refused(tmp_path: Path) -> None:
    """Headers that say something else, and cuts. An npy has no checksum: values may differ."""
    path = tmp_path / "x.npy"
    np.save(path, VALUES)
    whole = path.read_bytes()
    choose = random.Random(1)
    refused = 0
    for trial in range(3000):
        content = bytearray(whole)
        if trial % 3:
            content[choose.randrange(128)] ^= 1 << choose.randrange(8)
        else:
            del content[choose.randrange(len(content)) :]
        path.write_bytes(content)
        try:
            read = read_array(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert read.size == VALUES.size
    assert refused > 1500


def test_a_latent_is_refused_unless_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "latents.npy"
    np.save(path, VALUES)
    assert np.array_equal(read_latent(path, 8), VALUES[:, :, :8, :8])
    with pytest.raises(ValueError, match=r"latents\.npy: shape .* n >= 32"):
        read_latent(path, 32)
    for value in (np.nan, np.inf):
        harmed = VALUES.copy()
        harmed[0, 1, 2, 3] = value
        np.save(path, harmed)
        with pytest.raises(ValueError, match=r"latents\.npy: 1 values are not finite"):
            read_latent(path, 8)
