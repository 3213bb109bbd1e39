"""The report page: complete, honest, self-contained and equal to its machine twin."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import re
from html import unescape
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fake_job import Named, fake_job, run_script
from fake_results import (
    HOSTILE,
    IDS,
    captions,
    comparison,
    compliance,
    fake_run,
    judged,
    metrics,
    not_run,
    picture,
    provenance,
    scenario,
    submission,
    write_shard,
    write_shards,
)
from report_page import Elements, leaves, part
from t2i.base.files import write_json
from t2i.generate.shard import DamagedShard, Sample
from t2i.mlperf import ROUNDS
from t2i.prompts.captions import format_captions
from t2i.report.data import assemble, direction, gallery_rows
from t2i.report.gallery import thumbnail, write_pictures
from t2i.report.page import MINUS, number, places, render, window
from t2i.report.speed import write_speed
from t2i.report.summary import table


@pytest.fixture(scope="module")
def report_and_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    report, pictures = fake_run(tmp_path_factory.mktemp("run"))
    return report, render(report, pictures)


def test_report_survives_json(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, _ = report_and_page
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_variants_keep_the_order_asked_for(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, _ = report_and_page
    assert [variant["name"] for variant in report["variants"]] == ["fp32", "bf16"]
    assert [variant["metrics"]["variant"] for variant in report["variants"]] == ["fp32", "bf16"]


def test_fp8_is_labelled_until_a_run_has_passed_with_the_real_weights(
    report_and_page: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    report, pictures = fake_run(tmp_path)
    label = "accuracy not yet measured on SDXL's real weights"
    assert label not in unescape(report_and_page[1])
    first = report["variants"][0]
    first["settings"]["fp8"] = {"attention": True}
    for comparable, verdict in product((False, True), ("pass", "fail")):
        first["metrics"]["comparable"] = {"value": comparable, "reasons": ["one"]}
        first["compliance"]["verdict"] = verdict
        shown = label in unescape(render(report, pictures))
        assert shown == (not comparable or verdict == "fail")


def test_every_number_is_one_of_the_report(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, page = report_and_page
    known = {leaf for leaf in leaves(report) if isinstance(leaf, (int, float))}
    shown = Elements(page).numbers
    assert shown
    for value, text in shown:
        assert value in known
        plain = float(re.sub(r"[^\d.e+-]", "", text.replace(MINUS, "-")))
        if not text.endswith("B"):
            assert plain == pytest.approx(value, rel=5e-4, abs=6e-3)


@pytest.mark.parametrize("key", ["fid", "clip", "clip_shifted", "clip_first", "samples"])
def test_headline_numbers_are_shown(report_and_page: tuple[dict[str, Any], str], key: str) -> None:
    report, page = report_and_page
    shown = {value for value, _ in Elements(page).numbers}
    assert {variant["metrics"][key] for variant in report["variants"]} <= shown


def test_speeds_are_shown_with_intervals_memory_and_power(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    report, page = report_and_page
    shown = {value for value, _ in Elements(page).numbers}
    for variant in report["variants"]:
        speed = variant["metrics"]["speed"]
        memory = speed["gpu_memory_bytes"] or speed["memory_bytes"]
        assert {speed["images_per_second"], *speed["interval"], memory} <= shown
        if speed["joules"] is not None:
            assert speed["joules"] in shown
        if variant["speed_up"] is not None:
            assert {variant["speed_up"]["ratio"], *variant["speed_up"]["interval"]} <= shown
    assert any(variant["metrics"]["speed"]["joules"] for variant in report["variants"])
    assert "the machine was busy" not in page


def test_a_busy_machine_is_named(report_and_page: tuple[dict[str, Any], str]) -> None:
    report = copy.deepcopy(report_and_page[0])
    report["variants"][0]["metrics"]["speed"]["busy"] = ["another program used the GPU", "<b>"]
    page = render(report, {})
    name = report["variants"][0]["name"]
    assert part(page, "results").count("machine was busy</span>") == 1
    assert "<strong>The machine was busy</strong>, so take" in page
    assert "with care: another program used the GPU; &lt;b&gt;." in page
    assert f"{name}: the machine was busy: another" in table(report)


def test_caption_is_escaped(report_and_page: tuple[dict[str, Any], str]) -> None:
    _, page = report_and_page
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert "&lt;script&gt;alert" in page
    assert HOSTILE in unescape(page)
    assert HOSTILE in [attributes.get("alt") for tag, attributes in Elements(page).tags]


def test_page_loads_nothing(report_and_page: tuple[dict[str, Any], str]) -> None:
    _, page = report_and_page
    tags = Elements(page).tags
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        assert not set(attributes) & {"srcset", "onclick", "onload", "onerror"}
        assert (attributes.get("src") or "data:").startswith("data:")
        assert tag == "a" or (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)", page)
    policy = next(a["content"] for _, a in tags if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_policy_allows_the_script_of_the_page(report_and_page: tuple[dict[str, Any], str]) -> None:
    _, page = report_and_page
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"'sha256-{digest}'" in page


def test_failure_is_said_with_its_check(report_and_page: tuple[dict[str, Any], str]) -> None:
    _, page = report_and_page
    section = part(page, "compliance")
    failing = section[section.index("<details open>") :]
    failing = failing[: failing.index("</details>")]
    assert "accuracy.fid" in failing
    assert "FAIL" in failing
    assert "samples.count" not in failing
    assert "FID lies outside its window." in page


def test_banner_names_every_obstacle(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, page = report_and_page
    reasons = [item["reason"] for item in report["not_comparable"]]
    assert len(reasons) == 3
    assert "8 of the 10 compliance samples lie beyond the 40 samples of this run" in reasons
    assert "NOT COMPARABLE" in page
    assert all(reason in unescape(page) for reason in reasons)
    assert all(item["variants"] == ["fp32", "bf16"] for item in report["not_comparable"])


def test_difference_in_words(report_and_page: tuple[dict[str, Any], str]) -> None:
    _, page = report_and_page
    section = part(page, "quality")
    assert "differs: higher</strong> (worse)" in section
    assert "no difference shown" in section


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([-1.0, 1.0], "no difference shown"),
        ([0.0, 1.0], "no difference shown"),
        ([0.5, 1.0], "higher"),
        ([-2.0, -1.0], "lower"),
        (None, None),
    ],
)
def test_direction(interval: list[float] | None, expected: str | None) -> None:
    assert direction(0.5, interval) == expected


def test_gallery_order(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, page = report_and_page
    indices = [row["index"] for row in report["gallery"]["rows"]]
    assert indices[:2] == [11, 3]
    assert indices[2:] == sorted(indices[2:])
    assert len(indices) == 24
    shown = [int(i) for i in re.findall(r'<li id="sample-(\d+)"', page)]
    assert shown == indices
    assert page.count('class="tag"') == 2


def test_gallery_rows_are_spread() -> None:
    compliance_rows, spread = gallery_rows(range(5000), IDS)
    assert compliance_rows == IDS
    assert len(spread) == 14
    steps = np.diff([0, *spread, 5000])
    assert steps.max() < 2 * 5000 / 14
    assert gallery_rows(range(3), []) == ([], [0, 1, 2])
    assert gallery_rows([], [4]) == ([], [])


def test_disturbing_prompt_is_known() -> None:
    manifest = {
        "shard": "01303-01304",
        "variant": "fp32",
        "samples": [Sample(1303, 1, "01303.png", "ab" * 32, finite=False)],
        "software": {},
        "seconds": 1.0,
    }
    report = assemble(
        "demo",
        ["fp32"],
        [metrics("fp32", 1)],
        [compliance("fp32")],
        comparison(["fp32"], 1),
        provenance(["fp32"], 1),
        [manifest],
        captions(1304),
        IDS,
    )
    assert [row["sensitive"] for row in report["gallery"]["rows"]] == [True]
    reasons = [item["reason"] for item in report["not_comparable"]]
    assert "1 of 1 images came from latents with infinities or NaN, first sample 1303" in reasons


def test_disturbing_prompt_is_covered(tmp_path: Path) -> None:
    report, pictures = fake_run(tmp_path, samples=8)
    report["gallery"]["rows"][0]["sensitive"] = True
    page = render(report, pictures)
    assert page.count('class="sensitive"') == 1
    assert page.count('class="reveal"') == 1


def test_small_images_are_kept_exactly() -> None:
    pixels = picture(5, "fp32", 64)
    small = thumbnail(Image.fromarray(pixels), 100_000)
    assert (small.width, small.height, small.pixelated) == (128, 128, True)
    back = Image.open(io.BytesIO(base64.b64decode(small.source.split(",")[1])))
    assert np.array_equal(np.asarray(back), pixels)


@pytest.mark.parametrize("budget", [60_000, 20_000, 4_000])
def test_thumbnail_keeps_its_budget(budget: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 384, 3), dtype=np.uint8)
    small = thumbnail(Image.fromarray(noise), budget)
    assert len(small.source) <= budget
    assert (small.width, small.height) == (192, 256)


def test_damaged_shard_is_refused(tmp_path: Path) -> None:
    manifest = write_shard(tmp_path, "fp32", range(2), 32)
    written = manifest.read_bytes()
    write_shard(tmp_path, "bf16", range(2), 32)  # other pixels under the same name
    manifest.write_bytes(written)
    with pytest.raises(DamagedShard, match=r"00000-00002\.tar: the pixels of sample 0 have"):
        write_pictures([(manifest.with_suffix(".tar"), manifest)], [0, 1], 100_000, tmp_path)


def test_missing_metrics_are_named() -> None:
    with pytest.raises(ValueError, match="no metrics.json of variant bf16; found those of fp32"):
        assemble("r", ["fp32", "bf16"], [metrics("fp32", 4)], [], {}, {}, [], [], [])


def test_one_variant_needs_no_comparison(tmp_path: Path) -> None:
    report, pictures = fake_run(tmp_path, names=("fp32",), samples=8)
    assert "nothing to compare" in render(report, pictures)


@pytest.mark.parametrize(
    ("value", "low", "high", "word"),
    [(23.4, 23.0, 24.0, "inside"), (25.0, 23.0, 24.0, "outside"), (600.0, 600.0, None, "inside"),
     (3, None, 2, "outside"), (23.0, 23.0, 23.0, "inside")],
)  # fmt: skip
def test_window_says_inside_or_outside(
    value: float, low: float | None, high: float | None, word: str
) -> None:
    bar = window(value, low, high, 0.1)
    assert bar is not None and f"<strong>{word}</strong>" in bar


@pytest.mark.parametrize("value", [True, None, "text", [1]])
def test_window_needs_a_number(value: Any) -> None:
    assert window(value, 1.0, 2.0, None) is None


def test_rounding() -> None:
    assert places(23.0, 23.4) == 2
    assert places(-0.0123, 0.0054) == 3
    assert places(1.0, 1.0) == 2
    assert ">−0.0035<" in number(-0.0034567, 4, sign=True)
    assert ">12,345<" in number(12345)
    assert "—" in number(None)


def test_script_writes_all_files(tmp_path: Path) -> None:
    names, samples = ["fp32", "bf16"], 20
    shards = write_shards(tmp_path, names, samples, 32)
    kinds = ("metrics", "compliance", "judged", "manifests", "shards")
    files: dict[str, Any] = {kind: [] for kind in (*kinds, "scenarios", "latencies", "submissions")}
    for name in names:
        for kind, content in (
            ("metrics", metrics(name, samples)),
            ("compliance", compliance(name)),
            ("judged", judged(name, samples)),
        ):
            files[kind].append(tmp_path / name / f"{kind}.json")
            write_json(files[kind][-1], content)
        for tar, manifest in shards[name]:
            files["shards"].append(tar)
            files["manifests"].append(manifest)
    files["scenarios"].append(tmp_path / "bf16/loadgen/Server/verdict.json")
    files["latencies"].append(tmp_path / "bf16/loadgen/Server/performance/latencies.npy")
    files["latencies"][0].parent.mkdir(parents=True)
    np.save(files["latencies"][0], np.linspace(1.0, 2.0, 25))
    write_json(files["scenarios"][0], scenario("bf16", "Server"))
    files["submissions"].append(tmp_path / "fp32/submission.json")
    write_json(files["submissions"][0], submission(not_run("no checkout")))
    singles = {
        "comparison": ("comparison.json", json.dumps(comparison(names, samples))),
        "provenance": ("provenance.json", json.dumps(provenance(names, samples))),
        "captions": ("captions.tsv", format_captions(captions(samples))),
        "sample_ids": ("sample_ids.txt", "\n".join(map(str, IDS))),
    }
    for key, (file, text) in singles.items():
        files[key] = tmp_path / file
        files[key].write_text(text, encoding="utf-8")
    files["engine_speed"] = tmp_path / "speed.json"  # one file, as Snakemake gives it
    painted = {"name": "native", "images": 8, "seconds": [4.0], "images_per_second": 2.0}
    measured = {"model": "m", "device": {"name": "d"}, "software": {}, "remarks": [], "repeats": 1}
    write_speed(
        files["engine_speed"], {**measured, "results": [{**painted, "busy": 0, "watts": []}]}
    )
    output = {
        "html": tmp_path / "report.html",
        "json": tmp_path / "report.json",
        "csv": tmp_path / "summary.csv",
        "markdown": tmp_path / "summary.md",
        "images": tmp_path / "images",
    }
    params = Named(run="demo", variants=names, shown=ROUNDS["v6.1"].image_ids)
    job = fake_job(Named(**files), Named(**output), tmp_path / "report.log", params)
    run_script("make_report", job)
    report = json.loads(output["json"].read_text(encoding="utf-8"))
    page = output["html"].read_text(encoding="utf-8")
    assert len(report["gallery"]["rows"]) == samples
    assert report["judged"]
    (run,) = report["loadgen"]
    assert (run["variant"], run["scenario"], run["distribution"]["counts"][0]) == (
        "bf16",
        "Server",
        3,
    )
    assert [tree["variant"] for tree in report["submissions"]] == ["fp32"]
    assert [row["name"] for row in report["engine_speed"]["rows"]] == ["native"]
    assert '<section id="speed"' in page
    assert part(page, "gallery").count("data:image/png") == samples * len(names)
    assert len(page) < 10_000_000
    for name in names:
        whole = np.asarray(Image.open(tmp_path / "images" / name / "00005.png"))
        assert np.array_equal(whole, picture(5, name, 32))
    linked = [a["href"] for tag, a in Elements(page).tags if a.get("class") == "picture"]
    assert len(linked) == samples * len(names)
    assert all((tmp_path / str(address)).is_file() for address in linked)
