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
from t2i.report.page import interval, number, size


def _plain(value: Markup | str) -> str:
    """A formatted value as one line of text that may stand in a table's cell."""
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
    return f"""# Miniature SDXL and CLIP scorer

**{LABEL}.**

Small networks with the structure of SDXL, and a small CLIP scorer, so that the whole workflow can
run on a laptop with a model that really paints. They paint one coloured shape on a plain
background, {SIDE} pixels square, and nothing else. This page is written by the training itself.

## Structure

The classes are those of SDXL: two text encoders, a UNet with text-time conditioning, an
autoencoder and its scheduler; the CLIP scorer is one of open_clip's kind. All are far smaller, and
their tokenizer is the project's own.

{structure}

## Data

Pictures and captions that the project draws and writes itself: {all_scenes} scenes (every
combination of shape, colour, size, place and background), each with {len(PHRASES)} phrasings of its
caption. {COUNT} of the scenes are held out from the training of the CLIP scorer, the text encoders
and the UNet, and all figures below are of held-out scenes. The autoencoder is trained on random
objects of the same kind, without captions. There are no photographs, no pictures of people, no
texts of others and no personal data.

## Training

```
{COMMAND}
```

{training}

All jobs together: {all_seconds} s. Settings, software, curves and pictures over the training are
on the page `training/report.html` that the same command writes.

## Figures

{captions} captions of held-out scenes, painted on {device}. A judge that looks at pixels alone
compares each picture with its caption. In the way `{_plain(first)}`, {finished} of the pictures
have colour, size, place and background right.

**{LABEL}.**

{judged}

{explained}

At the end of each part's training:

{ends}

## Intended use

Trying, testing and teaching the workflow: that it runs from captions to a report, that a change of
number format or settings shows in its figures, and that a fault is noticed.

Not for: any statement about SDXL, its speed or its accuracy; any published benchmark result; making
pictures of anything but the scenes above.

## Limitations

- Words outside the phrasings mean nothing to the networks.
- FID comes from a network with random weights and compares only within this project.
- The CLIP scorer knows these scenes alone; its scores are on a scale of their own.
- `all` leaves the shape out, whose share stands in a column of its own.
- Weights are stored in half precision.

## Licence

That of the project, see [LICENSE](../LICENSE).

## Files

{files}
"""
