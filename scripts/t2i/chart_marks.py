"""What charts have in common as SVG: lines at values across the plot, ticks below it, the axes."""

from __future__ import annotations

from markupsafe import Markup

LINE = 18  # pixels from one line of a tick's labels to the next


def grid_line(left: int, right: int, y: float, label: str) -> Markup:
    """A level line across the plot, with its label on the left."""
    return Markup(
        '<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(left, y, right, left - 7, y + 4, label)


def tick(x: float, bottom: int, *labels: str) -> Markup:
    """A tick below the plot, with its labels under each other."""
    lines = [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            x, bottom + LINE * row, label
        )
        for row, label in enumerate(labels, start=1)
    ]
    mark = Markup('<path class="tick" d="M{} {}v4"/>').format(x, bottom)
    return mark + Markup("").join(lines)


def axes(left: int, right: int, top: int, bottom: int) -> Markup:
    """The plot's left and lower edge."""
    return Markup('<path class="axis" d="M{} {}V{}H{}"/>').format(left, top, bottom, right)
