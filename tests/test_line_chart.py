"""Line charts: their points, scales and ticks."""

from __future__ import annotations

import re

import pytest

from fake_training import (
    training,
)
from t2i.line_chart import line_chart, log_ticks, step_ticks
from t2i.training_page import charts


def points(chart: str) -> list[list[tuple[float, float]]]:
    """Coordinates of each line of a chart."""
    lines = re.findall(r'<polyline class="line line-\d" points="([^"]*)"', chart)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]  # type: ignore[misc]


def test_charts_have_a_point_for_each_row() -> None:
    parts, _ = training()
    drawn = charts(parts)
    assert {name: len(found) for name, found in drawn.items()} == {"vae": 2, "clip": 2, "unet": 3}
    lines = {name: [points(chart) for chart in found] for name, found in drawn.items()}
    assert [len(chart) for chart in lines["vae"]] == [4, 1]
    assert [len(chart) for chart in lines["clip"]] == [1, 1]
    assert [len(chart) for chart in lines["unet"]] == [1, 4, 6]
    for part, found in lines.items():
        expected = [40] * (len(found) - (part != "clip")) + [8] * (part != "clip")
        assert [{len(line) for line in chart} for chart in found] == [{n} for n in expected]


def test_logarithmic_scale_has_equal_factors_at_equal_distances() -> None:
    rows = [
        {"step": step, "seconds": step / 10, "loss": 10.0 ** (-step / 50)} for step in (0, 50, 100)
    ]
    (line,) = points(line_chart("Title", "loss", rows, ["loss"], logarithmic=True))
    assert line == [(62.0, 26.0), (221.0, 116.0), (380.0, 206.0)]


def test_shares_are_drawn_from_0_to_1() -> None:
    rows = [{"step": 5, "seconds": 1.0, "right": 0.0}, {"step": 10, "seconds": 2.0, "right": 1.0}]
    chart = line_chart("Title", "share", rows, ["right"], logarithmic=False)
    assert points(chart) == [[(221.0, 206.0), (380.0, 26.0)]]
    assert "share, 0 to 1</text>" in chart
    ticks = re.findall(r'text-anchor="middle">([^<]*)</text>', chart)
    assert ticks == ["0", "0", "2", "0", "4", "1", "6", "1", "8", "2", "10", "2"]  # step, seconds
    assert re.findall(r'<data value="([^"]*)"', chart) == ["1.0"]  # the last one, in the legend
    assert ">step</text>" in chart
    assert ">seconds</text>" in chart


def test_values_without_a_logarithm_are_counted() -> None:
    rows = [{"step": k, "seconds": k, "kl": float(k)} for k in range(3)]
    chart = line_chart("Title", "loss", rows, ["kl"], logarithmic=True)
    assert len(points(chart)[0]) == 2
    assert "Values of zero or below, not drawn: 1." in chart
    assert "not drawn" not in line_chart("Title", "loss", rows[1:], ["kl"], logarithmic=True)


def test_chart_refuses_what_it_cannot_draw() -> None:
    rows = [{"step": 1, "seconds": 1.0, "right": 1.25, "zero": 0.0}]
    with pytest.raises(ValueError, match=r"Title: right is no share at step 1: 1.25"):
        line_chart("Title", "share", rows, ["right"], logarithmic=False)
    with pytest.raises(ValueError, match="Title: zero has no value to draw"):
        line_chart("Title", "loss", rows, ["zero"], logarithmic=True)


@pytest.mark.parametrize(
    ("last", "expected"),
    [(0, [0]), (3, [0, 1, 2, 3]), (40, [0, 10, 20, 30, 40]), (2500, list(range(0, 2501, 500))),
     (6000, list(range(0, 6001, 1000))), (9000, [0, 2000, 4000, 6000, 8000])],
)  # fmt: skip
def test_step_ticks_are_round(last: int, expected: list[int]) -> None:
    assert step_ticks(last) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.3, 0.9, [0.2, 0.5, 1.0]), (0.001, 10.0, [0.001, 0.01, 0.1, 1.0, 10.0]),
     (1.0, 1.0, [1.0, 2.0]), (0.02, 300.0, [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0])],
)  # fmt: skip
def test_log_ticks_enclose_the_values(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == expected
