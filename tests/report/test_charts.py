"""Charts: what is drawn, in numbers of matplotlib's figure, and the SVG that a page takes in."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from fake_training import training
from t2i.micro.page import charts
from t2i.report.charts import (
    COLOURS,
    latency_chart,
    latency_figure,
    line_chart,
    line_figure,
)

EDGES = [1.0, 1.5, 2.0, 2.5, 3.0]
COUNTS = [40, 10, 0, 1]
MARKS = {"p50": 1.2, "p90": 1.7, "p99": 2.9}
ROWS = [{"step": k, "seconds": k / 10, "loss": 10.0 ** (-k / 50)} for k in (0, 50, 100)]


def upright(figure: Any) -> dict[str, float]:
    """Times of the upright lines by their labels, from left to right."""
    axes = figure.axes[0]
    times = [line.get_xdata()[0] for line in axes.lines]
    return dict(zip([text.get_text().strip() for text in axes.texts], times, strict=True))


def test_bars_are_the_counts_between_the_edges() -> None:
    figure = latency_figure("Title", EDGES, COUNTS, MARKS, None)
    (bars,) = (patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch))
    values, edges, _ = bars.get_data()
    assert np.array_equal(values, COUNTS) and np.array_equal(edges, EDGES)


def test_marks_and_a_limit_that_leaves_room_are_lines_at_their_times() -> None:
    near = latency_figure("Title", EDGES, COUNTS, MARKS, 4.0)
    assert upright(near) == {**MARKS, "limit": 4.0}
    assert upright(latency_figure("Title", EDGES, COUNTS, MARKS, 20.0)) == MARKS
    below = latency_figure("Title", EDGES, COUNTS, MARKS, 0.5)
    assert list(upright(below)) == ["limit", *MARKS]
    heights = [text.xy[1] for text in near.axes[0].texts]
    assert np.diff(heights) == pytest.approx([-0.06] * 3), "no label meets another"


def test_words_say_what_the_picture_shows() -> None:
    root = ElementTree.fromstring(latency_chart('<b> & "quoted"', EDGES, COUNTS, MARKS, 20.0))
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        '<b> & "quoted": 51 queries took 1 to 3 seconds; p50 1.2 seconds; p90 1.7 seconds; '
        "p99 2.9 seconds; limit 20 seconds"
    )
    text = "|".join(root.itertext())
    assert "latency in seconds" in text and "queries" in text


def test_the_svg_takes_colours_font_and_size_from_the_page_and_has_ids_of_its_own() -> None:
    one, other = (latency_chart(title, EDGES, COUNTS, MARKS, 4.0) for title in ("a", "b"))
    ids = [set(ElementTree.fromstring(svg).iter()) for svg in (one, other)]
    names = [{e.get("id") for e in found if e.get("id")} for found in ids]
    assert names[0] and not names[0] & names[1]
    root = ElementTree.fromstring(one)
    assert root.get("viewBox") and root.get("width") is None and root.get("height") is None
    assert not any(colour in one for colour in COLOURS)
    assert "var(--accent)" in one and "system-ui" in one and "<metadata" not in one
    assert one == latency_chart("a", EDGES, COUNTS, MARKS, 4.0)


def test_lines_have_a_point_for_each_value_and_a_scale() -> None:
    figure, hidden = line_figure("Title", "loss", ROWS, ["loss"], logarithmic=True)
    axes = figure.axes[0]
    (line,) = axes.lines
    assert np.array_equal(line.get_xydata(), [(row["step"], row["loss"]) for row in ROWS])
    assert (axes.get_yscale(), hidden) == ("log", 0)
    shares = [{"step": k, "seconds": k, "right": k / 10} for k in range(0, 11, 5)]
    axes = line_figure("Title", "share", shares, ["right"], logarithmic=False)[0].axes[0]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim() == pytest.approx((0, 1), abs=0.05)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["right 1"]


def test_seconds_stand_below_the_steps_that_took_them() -> None:
    figure, _ = line_figure("Title", "loss", ROWS, ["loss"], logarithmic=True)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (seconds,) = axes.child_axes
    for step in (0, 25, 100):
        x = axes.transData.transform((step, 1))[0]
        assert seconds.transData.transform((step / 10, 0))[0] == pytest.approx(x, abs=0.5)


def test_seconds_beyond_the_last_step_stand_beyond_it() -> None:
    """No label of the time lies on another: what is not drawn is not put at the end."""
    figure, _ = line_figure("losses", "loss", ROWS, ["loss"], logarithmic=True)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (seconds,) = axes.child_axes
    places = seconds.transData.transform([(tick, 0) for tick in (9.0, 10.0, 11.0, 12.0)])[:, 0]
    assert np.diff(places) == pytest.approx([places[1] - places[0]] * 3)


def test_values_without_a_logarithm_are_counted() -> None:
    rows = [{"step": k, "seconds": k, "kl": float(k)} for k in range(3)]
    figure, hidden = line_figure("Title", "loss", rows, ["kl"], logarithmic=True)
    assert (len(figure.axes[0].lines[0].get_xdata()), hidden) == (2, 1)
    said = "Values of zero or below, not drawn: 1."
    assert said in line_chart("Title", "loss", rows, ["kl"], logarithmic=True)
    assert "not drawn" not in line_chart("Title", "loss", rows[1:], ["kl"], logarithmic=True)


def test_a_training_has_all_its_charts() -> None:
    drawn = charts(training()[0])
    assert {name: len(found) for name, found in drawn.items()} == {"vae": 2, "clip": 2, "unet": 3}


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="Title: 4 bins with 0 queries and 5 edges"):
        latency_chart("Title", EDGES, [0, 0, 0, 0], {})
    with pytest.raises(ValueError, match="Title: 4 bins with 51 queries and 4 edges"):
        latency_chart("Title", EDGES[:-1], COUNTS, {})
    with pytest.raises(ValueError, match="Title: the edges of the histogram do not rise"):
        latency_chart("Title", [1.0, 1.0, 2.0, 2.5, 3.0], COUNTS, {})
    rows = [{"step": 1, "seconds": 1.0, "right": 1.25, "zero": 0.0}]
    with pytest.raises(ValueError, match=r"Title: right is not between 0 and 1 at step 1: 1.25"):
        line_chart("Title", "share", rows, ["right"], logarithmic=False)
    with pytest.raises(ValueError, match="Title: zero has no value to draw"):
        line_chart("Title", "loss", rows, ["zero"], logarithmic=True)
