"""Runs side by side: what is compared, what is refused, and the history that runs leave behind."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_results import fake_run
from report_page import Elements, leaves
from t2i.base.arrays import write_arrays
from t2i.base.files import write_json
from t2i.job.records import RecordError, write_records
from t2i.report import export, history
from t2i.report.page import render_runs
from t2i.report.runs import as_text, read_run, side_by_side

TOOL = Path(__file__).parents[2] / "tools/compare.py"
Place = Callable[..., Path]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found, _ = fake_run(tmp_path_factory.mktemp("run"))
    latents = {"name": "coco2014/latents.npy", "sha256": "1a" * 32}
    captions = {"name": "coco2014/captions.tsv", "sha256": "2e" * 32}
    found["provenance"]["inputs"] = [latents, captions]
    return found


@pytest.fixture
def finished(tmp_path: Path, report: dict[str, Any]) -> Place:
    """Makes the folder of a finished run, with records, after a change of its report."""

    def made(name: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        mine = copy.deepcopy(report)
        change(mine)
        folder = Path("results") / name
        with chdir(tmp_path):
            write_json(folder / "report.json", mine)
            write_records("make_report", {}, [folder / "report.json"], {})
            for n, variant in enumerate(mine["variants"]):
                draw = np.random.default_rng(n)
                path = folder / variant["name"] / "influence.npz"
                path.parent.mkdir()
                fid, clip = draw.normal(0, 2, (2, variant["metrics"]["samples"]))
                index = np.arange(len(fid))
                write_arrays(path, {"index": index, "fid": fid, "clip": clip})
                write_records("reduce_metrics", {}, [path], {})
        return tmp_path / folder

    return made


def test_runs_are_compared_in_pairs_wherever_they_lie(finished: Place, tmp_path: Path) -> None:
    def better(report: dict[str, Any]) -> None:
        report["variants"][0]["metrics"]["fid"] -= 20.0
        report["variants"][0]["metrics"]["clip"] += 0.001

    here = finished("one")
    elsewhere = shutil.copytree(finished("two", better), tmp_path / "elsewhere")
    found = side_by_side([*read_run(here), *read_run(elsewhere)])
    names = [row["name"] for row in found["rows"]]
    assert names == [f"{here}/fp32", f"{here}/bf16", f"{elsewhere}/fp32", f"{elsewhere}/bf16"]
    first, second, third, _ = found["rows"]
    assert first["difference"] is first["faster"] is None and found["baseline"] == names[0]
    assert third["difference"]["fid_difference"] == -20.0
    assert third["difference"]["fid_interval"] == [-20.0, -20.0]  # each sample's influence is equal
    low, high = second["difference"]["clip_interval"]
    # Of 40 pairs of differences with a deviation of 2 sqrt(2).
    assert 1.2 < high - low < 2.3 and second["faster"]["ratio"] == pytest.approx(1.5)
    text = as_text(found)
    assert "-20 [-20, -20]" in text and f"Differences are from {here}/fp32" in text
    page = render_runs(found)
    known = {leaf for leaf in leaves(found) if isinstance(leaf, (int, float))}
    shown = {value for value, _ in Elements(page).numbers}
    assert shown <= known and {-20.0, first["fid"], third["clip"]} <= shown
    assert "differs: lower</strong> (better)" in page and "no difference shown" in page


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("variants", 0, "metrics", "samples"), 12, "40 and 12 samples: unequal sizes"),
        (
            ("variants", 0, "metrics", "reference", "sha256"),
            "ee" * 32,
            "scored by other networks or against another reference",
        ),
        (("provenance", "inputs", 1, "sha256"), "ee" * 32, "other captions"),
    ],
)
def test_unequal_protocols_are_refused_with_the_reason(
    path: tuple[Any, ...], value: Any, reason: str, finished: Place
) -> None:
    def change(report: dict[str, Any]) -> None:
        *way, last = path
        for step in way:
            report = report[step]
        report[last] = value

    one, other = finished("one"), finished("other", change)
    found = side_by_side([read_run(one)[0], read_run(other)[0]])
    between = found["rows"][1]["difference"]
    assert not between["comparable"] and reason in between["reason"]
    assert between["fid_difference"] is between["clip_interval"] is None
    assert f"{other}/fp32 is not compared: " in as_text(found)
    assert reason in render_runs(found)


def test_another_latent_is_told(finished: Place) -> None:
    def change(report: dict[str, Any]) -> None:
        report["provenance"]["inputs"][0]["sha256"] = "ee" * 32

    found = side_by_side([read_run(finished("one"))[0], read_run(finished("other", change))[0]])
    between = found["rows"][1]["difference"]
    assert between["comparable"] and not between["latents"]
    assert "began with another latent" in as_text(found)
    assert "began with another latent" in render_runs(found)


def test_what_was_changed_is_refused(finished: Place, tmp_path: Path) -> None:
    folder = finished("one")
    path = folder / "report.json"
    path.write_text(path.read_text().replace("187.123456", "18.7123456"))
    with pytest.raises(RecordError, match="report.json is not what make_report made"):
        read_run(folder)
    bare = shutil.copytree(
        finished("two"), tmp_path / "bare", ignore=shutil.ignore_patterns(".records")
    )
    with pytest.raises(RecordError, match=r"report.json has no record; copy .*\.records with it"):
        read_run(bare)


def compared(*words: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_tool_prints_and_writes(finished: Place, tmp_path: Path) -> None:
    one, two = finished("one"), finished("two")
    done = compared(one, two, "--json", tmp_path / "all.json", "--page", tmp_path / "all.html")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "all.json").read_text())
    assert done.stdout == as_text(found) + "\n"
    assert (tmp_path / "all.html").read_text() == render_runs(found)


def test_the_tool_names_what_it_cannot_read(finished: Place, tmp_path: Path) -> None:
    done = compared(finished("one"), tmp_path / "nowhere")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{tmp_path}/nowhere" in done.stderr and "not found; is this the folder" in done.stderr
    broken = finished("broken")
    (broken / "fp32/influence.npz").write_bytes(b"no")
    done = compared(broken)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "influence.npz is not what reduce_metrics made" in done.stderr


def test_the_history_has_each_result_once(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "results/history.jsonl"
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert history.append(path, report, now)
    assert not history.append(path, report, now)
    other = copy.deepcopy(report)
    other["variants"][0]["metrics"]["fid"] += 1
    path.write_bytes(path.read_bytes() + b'{"cut')
    assert history.append(path, other)
    first, cut, last = path.read_text().splitlines()
    assert json.loads(first)["time"] == "2026-01-02T03:04:05+00:00" and cut == '{"cut'
    assert json.loads(first)["rows"] == export.rows(report)
    assert json.loads(last)["rows"][0]["fid"] == report["variants"][0]["metrics"]["fid"] + 1
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        history.append(path, report)
    assert not (tmp_path / "elsewhere").exists()
