"""LoadGen through the workflow: every scenario and mode with the micro model, up to the report."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from t2i.mlperf import AUDITS, MODES, SCENARIOS
from t2i.submission.system import NEVER_KNOWN

LOGS = ("summary.txt", "detail.txt", "accuracy.json", "trace.json")
OVERLAY = {
    "loadgen": {
        "scenarios": list(SCENARIOS),
        "modes": list(MODES),
        "variants": ["fp32"],
        "time": 0.5,
        "samples_per_query": 2,
        "count": 5,
        "part_iii": True,
        "max_latency": 6.0,  # a search of the peak stops where a backlog takes so long
    },
    "submission": {
        "submitter": "tester",
        "system": "box",
        "description": dict.fromkeys(NEVER_KNOWN, "not stated"),
    },
}


def modes(scenario):
    return [mode for mode in MODES if scenario == "Server" or mode != "FindPeakPerformance"]


@pytest.fixture(scope="module")
def driven(finished, tmp_path_factory):
    """The finished tiny run, driven by LoadGen in every scenario and mode."""
    from workflow_run import Workplace, copy_run

    place = Workplace(copy_run(finished.folder, tmp_path_factory.mktemp("driven") / "project"))
    (place.folder / "output.txt").write_text(place.snakemake(overlay=OVERLAY))
    return place


@pytest.mark.slow
def test_every_scenario_and_mode_leaves_logs_a_verdict_and_a_place_in_the_report(driven):
    variant = driven.folder / "results/tiny/fp32"
    output = (driven.folder / "output.txt").read_text()
    report = json.loads((driven.folder / "results/tiny/report.json").read_text())
    shown = {entry["scenario"]: entry for entry in report["loadgen"]}
    page = (driven.folder / "results/tiny/report.html").read_text()
    for scenario in SCENARIOS:
        folder = variant / "loadgen" / scenario
        for mode in modes(scenario):
            logs = [folder / mode / f"mlperf_log_{name}" for name in LOGS]
            assert [path for path in logs if not path.is_file()] == []
            facts = json.loads((folder / mode / "run.json").read_text())
            assert (facts["scenario"], facts["mode"]) == (scenario, mode)
            assert facts["settings"]["count"] == 5
        verdict = json.loads((folder / "verdict.json").read_text())
        assert sorted(verdict["modes"]) == sorted(modes(scenario))
        assert not verdict["official"]
        assert verdict["summary"] in output, "said after the scenario, not only at the end"
        failed = {check["id"] for check in verdict["checks"] if check["verdict"] == "fail"}
        # Half a second on a machine whose speed changes meanwhile may come out too short.
        assert {name.split(".")[-1] for name in failed} <= {"result", "duration_met"}
        assert shown[scenario]["metric"] == verdict["metric"]
        assert scenario in page
        audits = [json.loads((folder / f"audits/{test}/audit.json").read_text()) for test in AUDITS]
        assert [audit["official"]["state"] for audit in audits] == ["not run", "not run"]


@pytest.mark.slow
def test_scores_of_the_same_images_are_those_of_the_shards(driven):
    variant = driven.folder / "results/tiny/fp32"
    scores = json.loads((variant / "loadgen/Offline/scores/accuracy.json").read_text())
    shards = [np.load(path) for path in sorted((variant / "features").glob("*.npz"))]
    digests = np.concatenate([shard["sha256"] for shard in shards])
    assert scores["image_sha256"] == digests[:5].tolist()
    assert scores["reused_features"] == 5
    clip = np.concatenate([shard["clip"] for shard in shards])[:5]
    assert scores["clip"] == clip.astype(np.float64).mean()


@pytest.mark.slow
def test_part_iii_scores_the_same_images_twice(driven):
    for scenario in SCENARIOS:
        folder = driven.folder / "results/tiny/fp32/loadgen" / scenario / "part_iii"
        baseline, audit = (
            (folder / f"{name}_accuracy.txt").read_text() for name in ("baseline", "compliance")
        )
        scores, _, digest = baseline.partition("\nhash=")
        assert "FID_SCORE" in scores and digest
        assert audit.startswith(f"{scores}\n"), "a deterministic engine's"


@pytest.mark.slow
def test_the_verdict_lists_every_rule_and_says_what_was_not_run(driven):
    variant = driven.folder / "results/tiny/fp32"
    checks = {
        check["id"]: check
        for check in json.loads((variant / "compliance.json").read_text())["checks"]
    }
    assert checks["submission.official"]["verdict"] == "not applicable"
    assert "not run" in checks["submission.official"]["value"]
    other = json.loads((driven.folder / "results/tiny/bf16/compliance.json").read_text())
    not_run = [check for check in other["checks"] if check["id"].startswith("loadgen.")]
    assert {check["verdict"] for check in not_run} == {"not applicable"}
    assert len(not_run) >= 30
    submission = json.loads((variant / "submission.json").read_text())
    results = [path for path in submission["files"] if path.startswith("open/tester/results/")]
    folders = {path.split("/")[5] for path in results}
    assert folders == {"SingleStream", "Offline"}, "an edge system submits these two alone"


@pytest.mark.slow
def test_a_second_call_finds_nothing_to_do(driven):
    assert "Nothing to be done" in driven.snakemake(overlay=OVERLAY)


@pytest.mark.slow
def test_the_tree_passes_beside_its_run_and_is_checked_again_by_name(driven):
    variant = driven.folder / "results/tiny/fp32"
    checks = json.loads((variant / "submission.json").read_text())["checks"]
    found = {check["id"]: (check["verdict"], check["value"]) for check in checks}
    for name in ("originals", "scores", "audits", "files"):
        assert found[f"submission.run.{name}"][0] == "pass", found[f"submission.run.{name}"]
    tree = variant / "submission"
    command = driven.command("check_tree", "--config", f"tree={tree}", overlay=OVERLAY)
    done = subprocess.run(
        command,
        cwd=driven.folder,
        env=driven.environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    said = done.stdout + done.stderr
    # A slow machine may not meet early stopping in half a second.
    assert re.search(r"[0-9] of [0-9]+ checks failed|checks that apply passed", said), said
    assert "submission.run." not in said and ".stamps" not in said and ".counts" not in said
    copy = shutil.copytree(tree, driven.folder.parent / "a copy")
    (copy / "open/tester/results/box/notes.txt").write_text("one more file")
    tool = [sys.executable, driven.folder / "tools/check_tree.py", copy]
    for told, words in (([], "files.unknown"), ([variant], "submission.run.files")):
        done = subprocess.run([*tool, *told], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and words in done.stdout, done.stdout + done.stderr
        assert "notes.txt" in done.stdout and "mend:" in done.stdout
    nothing = subprocess.run([*tool[:2], driven.folder / "rules"], capture_output=True, text=True)
    assert nothing.returncode == 2 and "holds closed/ or open/" in nothing.stderr


@pytest.mark.slow
def test_a_finished_tree_that_was_edited_is_built_anew(driven, tmp_path):
    from workflow_run import Workplace, copy_run

    place = Workplace(copy_run(driven.folder, tmp_path / "project"))
    variant = place.folder / "results/tiny/fp32"
    page = variant / "submission/open/tester/results/box/stable-diffusion-xl/Offline/README.md"
    before = page.read_bytes()
    page.write_bytes(before + b"And it was fast.\n")
    said = place.snakemake(overlay=OVERLAY)
    assert "set aside, to be built again" in said and "Offline/README.md" in said
    assert page.read_bytes() == before
    assert (variant / "submission.edited").is_dir()
    assert "Nothing to be done" in place.snakemake(overlay=OVERLAY)


@pytest.mark.slow
def test_loadgen_and_a_submission_without_the_sharded_pass(finished, tmp_path):
    from workflow_run import Workplace, copy_run

    place = Workplace(copy_run(finished.folder, tmp_path / "project"))
    loadgen = {"scenarios": ["Offline", "SingleStream"], "variants": ["fp32"], "time": 0.5}
    overlay = {
        "run": "bare",
        "sharded": False,
        "loadgen": loadgen,
        "submission": OVERLAY["submission"],
    }
    place.snakemake(overlay=overlay)
    variant = place.folder / "results/bare/fp32"
    assert not (variant / "shards").exists() and not (variant / "metrics.json").exists()
    scores = json.loads((variant / "loadgen/Offline/scores/accuracy.json").read_text())
    assert scores["reused_features"] == 0
    assert (scores["fid"], scores["clip"]) == finished.scores("fp32")[:2]
    checks = json.loads((variant / "submission.json").read_text())["checks"]
    found = {check["id"]: check["verdict"] for check in checks}
    assert found["submission.run.files"] == found["submission.run.originals"] == "pass"
    assert "Nothing to be done" in place.snakemake(overlay=overlay)
