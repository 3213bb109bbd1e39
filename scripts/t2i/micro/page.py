"""The training of the miniature networks as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from t2i.micro.pictures import SIDE
from t2i.micro.record import (
    ATTRIBUTES,
    BOUND,
    LABEL,
    PARTS,
    SHARES,
    check,
    columns,
    curve_names,
    meanings,
    seconds_at,
    share_interval,
)
from t2i.report.charts import line_chart
from t2i.report.gallery import Thumbnail, data_uri
from t2i.report.page import TEMPLATES, cell, environment, places

QUALITIES = (92, 80, 60, 40)  # of WebP, to try until a grid fits its share of the page
SMALL = 72  # CSS px of a picture's side on the page
SERIES = {
    "vae": "Autoencoder: pictures as drawn above, as reconstructed below",
    "unet": "Text to image: the same captions painted again and again",
}
ENDS = {
    "final": "Painted by the finished networks",
    "ways": "The same captions painted in each way, from top to bottom",
}
SHARE_CURVES = ("right", *ATTRIBUTES)  # the other curves are losses and errors


@dataclass(frozen=True)
class Grid:
    """A grid of pictures: the training step it was made at (None at the end), and its picture."""

    step: int | None
    picture: Thumbnail


def read_grid(path: Path, budget: float) -> Thumbnail:
    """A grid at full resolution whose data URI has at most `budget` characters, if one has.

    It is lossless where that fits, else WebP. Raises ValueError, which names the file, when it is
    no image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a damaged PNG
        raise ValueError(f"{path}: not an image ({error})") from error
    source = data_uri(image, "png", optimize=True)
    for quality in QUALITIES:
        if len(source) <= budget:
            break
        source = data_uri(image, "webp", quality=quality, method=6)
    width, height = (round(length * SMALL / SIDE) for length in image.size)
    return Thumbnail(source, width, height, pixelated=False)


def read_grids(samples: Sequence[Path], budget: int) -> dict[str, list[Grid]]:
    """The grids `vae/{step}.png`, `unet/{step}.png` in order of step, `final.png`, `ways.png`.

    `samples` are files, or folders of them; `budget` bounds all data URIs together, in characters.
    Raises ValueError when a file has none of these names, or when a kind of grid is missing.
    """
    paths = [file for path in samples for file in (sorted(path.glob("*.png")) or [path])]
    share = budget / max(1, sum(path.stat().st_size for path in paths))
    grids: dict[str, list[Grid]] = {name: [] for name in (*SERIES, *ENDS)}
    for path in paths:
        series = path.parent.name in SERIES and path.stem.isdecimal()
        name = path.parent.name if series else path.stem
        if name not in grids or path.suffix != ".png":
            raise ValueError(f"{path}: not the name of a grid of samples")
        picture = read_grid(path, share * path.stat().st_size)
        grids[name].append(Grid(int(path.stem) if series else None, picture))
    if missing := [name for name, found in grids.items() if not found]:
        raise ValueError(f"no grid of samples of {', '.join(missing)}")
    for found in grids.values():
        found.sort(key=lambda grid: grid.step or 0)
    return grids


def share_bar(share: float, bounds: tuple[float, float]) -> Markup:
    """A bar from 0 to 1 with an interval and a marker at the share."""

    def x(point: float) -> float:
        return round(4 + 152 * point, 1)

    return Markup(
        '<span class="window"><svg class="bar-in" width="160" height="20" viewBox="0 0 160 20"'
        ' aria-hidden="true"><rect class="track" x="4" y="8" width="152" height="4" rx="2"/>'
        '<rect class="allowed" x="{}" y="6" width="{}" height="8" rx="2"/>'
        '<path class="marker" d="M{} 2 h3 v16 h-3 Z"/></svg></span>'
    ).format(x(bounds[0]), round(x(bounds[1]) - x(bounds[0]), 1), x(share) - 1.5)


def share_digits(bounds: tuple[float, float]) -> int:
    """Decimal places for a share and its interval: three at least."""
    return max(3, places(*bounds))


def values(value: Any) -> Markup | str:
    """A setting or figure as text; a list has its items one after the other."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return Markup(", ").join(cell(item) for item in value)
    return cell(value)


def _chart_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names that a curve follows, by what is drawn together: what, and its names."""
    names = curve_names(rows)
    shares = [name for name in names if name in SHARE_CURVES]
    bands = [name for name in names if name.startswith("band_")]
    errors = [name for name in names if name not in shares and name not in bands]
    return {"errors": errors, "bands": bands, "shares": shares}


def charts(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Markup]]:
    """The charts of each part: its losses, its shares, and what was found in its pictures."""
    texts = {
        ("curve", "errors"): ("losses", "loss"),
        ("curve", "bands"): (
            "error of the noise by quarter of the timesteps, 0 the clearest",
            "error",
        ),
        ("curve", "shares"): ("share of captions found", "share of a batch"),
        ("judged", "errors"): ("errors of held-out pictures", "error"),
        ("judged", "bands"): ("errors of held-out pictures by band", "error"),
        ("judged", "shares"): ("what the judge finds right", "share of pictures"),
    }
    drawn: dict[str, list[Markup]] = {}
    for part, (title, _) in PARTS.items():
        drawn[part] = [
            line_chart(
                f"{title}: {texts[key, kind][0]}",
                texts[key, kind][1],
                parts[part][key],
                names,
                logarithmic=kind != "shares",
            )
            for key in ("curve", "judged")
            for kind, names in _chart_names(parts[part].get(key, [])).items()
            if names
        ]
    return drawn


def software(parts: Mapping[str, Mapping[str, Any]]) -> list[tuple[list[str], Mapping[str, Any]]]:
    """Software versions, each set of them once, with the parts that it trained."""
    groups: list[tuple[list[str], Mapping[str, Any]]] = []
    for name in PARTS:
        same = [names for names, versions in groups if versions == parts[name]["software"]]
        if same:
            same[0].append(name)
        else:
            groups.append(([name], parts[name]["software"]))
    return groups


def render(
    parts: Mapping[str, Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    grids: Mapping[str, Sequence[Grid]],
) -> str:
    """The whole page; `grids` are those of `read_grids`. Raises ValueError as `check` does."""
    check(parts, evaluation)
    made = environment()
    made.filters.update(values=values)
    made.globals.update(
        share_interval=share_interval,
        share_bar=share_bar,
        share_digits=share_digits,
        seconds_at=seconds_at,
        curve_names=curve_names,
    )
    first, *_ = evaluation["ways"]
    style = "".join(
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "curves.css")
    )
    return made.get_template("micro.html.jinja").render(
        label=LABEL,
        bound=BOUND,
        titles=PARTS,
        parts={name: parts[name] for name in PARTS},
        evaluation=evaluation,
        first=first,
        meanings=meanings(columns(evaluation)),
        shares=SHARES,
        columns=columns(evaluation),
        charts=charts(parts),
        grids=grids,
        series=SERIES,
        ends=ENDS,
        software=software(parts),
        style=Markup(style),
    )
