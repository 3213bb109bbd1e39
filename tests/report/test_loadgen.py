"""What the report says of LoadGen and of submissions: nothing lost, nothing called official."""

from __future__ import annotations

import bisect
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_loadgen import write_run
from fake_results import HOSTILE, fake_run, not_run, scenario, submission
from report_page import Elements, leaves, part
from t2i.compliance.scenario import scenario_verdict
from t2i.report.loadgen import distribution, runs
from t2i.report.page import MINUS, render

NAMES = ("fp32", "bf16")
SHORT = ("time: 5 s of 600 s", "count: 128 of 5000 samples")
LATENCIES = np.random.default_rng(1).gamma(9.0, 0.013, 900)
MESSAGES = [
    {"level": "error", "text": HOSTILE, "meaning": "the tree has no src", "mend": "put it there"},
    {"level": "warning", "text": "open/acme is empty", "meaning": "", "mend": ""},
]
CHECKED = {
    "state": "run",
    "why": "",
    "commit": "ab" * 20,
    "version": "v6.1",
    "ok": False,
    "exit": 1,
    "messages": MESSAGES,
}
VERDICTS = [
    scenario("bf16", "Server", "fail"),
    scenario("fp32", "Offline", shortened=SHORT),
    scenario("fp32", "SingleStream", shortened=SHORT),
    {**scenario("fp32", "Server"), "peak": {"value": 17.654321, "unit": "samples/s"}},
]


def page_of(folder: Path, **more: Any) -> tuple[dict[str, Any], str]:
    """Report and page of a small run of two variants."""
    report, pictures = fake_run(folder, NAMES, samples=4, side=16, **more)
    return report, render(report, pictures)


@pytest.fixture(scope="module")
def report_and_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    return page_of(
        tmp_path_factory.mktemp("run"),
        scenarios=VERDICTS,
        latencies={
            ("fp32", "SingleStream"): LATENCIES,
            ("bf16", "Server"): np.array([*LATENCIES, np.nan, np.inf]),
            ("fp32", "Offline"): np.array([77.7]),
        },
        submissions={"bf16": submission(CHECKED), "fp32": submission(not_run("no checkout"))},
    )


def rows(page: str, name: str) -> list[str]:
    """The rows of the first table of a section that begin with a heading."""
    return part(page, name).partition("</table>")[0].split('<th scope="row">')[1:]


def test_runs_stand_in_order_of_variants_and_scenarios(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    report, page = report_and_page
    expected = [
        ("fp32", "SingleStream"),
        ("fp32", "Server"),
        ("fp32", "Offline"),
        ("bf16", "Server"),
    ]
    assert [(run["variant"], run["scenario"]) for run in report["loadgen"]] == expected
    shown = [
        (row[: row.index("<")], re.findall(r"<td>(\w+)</td>", row)[0])
        for row in rows(page, "loadgen")
    ]
    assert shown == expected


def test_every_number_is_one_of_the_report(report_and_page: tuple[dict[str, Any], str]) -> None:
    report, page = report_and_page
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    known = {leaf for leaf in leaves(report) if isinstance(leaf, (int, float))}
    for value, text in Elements(page).numbers:
        assert value in known
        if not text.endswith("B"):
            plain = float(re.sub(r"[^\d.e+-]", "", text.replace(MINUS, "-")))
            assert plain == pytest.approx(value, rel=5e-4, abs=6e-3)


def test_a_row_says_what_was_measured_against_what(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    _, page = report_and_page
    single, server, offline, failed = rows(page, "loadgen")
    assert {123.4567, 188.4567891, 21.9876543} <= {value for value, _ in Elements(single).numbers}
    assert "</data> ms<br>" in single and "lower is better" in single and ">none<" in single
    assert ">VALID<" in re.sub("</span> ", "</span>>", single).replace("VALID</span>", "VALID<")
    assert "peak found: " in server and 17.654321 in {
        value for value, _ in Elements(server).numbers
    }
    assert 20.0 in {value for value, _ in Elements(server).numbers} and "99th percentile" in server
    assert "higher is better" in offline and "samples/s" in offline and "peak" not in offline
    assert "INVALID" in failed and "not met" in failed and "FAIL</span>" in failed
    assert "INVALID" not in single + server + offline
    assert "Server: 8.123 samples/s, INVALID." in failed


def test_short_runs_are_never_called_official(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    report, page = report_and_page
    (banner,) = re.findall(r'<details class="banner".*?</details>', page, re.DOTALL)
    assert "<strong>NOT OFFICIAL</strong>" in banner.partition("</summary>")[0]
    assert "time: 5 s of 600 s; count: 128 of 5000 samples" in banner
    assert "(fp32 SingleStream, fp32 Offline)" in banner
    marked = ["not official" in row for row in rows(page, "loadgen")]
    assert (
        marked == [not run["official"] for run in report["loadgen"]] == [True, False, True, False]
    )
    assert part(page, "results").count("not official") == 2


def test_verdicts_of_scenarios_stand_with_their_variant(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    _, page = report_and_page
    cards = re.findall(r"<li>\s*<p class=\"title\">.*?</li>", part(page, "results"), re.DOTALL)
    assert len(cards) == 2
    for card, name in zip(cards, NAMES, strict=True):
        for verdict in VERDICTS:
            link = f"#loadgen-{verdict['variant']}-{verdict['scenario']}"
            assert (link in card) == (verdict["variant"] == name)
            assert verdict["variant"] != name or verdict["summary"] in card
    assert "INVALID" not in cards[0] and "INVALID" in cards[1]
    assert "<p>Server: 8.123 samples/s, INVALID. <a" in cards[1]


def test_links_lead_to_what_is_there(report_and_page: tuple[dict[str, Any], str]) -> None:
    tags = Elements(report_and_page[1]).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"] for tag, a in tags if tag == "a" and (a["href"] or "").startswith("#")}
    assert {link[1:] for link in links if link} <= set(ids)
    assert {"#loadgen", "#submission", "#loadgen-bf16-Server"} <= links


def test_latencies_are_drawn_where_queries_have_them(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    report, page = report_and_page
    found = {(run["variant"], run["scenario"]): run["distribution"] for run in report["loadgen"]}
    drawn = {key for key, value in found.items() if value}
    assert drawn == {("fp32", "SingleStream"), ("bf16", "Server")}
    charts = re.findall(r'<figure class="chart">.*?</figure>', page, re.DOTALL)
    assert len(charts) == 2
    assert "Latency of fp32, SingleStream: 900 queries took" in charts[0]
    assert "limit" not in charts[0] and "limit 20 seconds" in charts[1]
    numbers = {value for value, _ in Elements(charts[1]).numbers}
    assert {0.1191234, 0.1234567, 0.1312345, 20.0, 2.0} == numbers
    section = part(page, "loadgen")
    assert section.count("they were not answered: <data") == 1
    assert "not answered" in charts[1] and 'value="2"' in charts[1]


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=60))
def test_the_histogram_counts_every_latency_once(values: list[float]) -> None:
    found = distribution(np.array(values))
    edges, counts = found["edges"], found["counts"]
    assert len(edges) == len(counts) + 1 and edges == sorted(set(edges))
    expected = [0] * len(counts)
    for value in values:  # the last bin holds its upper edge
        expected[min(bisect.bisect_right(edges, value), len(counts)) - 1] += 1
    assert counts == expected and sum(counts) == len(values)
    assert edges[0] <= min(values) and max(values) <= edges[-1] and found["unfinished"] == 0


@pytest.mark.parametrize(("queries", "bins"), [(1, 10), (100, 10), (900, 30), (40_000, 40)])
def test_more_queries_have_more_bins(queries: int, bins: int) -> None:
    assert len(distribution(np.arange(queries) + 1.0)["counts"]) == bins


def test_equal_latencies_make_one_narrow_bar() -> None:
    found = distribution(np.full(5, 0.02))
    assert found["edges"][-1] - found["edges"][0] < 0.001
    assert sorted(found["counts"])[-1] == 5


def test_a_run_without_answers_has_no_picture_but_says_so(tmp_path: Path) -> None:
    verdict = {
        **scenario("fp32", "Server", "fail"),
        "summary": "Server: no figure.",
        **{"metric": None, "valid": None, "early_stopping": None, "latency": {}, "checks": []},
    }
    report, page = page_of(
        tmp_path, scenarios=[verdict], latencies={("fp32", "Server"): np.full(7, np.nan)}
    )
    (run,) = report["loadgen"]
    assert run["distribution"] == {"edges": [], "counts": [], "unfinished": 7}
    assert run["fid"] is None and run["percentiles"] == {}
    section = part(page, "loadgen")
    assert "<svg viewBox" not in section and "not answered: <data" in section
    (row,) = rows(page, "loadgen")
    assert "VALID" not in row and row.count("—") == 4


def test_nothing_is_made_up_without_loadgen(tmp_path: Path) -> None:
    report, page = page_of(tmp_path)
    assert (report["loadgen"], report["not_official"], report["submissions"]) == ([], [], [])
    for name, words in (
        ("loadgen", "LoadGen was not run."),
        ("submission", "No submission was built."),
    ):
        assert words in part(page, name) and "<table" not in part(page, name)
        assert "chip" not in part(page, name)


def test_submission_says_what_it_is_and_what_both_checkers_found(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    report, page = report_and_page
    assert [tree["variant"] for tree in report["submissions"]] == list(NAMES)
    assert report["submissions"][0]["files"] == {"count": 2, "size": 2469135}
    first, second = part(page, "submission").split('<h3 id="submission-')[1:]
    for text in (first, second):
        for words in ("v6.1", "open", "edge", "acme", "my-box", "2.47 MB", "submission.files"):
            assert words in text
        assert "1 failed</summary>" in text and "1 passed</summary>" in text
        assert "not applicable" not in text
    assert "Not run: no checkout." in first
    assert "OK" not in first and "passed" not in first.partition("<h4>")[2]


def test_messages_of_the_official_checker_are_explained(
    report_and_page: tuple[dict[str, Any], str],
) -> None:
    _, page = report_and_page
    second = part(page, "submission").partition('<h3 id="submission-bf16')[2]
    assert "Errors</strong>" in second and "OK" not in second and "Not run" not in second
    assert f'<code title="{"ab" * 20}">' in second and 'value="1"' in second
    assert HOSTILE in unescape(second) and "<script>" not in second
    assert "the tree has no src" in second and "put it there" in second
    assert second.count('<th scope="row">error</th>') == 1
    assert second.count('<td class="prose">—</td>') == 2


def test_only_a_checker_that_ran_and_agreed_is_called_ok(tmp_path: Path) -> None:
    official = {**CHECKED, "ok": True, "exit": 0, "messages": []}
    _, page = page_of(tmp_path, submissions={"fp32": submission(official)})
    text = part(page, "submission").partition("<h4>")[2]
    assert "<strong>OK</strong>" in text and "Errors" not in text and "<table" not in text


def test_what_belongs_to_no_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="verdict of mine Offline is of none of fp32, bf16"):
        runs([scenario("mine", "Offline")], {}, NAMES)
    with pytest.raises(ValueError, match="verdict of fp32 Server is listed twice"):
        runs([scenario("fp32", "Server")] * 2, {}, NAMES)
    with pytest.raises(ValueError, match="submission of mine, which is none of fp32, bf16"):
        page_of(tmp_path, submissions={"mine": submission(CHECKED)})


def test_a_real_verdict_of_real_logs_is_shown(tmp_path: Path) -> None:
    """What LoadGen logged, as the workflow judges it, on the page."""
    folder = write_run(tmp_path / "performance", "Server", "performance", count=8, seconds=5.0)
    verdict = scenario_verdict({"performance": folder}, None, [], None, "v6.1", "open")
    latencies = np.load(folder / "latencies.npy", allow_pickle=False)
    report, page = page_of(
        tmp_path / "run", scenarios=[verdict], latencies={("fp32", "Server"): latencies}
    )
    (run,) = report["loadgen"]
    assert run["limit"] == 20.0 and run["fid"] is None
    assert sum(run["distribution"]["counts"]) == len(latencies) > 100
    assert min(latencies) <= run["percentiles"]["p50"] <= max(latencies)
    section = part(page, "loadgen")
    assert unescape(section).count(verdict["summary"]) == 1
    assert "time: 5 s of 600 s; count: 8 of 5000 samples" in part(page, "results")
    checks = part(page, "compliance").replace("<wbr>", "")
    assert all(f"<code>{check['id']}</code>" in checks for check in verdict["checks"])
    assert {verdict["metric"]["value"], 20.0} <= {value for value, _ in Elements(section).numbers}
