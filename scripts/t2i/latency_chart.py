"""The distribution of latencies as SVG: a histogram, marks at percentiles and at the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from t2i.chart_marks import axes, grid_line, tick

WIDTH, HEIGHT = 420, 272
LEFT, RIGHT, TOP, BOTTOM = 48, 380, 76, 226  # the plot; the marks' labels stand above it
ROW = 14  # pixels from one mark's label to the next
AWAY = 2.0  # a limit beyond this multiple of the slowest query would leave it no room


def round_ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """All multiples of a round step from `low` to `high`, which differ: two to seven of them.

    The step is 1, 2 or 5 times a power of ten and not below `least`, which can leave fewer.
    """
    raw = max((high - low) / 6, least)
    exponent = math.floor(math.log10(raw)) - 1
    factor, exponent = next(
        (factor, power)
        for power in (exponent, exponent + 1, exponent + 2)
        for factor in (1, 2, 5)
        if float(f"{factor}e{power}") >= raw * (1 - 1e-9)
    )
    step = float(f"{factor}e{exponent}")
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * factor}e{exponent}") for k in range(first, last + 1)]


def in_words(
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


def latency_chart(
    title: str,
    edges: Sequence[float],
    counts: Sequence[int],
    percentiles: Mapping[str, float],
    limit: float | None = None,
) -> Markup:
    """An `<svg>` with a bar for each bin, `counts[k]` queries from `edges[k]` to `edges[k + 1]`.

    `percentiles` and `limit` are drawn as upright lines; all times are in seconds. A limit of more
    than `AWAY` times the slowest query is left out. Raises ValueError when there is nothing to draw
    or the edges do not rise.
    """
    if len(edges) != len(counts) + 1 or not any(counts):
        raise ValueError(
            f"{title}: {len(counts)} bins with {sum(counts)} queries and {len(edges)} edges; "
            "there must be a query, and one edge more than bins"
        )
    if any(right <= left for left, right in pairwise(edges)):
        raise ValueError(f"{title}: the edges of the histogram do not rise: {list(edges)}")
    marks = [("mark", name, value) for name, value in percentiles.items()]
    if limit is not None and limit <= AWAY * edges[-1]:
        marks.append(("limit", "limit", limit))
    marks.sort(key=lambda mark: mark[2])  # so that no line crosses the label of another
    times = [edges[0], edges[-1], *(value for _, _, value in marks)]
    margin = 0.02 * (max(times) - min(times))
    first, last = max(0.0, min(times) - margin), max(times) + margin
    heights = round_ticks(0, max(counts), least=1)
    top = max(counts) * 1.04

    def x(seconds: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (seconds - first) / (last - first), 1)

    def y(queries: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * queries / top, 1)

    drawn = [grid_line(LEFT, RIGHT, y(queries), f"{queries:,.0f}") for queries in heights]
    drawn += [tick(x(seconds), BOTTOM, f"{seconds:.10g}") for seconds in round_ticks(first, last)]
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        if count:
            high = max(1.0, BOTTOM - y(count))  # one query of very many is seen too
            drawn.append(
                Markup(
                    '<rect class="count" x="{}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                ).format(x(left), BOTTOM - high, max(1.0, x(right) - x(left) - 0.6), high)
            )
    for row, (kind, name, value) in enumerate(marks):
        label = TOP - 4 - ROW * (len(marks) - 1 - row)
        drawn.append(
            Markup(
                '<path class="{0}" d="M{1} {2}V{3}"/><text class="{0}" x="{4}" y="{5}">{6}</text>'
            ).format(kind, x(value), label - 9, BOTTOM, x(value) + 4, label, name)
        )
    upper = TOP - 18 - ROW * max(len(marks) - 1, 0)
    return Markup(
        '<svg viewBox="0 {upper} {width} {height}" role="img" aria-label="{label}">{drawn}'
        '{axes}<text x="4" y="{title}">queries</text>'
        '<text x="{right}" y="{below}" text-anchor="end">latency in seconds</text></svg>'
    ).format(
        width=WIDTH,
        upper=upper,
        height=HEIGHT - upper,
        title=TOP - 7,
        label=f"{title}: {in_words(edges, counts, percentiles, limit)}",
        drawn=Markup("").join(drawn),
        axes=axes(LEFT, RIGHT, TOP, BOTTOM),
        right=RIGHT,
        below=BOTTOM + 38,
    )
