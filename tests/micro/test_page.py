"""The page of a training: every number, every grid, and clear words for what is missing."""

from __future__ import annotations

import copy
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fake_job import Named, fake_job, run_script
from fake_training import (
    BYTES,
    CAPTIONS,
    HOSTILE,
    curve,
    facts,
    training,
    way,
    write_samples,
)
from report_page import Elements, leaves, part
from t2i.base.files import write_json
from t2i.base.stats import wilson_interval
from t2i.micro import judge
from t2i.micro.card import model_card
from t2i.micro.page import Grid, charts, read_grid, read_grids, render, share_bar
from t2i.micro.record import ATTRIBUTES, LABEL, seconds_at, share_interval


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Grid]]:
    return read_grids(write_samples(tmp_path_factory.mktemp("samples")), 1_000_000)


@pytest.fixture(scope="module")
def page(grids: dict[str, list[Grid]]) -> str:
    return render(*training(), grids)


def test_page_shows_every_number(page: str) -> None:
    parts, evaluation = training()
    elements = Elements(page)
    given = {leaf for leaf in leaves([parts, evaluation]) if isinstance(leaf, (int, float))}
    assert len(given) > 300
    values = {value for value, _ in elements.numbers}
    assert given - values == {4711}  # the seeds
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
        assert not set(attributes) & {"srcset", "onclick", "onload", "onerror"}
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
    assert LABEL in part(page, name)


def test_time_is_held_against_its_bound(grids: dict[str, list[Grid]], page: str) -> None:
    assert part(page, "parts").count("<strong>inside</strong>") == 3
    parts, evaluation = training()
    parts["clip"] = facts("clip", 480.5)
    late = part(render(parts, evaluation, grids), "parts")
    assert late.count("<strong>inside</strong>") == 2
    assert late.count("<strong>outside</strong>") == 1
    shown = [value for value, _ in Elements(late).numbers]
    assert 321.75 + 480.5 + 323.75 in shown
    assert 3 * 300.25 in shown
    assert {480 - 321.75, -0.5} <= set(shown)  # margins


@pytest.mark.parametrize("name", ["figures", "ways"])
def test_shares_have_intervals(page: str, name: str) -> None:
    figures = training()[1]["ways"]["fp32"]
    shown = [value for value, _ in Elements(part(page, name)).numbers]
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
    with pytest.raises(ValueError, match="are not a valid share"):
        share_interval(1.5, 10)


def test_attributes_are_those_of_the_judge() -> None:
    assert set(ATTRIBUTES) == {*judge.ATTRIBUTES, "all"}


def test_charts_are_on_the_page_in_order(page: str) -> None:
    parts, _ = training()
    places = [page.index(chart) for found in charts(parts).values() for chart in found]
    assert places == sorted(places)


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
    after = re.findall(r"</data>, after <data value=\"([^\"]*)\"", part(page, "pictures"))
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
    with pytest.raises(ValueError, match=r"^vae\.json is not a table of values$"):
        model_card({**parts, "vae": []}, evaluation)
    with pytest.raises(ValueError, match=r"^the curve of vae\.json is empty$"):
        model_card({**parts, "vae": {**facts("vae"), "curve": []}}, evaluation)
    backwards = {**facts("vae"), "curve": [*curve("vae"), curve("vae")[-1]]}
    with pytest.raises(ValueError, match=r"^the curve of vae\.json is not in order of its steps$"):
        model_card({**parts, "vae": backwards}, evaluation)
    with pytest.raises(ValueError, match=r"^evaluation\.json lists no variants$"):
        model_card(parts, {**evaluation, "ways": {}})
    wrong = {**evaluation, "ways": {"fp32": {**way(0.5), "size": 1.5}}}
    with pytest.raises(ValueError, match=r"^size of the way fp32 of evaluation\.json: 768 of 512"):
        model_card(parts, wrong)


def test_script_writes_page_and_card(tmp_path: Path) -> None:
    parts, evaluation = training()
    files = {name: tmp_path / f"{name}.json" for name in (*parts, "evaluation")}
    for name, path in files.items():
        write_json(path, {**parts, "evaluation": evaluation}[name])
    output = {"html": tmp_path / "report.html", "card": tmp_path / "card.md"}
    job = fake_job(
        Named(**files, samples=write_samples(tmp_path / "samples")),
        Named(**output),
        tmp_path / "report.log",
        Named(code=""),
    )
    run_script("make_micro_report", job)
    read = json.loads(json.dumps([parts, evaluation]))
    assert output["card"].read_text(encoding="utf-8") == model_card(*read)
    assert output["html"].read_text(encoding="utf-8").count("<img ") == 8
