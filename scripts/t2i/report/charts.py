"""Charts as SVG, drawn by matplotlib in the colours and the font of the page around them."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SIZE = (5.6, 3.6)  # inches; the page scales the picture
FURTHEST = 2.0  # a limit beyond this multiple of the slowest query would leave the bars no room
DASHES = ("-", (0, (7, 2)), (0, (3, 2)), (0, (8, 2, 2, 2)), (0, (5, 4)), "-")
# Colours that matplotlib writes, and the page's variables that replace them.
INK, SOFT, LINE, ACCENT, LIMIT = "#010101", "#010102", "#010103", "#010104", "#010105"
LINES = tuple(f"#0201{k:02x}" for k in range(len(DASHES)))
COLOURS = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    LIMIT: "var(--fail)",
    **{colour: f"var(--line-{k})" for k, colour in enumerate(LINES)},
}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "t2i",  # the same chart gives the same bytes
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


def latency_chart(
    title: str,
    edges: Sequence[float],
    counts: Sequence[int],
    percentiles: Mapping[str, float],
    limit: float | None = None,
) -> Markup:
    """A histogram with `counts[k]` queries from `edges[k]` to `edges[k + 1]`, as an `<svg>`.

    `percentiles` and `limit` are upright lines; all times are in seconds. A limit of more than
    `FURTHEST` times the slowest query is left out. Raises ValueError when there is nothing to draw
    or the edges do not rise.
    """
    with rc_context(STYLE):
        figure = latency_figure(title, edges, counts, percentiles, limit)
        return _svg(figure, f"{title}: {_in_words(edges, counts, percentiles, limit)}")


def latency_figure(
    title: str,
    edges: Sequence[float],
    counts: Sequence[int],
    percentiles: Mapping[str, float],
    limit: float | None,
) -> Figure:
    """The figure of `latency_chart`."""
    if len(edges) != len(counts) + 1 or not any(counts):
        raise ValueError(
            f"{title}: {len(counts)} bins with {sum(counts)} queries and {len(edges)} edges; "
            "there must be a query, and one edge more than bins"
        )
    if any(right <= left for left, right in pairwise(edges)):
        raise ValueError(f"{title}: the edges of the histogram do not rise: {list(edges)}")
    figure, axes = _plot("latency in seconds", "queries")
    axes.stairs(counts, edges, fill=True, color=ACCENT, alpha=0.7)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    marks = [(value, name, INK) for name, value in percentiles.items()]
    if limit is not None and limit <= FURTHEST * edges[-1]:
        marks.append((limit, "limit", LIMIT))
    for row, (value, name, colour) in enumerate(sorted(marks)):
        # Labels in rows, so that they never meet.
        height = 1.02 + 0.06 * (len(marks) - 1 - row)
        dash = "--" if name == "limit" else "-"
        axes.axvline(value, ymax=height + 0.04, color=colour, lw=1.3, ls=dash, clip_on=False)
        axes.annotate(
            name,
            (value, height),
            xycoords=axes.get_xaxis_transform(),
            xytext=(3, 0),
            textcoords="offset points",
            color=colour,
        )
    return figure


def _in_words(
    edges: Sequence[float],
    counts: Sequence[int],
    percentiles: Mapping[str, float],
    limit: float | None,
) -> str:
    """What the picture shows, for those who do not see it."""
    facts = [f"{sum(counts):,} queries took {edges[0]:.4g} to {edges[-1]:.4g} seconds"]
    facts += [f"{name} {value:.4g} seconds" for name, value in percentiles.items()]
    if limit is not None:
        facts.append(f"limit {limit:.4g} seconds")
    return "; ".join(facts)


def bar_chart(title: str, axis: str, values: Mapping[str, float]) -> Markup:
    """A bar for each value, in order, as an `<svg>`; raises ValueError for one below zero."""
    with rc_context(STYLE):
        figure = bar_figure(title, axis, values)
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        return _svg(figure, f"{title}: {words}")


def bar_figure(title: str, axis: str, values: Mapping[str, float]) -> Figure:
    """The figure of `bar_chart`."""
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{title}: {name} cannot be drawn as a bar: {value}")
    figure = Figure(figsize=(SIZE[0], 0.7 + 0.3 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(values), list(values.values()), color=ACCENT, alpha=0.7)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(axis, loc="right")
    return figure


def line_chart(
    title: str,
    axis: str,
    curve: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    logarithmic: bool,
) -> Markup:
    """A figure of the values `names` of a curve over its steps, with the seconds below the steps.

    Rows without a value are left out. The scale is logarithmic, and values of zero or below are
    left out and counted, or that of shares from 0 to 1. Raises ValueError when a share is none, or
    a line has no point.
    """
    with rc_context(STYLE):
        figure, hidden = line_figure(title, axis, curve, names, logarithmic=logarithmic)
        drawn = _svg(figure, title)
    note = Markup('<p class="small">Values of zero or below, not drawn: {}.</p>').format(hidden)
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}{}</figure>').format(
        title, drawn, note if hidden else ""
    )


def line_figure(
    title: str,
    axis: str,
    curve: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    logarithmic: bool,
) -> tuple[Figure, int]:
    """The figure of `line_chart`, and how many values it leaves out."""
    figure, axes = _plot("step, and seconds below", axis + (", logarithmic" if logarithmic else ""))
    hidden = 0
    for k, name in enumerate(names):
        points = [(row["step"], row[name]) for row in curve if row.get(name) is not None]
        wrong = [(step, value) for step, value in points if not 0 <= value <= 1]
        if not logarithmic and wrong:
            raise ValueError(
                f"{title}: {name} is not between 0 and 1 at step {wrong[0][0]}: {wrong[0][1]}"
            )
        shown = [(step, value) for step, value in points if value > 0 or not logarithmic]
        hidden += len(points) - len(shown)
        if not shown:
            raise ValueError(f"{title}: {name} has no value to draw")
        steps, values = zip(*shown, strict=True)
        style: dict[str, Any] = {
            "color": LINES[k % len(LINES)],
            "linestyle": DASHES[k % len(DASHES)],
        }
        axes.plot(
            steps,
            values,
            label=f"{name} {values[-1]:.4g}",
            marker="o",
            ms=3,
            markevery=[-1],  # where the line ends
            **style,
        )
    if logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(-0.02, 1.02)
    # Twice the last values go on as before, where a tick may stand beyond what is drawn.
    steps_known, seconds_known = (
        np.array([0.0, *(row[key] for row in curve), 2 * curve[-1][key]])
        for key in ("step", "seconds")
    )
    axes.set_xlim(0, max(1, *(row["step"] for row in curve)))
    seconds = axes.secondary_xaxis(
        -0.13,
        functions=(
            lambda step: np.interp(np.asarray(step, float), steps_known, seconds_known),
            lambda time: np.interp(np.asarray(time, float), seconds_known, steps_known),
        ),
    )
    seconds.spines["bottom"].set_visible(False)
    axes.xaxis.labelpad = 26
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure, hidden


def _plot(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y")
    axes.set_xlabel(x, loc="right")
    axes.set_ylabel(y, loc="top")
    return figure, axes


def _svg(figure: Figure, label: str) -> Markup:
    """The figure as an `<svg>` for a page: without a size, with unique ids."""
    buffer = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    text = re.sub(r"font-family: [^;]*;", "font-family: system-ui, sans-serif;", text)
    text = re.sub(r' clip-path="[^"]*"', "", text)  # a page refers to nothing by url()
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    own = hashlib.sha256(label.encode()).hexdigest()[:8]
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{own}-", text)
    head = f'<svg role="img" aria-label="{escape(label)}" '
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2).replace("<svg ", head, 1)
    return Markup(text.strip())
