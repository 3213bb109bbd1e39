"""The pages in a real browser: what they ask for, what their buttons do, and how they fit."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import chromium, missing, violations, wide_parts
from fake_results import check, fake_run, picture, scenario
from t2i.report import export
from t2i.report.page import render, render_runs
from t2i.report.runs import Measured, side_by_side
from t2i.training.settings import MICRO_UNET
from training_page import page as training_page
from training_page import scores

VARIANTS = ("fp32", "bf16", "fp8")
SIDE = 256
FIRST = 11  # the gallery's first sample: a compliance sample
HEADLINE = "#headline tbody tr"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A report with all its parts and as many checks as a real one has, and its page."""
    folder = tmp_path_factory.mktemp("report")
    scenarios = [
        scenario(variant, name, "fail" if variant == "fp8" else "pass", ["time: 10 s of 600 s"])
        for variant in VARIANTS
        for name in ("SingleStream", "Offline")
    ]
    latencies = {("fp32", "SingleStream"): np.random.default_rng(1).gamma(9, 0.1, 300)}
    report, pictures = fake_run(
        folder, VARIANTS, side=SIDE, scenarios=scenarios, latencies=latencies
    )
    many = [
        check(
            f"inputs.a-model/unet/a_rather_long_name_of_a_file_{n}.safetensors", "pass", "ab" * 32
        )
        for n in range(200)
    ]
    for variant in report["variants"]:
        variant["compliance"]["checks"] += many
    (folder / "report.html").write_text(render(report, pictures), encoding="utf-8")
    return report, folder / "report.html"


@pytest.fixture(scope="module")
def pages(run: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The pages of a run, of runs side by side, and of a training."""
    folder = tmp_path_factory.mktemp("pages")
    found = {"run": run[1], "runs": folder / "runs.html", "training": folder / "training.html"}
    rng = np.random.default_rng(2)
    measured = [
        Measured(
            f"/a/folder/of/a/run-elsewhere-{number}/{row['variant']}",
            row,
            variant["metrics"],
            {"index": np.arange(40), "fid": rng.normal(size=40), "clip": rng.normal(size=40)},
            {"captions.tsv": "aa", "latents.npy": str(number)},
            "ab" * 20,
        )
        for number in range(3)
        for row, variant in zip(export.rows(run[0]), run[0]["variants"], strict=True)
    ]
    found["runs"].write_text(render_runs(side_by_side(measured)), "utf-8")
    page = training_page(MICRO_UNET, scores((250.0, 0.05), (150.0, 0.10)))
    found["training"].write_text(page, "utf-8")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with chromium() as running:
        yield running


class Opened:
    """A page, what it asked for and what its console said."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        context = browser.new_context(**options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = context.new_page()
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(path.as_uri())


@pytest.fixture
def opened(browser: Any, run: tuple[dict[str, Any], Path]) -> Iterator[Opened]:
    found = Opened(browser, run[1])
    yield found
    assert found.said == []
    found.page.context.close()


def first_column(page: Any) -> list[str]:
    return page.locator(f"{HEADLINE}:not([hidden]) th").all_inner_texts()


def test_a_page_asks_for_nothing(opened: Opened, run: tuple[dict[str, Any], Path]) -> None:
    opened.page.wait_for_load_state("networkidle")
    assert [url for url in opened.requests if not url.startswith("data:")] == [run[1].as_uri()]


def test_rows_are_sorted_by_unrounded_numbers(opened: Opened) -> None:
    button = opened.page.locator("#headline thead button", has_text="Images/s")
    assert first_column(opened.page) == list(VARIANTS)
    button.click()
    assert first_column(opened.page) == ["fp32", "bf16", "fp8"]
    button.click()
    assert first_column(opened.page)[2] == "fp32"
    assert opened.page.locator("#headline th[aria-sort]").get_attribute("aria-sort") == "descending"
    opened.page.locator("#headline thead button", has_text="Variant").click()
    assert first_column(opened.page) == ["bf16", "fp32", "fp8"]


def test_rows_are_filtered_by_all_words(opened: Opened) -> None:
    field = opened.page.locator("#results .tools input")
    field.fill("bf16 pass")
    assert first_column(opened.page) == ["bf16"]
    assert opened.page.locator("#results .tools [role=status]").inner_text() == "1 of 3 rows"
    field.fill("")
    assert first_column(opened.page) == list(VARIANTS)


def test_what_is_copied_is_unrounded(opened: Opened, run: tuple[dict[str, Any], Path]) -> None:
    opened.page.locator("#results .tools button", has_text="CSV").click()
    opened.page.locator("#results [role=status]", has_text="copied").wait_for()
    rows = list(csv.DictReader(io.StringIO(opened.page.evaluate("navigator.clipboard.readText()"))))
    assert [row["Variant"] for row in rows] == list(VARIANTS)
    for row, variant in zip(rows, run[0]["variants"], strict=True):
        metrics = variant["metrics"]
        for name, wanted in (
            ("Images/s", [metrics["speed"]["images_per_second"], *metrics["speed"]["interval"]]),
            ("FID", [metrics["fid"], *metrics["fid_interval"]]),
        ):
            assert [float(number) for number in row[name].split()] == wanted
    opened.page.locator("#results .tools button", has_text="Markdown").click()
    opened.page.wait_for_function("async () => (await navigator.clipboard.readText())[0] === '|'")
    lines = opened.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(lines) == 2 + len(VARIANTS)
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_row_is_sorted_and_copied_by_its_name(browser: Any, pages: dict[str, Path]) -> None:
    """Which may have numbers in it."""
    page = Opened(browser, pages["runs"]).page
    head = page.locator("#headline thead button", has_text="Run and variant")
    for _ in range(2):
        head.click()
    assert "run-elsewhere-2/fp8" in first_column(page)[0].replace("\u200b", "")
    page.locator(".tools button", has_text="CSV").click()
    page.locator("[role=status]", has_text="copied").wait_for()
    rows = list(csv.DictReader(io.StringIO(page.evaluate("navigator.clipboard.readText()"))))
    assert len(rows) == 9 and "/run-elsewhere-2/fp8" in rows[0]["Run and variant"]
    page.context.close()


def median_grey(page: Any) -> float:
    shot = Image.open(io.BytesIO(page.locator("#viewer .pair").screenshot()))
    return float(np.median(np.asarray(shot.convert("RGB"))))


def test_a_picture_is_enlarged_and_compared_by_keys(opened: Opened) -> None:
    page = opened.page
    page.locator(f"#sample-{FIRST} a.picture").nth(1).click()
    image, other = page.locator("#viewer-image"), page.locator("#viewer-other")
    title = page.locator("#viewer-title")
    assert title.inner_text() == f"Sample {FIRST}, bf16"
    page.wait_for_function(f"document.getElementById('viewer-image').naturalWidth === {SIDE}")
    assert image.get_attribute("src").endswith(f"images/bf16/{FIRST:05d}.png")
    assert not other.is_visible()
    page.keyboard.press("f")
    assert other.is_visible() and "showing fp32" in title.inner_text()
    page.keyboard.press("f")
    assert not other.is_visible()
    page.keyboard.press("d")
    assert other.is_visible()
    pixels = [picture(FIRST, name, SIDE).astype(int) for name in ("bf16", "fp32")]
    wanted = 4 * np.median(np.abs(pixels[0] - pixels[1]))
    assert median_grey(page) == pytest.approx(wanted, abs=1) and wanted > 10
    page.keyboard.press("d")
    page.keyboard.press("s")
    page.locator("#viewer-slider input").fill("25")
    assert other.evaluate("each => each.style.clipPath") == "inset(0px 0px 0px 25%)"
    page.keyboard.press("s")
    before = image.bounding_box()["width"]
    page.locator("#viewer [data-do='-']").click()
    assert image.bounding_box()["width"] == pytest.approx(before / 2)
    page.locator("#viewer [data-do='ArrowDown']").click()
    assert title.inner_text() == f"Sample {FIRST}, fp8"
    page.locator("#viewer-title").click()
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == "Sample 3, fp8"
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    assert page.evaluate("document.activeElement.ariaLabel") == "Enlarge sample 3, fp8"


def test_a_page_without_its_pictures_enlarges_the_small_ones(
    browser: Any, run: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    alone = tmp_path / "alone.html"
    alone.write_bytes(run[1].read_bytes())
    page = Opened(browser, alone).page
    page.locator("a.picture").first.click()
    page.wait_for_function("document.getElementById('viewer-image').src.startsWith('data:')")
    assert page.locator("#viewer-image").is_visible()
    page.context.close()


def test_without_script_tables_and_pictures_are_there(
    browser: Any, run: tuple[dict[str, Any], Path]
) -> None:
    page = Opened(browser, run[1], java_script_enabled=False).page
    assert first_column(page) == list(VARIANTS)
    assert page.locator(".tools").count() == 0
    assert page.locator("#gallery a.picture img").count() == 24 * len(VARIANTS)
    page.locator("#gallery a.picture").first.click()
    assert page.url.endswith(f"images/fp32/{FIRST:05d}.png")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["run", "runs", "training"])
def test_everybody_can_use_it(
    which: str, scheme: str, browser: Any, pages: dict[str, Path]
) -> None:
    path = pages[which]
    page = Opened(browser, path, color_scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert violations(page) == []
    if which == "run":
        page.locator("a.picture").first.click()
        assert violations(page) == []
    page.context.close()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("which", ["run", "runs", "training"])
def test_nothing_lies_off_the_screen(
    which: str, width: int, browser: Any, pages: dict[str, Path]
) -> None:
    path = pages[which]
    page = Opened(browser, path, viewport={"width": width, "height": 900}).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    allowed = ".scroll, .cells, pre" if width == 390 else "pre"
    assert wide_parts(page, allowed) == []
    page.context.close()


def test_it_prints_on_few_pages(opened: Opened) -> None:
    document = opened.page.pdf(format="A4")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", document)) <= 15
