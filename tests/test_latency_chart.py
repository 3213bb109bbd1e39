"""The picture of a distribution of latencies: bars, ticks, marks and words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.latency_chart import BOTTOM, LEFT, RIGHT, TOP, latency_chart, round_ticks

EDGES = [1.0, 1.5, 2.0, 2.5, 3.0]
COUNTS = [40, 10, 0, 1]
MARKS = {"p50": 1.2, "p90": 1.7, "p99": 2.9}


def elements(chart: str, kind: str, name: str) -> list[dict[str, str]]:
    """Attributes of all elements of a chart with a tag and a class, which also have their text."""
    found = ElementTree.fromstring(chart).iter(kind)
    return [{**e.attrib, "text": e.text or ""} for e in found if e.get("class") == name]


def at(found: Sequence[dict[str, str]]) -> list[float]:
    """Where upright lines stand."""
    return [float(line["d"][1:].split()[0]) for line in found]


def test_bars_have_the_height_of_their_counts_and_no_gap_in_time() -> None:
    bars = elements(latency_chart("Title", EDGES, COUNTS, {}), "rect", "count")
    assert len(bars) == 3
    heights = [float(bar["height"]) for bar in bars]
    for bar, height in zip(bars, heights, strict=True):
        assert float(bar["y"]) + height == pytest.approx(BOTTOM)
    assert heights[0] / heights[1] == pytest.approx(4, rel=0.01)
    assert heights[0] / heights[2] == pytest.approx(40, rel=0.1)
    lefts = [float(bar["x"]) for bar in bars]
    assert lefts[2] - lefts[0] == pytest.approx(3 * (lefts[1] - lefts[0]), abs=0.2)
    assert lefts[0] > LEFT and lefts[2] + float(bars[2]["width"]) < RIGHT
    assert BOTTOM - heights[0] >= TOP


def test_one_query_among_very_many_is_seen() -> None:
    bars = elements(latency_chart("Title", EDGES, [10**6, 0, 0, 1], {}), "rect", "count")
    assert [float(bar["height"]) >= 1 for bar in bars] == [True, True]


def test_marks_stand_at_their_times_and_labels_do_not_meet() -> None:
    chart = latency_chart("Title", EDGES, COUNTS, MARKS)
    lines, labels = elements(chart, "path", "mark"), elements(chart, "text", "mark")
    assert [label["text"] for label in labels] == ["p50", "p90", "p99"]
    x = at(lines)
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.5 / 1.7, abs=0.01)
    bars = elements(chart, "rect", "count")
    seconds = (float(bars[1]["x"]) - float(bars[0]["x"])) / 0.5
    assert x[0] == pytest.approx(float(bars[0]["x"]) + 0.2 * seconds, abs=0.3)
    rows = [float(label["y"]) for label in labels]
    assert rows[1] - rows[0] == rows[2] - rows[1] >= 12 and rows[2] < TOP
    upper = float((ElementTree.fromstring(chart).get("viewBox") or "").split()[1])
    for line, label in zip(lines, labels, strict=True):
        assert upper + 2 < float(line["d"].split()[1].split("V")[0]) < float(label["y"])


def test_the_limit_is_drawn_where_it_leaves_room_and_always_told() -> None:
    near = latency_chart("Title", EDGES, COUNTS, MARKS, 4.0)
    (line,) = at(elements(near, "path", "limit"))
    assert max(at(elements(near, "path", "mark"))) < line < RIGHT
    assert [label["text"] for label in elements(near, "text", "limit")] == ["limit"]
    far = latency_chart("Title", EDGES, COUNTS, MARKS, 20.0)
    assert not elements(far, "path", "limit")
    assert "limit 4 seconds" in near and "limit 20 seconds" in far
    assert "limit" not in latency_chart("Title", EDGES, COUNTS, MARKS)


def test_a_limit_below_all_queries_stands_left_of_them_with_the_first_label() -> None:
    chart = latency_chart("Title", EDGES, COUNTS, MARKS, 0.5)
    (line,) = at(elements(chart, "path", "limit"))
    assert LEFT <= line < float(elements(chart, "rect", "count")[0]["x"])
    (label,) = elements(chart, "text", "limit")
    assert float(label["y"]) < min(float(e["y"]) for e in elements(chart, "text", "mark"))


def test_words_say_what_the_picture_shows() -> None:
    chart = latency_chart('<b> & "quoted"', EDGES, COUNTS, MARKS, 20.0)
    root = ElementTree.fromstring(chart)
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        '<b> & "quoted": 51 queries took 1 to 3 seconds; p50 1.2 seconds; p90 1.7 seconds; '
        "p99 2.9 seconds; limit 20 seconds"
    )
    text = "|".join(root.itertext())
    assert "latency in seconds" in text and "queries" in text


def test_axes_have_round_ticks_within_the_plot() -> None:
    chart = latency_chart("Title", EDGES, COUNTS, {})
    ticks = elements(chart, "path", "tick")
    assert all(LEFT <= x <= RIGHT for x in at(ticks))
    labels = re.findall(r'text-anchor="middle">([^<]*)<', chart)
    assert labels == ["1", "1.5", "2", "2.5", "3"]
    assert re.findall(r'text-anchor="end">([\d,]+)<', chart) == ["0", "10", "20", "30", "40"]


@given(st.floats(0, 1e4), st.floats(1e-6, 1e5))
def test_ticks_are_multiples_of_a_round_step_within_the_range(low: float, width: float) -> None:
    ticks = round_ticks(low, low + width)
    assert 2 <= len(ticks) <= 7
    rough = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    step = float(f"{rough:.0e}")
    assert step == pytest.approx(rough, rel=1e-5) and f"{step:.0e}"[0] in "125"
    for tick in ticks:
        assert low - step * 1e-6 <= tick <= low + width + step * 1e-6
        assert tick / step == pytest.approx(round(tick / step), rel=1e-9)
    assert ticks[0] - low < step * 1.001 and low + width - ticks[-1] < step * 1.001


def test_counts_have_no_fractions() -> None:
    assert round_ticks(0, 1, least=1) == [0, 1]
    assert round_ticks(0, 7, least=1) == [0, 2, 4, 6]
    assert round_ticks(0.01825, 0.0191) == [0.0184, 0.0186, 0.0188, 0.019]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="Title: 4 bins with 0 queries and 5 edges"):
        latency_chart("Title", EDGES, [0, 0, 0, 0], {})
    with pytest.raises(ValueError, match="Title: 4 bins with 51 queries and 4 edges"):
        latency_chart("Title", EDGES[:-1], COUNTS, {})
    with pytest.raises(ValueError, match="Title: the edges of the histogram do not rise"):
        latency_chart("Title", [1.0, 1.0, 2.0, 2.5, 3.0], COUNTS, {})
