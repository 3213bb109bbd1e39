"""The report as one HTML page that needs nothing else: no network, no script, no other file.

Enlarged pictures alone are files beside it; without them it shows its small ones.

Numbers come from the dict of `t2i.report.data.assemble` alone. Each is written as `<data>` with the
unrounded value beside the rounded text. All text is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from t2i.metrics.labels import weights_in_words
from t2i.metrics.protocol import cache_in_words
from t2i.mlperf import SCENARIOS
from t2i.report.charts import bar_chart, latency_chart
from t2i.report.checks import merged
from t2i.report.data import direction
from t2i.report.gallery import Thumbnail

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("tables.js", "viewer.js")
MINUS = "\N{MINUS SIGN}"
FIRSTS = 4  # pictures at the top
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")

VERDICTS = {  # class name, sign and word: the colour is never alone
    "pass": ("pass", "✓", "PASS"),
    "fail": ("fail", "✗", "FAIL"),
    "not applicable": ("none", "–", "NOT APPLICABLE"),
    "valid": ("pass", "✓", "VALID"),
    "invalid": ("fail", "✗", "INVALID"),
}

COLUMNS = {
    "Samples": "Images generated and scored for the variant, one per caption.",
    "FID": (
        "Fréchet Inception distance between the generated images and the reference pictures;"
        " no unit, lower is better. Below it the 95 % interval of the FID of as many images, with"
        " the reference taken as exact."
    ),
    "CLIP": (
        "Mean of 100 times the cosine between an image and its caption; no unit, higher is better."
        " Below it the 95 % interval over images."
    ),
    "FID difference": (
        "FID less that of the baseline, with the paired 95 % interval over images. FID's bias at a"
        " finite number of images need not be the same in both, and is part of the difference."
    ),
    "CLIP difference": "CLIP less that of the baseline, with the paired 95 % interval over images.",
    "Pixel difference": (
        "Mean absolute difference, in grey levels of 255, from the baseline's images of the"
        " compliance samples within the run; below it, how many of all images are the same in every"
        " pixel."
    ),
    "As captioned": (
        "Share of pictures whose colour, size, place and background are those of the caption, with"
        " Wilson's 95 % interval; higher is better."
    ),
    "Own caption first": (
        "Share of images whose own caption scores higher than that of the next sample, with"
        " Wilson's 95 % interval; higher is better."
    ),
    "CLIP, next caption": (
        "The same score with each image given the caption of the next sample. Scores of a working"
        " model fall clearly below the CLIP column; if not, images and captions are mixed up or"
        " the model ignores its prompt."
    ),
    "Images/s": (
        "Images per second of generation, median of the shards, with Student's 95 % interval over"
        " shards; higher is better. Loading and a shard's first batch, in which the model warms up,"
        " are not counted."
    ),
    "Speed-up": (
        "Images per second by those of the first variant, with Welch's 95 % interval over shards."
    ),
    "Peak memory": "Of the GPU where one was used, otherwise of the job; the most of any shard.",
    "J/image": (
        "Energy of the whole GPU while images were made, idle power included, by the driver's own"
        " samples of its power. For information: no measurement by MLPerf's rules for power."
    ),
    "At once": "Images painted together in one call.",
    "Spread": "Longest less shortest time of a call, relative to the median.",
    "Times the first": "Images per second, relative to those of the first row.",
    "GPU busy": "Share of a UNet's pass in which the GPU worked, not waited for the host.",
    "Joules": "Energy of the GPU for an image, by its mean power.",
    "Device": "Device that generated the images.",
    "Sampling": "Denoising steps, scale of guidance, and the patch or cache, if any.",
    "Engine": "Number format, and the start of the sha256 of the weights that images refer to.",
    "Scenario": (
        "How LoadGen asks: one image at a time (SingleStream), several at a time (MultiStream), at"
        " random times (Server), or all at once (Offline)."
    ),
    "Result": "What MLPerf measures in the scenario, in its unit, from the performance run.",
    "Target": "What the result or its latency must keep to; none where MLPerf sets no bound.",
    "LoadGen says": (
        "Whether LoadGen itself calls its performance run valid. Early stopping is its rule that"
        " enough queries were made to be sure of the percentile."
    ),
    "Verdict": "Whether the rules checked below hold. It is not a result verified by MLCommons.",
}


def places(*values: float | None) -> int:
    """Decimal places that show two significant digits of the spread of `values`, from 2 to 6."""
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    spread = max(numbers) - min(numbers) if len(numbers) > 1 else 0.0
    if spread <= 0:
        return 2
    return min(6, max(2, 1 - math.floor(math.log10(spread))))


def number(value: float | int | None, digits: int | None = None, sign: bool = False) -> Markup:
    """`value` rounded to `digits` decimals (4 significant digits if None), the exact one beside.

    Whole numbers are shown in full, absent ones as a dash.
    """
    if value is None:
        return Markup('<span class="absent">—</span>')
    if isinstance(value, int):
        text = f"{value:+,}" if sign else f"{value:,}"
    else:
        kind = ".4g" if digits is None else f".{digits}f"
        text = f"{value:{'+' if sign else ''}{kind}}"
    return Markup('<data value="{0}" title="{0}">{1}</data>').format(
        repr(value), text.replace("-", MINUS)
    )


def interval(bounds: Sequence[float] | None, digits: int, sign: bool = False) -> Markup:
    """Both ends of an interval in brackets."""
    if bounds is None:
        return Markup('<span class="absent">no interval</span>')
    low, high = (number(bound, digits, sign) for bound in bounds)
    return Markup("[{}, {}]").format(low, high)


def cell(value: Any) -> Markup | str:
    """A value of any JSON type as the text of a table cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, (int, float)):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _place(value: float, low: float | None, high: float | None) -> tuple[Any, bool]:
    """A function from numbers to x between 4 and 156 for the bar of a window, and if it holds."""
    bounds = [bound for bound in (low, high) if bound is not None]
    if len(bounds) == 2:
        reach = max((bounds[1] - bounds[0]) * 0.5, 1e-12)
    else:
        reach = max(abs(value - bounds[0]) * 1.5, abs(bounds[0]) * 0.05, 1e-12)
    first, last = bounds[0] - reach, bounds[-1] + reach
    inside = (low is None or low <= value) and (high is None or value <= high)
    return lambda point: round(4 + 152 * (point - first) / (last - first), 1), inside


def bar(value: Any, low: float | None, high: float | None) -> Markup | None:
    """A picture of the window from `low` to `high` with a marker at `value`.

    None when there is no number or no bound. A value beyond the bar is an arrow at its end; a
    missing bound leaves the window open to that side.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or low is high is None:
        return None
    x, inside = _place(value, low, high)
    left, right = 4 if low is None else x(low), 156 if high is None else x(high)
    if x(value) < 4:
        marker = "M1 10 L9 4 V16 Z"
    elif x(value) > 156:
        marker = "M159 10 L151 4 V16 Z"
    else:
        marker = f"M{x(value) - 1.5} 2 h3 v16 h-3 Z"
    return Markup(
        '<svg class="bar-{kind}" width="160" height="20" viewBox="0 0 160 20" role="img"'
        ' aria-label="{kind}side the window"><rect class="track" x="4" y="8" width="152" height="4"'
        ' rx="2"/><rect class="allowed" x="{left}" y="6" width="{wide}" height="8" rx="2"/>'
        '<path class="marker" d="{marker}"/></svg>'
    ).format(kind="in" if inside else "out", left=left, wide=round(right - left, 1), marker=marker)


def window(
    value: Any, low: float | None, high: float | None, margin: float | None
) -> Markup | None:
    """The picture of `bar`, and the same in words with the margin; None where that is None."""
    picture = bar(value, low, high)
    if picture is None:
        return None
    bounds = [bound for bound in (low, high) if bound is not None]
    _, inside = _place(value, low, high)
    digits = places(*bounds, value if inside else None)
    if low is None or high is None:
        allowed = Markup("{} {}").format(
            "at least" if high is None else "at most", number(bounds[0], digits)
        )
    else:
        allowed = Markup("{} to {}").format(number(low, digits), number(high, digits))
    distance = Markup("") if margin is None else Markup(", margin {}").format(number(margin))
    return Markup(
        '<span class="window">{picture}'
        '<span class="note"><strong>{words}</strong>{distance} (allowed: {allowed})</span></span>'
    ).format(
        picture=picture,
        words="inside" if inside else "outside",
        distance=distance,
        allowed=allowed,
    )


def chip(verdict: str) -> Markup:
    """A verdict as sign and word."""
    kind, sign, word = VERDICTS[verdict]
    return Markup('<span class="chip {}"><span aria-hidden="true">{}</span> {}</span>').format(
        kind, sign, word
    )


def digest(value: str | None) -> Markup:
    """The first twelve characters of a digest, the whole one beside."""
    if value is None:
        return Markup('<span class="absent">—</span>')
    return Markup('<code title="{}">{}</code>').format(value, value[:12])


def breakable(text: str) -> Markup:
    """A long name that may be broken after its points, slashes and underscores."""
    return Markup(re.sub(r"([./_])", r"\1<wbr>", str(escape(text))))


def found(value: Any) -> Markup | str:
    """What a check found: as `cell`, with digests shortened and the whole ones beside."""
    text = cell(value)
    if isinstance(text, Markup):
        return text
    parts = DIGEST.split(text)
    digests = [*map(digest, DIGEST.findall(text)), Markup("")]
    return Markup("").join(
        Markup("{}{}").format(part, short) for part, short in zip(parts, digests, strict=True)
    )


def size(count: int | None) -> Markup:
    """A number of bytes in the unit that suits it, a dash for an unknown one."""
    if count is None:
        return number(None)
    scaled, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if scaled < 1000 or unit == "TB":
            break
        scaled /= 1000
    return Markup('<data value="{0}" title="{0} bytes">{1:.3g} {2}</data>').format(
        count, scaled, unit
    )


def _integrity(text: str) -> str:
    """The digest by which a content security policy allows an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _accuracy_checks(variant: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's checks of FID and CLIP against their windows by id, None for one it lacks."""
    checks = {check["id"]: check for check in variant["compliance"]["checks"]}
    return {name: checks.get(name) for name in ("accuracy.fid", "accuracy.clip")}


def _speed_chart(speed: Mapping[str, Any] | None) -> Markup | None:
    """A bar for each engine that was measured beside others, if any was."""
    if speed is None:
        return None
    rates = {f"{row['name']}, {row['images']}": row["images_per_second"] for row in speed["rows"]}
    return bar_chart("Engines side by side", "images per second", rates)


def environment() -> Environment:
    """What pages are made with: everything escaped, nothing undefined, the filters for numbers."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        num=number, interval=interval, cell=cell, chip=chip, digest=digest, size=size
    )
    made.filters.update(breakable=breakable, found=found)
    made.filters["weights"] = weights_in_words
    made.filters["cache_words"] = cache_in_words
    made.filters["sentence"] = lambda text: text.rstrip(". ") + "."
    made.filters["json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    made.globals.update(window=window, bar=bar, places=places)
    return made


def render(report: Mapping[str, Any], pictures: Mapping[str, Mapping[int, Thumbnail]]) -> str:
    """The whole page.

    `report` is the dict of `t2i.report.data.assemble`, `pictures` the thumbnails of each variant by
    sample index (a missing one leaves a gap that says so).
    """
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    pairs = {pair["variant"]: pair for pair in report["comparison"]["pairs"]}
    ran = {run["scenario"] for run in report["loadgen"]}
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            pictures=pictures,
            firsts=_firsts(report, pictures),
            pairs=pairs,
            scenarios=[name for name in SCENARIOS if name in ran],
            checks=merged(report["variants"], report["loadgen"]),
            accuracy_checks=_accuracy_checks,
            latency_chart=latency_chart,
            speed_chart=_speed_chart(report["engine_speed"]),
            columns=COLUMNS,
            style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            integrity=_integrity(script),
        )
    )


def render_runs(found: Mapping[str, Any]) -> str:
    """The page of runs side by side, from the dict of `t2i.report.runs.side_by_side`."""
    script = (TEMPLATES / "tables.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("runs.html.jinja")
        .render(
            found=found,
            direction=direction,
            style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            integrity=_integrity(script),
        )
    )


def _firsts(
    report: Mapping[str, Any], pictures: Mapping[str, Mapping[int, Thumbnail]]
) -> list[tuple[Mapping[str, Any], Thumbnail]]:
    """The first rows of the gallery that disturb nobody, with the first variant's pictures."""
    of_first = pictures.get(report["variants"][0]["name"], {})
    rows = [
        (row, of_first[row["index"]])
        for row in report["gallery"]["rows"]
        if not row["sensitive"] and row["index"] in of_first
    ]
    return rows[:FIRSTS]
