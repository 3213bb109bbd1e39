"""Tables of the page and beside it: each check once, and results for machines and for text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from fake_results import check, fake_run, scenario
from report_page import part
from t2i.report import export
from t2i.report.checks import merged
from t2i.report.page import breakable, found, render


def test_a_check_of_several_variants_stands_once(tmp_path: Path) -> None:
    names = ("fp32", "bf16", "mine")
    report, pictures = fake_run(tmp_path, names, samples=4, scenarios=[scenario("mine", "Server")])
    asked = check("loadgen.Server.performance.samples", "not applicable", "not run")
    for variant in report["variants"]:
        variant["compliance"]["checks"].append(asked)
        variant["compliance"]["checks"].append(
            check("loadgen.MultiStream.performance.samples", "not applicable", "not run")
        )
    checks = merged(report["variants"], report["loadgen"])
    rows = {(row["id"], *row["of"]): row["verdict"] for row in checks["rows"]}
    assert rows["samples.count", "fp32", "bf16", "mine"] == "pass"
    assert rows["accuracy.fid", "fp32"] == "fail" and rows["accuracy.fid", "bf16", "mine"] == "pass"
    assert rows["loadgen.Server.performance.samples", "mine"] == "not applicable"
    assert rows["loadgen.Server.performance.valid", "mine"] == "pass"
    assert checks["not_run"] == {"MultiStream": 3, "Server": 2}
    order = [("fail", "pass", "not applicable").index(row["verdict"]) for row in checks["rows"]]
    assert order == sorted(order)
    section = part(render(report, pictures), "compliance").replace("<wbr>", "")
    assert section.count("<code>samples.count</code>") == 1
    assert section.count("<code>accuracy.fid</code>") == 2
    assert "did not run are left out: MultiStream, Server." in " ".join(section.split())


def test_digests_are_short_and_long_names_can_be_broken() -> None:
    first, second = (f'<code title="{two * 32}">{two * 6}</code>' for two in ("ab", "cd"))
    assert found(f"{'ab' * 32} and {'cd' * 32}") == f"{first} and {second}"
    assert found("<b>") == "&lt;b&gt;"
    assert breakable("a/b_c.<d>") == "a/<wbr>b_<wbr>c.<wbr>&lt;d&gt;"


def test_a_table_of_results_is_written_for_machines_and_for_text(tmp_path: Path) -> None:
    runs = [scenario("bf16", "Offline", shortened=["time: 5 s of 600 s"])]
    report, _ = fake_run(tmp_path, samples=8, scenarios=runs)
    first, second = csv.DictReader(io.StringIO(export.as_csv(report)))
    speed = report["variants"][1]["metrics"]["speed"]
    assert (first["variant"], second["variant"]) == ("fp32", "bf16")
    assert float(second["images_per_second"]) == speed["images_per_second"]
    assert float(second["images_per_second_high"]) == speed["interval"][1]
    assert float(second["speed_up"]) == report["variants"][1]["speed_up"]["ratio"]
    assert first["speed_up"] == first["Offline"] == "" and "Server" not in first
    assert (float(second["Offline"]), second["Offline_unit"]) == (8.1234567, "samples/s")
    assert second["Offline_official"] == "False"
    assert int(second["memory_bytes"]) == speed["gpu_memory_bytes"]
    text = export.as_markdown(report)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
    assert "| bf16 | pass | 3.919 [3.802, 4.038] |" in table[3]
    assert "8.123 samples/s, not official" in table[3]
    assert all(f"- {item['reason']}\n" in text for item in report["not_comparable"])
