"""Tars of training data: written, looked through, read at random, and what is refused."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from t2i.training.tars import (
    DamagedTar,
    Samples,
    index_tar,
    npy,
    read_index,
    read_samples,
    write_index,
    write_tar,
)


def moments(seed: int, shape=(1, 8, 4, 4)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rows(count: int, first: int = 0):
    return [
        (f"{n:09d}", {".npy": npy(moments(n)), ".txt": f"caption {n} é".encode(), ".json": b"{}"})
        for n in range(first, first + count)
    ]


def test_samples_are_read_at_their_places(tmp_path: Path) -> None:
    tars = [tmp_path / "00000.tar", tmp_path / "00001.tar"]
    write_tar(tars[0], reversed(rows(3)))  # the order in a tar does not count
    write_tar(tars[1], rows(2, first=3))
    for tar in tars:
        write_index(tar.with_suffix(".index.npz"), index_tar(tar))
    samples = Samples(tars, [read_index(tar.with_suffix(".index.npz")) for tar in tars])
    assert len(samples) == 5
    for row in (4, 0, 2, 3, 1):
        found, caption = samples.moments(row)
        assert np.array_equal(found, moments(row)[0])
        assert caption == f"caption {row} é"


def test_a_published_tar_is_read(tmp_path: Path) -> None:
    """As `tar.add(folder, arcname="")` writes it: folders, files in the order of the folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for stem, files in rows(3):
        for suffix, content in files.items():
            (folder / f"{stem}{suffix}").write_bytes(content)
    path = tmp_path / "published.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname="")
    samples = Samples([path], [index_tar(path)])
    assert [samples[row][1] for row in range(3)] == [f"caption {n} é" for n in range(3)]


def changed(**suffixes: bytes | None):
    """A second sample with other files; None leaves one out."""
    first, (stem, files) = rows(2)
    given = {**files, **{f".{suffix}": content for suffix, content in suffixes.items()}}
    return [first, (stem, {suffix: content for suffix, content in given.items() if content})]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (changed(txt=None), "000000001 has .json, .npy; expected .txt"),
        (changed(npy=None), "000000001 has .json, .txt"),
        (changed(jpg=b"x"), "000000001 has .jpg, .json, .npy, .txt"),
        (changed(npy=npy(moments(1).astype(np.float64))), "float64"),
        (changed(npy=npy(moments(1, (1, 4, 4, 4)))), "expected float32"),
        (changed(npy=npy(moments(1))[:-4]), "do not fit"),
        (changed(npy=b"no array"), "000000001"),
        (changed(npy=npy(moments(1, (1, 8, 8, 8)))), "different kinds or shapes"),
        (changed(npy=None, png=b"x"), "different kinds or shapes"),
        (changed(txt=b"\xff"), "utf-8"),
        ([], "no samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_tar_is_refused(samples, message: str, tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_tar(path, samples)
    with pytest.raises(DamagedTar, match=message) as error:
        index_tar(path)
    assert str(path) in str(error.value)


def test_a_cut_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_tar(path, rows(3))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DamagedTar, match="00000.tar"):
        index_tar(path)


def test_a_link_in_a_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("000000001.txt")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DamagedTar, match="not a plain file"):
        index_tar(path)


@pytest.mark.parametrize("suffix", [".npy", ".txt"])
def test_a_changed_sample_is_refused_when_it_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_tar(path, rows(2))
    index = index_tar(path)
    place = int((index.data if suffix == ".npy" else index.caption)[1, 0])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    samples = Samples([path], [index])
    samples.moments(0)
    with pytest.raises(DamagedTar, match="sample 1 has changed"):
        samples.moments(1)


def test_another_tar_than_the_indexed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_tar(path, rows(2))
    index = index_tar(path)
    write_tar(path, rows(30))
    with pytest.raises(DamagedTar, match="its index is of"):
        Samples([path], [index])


def test_samples_are_copied_whole(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_tar(path, rows(2))
    assert list(read_samples(path)) == rows(2)
    with tarfile.open(path) as archive:
        assert {(m.mtime, m.uid, m.uname) for m in archive} == {(0, 0, "")}
    assert io.BytesIO(path.read_bytes()).read(9) == b"000000000"
