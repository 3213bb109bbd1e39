"""A benchmark of engines on the report's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fake_results import fake_run
from report_page import Elements, part
from t2i.report.charts import bar_chart, bar_figure
from t2i.report.page import render
from t2i.report.speed import read_speed, write_speed


def result(name: str, images: int, seconds: list[float], **others: Any) -> dict[str, Any]:
    rate = images / sorted(seconds)[len(seconds) // 2]
    kept = {"busy": 0.0, "watts": [], **others}
    return {
        "name": name,
        "images": images,
        "seconds": seconds,
        "images_per_second": rate,
        **kept,
    }


@pytest.fixture
def facts() -> dict[str, Any]:
    return {
        "model": "SDXL base 1.0, random weights",
        "device": {"kind": "cuda", "name": "Fake GPU <1>", "arch": "sm_90"},
        "software": {"torch": "2.13.0"},
        "remarks": ["heat"],
        "repeats": 3,
        "results": [
            result(
                "reference",
                1,
                [2.5, 2.0, 2.6],
                busy=40.0,
                parts={"UNet": 100.0},
                watts=[300.0, 320.0],
            ),
            result("native", 8, [4.0, 4.1, 3.9], busy=200.0, parts={"UNet": 200.0}),
        ],
    }


def test_rows_are_what_was_measured(facts: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    write_speed(path, facts)
    first, second = read_speed(path)["rows"]
    assert first["spread"] == pytest.approx(0.6 / 2.5)
    assert first["busy"] == pytest.approx(0.4) and second["busy"] == 1
    assert first["joules"] == pytest.approx(310 / 0.4)
    assert first["ratio"] == 1
    assert second["images_per_second"] == 2
    assert second["ratio"] == pytest.approx(5)
    assert second["joules"] is None


def test_a_changed_file_is_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    write_speed(path, facts)
    text = path.read_text()
    for changed in (
        text.replace("2.5", "2.4"),
        text.replace('"schema": 1', '"schema": 2'),
        json.dumps(facts),
        "[]",
    ):
        path.write_text(changed)
        with pytest.raises(ValueError, match=r"speed\.json: not as bench/engine_speed\.py"):
            read_speed(path)


def test_the_page_has_a_row_and_a_bar_for_each(facts: dict[str, Any], tmp_path: Path) -> None:
    write_speed(tmp_path / "speed.json", facts)
    report, pictures = fake_run(tmp_path)
    assert 'id="speed"' not in render(report, pictures)
    speed = read_speed(tmp_path / "speed.json")
    page = render({**report, "engine_speed": speed}, pictures)
    section = part(page, "speed")
    assert "random weights" in section and "Take these numbers with care: heat." in section
    assert "Fake GPU &lt;1&gt;" in section
    numbers = [value for value, _ in Elements(section).numbers]
    for row in speed["rows"]:
        for key in ("images", "images_per_second", "spread", "ratio"):
            assert row[key] in numbers
    assert "reference, 1 0.4, native, 8 2" in section


def test_bars_are_as_long_as_their_values() -> None:
    figure = bar_figure("Title", "axis", {"a": 0.5, "b": 2.0})
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 2.0]
    assert [text.get_text() for text in axes.texts] == ["0.5", "2"]
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="Title: a cannot be drawn"):
            bar_chart("Title", "axis", {"a": wrong})
