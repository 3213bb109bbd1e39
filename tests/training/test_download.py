"""The download of LAION's images, from a loopback server.

A stand-in takes the place of img2dataset, and img2dataset itself where T2I_IMG2DATASET names it.
"""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laion import install_stand_in, metadata_row, served_images, write_part
from t2i.training.download import DownloadFailed, download_images
from t2i.training.tars import index_tar, read_samples

VARIABLE = "T2I_IMG2DATASET"
SILENT = "#!{python}\n"
FAILING = "#!{python}\nraise SystemExit(3)\n"
COUNT = 12


@pytest.fixture(params=["stand-in", "img2dataset"])
def program(request, tmp_path: Path, monkeypatch) -> None:
    if request.param == "stand-in":
        folder = install_stand_in(tmp_path / "bin")
    elif VARIABLE in os.environ:
        folder = Path(os.environ[VARIABLE]).parent
    else:
        pytest.skip(f"{VARIABLE} does not name the program img2dataset")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def piece(folder: Path, address: str, missing: set[int]) -> Path:
    rows = [
        metadata_row(number, f"{address}/{'gone' * (number in missing)}{number}.png", "cc-by")
        for number in range(COUNT)
    ]
    return write_part(folder, 0, rows)


def test_a_tar_has_what_came_in_the_order_of_the_rows(program, tmp_path: Path) -> None:
    tar = tmp_path / "tars" / "00031.tar"
    with served_images(tmp_path / "images", COUNT) as address:
        told = download_images(piece(tmp_path, address, {2, 7}), tar, rows=10_000)
    assert (told["count"], told["successes"]) == (COUNT, COUNT - 2)
    came = [number for number in range(COUNT) if number not in (2, 7)]
    samples = list(read_samples(tar))
    assert [stem for stem, _ in samples] == [f"00031{number:04d}" for number in came]
    for number, (stem, given) in zip(came, samples, strict=True):
        assert given[".txt"].decode() == f"caption {number}"
        facts = json.loads(given[".json"])
        assert (facts["key"], facts["SAMPLE_ID"], facts["LICENSE"]) == (stem, number, "cc-by")
        image = np.asarray(Image.open(io.BytesIO(given[".jpg"])), dtype=float)
        original = np.asarray(Image.open(tmp_path / "images" / f"{number}.png"), dtype=float)
        assert image.shape == original.shape  # its own size, only compressed
        assert abs(image - original).mean() < 12
    assert len(index_tar(tar)) == len(came)
    assert list(tar.parent.iterdir()) == [tar]


def test_too_few_images_are_no_tar(program, tmp_path: Path) -> None:
    tar = tmp_path / "tars" / "00031.tar"
    with served_images(tmp_path / "images", COUNT) as address:
        given = piece(tmp_path, address, set(range(2, COUNT)))
        with pytest.raises(DownloadFailed, match=r"2 of 12 images of .* came.*404.*\(10\)"):
            download_images(given, tar, rows=10_000)
    assert list(tar.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"), [(SILENT, "made no tar of"), (FAILING, "img2dataset ended with 3")]
)
def test_a_program_that_fails_leaves_nothing(text, message, tmp_path, monkeypatch) -> None:
    folder = install_stand_in(tmp_path / "bin", text)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    tar = tmp_path / "tars" / "00000.tar"
    (tmp_path / "tars/00000.downloading").mkdir(parents=True)  # of a process that was killed
    with pytest.raises(DownloadFailed, match=message):
        download_images(tmp_path / "piece.parquet", tar, rows=10)
    assert list(tar.parent.iterdir()) == []


def test_without_the_program_it_says_where_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadFailed, match=r"is not here: run with --sdm conda .*envs/laion"):
        download_images(tmp_path / "piece.parquet", tmp_path / "00000.tar", rows=10)
