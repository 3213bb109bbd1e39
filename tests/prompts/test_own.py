"""Prompts of one's own: from a text file to a data set, and to a report."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from t2i.prompts.captions import format_captions, read_captions
from t2i.prompts.own import own_captions, read_prompts, shown_ids
from workflow_run import TINY, Workplace, copy_run

COLOURS = ("red", "blue", "green", "yellow", "black")
PROMPTS = [
    f"A {size} {colour} {shape} in the middle, the background is grey."
    for size, shape, colour in product(("small", "large"), ("circle", "star"), COLOURS)
]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "prompts.txt"
    path.write_bytes(content)
    return path


def test_a_line_is_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path, b'\xef\xbb\xbf a cat \r\n\r\n"a\tdog", \xc3\xa9\n\nlast')
    prompts = read_prompts(path)
    assert prompts == ["a cat", '"a\tdog", é', "last"]
    tsv = tmp_path / "captions.tsv"
    tsv.write_text(format_captions(own_captions(prompts)), "utf-8")
    assert [caption.caption for caption in read_captions(tsv)] == prompts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a cat\na d\xffg", "prompts.txt:2: not UTF-8"),
        (b"a cat\n\0", "prompts.txt:2: a zero byte"),
        (b" \n\n", "0 prompts"),
    ],
)
def test_what_is_no_list_of_prompts_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_prompts(written(tmp_path, content))


def test_shown_samples_are_spread() -> None:
    assert shown_ids(20) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    assert shown_ids(3) == [0, 1, 2]
    assert len(set(shown_ids(5001))) == 10 and max(shown_ids(5001)) < 5001


def used(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/use_prompts.py", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_a_file_of_prompts_gets_a_report(finished: Workplace, tmp_path: Path) -> None:
    place = Workplace(copy_run(finished.folder, tmp_path / "project"))
    written(place.folder, "\n".join(PROMPTS).encode())
    done = used(place.folder, "prompts.txt", "mine")
    assert done.returncode == 0, done.stderr
    assert "20 prompts." in done.stdout and "config/mlperf.yaml mine/config.json" in done.stdout
    mine = Workplace(place.folder, (TINY, place.folder / "mine/config.json"))
    assert "results/mine/report.html" in mine.snakemake()
    report = json.loads((place.folder / "results/mine/report.json").read_text())
    assert [row["caption"] for row in report["gallery"]["rows"]][:2] == [PROMPTS[1], PROMPTS[3]]
    for variant in report["variants"]:
        assert variant["metrics"]["samples"] == 20
        assert not variant["metrics"]["comparable"]["value"]
        assert variant["metrics"]["clip"] > variant["metrics"]["clip_shifted"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    prompts = written(tmp_path, b"a cat")
    (tmp_path / "taken").mkdir()
    tool = Path(__file__).parents[2] / "tools/use_prompts.py"
    for name, words in (("coco2014", "no name"), ("Mine", "no name"), ("taken", "exists")):
        command = [sys.executable, str(tool), str(prompts), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and words in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompts.txt", "taken"]
