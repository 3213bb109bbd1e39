"""The page and the model card of a training: complete, labelled, needing nothing else."""

from __future__ import annotations

import copy
import json
import math
import re
import runpy
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2i import judge
from t2i.files import write_json
from t2i.intervals import wilson_interval
from t2i.line_chart import line_chart, log_ticks, step_ticks
from t2i.model_card import model_card
from t2i.training_page import Grid, charts, read_grid, read_grids, render, share_bar
from t2i.training_report import ATTRIBUTES, COMMAND, LABEL, columns, seconds_at, share_interval

HOSTILE = '<script>alert("a|b")</script>'
CAPTIONS = 512
STEPS = {"vae": 9000, "clip": 2500, "unet": 6000}
CURVES = {
    "vae": {"loss": 0.4, "error": 0.3, "edges": 0.05, "kl": 900.0},
    "clip": {"loss": 6.6, "right": 0.004},
    "unet": {"loss": 1.0, "band_0": 0.9, "band_1": 0.4, "band_2": 0.2, "band_3": 0.1},
}
BYTES = {"all": 9_345_678, "micro-sdxl/unet.safetensors": 9_000_001, "micro-clip/a.json": 345_677}


def curve(part: str, rows: int = 40) -> list[dict[str, Any]]:
    """Losses that fall and shares that rise, over the whole training."""
    found = []
    for row in range(1, rows + 1):
        share = row / rows
        values = {
            name: round(1 - math.exp(-4 * share), 6) if name == "right" else first * 0.1**share
            for name, first in CURVES[part].items()
        }
        place = {"step": STEPS[part] * row // rows, "seconds": round(300.25 * share, 2)}
        found.append({**place, **values})
    return found


def facts(part: str, job_seconds: float = 321.75) -> dict[str, Any]:
    """The content of one part's JSON file."""
    judged: list[dict[str, Any]] = []
    for row in range(1, 9) if part != "clip" else ():
        place = {"step": STEPS[part] * row // 8, "seconds": round(300.25 * row / 8, 2)}
        shares = {name: 0.12 * row - 0.01 * k for k, name in enumerate(ATTRIBUTES)}
        judged.append({**place, **(shares if part == "unet" else {"error_grey_levels": 9.0 / row})})
    return {
        "part": part,
        "settings": {"steps": STEPS[part], "peak": 0.00123, "decay": 0.017, "sizes": [48, 80]},
        "parameters": 1_234_567 + len(part),
        "steps": STEPS[part],
        "seconds": 300.25,
        "job_seconds": job_seconds,
        "device": f"NVIDIA H200 {HOSTILE}",
        "software": {"torch": "2.9.1", "python": "3.11.13"},
        "seed": 4711,
        "curve": curve(part),
        "judged": judged,
        "figures": {"error_grey_levels": 1.2345, "levels": [0.625, 17.5]},
    }


def way(first: float) -> dict[str, float]:
    """Figures of one way, shares of 512 captions."""
    shares = {name: int(CAPTIONS * first) / CAPTIONS - k / 64 for k, name in enumerate(ATTRIBUTES)}
    return {
        **shares,
        "first_of_all": 300 / CAPTIONS,
        "right_first": 0.98765,
        "score": 31.25 * first,
        "shifted": 11.5,
        "fid": 4.0625 / first,
        "fid_error": 0.375,
        "difference_from_first": 3.5 * (1 - first),
        "own_measure": 77.125,
    }


def training() -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of all parts and the evaluation."""
    evaluation = {
        "captions": CAPTIONS,
        "device": "NVIDIA H200",
        "drawn": {"colour": 1.0, "shape": 0.998046875, "score": 35.875},
        "ways": {"fp32": way(0.984375), "bf16": way(0.96875), f"4 steps {HOSTILE}": way(0.5)},
        "bytes": BYTES,
    }
    return {part: facts(part, 321.75 + k) for k, part in enumerate(STEPS)}, evaluation


def write_samples(folder: Path) -> list[Path]:
    """Small grids, laid out as a training writes them."""
    draw = np.random.default_rng(0)

    def write(path: Path, rows: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (16 * rows, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for step in (250, 1000, 500):
        write(folder / "vae" / f"{step:06d}.png", 2)
        write(folder / "unet" / f"{step:06d}.png", 1)
    write(folder / "final" / "final.png", 3)
    write(folder / "final" / "ways.png", 3)
    return [folder / name for name in ("vae", "unet", "final")]


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Grid]]:
    return read_grids(write_samples(tmp_path_factory.mktemp("samples")), 1_000_000)


@pytest.fixture(scope="module")
def page(grids: dict[str, list[Grid]]) -> str:
    return render(*training(), grids)


class Elements(HTMLParser):
    """Every start tag with its attributes, the values of `data` elements, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.values = [float(a["value"] or "") for tag, a in self.tags if tag == "data"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def section(page: str, name: str) -> str:
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def points(chart: str) -> list[list[tuple[float, float]]]:
    """Coordinates of each line of a chart."""
    lines = re.findall(r'<polyline class="line line-\d" points="([^"]*)"', chart)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]  # type: ignore[misc]


def test_page_shows_every_number(page: str) -> None:
    parts, evaluation = training()
    elements = Elements(page)
    given = {leaf for leaf in leaves([parts, evaluation]) if isinstance(leaf, (int, float))}
    assert len(given) > 300
    assert {value for value in given if value not in elements.values} == {4711}  # the seeds
    assert elements.text.count("seed 4711") == 3


def test_page_shows_every_text(page: str) -> None:
    parts, evaluation = training()
    text = Elements(page).text
    given = [leaf for leaf in leaves([parts, evaluation]) if isinstance(leaf, str)]
    assert all(leaf in text for leaf in [*given, *evaluation["ways"], *BYTES])


def test_page_escapes_text(page: str) -> None:
    assert "<script" not in page
    assert HOSTILE in unescape(page)


def test_page_loads_nothing(page: str) -> None:
    tags = Elements(page).tags
    assert not {"link", "iframe", "object", "embed", "base", "script"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        assert not set(attributes) & {"srcset", "style", "onclick", "onload", "onerror"}
        assert (attributes.get("src") or "data:").startswith("data:")
        assert tag != "a" or (attributes["href"] or "").startswith("#")
    assert not re.search(r"@import|url\(|https?://", page)
    policy = next(a["content"] for _, a in tags if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_links_within_the_page_lead_somewhere(page: str) -> None:
    tags = Elements(page).tags
    targets = {attributes.get("id") for _, attributes in tags}
    links = [attributes["href"] or "" for tag, attributes in tags if tag == "a"]
    assert len(links) == 8
    assert {link[1:] for link in links} <= targets


@pytest.mark.parametrize("name", ["parts", "figures", "pictures", "ways"])
def test_every_section_with_results_is_labelled(page: str, name: str) -> None:
    assert LABEL in section(page, name)


def test_time_is_held_against_its_bound(grids: dict[str, list[Grid]], page: str) -> None:
    assert section(page, "parts").count("<strong>inside</strong>") == 3
    parts, evaluation = training()
    parts["clip"] = facts("clip", 480.5)
    late = section(render(parts, evaluation, grids), "parts")
    assert late.count("<strong>inside</strong>") == 2
    assert late.count("<strong>outside</strong>") == 1
    shown = Elements(late).values
    assert 321.75 + 480.5 + 323.75 in shown
    assert 3 * 300.25 in shown
    assert {480 - 321.75, -0.5} <= set(shown)  # margins


@pytest.mark.parametrize("name", ["figures", "ways"])
def test_shares_have_intervals(page: str, name: str) -> None:
    figures = training()[1]["ways"]["fp32"]
    shown = Elements(section(page, name)).values
    for share in (*ATTRIBUTES, "first_of_all"):
        bounds = wilson_interval(round(figures[share] * CAPTIONS), CAPTIONS)
        place = shown.index(bounds[0])
        assert shown[place - 1 : place + 2] == [figures[share], *bounds]


def test_bar_of_a_share_and_its_interval() -> None:
    bar = share_bar(0.5, (0.25, 1.0))
    assert 'class="allowed" x="42.0" y="6" width="114.0"' in bar
    assert 'd="M78.5 2' in bar


def test_share_interval_needs_a_share() -> None:
    assert share_interval(0.5, 10) == wilson_interval(5, 10)
    with pytest.raises(ValueError, match="are no share"):
        share_interval(1.5, 10)


def test_attributes_are_those_of_the_judge() -> None:
    assert set(ATTRIBUTES) == {*judge.ATTRIBUTES, "all"}


def test_charts_have_a_point_for_each_row() -> None:
    parts, _ = training()
    drawn = charts(parts)
    assert {name: len(found) for name, found in drawn.items()} == {"vae": 2, "clip": 2, "unet": 3}
    lines = {name: [points(chart) for chart in found] for name, found in drawn.items()}
    assert [len(chart) for chart in lines["vae"]] == [4, 1]
    assert [len(chart) for chart in lines["clip"]] == [1, 1]
    assert [len(chart) for chart in lines["unet"]] == [1, 4, 6]
    for part, found in lines.items():
        expected = [40] * (len(found) - (part != "clip")) + [8] * (part != "clip")
        assert [{len(line) for line in chart} for chart in found] == [{n} for n in expected]


def test_charts_are_on_the_page_in_order(page: str) -> None:
    parts, _ = training()
    places = [page.index(chart) for found in charts(parts).values() for chart in found]
    assert places == sorted(places)


def test_logarithmic_scale_has_equal_factors_at_equal_distances() -> None:
    rows = [
        {"step": step, "seconds": step / 10, "loss": 10.0 ** (-step / 50)} for step in (0, 50, 100)
    ]
    (line,) = points(line_chart("Title", "loss", rows, ["loss"], logarithmic=True))
    assert line == [(62.0, 26.0), (221.0, 116.0), (380.0, 206.0)]


def test_shares_are_drawn_from_0_to_1() -> None:
    rows = [{"step": 5, "seconds": 1.0, "right": 0.0}, {"step": 10, "seconds": 2.0, "right": 1.0}]
    chart = line_chart("Title", "share", rows, ["right"], logarithmic=False)
    assert points(chart) == [[(221.0, 206.0), (380.0, 26.0)]]
    assert "share, 0 to 1</text>" in chart
    ticks = re.findall(r'text-anchor="middle">([^<]*)</text>', chart)
    assert ticks == ["0", "0", "2", "0", "4", "1", "6", "1", "8", "2", "10", "2"]  # step, seconds
    assert re.findall(r'<data value="([^"]*)"', chart) == ["1.0"]  # the last one, in the legend
    assert ">step</text>" in chart
    assert ">seconds</text>" in chart


def test_values_without_a_logarithm_are_counted() -> None:
    rows = [{"step": k, "seconds": k, "kl": float(k)} for k in range(3)]
    chart = line_chart("Title", "loss", rows, ["kl"], logarithmic=True)
    assert len(points(chart)[0]) == 2
    assert "Values of zero or below, not drawn: 1." in chart
    assert "not drawn" not in line_chart("Title", "loss", rows[1:], ["kl"], logarithmic=True)


def test_chart_refuses_what_it_cannot_draw() -> None:
    rows = [{"step": 1, "seconds": 1.0, "right": 1.25, "zero": 0.0}]
    with pytest.raises(ValueError, match=r"Title: right is no share at step 1: 1.25"):
        line_chart("Title", "share", rows, ["right"], logarithmic=False)
    with pytest.raises(ValueError, match="Title: zero has no value to draw"):
        line_chart("Title", "loss", rows, ["zero"], logarithmic=True)


@pytest.mark.parametrize(
    ("last", "expected"),
    [(0, [0]), (3, [0, 1, 2, 3]), (40, [0, 10, 20, 30, 40]), (2500, list(range(0, 2501, 500))),
     (6000, list(range(0, 6001, 1000))), (9000, [0, 2000, 4000, 6000, 8000])],
)  # fmt: skip
def test_step_ticks_are_round(last: int, expected: list[int]) -> None:
    assert step_ticks(last) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.3, 0.9, [0.2, 0.5, 1.0]), (0.001, 10.0, [0.001, 0.01, 0.1, 1.0, 10.0]),
     (1.0, 1.0, [1.0, 2.0]), (0.02, 300.0, [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0])],
)  # fmt: skip
def test_log_ticks_enclose_the_values(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == expected


def test_seconds_between_rows() -> None:
    rows = [{"step": 10, "seconds": 5.0}, {"step": 30, "seconds": 9.0}]
    assert [seconds_at(rows, step) for step in (0, 5, 10, 20, 30)] == [0.0, 2.5, 5.0, 7.0, 9.0]


def test_grids_are_in_order_of_step(grids: dict[str, list[Grid]], page: str) -> None:
    assert {name: [grid.step for grid in found] for name, found in grids.items()} == {
        "vae": [250, 500, 1000],
        "unet": [250, 500, 1000],
        "final": [None],
        "ways": [None],
    }
    shown = [a["src"] for tag, a in Elements(page).tags if tag == "img"]
    assert shown == [grid.picture.source for found in grids.values() for grid in found]
    after = re.findall(r"</data>, after <data value=\"([^\"]*)\"", section(page, "pictures"))
    assert [float(text) for text in after] == [
        seconds_at(curve(part), step) for part in ("vae", "unet") for step in (250, 500, 1000)
    ]
    steps = re.findall(r"Text to image, step (\d+)\"></div>", page)
    assert steps == ["250", "500", "1000"]


def test_grids_may_be_named_one_by_one(tmp_path: Path, grids: dict[str, list[Grid]]) -> None:
    folders = write_samples(tmp_path)
    files = [path for folder in folders for path in folder.iterdir()]
    assert read_grids(files, 1_000_000) == grids


def test_grids_keep_their_budget(tmp_path: Path) -> None:
    folders = write_samples(tmp_path)
    small = read_grids(folders, 40_000)
    sources = [grid.picture.source for found in small.values() for grid in found]
    assert sum(map(len, sources)) <= 40_000
    assert {source[:16] for source in sources} == {"data:image/webp;"}


def test_grid_is_scaled_by_its_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (16 * 128, 2 * 128)).save(tmp_path / "a.png")
    picture = read_grid(tmp_path / "a.png", 1e6)
    assert (picture.width, picture.height) == (16 * 72, 2 * 72)
    assert picture.source.startswith("data:image/png;")


def test_grids_need_names_and_pictures(tmp_path: Path) -> None:
    folders = write_samples(tmp_path)
    with pytest.raises(ValueError, match=r"no grid of samples of unet$"):
        read_grids([folders[0], folders[2]], 1_000_000)
    (tmp_path / "vae" / "latest.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"latest\.png: not the name of a grid"):
        read_grids(folders, 1_000_000)
    (tmp_path / "vae" / "latest.png").replace(tmp_path / "vae" / "000750.png")
    with pytest.raises(ValueError, match=r"000750\.png: not an image"):
        read_grids(folders, 1_000_000)


def test_software_is_shown_once_for_each_set_of_versions(
    grids: dict[str, list[Grid]], page: str
) -> None:
    assert page.count("<h3>Software of vae, clip, unet</h3>") == 1
    parts, evaluation = training()
    parts["clip"]["software"]["torch"] = "2.9.2"
    other = render(parts, evaluation, grids)
    assert "<h3>Software of vae, unet</h3>" in other
    assert "<h3>Software of clip</h3>" in other


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("clip",), "the training has no clip"),
        (("vae", "job_seconds"), r"vae\.json has no job_seconds"),
        (("unet", "judged"), r"unet\.json has no judged"),
        (("unet", "judged", 3, "size"), r"a row of judged of unet\.json has no size"),
        (("clip", "curve", 7, "seconds"), r"a row of the curve of clip\.json has no seconds"),
        (("evaluation", "device"), r"evaluation\.json has no device"),
        (("evaluation", "bytes", "all"), r"bytes of evaluation\.json has no all"),
        (("evaluation", "ways", "bf16", "fid"), r"the way bf16 of evaluation\.json has no fid"),
    ],
)
@pytest.mark.parametrize("make", [model_card, lambda parts, rest: render(parts, rest, {})])
def test_missing_values_are_named(make: Any, keys: tuple[Any, ...], message: str) -> None:
    parts, evaluation = training()
    everything = copy.deepcopy({**parts, "evaluation": evaluation})
    *path, last = keys
    holder: Any = everything
    for key in path:
        holder = holder[key]
    del holder[last]
    evaluation = everything.pop("evaluation")
    with pytest.raises(ValueError, match=rf"^{message}$"):
        make(everything, evaluation)


def test_contradictions_are_named() -> None:
    parts, evaluation = training()
    with pytest.raises(ValueError, match=r"^clip\.json is of the part vae$"):
        model_card({**parts, "clip": facts("vae")}, evaluation)
    with pytest.raises(ValueError, match=r"^vae\.json is no table of values$"):
        model_card({**parts, "vae": []}, evaluation)
    with pytest.raises(ValueError, match=r"^the curve of vae\.json is empty$"):
        model_card({**parts, "vae": {**facts("vae"), "curve": []}}, evaluation)
    backwards = {**facts("vae"), "curve": [*curve("vae"), curve("vae")[-1]]}
    with pytest.raises(ValueError, match=r"^the curve of vae\.json is not in order of its steps$"):
        model_card({**parts, "vae": backwards}, evaluation)
    with pytest.raises(ValueError, match=r"^evaluation\.json has no way of painting$"):
        model_card(parts, {**evaluation, "ways": {}})
    wrong = {**evaluation, "ways": {"fp32": {**way(0.5), "size": 1.5}}}
    with pytest.raises(ValueError, match=r"^size of the way fp32 of evaluation\.json: 768 of 512"):
        model_card(parts, wrong)


def test_card_shows_every_figure() -> None:
    parts, evaluation = training()
    card = model_card(parts, evaluation)
    numbers = {float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*\.?\d*", card)}
    wanted = [evaluation["drawn"], evaluation["bytes"], *evaluation["ways"].values()]
    for part in parts.values():
        wanted += [part[key] for key in ("parameters", "steps", "seconds", "seed", "figures")]
    for value in leaves(wanted):
        assert any(number == pytest.approx(value, rel=5e-4, abs=6e-4) for number in numbers), value
    low, high = wilson_interval(504, CAPTIONS)
    assert f"0.984 [{low:.3f}, {high:.3f}]" in card
    low, high = wilson_interval(464, CAPTIONS)
    assert f"In the way `fp32`, 0.906 [{low:.3f}, {high:.3f}] of the pictures" in card
    assert f"All jobs together: {321.75 + 322.75 + 323.75:.1f} s" in card
    assert all(f"`{name}`: " in card for name in columns(evaluation) if name != "own_measure")


def test_card_says_what_a_reader_must_know() -> None:
    card = model_card(*training())
    assert card.count(LABEL) == 2
    assert COMMAND in card
    assert "2,304 scenes" in card
    assert "8 phrasings" in card
    assert "512 of the scenes are held out" in card
    assert "painted on NVIDIA H200" in card
    assert "no photographs" in card
    assert "[LICENSE](../LICENSE)" in card
    files = re.findall(r"^\| (\S+) \|", card[card.index("## Files") :], re.MULTILINE)
    assert files == ["File", "---", "micro-clip/a.json", "micro-sdxl/unet.safetensors", "all"]
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "Structure", "Data", "Training", "Figures", "Intended use", "Limitations", "Licence",
        "Files",
    ]  # fmt: skip


def test_tables_of_the_card_are_whole() -> None:
    card = model_card(*training())
    assert "<" not in card
    for table in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1


def test_script_writes_page_and_card(tmp_path: Path) -> None:
    parts, evaluation = training()
    files = {name: tmp_path / f"{name}.json" for name in (*parts, "evaluation")}
    for name, path in files.items():
        write_json(path, {**parts, "evaluation": evaluation}[name])
    output = {"html": tmp_path / "report.html", "card": tmp_path / "card.md"}
    snakemake = SimpleNamespace(
        input=SimpleNamespace(**files, samples=write_samples(tmp_path / "samples")),
        output=SimpleNamespace(**output),
        params=SimpleNamespace(code=""),
        log=[str(tmp_path / "report.log")],
    )
    script = Path(__file__).parents[1] / "scripts" / "make_training_report.py"
    runpy.run_path(str(script), init_globals={"snakemake": snakemake})
    read = json.loads(json.dumps([parts, evaluation]))
    assert output["card"].read_text(encoding="utf-8") == model_card(*read)
    assert output["html"].read_text(encoding="utf-8").count("<img ") == 8
