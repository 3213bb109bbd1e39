"""A run's results as a short table on a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from fake_results import fake_run, not_run, scenario, submission
from t2i.base.files import write_json
from t2i.report.summary import table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Report of a small run of two variants, of which one fails."""
    return fake_run(tmp_path_factory.mktemp("run"), samples=20)[0]


def test_one_line_for_each_variant_with_rounded_scores_and_verdict(report):
    heading, first, second, empty, *words = table(report).splitlines()
    assert heading.split() == [
        "variant",
        "samples",
        "images/s",
        "speed-up",
        "FID",
        "CLIP",
        "verdict",
    ]
    assert first.split() == ["fp32", "20", "2.612", "-", "187.1235", "21.0543", "fail"]
    assert second.split() == ["bf16", "20", "3.919", "1.50", "188.3580", "21.0543", "pass"]
    assert empty == ""
    assert words[:2] == ["fp32: FID lies outside its window.", "bf16: All targets met."]


def test_columns_stand_below_each_other(report):
    heading, first, second, *_ = table(report).splitlines()
    for column, value, other in (("FID", "187", "188"), ("verdict", "fail", "pass")):
        assert heading.index(column) == first.index(value) == second.index(other)


def test_every_reason_against_comparing_is_told(report):
    lines = table(report).splitlines()
    start = lines.index("Not comparable with published scores, because:")
    assert lines[start + 1 :] == [f"  {entry['reason']}" for entry in report["not_comparable"]]
    assert any("random weights" in line for line in lines[start:])
    quiet = table({**report, "not_comparable": []})
    assert "Not comparable" not in quiet


def test_one_line_for_each_scenario_and_submission(tmp_path):
    report, _ = fake_run(
        tmp_path,
        samples=4,
        side=16,
        scenarios=[scenario("bf16", "Server", "fail"), scenario("fp32", "SingleStream")],
        submissions={"bf16": submission(not_run("no checkout"))},
    )
    lines = table(report).splitlines()
    start = lines.index("bf16: All targets met.")
    assert lines[start + 1 : start + 4] == [
        "fp32, SingleStream: 123.5 ms, VALID.",
        "bf16, Server: 8.123 samples/s, INVALID.",
        "bf16, submission: 1 of 2 checks failed: submission.files.",
    ]


def print_summary(folder):
    """Run the script that prints a run's table."""
    script = ROOT / "tools" / "print_summary.py"
    command = [sys.executable, str(script), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_script_prints_the_table_and_where_the_report_is(report, tmp_path):
    write_json(tmp_path / "report.json", report)
    run = print_summary(tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{table(report)}\nreport: {tmp_path}/report.html\n"


def test_script_says_what_to_do_without_a_report(tmp_path):
    run = print_summary(tmp_path)
    assert run.returncode == 1
    assert run.stderr == f"{tmp_path}: there is no report.json; run the workflow first\n"
