"""The model card of the shipped miniature networks, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from t2i.micro.page import share_digits, values
from t2i.micro.pictures import COUNT, PHRASES, SIDE, scenes
from t2i.micro.record import (
    COMMAND,
    LABEL,
    PARTS,
    SHARES,
    check,
    columns,
    meanings,
    share_interval,
)
from t2i.report.page import environment, interval, number, size


def _plain(value: Markup | str) -> str:
    """A formatted value as one line of text for a table's cell."""
    text = value.striptags() if isinstance(value, Markup) else " ".join(value.split())
    return str(escape(text)).replace("&#39;", "'").replace("&#34;", '"').replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[Markup | str]]) -> str:
    lines = [head, ["---"] * len(head), *([_plain(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(value: float, count: int) -> Markup:
    bounds = share_interval(value, count)
    digits = share_digits(bounds)
    return Markup("{} {}").format(number(value, digits), interval(bounds, digits))


def _way(figures: Mapping[str, Any], names: Sequence[str], count: int) -> list[Markup | str]:
    return [
        _share(figures[name], count) if name in SHARES else values(figures.get(name))
        for name in names
    ]


def model_card(parts: Mapping[str, Mapping[str, Any]], evaluation: Mapping[str, Any]) -> str:
    """The text of models/README.md. Raises ValueError as `t2i.micro.record.check` does."""
    check(parts, evaluation)
    count = evaluation["captions"]
    names = columns(evaluation)
    ways = evaluation["ways"]
    first, *_ = ways
    seconds = sum(parts[name]["job_seconds"] for name in PARTS)
    structure = _table(
        ("Part", "What it does", "Parameters"),
        ((title, does, number(parts[name]["parameters"])) for name, (title, does) in PARTS.items()),
    )
    training = _table(
        ("Part", "Seed", "Steps", "Device", "Seconds of training", "Seconds of the whole job"),
        (
            (
                title,
                str(parts[name]["seed"]),
                number(parts[name]["steps"]),
                parts[name]["device"],
                number(parts[name]["seconds"], 1),
                number(parts[name]["job_seconds"], 1),
            )
            for name, (title, _) in PARTS.items()
        ),
    )
    ends = _table(
        ("Part", "Figure", "Value"),
        (
            (title, figure, values(value))
            for name, (title, _) in PARTS.items()
            for figure, value in parts[name]["figures"].items()
        ),
    )
    judged = _table(
        ("Way", *map(_plain, names)),
        [
            ["drawn, not painted", *(values(evaluation["drawn"].get(name)) for name in names)],
            *([way, *_way(figures, names, count)] for way, figures in ways.items()),
        ],
    )
    explained = "\n".join(
        f"- `{name}`: {text}{', with its 95 % Wilson interval' if name in SHARES else ''}"
        for name, text in meanings(names).items()
    )
    files = _table(
        ("File", "Size", "Bytes"),
        (
            (name, size(evaluation["bytes"][name]), number(evaluation["bytes"][name]))
            for name in sorted(evaluation["bytes"], key=lambda name: (name == "all", name))
        ),
    )
    finished = _plain(_share(ways[first]["all"], count))
    all_scenes, all_seconds, captions = map(
        _plain, (number(len(scenes())), number(seconds, 1), number(count))
    )
    device = _plain(evaluation["device"])
    # Cells are escaped already, and escaped HTML is plain Markdown.
    template = environment().get_template("model_card.md.jinja")
    text = template.render(
        label=LABEL,
        side=SIDE,
        phrases=len(PHRASES),
        count=COUNT,
        command=COMMAND,
        structure=structure,
        training=training,
        judged=judged,
        explained=explained,
        ends=ends,
        files=files,
        all_scenes=all_scenes,
        all_seconds=all_seconds,
        captions=captions,
        device=device,
        first=_plain(first),
        finished=finished,
    )
    return text + "\n"
