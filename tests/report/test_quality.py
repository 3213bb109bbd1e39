"""The report on quality: every variant beside the others, and what its pictures show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fake_results import IDS, captions, comparison, compliance, fake_run, metrics, provenance
from report_page import Elements, part
from t2i.report.data import assemble
from t2i.report.page import render


@pytest.fixture(scope="module")
def report_and_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    report, pictures = fake_run(tmp_path_factory.mktemp("run"))
    return report, render(report, pictures)


def test_windows_are_named_beside_the_scores(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, page = report_and_page
    assert report["windows"]["source"] == "windows of a fake run"
    assert "They are: <strong>windows of a fake run</strong>" in part(page, "quality")
    assert {23.01085758, 31.81331801} <= {value for value, _ in Elements(page).numbers}


def test_a_variant_stands_in_one_row(tmp_path: Path) -> None:
    """Scores, speed and verdict of all side by side, and below them what differs."""
    names = ("fp32", "bf16", "mine", "yours")
    report, pictures = fake_run(tmp_path, names, samples=8)
    page = render(report, pictures)
    table = part(page, "results").partition("</table>")[0]
    rows = table.split('<th scope="row">')[1:]
    assert [row[: row.index("<")] for row in rows] == [*names]
    for row, variant in zip(rows, report["variants"], strict=True):
        shown = {value for value, _ in Elements(row).numbers}
        metrics = variant["metrics"]
        assert {metrics["fid"], *metrics["fid_interval"], metrics["clip"]} <= shown
        assert f"{variant['compliance']['verdict'].upper()}</span>" in row
    assert "outside the window" in rows[0] and "inside the window" in rows[1]
    pairs = part(page, "quality").split('<th scope="row">')[1:]
    assert [row[: row.index("<")] for row in pairs] == [*names[1:]]
    for row in pairs:
        shown = {value for value, _ in Elements(row).numbers}
        assert {1.2345678, 0.3456789, 2.1234567, -0.0034567, 3.98765} <= shown


def test_a_pair_that_cannot_be_compared_says_why(tmp_path: Path) -> None:
    report, pictures = fake_run(tmp_path, samples=8)
    pair = report["comparison"]["pairs"][0]
    pair.update(comparable=False, reason="scored by different protocols", fid_difference=None)
    section = part(render(report, pictures), "quality")
    assert "not comparable" in section and "scored by different protocols" in section
    assert "differs" not in section.partition("<tbody>")[2]


def test_what_pictures_show(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, page = report_and_page
    section = part(page, "pictures")
    shown = {value for value, _ in Elements(section).numbers}
    for variant in report["variants"]:
        for found in variant["judged"]["attributes"].values():
            assert {found["share"], *found["interval"]} <= shown
    assert "Background" in section and "Own caption first" in section


def test_gallery_names_what_is_not_as_captioned(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    report, page = report_and_page
    wrong = {row["index"]: row["wrong"] for row in report["gallery"]["rows"] if row["wrong"]}
    assert wrong == {3: {"bf16": ["colour", "shape"]}}
    assert part(page, "gallery").count("✗") == 1
    assert 'bf16 <span class="caution">✗ colour, shape</span></figcaption>' in page


def test_nothing_is_said_of_pictures_that_nobody_judged(tmp_path: Path) -> None:
    report, pictures = fake_run(tmp_path, samples=8, judge=False)
    assert not report["judged"] and report["variants"][0]["judged"] is None
    page = render(report, pictures)
    assert "captioned" not in re.sub(r"<dl.*?</dl>", "", page, flags=re.DOTALL)
    assert "Background" not in part(page, "pictures")
    assert "Own caption first" in part(page, "pictures")


def test_many_variants_share_the_width_of_the_page(tmp_path: Path) -> None:
    for count, many in ((6, False), (7, True)):
        names = [f"variant-{n}" for n in range(count)]
        report, pictures = fake_run(tmp_path / str(count), names, samples=4, side=16)
        page = render(report, pictures)
        assert ('<ol class="rows many">' in page) == many


def test_a_variants_own_sampling_is_shown() -> None:
    facts = provenance(["fp32", "few"], 4)
    facts["config"]["variants"]["few"].update(steps=7, guidance=0, patch="mine.py:hook")
    manifests = [
        {"shard": "00000-00001", "variant": name, "samples": [], "software": {}, "seconds": 1.0}
        for name in ("fp32", "few")
    ]
    report = assemble(
        "demo",
        ["fp32", "few"],
        [metrics(name, 4) for name in ("fp32", "few")],
        [compliance(name) for name in ("fp32", "few")],
        comparison(["fp32", "few"], 4),
        facts,
        manifests,
        captions(4),
        IDS,
    )
    assert [variant["sampling"] for variant in report["variants"]] == [
        {"steps": 20, "guidance": 8.0},
        {"steps": 7, "guidance": 0},
    ]
    section = part(render(report, {}), "variants")
    assert ">7</data> steps" in section and "mine.py:hook" in section
