"""Line charts as SVG: values over training steps, with the seconds below the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from t2i.chart_marks import LINE, axes, grid_line, tick
from t2i.page import number
from t2i.training_report import seconds_at

WIDTH, HEIGHT = 400, 262
LEFT, RIGHT, TOP, BOTTOM = 62, 380, 26, 206  # the plot
STYLES = 6  # classes line-0 to line-5: a colour and a dash each
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def step_ticks(last: float) -> list[int]:
    """Four to eight round steps from 0 to at most `last`, fewer where there are fewer steps."""
    raw = max(last, 1) / 4
    power = 10 ** math.floor(math.log10(raw))
    distance = max(1, next(int(k * power) for k in (5, 2, 1, 0) if k * power <= raw))
    return list(range(0, int(last) + 1, distance))


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around positive values, and 2 and 5 times them where they span less than 30.

    The first is at most `low`, the last at least `high`, and there are two at least.
    """
    factors = (1, 2, 5) if high / low < 30 else (1,)
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    ticks = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
    first = max(index for index, tick in enumerate(ticks) if tick <= low)
    last = min(index for index, tick in enumerate(ticks) if tick >= high and index > first)
    return ticks[first : last + 1]


def line_chart(
    title: str,
    axis: str,
    curve: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    logarithmic: bool,
) -> Markup:
    """A figure of the values `names` of a curve, one line each; rows without a value are left out.

    The scale is logarithmic, and values that it does not have are left out and counted, or that of
    shares from 0 to 1. Raises ValueError when a share is none, or a line has no point.
    """
    lines = {
        name: [(row["step"], row[name]) for row in curve if row.get(name) is not None]
        for name in names
    }
    given = sum(map(len, lines.values()))
    if logarithmic:
        lines = {
            name: [point for point in points if point[1] > 0] for name, points in lines.items()
        }
    for name, points in lines.items():
        if not points:
            raise ValueError(f"{title}: {name} has no value to draw")
        if not logarithmic and (wrong := [point for point in points if not 0 <= point[1] <= 1]):
            raise ValueError(f"{title}: {name} is no share at step {wrong[0][0]}: {wrong[0][1]}")
    values = [value for points in lines.values() for _, value in points]
    hidden = given - len(values)
    ticks = log_ticks(min(values), max(values)) if logarithmic else list(SHARES)
    last = max(row["step"] for row in curve)

    def x(step: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * float(step / max(last, 1)), 1)

    def y(value: float) -> float:
        share = value
        if logarithmic:
            share = math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])
        return round(BOTTOM - (BOTTOM - TOP) * float(share), 1)

    marks = [grid_line(LEFT, RIGHT, y(value), f"{value:g}") for value in ticks]
    marks += [
        tick(x(step), BOTTOM, f"{step:,}", f"{seconds_at(curve, step):,.0f}")
        for step in step_ticks(last)
    ]
    drawn = [
        Markup(
            '<polyline class="line line-{0}" points="{1}"/><circle class="end line-{0}" cx="{2}"'
            ' cy="{3}" r="3"/>'
        ).format(
            index % STYLES,
            " ".join(f"{x(step)},{y(value)}" for step, value in points),
            x(points[-1][0]),
            y(points[-1][1]),
        )
        for index, points in enumerate(lines.values())
    ]
    legend = [
        Markup(
            '<li><svg width="26" height="10" viewBox="0 0 26 10" aria-hidden="true">'
            '<path class="line line-{}" d="M1 5H25"/></svg> {} {}</li>'
        ).format(index % STYLES, name, number(points[-1][1]))
        for index, (name, points) in enumerate(lines.items())
    ]
    return Markup(
        '<figure class="chart"><figcaption>{title}</figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{marks}'
        '<text x="4" y="13">{axis}</text>'
        '<text x="4" y="{steps}">step</text><text x="4" y="{seconds}">seconds</text>'
        "{axes}{drawn}</svg>"
        '<ul class="legend">{legend}</ul>{hidden}</figure>'
    ).format(
        title=title,
        width=WIDTH,
        height=HEIGHT,
        marks=Markup("").join(marks),
        axis=axis + (", logarithmic" if logarithmic else ", 0 to 1"),
        steps=BOTTOM + LINE,
        seconds=BOTTOM + 2 * LINE,
        axes=axes(LEFT, RIGHT, TOP, BOTTOM),
        drawn=Markup("").join(drawn),
        legend=Markup("").join(legend),
        hidden=(
            Markup('<p class="small">Values of zero or below, not drawn: {}.</p>').format(hidden)
            if hidden
            else ""
        ),
    )
