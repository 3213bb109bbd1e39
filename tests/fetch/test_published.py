"""Published sets: lists of digests, and what is fetched by them."""

import hashlib
from pathlib import Path

import pytest

from t2i.fetch.files import FetchError, fetch
from t2i.fetch.published import WrongListError, file_source, list_source, read_list

NAME = "laion"


def published_set(folder: Path, algorithm: str) -> dict[str, str]:
    """Two tars and their list in a mirror."""
    place = folder / "mirror" / "training" / NAME / "published"
    place.mkdir(parents=True)
    lines = []
    for number in range(2):
        content = bytes([number]) * 1000
        (place / f"{number:05d}.tar").write_bytes(content)
        lines.append(f"{hashlib.new(algorithm, content).hexdigest()}  ./{number:05d}.tar\n")
    (place / "sums.txt").write_text("".join(lines))
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"address": "http://127.0.0.1:9/set/", "list": "sums.txt", "sha256": digest}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tars_are_fetched_by_the_list(algorithm: str, tmp_path: Path) -> None:
    published, mirror = published_set(tmp_path, algorithm), str(tmp_path / "mirror")
    sums, tar = tmp_path / "checksums.txt", tmp_path / "00001.tar"
    fetch(list_source(NAME, published), sums, mirror, True)
    source = file_source(NAME, published, sums, "00001.tar")
    assert (source.algorithm, source.address) == (algorithm, "http://127.0.0.1:9/set/00001.tar")
    fetch(source, tar, mirror, True)
    assert tar.read_bytes() == b"\1" * 1000


@pytest.mark.parametrize("file", ["00000.tar", "sums.txt"])
def test_what_is_not_as_published_is_refused(file: str, tmp_path: Path) -> None:
    published, mirror = published_set(tmp_path, "sha512"), str(tmp_path / "mirror")
    path = tmp_path / "mirror" / "training" / NAME / "published" / file
    content = bytearray(path.read_bytes())
    sums = tmp_path / "checksums.txt"
    if file != "sums.txt":
        fetch(list_source(NAME, published), sums, mirror, True)
    content[5] ^= 1
    path.write_bytes(content)
    source = list_source(NAME, published)
    if file != "sums.txt":
        source = file_source(NAME, published, sums, file)
    with pytest.raises(FetchError, match=f"training/laion/published/{file} could not be fetched"):
        fetch(source, tmp_path / "fetched", mirror, True)
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0" * 64 + "  ../00000.tar", "line 1: expected a sha256 or sha512"),
        ("0" * 64 + "  a/00000.tar", "line 1: expected"),
        ("0" * 40 + "  00000.tar", "line 1: expected"),
        (("0" * 64 + "  00000.tar\n") * 2, "line 2: 00000.tar is there twice"),
        ("<html>", "got '<html>'"),
    ],
)
def test_a_wrong_list_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "sums.txt"
    path.write_text(text)
    with pytest.raises(WrongListError, match=message):
        read_list(path)


def test_a_file_that_is_not_listed_is_named(tmp_path: Path) -> None:
    published = published_set(tmp_path, "sha256")
    sums = tmp_path / "mirror" / "training" / NAME / "published" / "sums.txt"
    with pytest.raises(WrongListError, match="has no 00002.tar among 2 files"):
        file_source(NAME, published, sums, "00002.tar")
