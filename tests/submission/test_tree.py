import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_loadgen import write_scores, write_variant
from fake_submission import WEIGHTS, tree_request
from fake_system import GPU, MACHINE, SOFTWARE, WITH_GPUS
from t2i.base.files import sha256_file
from t2i.loadgen.accuracy_log import accuracy_text
from t2i.mlperf import AUDITS
from t2i.submission.tree import build_tree, tree_table

RECORD = {"machine": MACHINE, "software": SOFTWARE}


@pytest.fixture(scope="module")
def loadgen(tmp_path_factory) -> Path:
    """A variant's runs; tests that change files work on copies."""
    return write_variant(tmp_path_factory.mktemp("runs") / "loadgen", side=8, record=RECORD)


def copied(loadgen: Path, tmp_path: Path, scenarios=("SingleStream", "Offline"), **record) -> Path:
    """A copy of the runs with values of run.json changed in some scenarios."""
    copy = shutil.copytree(loadgen, tmp_path / "loadgen")
    for scenario in scenarios:
        path = copy / scenario / "performance/run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | record))
    return copy


def names(files: dict[str, Any], below: str) -> set[str]:
    return {name.removeprefix(below) for name in files if name.startswith(below)}


def test_the_layout_from_v6_on(loadgen, tmp_path):
    files = build_tree(tmp_path / "tree", loadgen, tree_request())
    root = "closed/acme/"
    offline = names(files, f"{root}results/my-box/stable-diffusion-xl/Offline/")
    assert {name for name in offline if not name.endswith(".png")} == {
        "README.md",
        "measurements.json",
        "user.conf",
        "accuracy/accuracy.txt",
        "accuracy/images/captions.txt",
        "accuracy/mlperf_log_accuracy.json",
        "accuracy/mlperf_log_detail.txt",
        "accuracy/mlperf_log_summary.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "performance/run_1/mlperf_log_summary.txt",
        "TEST01/accuracy/accuracy.txt",
        "TEST01/accuracy/mlperf_log_accuracy.json",
        "TEST01/performance/run_1/mlperf_log_detail.txt",
        "TEST01/performance/run_1/mlperf_log_summary.txt",
        "TEST01/verify_accuracy.txt",
        "TEST01/verify_performance.txt",
        "TEST04/performance/run_1/mlperf_log_detail.txt",
        "TEST04/performance/run_1/mlperf_log_summary.txt",
        "TEST04/verify_performance.txt",
    }
    assert len([name for name in offline if name.startswith("accuracy/images/")]) == 11
    assert names(files, root) - names(files, f"{root}results/") > {
        "systems/my-box.json",
        "documentation/my-box_calibration.md",
        "src/stable-diffusion-xl/my-box/README.md",
        "src/stable-diffusion-xl/my-box/config.yaml",
    }
    tree = tmp_path / "tree"
    assert {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()} == set(
        files
    )
    for name, facts in files.items():
        assert facts == {
            "size": (tree / name).stat().st_size,
            "sha256": sha256_file(tree / name),
        }


def test_the_table_of_a_tree_is_that_of_the_tree_itself(loadgen, tmp_path):
    for request in (tree_request(), tree_request("v5.1", "open", audits=())):
        built = build_tree(tmp_path / request.round, loadgen, request)
        assert tree_table(loadgen, request) == built


def same_content(one: Path, other: Path) -> bool:
    """Whether two files are alike, and not one file with two names."""
    return one.read_bytes() == other.read_bytes() and not one.samefile(other)


def test_each_file_comes_from_its_own_run(loadgen, tmp_path):
    build_tree(tmp_path / "tree", loadgen, tree_request())
    for scenario in ("SingleStream", "Offline"):
        place = tmp_path / "tree/closed/acme/results/my-box/stable-diffusion-xl" / scenario
        runs = loadgen / scenario
        for inside, outside in {
            "performance/run_1": "performance",
            "accuracy": "accuracy",
            "TEST01/performance/run_1": "TEST01",
            "TEST04/performance/run_1": "TEST04",
        }.items():
            for log in ("mlperf_log_detail.txt", "mlperf_log_summary.txt"):
                assert same_content(place / inside / log, runs / outside / log)
        assert (place / "accuracy/mlperf_log_accuracy.json").stat().st_size < 10_240
        for test in AUDITS:
            name = "verify_performance.txt"
            assert same_content(place / test / name, runs / "audits" / test / name)


def test_the_layout_before_v6(loadgen, tmp_path):
    files = build_tree(tmp_path / "tree", loadgen, tree_request("v5.1"))
    root, below = "closed/acme/", "/my-box/stable-diffusion-xl/Offline/"
    assert names(files, f"{root}measurements{below}") == {
        "my-box_t2i-bench_Offline.json",
        "README.md",
        "user.conf",
    }
    assert "TEST01/verify_accuracy.txt" in names(files, f"{root}compliance{below}")
    results = names(files, f"{root}results{below}")
    assert {name.split("/")[0] for name in results} == {"accuracy", "performance"}
    assert f"{root}code/stable-diffusion-xl/my-box/README.md" in files
    assert not names(files, f"{root}src/")


def test_the_open_division_has_no_audits(loadgen, tmp_path):
    for round_name in ("v5.1", "v6.1"):
        request = tree_request(round_name, "open", audits=AUDITS)
        files = build_tree(tmp_path / round_name, loadgen, request)
        assert not [name for name in files if "TEST0" in name or "acme/compliance/" in name]


def test_a_tree_replaces_the_one_before(loadgen, tmp_path):
    tree = tmp_path / "tree"
    build_tree(tree, loadgen, tree_request(division="open"))
    build_tree(tree, loadgen, tree_request())
    assert [path.name for path in tree.iterdir()] == ["closed"]
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_everything_that_is_missing_is_named_and_nothing_built(loadgen, tmp_path):
    loadgen = copied(loadgen, tmp_path)
    gone = [
        "Offline/performance/mlperf_log_summary.txt",
        "Offline/performance/run.json",
        "SingleStream/scores/accuracy.txt",
        "SingleStream/audits/TEST01/verify_accuracy.txt",
    ]
    for name in gone:
        (loadgen / name).unlink()
    (loadgen / "Offline/performance/user.conf").write_text("")
    with pytest.raises(ValueError) as error:
        build_tree(tmp_path / "tree", loadgen, tree_request(weights=()))
    message = str(error.value)
    assert all(f"{loadgen / name}: is missing" in message for name in gone)
    assert f"{loadgen}/Offline/performance/user.conf: is empty" in message
    assert "the names of its weights' files are missing" in message
    assert not (tmp_path / "tree").exists()


def test_names_that_a_submission_may_not_hold_are_refused(loadgen, tmp_path):
    request = tree_request()
    strange = replace(request, submission={**request.submission, "submitter": "a cme"})
    with pytest.raises(ValueError, match="closed/a cme/.*may not hold a file of this name"):
        build_tree(tmp_path / "tree", loadgen, strange)
    with pytest.raises(ValueError, match=r"submission\.status: got 'soon'"):
        submission = {**request.submission, "status": "soon"}
        build_tree(tmp_path / "tree", loadgen, replace(request, submission=submission))
    for change, why in (
        ({"division": "network"}, "division: got 'network'"),
        ({"audits": ("TEST05",), "division": "open"}, "audits: got 'TEST05'"),
        ({"scenarios": ()}, "no scenario was run"),
        ({"settings": {"dtype": "fp32", "patch": "a.py:f"}}, "its patch is missing"),
    ):
        with pytest.raises(ValueError, match=why):
            build_tree(tmp_path / "tree", loadgen, replace(request, **change))


def test_runs_of_two_machines_are_no_submission(loadgen, tmp_path):
    loadgen = copied(loadgen, tmp_path, ["Offline"], machine={**MACHINE, "gpus": [GPU]})
    with pytest.raises(ValueError, match="SingleStream and Offline were not run on the same"):
        build_tree(tmp_path / "tree", loadgen, tree_request())


def content(tree: Path, name: str) -> str:
    (found,) = tree.glob(f"*/*/{name}")
    return found.read_text()


def test_the_system_counts_the_gpus_that_were_used(loadgen, tmp_path):
    devices = [{"kind": "cuda", "name": GPU["name"], "arch": "sm_90"}] * 2
    loadgen = copied(loadgen, tmp_path, machine=WITH_GPUS, devices=devices[:1])
    path = loadgen / "Offline/performance/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "devices": devices}))
    build_tree(tmp_path / "tree", loadgen, tree_request())
    system = json.loads(content(tmp_path / "tree", "systems/my-box.json"))
    assert system["accelerators_per_node"] == 2
    assert system["accelerator_model_name"] == GPU["name"]


def test_an_official_run_has_no_warnings(loadgen, tmp_path):
    build_tree(tmp_path / "tree", loadgen, tree_request())
    system = json.loads(content(tmp_path / "tree", "systems/my-box.json"))
    assert system["sw_notes"] == "" and system["accelerators_per_node"] == "0"
    for page in (tmp_path / "tree").rglob("*.md"):
        assert "scripts" in page.parts or "**" not in page.read_text()
    place = "results/my-box/stable-diffusion-xl/Offline/"
    readme = content(tmp_path / "tree", f"{place}README.md")
    assert "`0123456789abcdef`" in readme
    assert "`src/stable-diffusion-xl/my-box/config.yaml`" in readme
    assert "    snakemake --configfile config/mlperf.yaml --cores all\n" in readme
    assert "* time: 600.0\n" in readme and "None" not in readme
    assert (
        content(tmp_path / "tree", "src/stable-diffusion-xl/my-box/config.yaml") == "run: mlperf\n"
    )
    assert json.loads(content(tmp_path / "tree", f"{place}measurements.json")) == {
        "input_data_types": "int64 tokens, fp32 latents",
        "retraining": "No",
        "starting_weights_filename": ", ".join(WEIGHTS),
        "weight_data_types": "fp32",
        "weight_transformations": "none",
    }
    calibration = content(tmp_path / "tree", "documentation/my-box_calibration.md")
    assert "no calibration was done" in calibration


@pytest.mark.parametrize(
    ("dtype", "weights", "expected"),
    [
        ("fp16", ("unet/diffusion_pytorch_model.fp16.safetensors",), "none"),
        ("fp16", WEIGHTS, "rounded to float16"),
        ("bf16", ("unet/diffusion_pytorch_model.fp16.safetensors",), "rounded to bfloat16"),
        ("fp32", ("unet/diffusion_pytorch_model.fp16.safetensors",), "widened to float32"),
    ],
)
def test_what_was_done_to_the_weights(loadgen, tmp_path, dtype, weights, expected):
    request = tree_request(settings={"dtype": dtype}, weights=weights, scenarios=("Offline",))
    build_tree(tmp_path / "tree", loadgen, request)
    place = "results/my-box/stable-diffusion-xl/Offline/measurements.json"
    found = json.loads(content(tmp_path / "tree", place))
    assert found["weight_transformations"] == expected
    assert found["weight_data_types"] == dtype


@pytest.mark.parametrize(("convolutions", "attention"), [(True, True), (False, False)])
def test_what_is_fp8_and_how_it_was_calibrated(loadgen, tmp_path, convolutions, attention):
    fp8 = {"convolutions": convolutions, "attention": attention, "keep": ["up.2"], "captions": 500}
    fp8["percentile"] = 100 if attention else 99.9
    settings = {"dtype": "bf16", "fp8": fp8}
    request = tree_request(settings=settings, weights=WEIGHTS, scenarios=("Offline",))
    build_tree(tmp_path / "tree", loadgen, request)
    place = "results/my-box/stable-diffusion-xl/Offline/measurements.json"
    found = json.loads(content(tmp_path / "tree", place))
    assert found["weight_data_types"] == "fp8, bf16"
    assert found["weight_transformations"].startswith("rounded to bfloat16; transformers")
    assert ("residual blocks" in found["weight_transformations"]) == convolutions
    page = content(tmp_path / "tree", "documentation/my-box_calibration.md")
    largest = "the largest magnitude" if attention else "what 99.9 % of the magnitudes keep to"
    assert f"found beforehand: {largest} over all steps" in page
    assert "at most 500 captions" in page and "and up.2." in page
    assert ("softmax's weights are fp8" in page) == attention


@pytest.mark.parametrize("division", ["closed", "open"])
@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"settings": {"dtype": "fp32", "stand_in": {"side": 128}}}, "NO MODEL WAS RUN"),
        ({"model": "micro-sdxl"}, "THE MODEL IS MICRO-SDXL, NOT SDXL BASE 1.0."),
        ({"settings": {"dtype": "fp32", "patch": "fast.py:f"}}, "CHANGED BY A PATCH."),
        ({"settings": {"dtype": "fp32", "unet": "light"}}, "THE UNET IS PRUNED (LIGHT)."),
        (
            {"settings": {"dtype": "fp32", "cache": {"interval": 2}}},
            "DEEPCACHE (EVERY 2 STEPS A DEEP ONE) SKIPS MOST OF THE MODEL.",
        ),
    ],
)
def test_what_is_no_sdxl_is_said_on_every_page(loadgen, tmp_path, division, change, note):
    patch = tmp_path / "patch.py"
    patch.write_text("def f(pipeline):\n    return pipeline\n")
    patched = {"patch": patch} if change.get("settings", {}).get("patch") else {}
    request = tree_request(division=division, **change, **patched)
    files = build_tree(tmp_path / "tree", loadgen, request)
    pages = [page for page in (tmp_path / "tree").rglob("*.md") if "scripts" not in page.parts]
    assert len(pages) == 4
    texts = [page.read_text() for page in pages]
    texts.append(json.loads(content(tmp_path / "tree", "systems/my-box.json"))["sw_notes"])
    for text in texts:
        assert note in text
        assert ("A REHEARSAL, NOT A SUBMISSION." in text) == (division == "closed")
    place = "results/my-box/stable-diffusion-xl/Offline/measurements.json"
    assert all(json.loads(content(tmp_path / "tree", place)).values())
    shown = f"{division}/acme/src/stable-diffusion-xl/my-box/patch.py"
    assert (shown in files) == bool(patched)


def test_a_short_run_says_so(loadgen, tmp_path):
    loadgen = copied(loadgen, tmp_path, settings={"time": 5.0, "count": 40})
    for scenario in ("SingleStream", "Offline"):  # none of the ten images is among so few
        shutil.rmtree(loadgen / scenario / "scores/images")
        (loadgen / scenario / "scores/images").mkdir()
        (loadgen / scenario / "scores/images/captions.txt").touch()
    build_tree(tmp_path / "tree", loadgen, tree_request(division="open", commit=None))
    notes = json.loads(content(tmp_path / "tree", "systems/my-box.json"))["sw_notes"]
    assert "OFFLINE WAS ASKED FOR 5 OF 600 SECONDS." in notes
    assert "SINGLESTREAM SAW 40 OF 5000 SAMPLES." in notes
    assert "not known" in content(tmp_path / "tree", "src/stable-diffusion-xl/my-box/README.md")


def test_files_are_copied_where_they_cannot_be_linked(loadgen, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    files = build_tree(tmp_path / "copied", loadgen, tree_request())
    monkeypatch.undo()
    assert files == build_tree(tmp_path / "linked", loadgen, tree_request())


def official_messages(checkout: Path, tree: Path, round_name: str) -> tuple[bool, list[str]]:
    """Whether the official checker is content with a tree, and its errors."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "submission_checker.main"),
            *("--input", str(tree), "--version", round_name),
            *("--csv", str(tree.parent / "summary.csv")),
        ],
        cwd=checkout / "tools/submission",
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = (answer.stdout + answer.stderr).splitlines()
    ok = answer.returncode == 0 and any("submission looks OK" in line for line in lines)
    return ok, [line for line in lines if "ERROR" in line or "Error" in line]


@pytest.mark.parametrize(
    ("round_name", "division", "system_type"),
    [
        ("v5.1", "closed", "edge"),
        ("v5.1", "closed", "datacenter"),
        ("v5.1", "open", "datacenter"),
        ("v6.0", "closed", "edge"),
        ("v6.0", "open", "edge"),
        ("v6.1", "closed", "edge"),
        ("v6.1", "open", "edge"),
        ("v6.1", "closed", "datacenter,edge"),
        ("v6.1", "open", "datacenter"),
    ],
)
def test_the_official_checker_finds_a_sound_tree_sound(
    inference_checkout, tmp_path, round_name, division, system_type
):
    request = tree_request(round_name, division, system_type=system_type)
    modes = ("performance", "accuracy", *request.audits)
    loadgen = write_variant(
        tmp_path / "loadgen", request.scenarios, round_name, modes, side=8, record=RECORD
    )
    build_tree(tmp_path / "tree", loadgen, request)
    ok, errors = official_messages(inference_checkout, tmp_path / "tree", round_name)
    assert ok, "\n".join(errors)


def test_the_official_checker_finds_only_the_accuracy_outside_the_windows(
    inference_checkout, tmp_path
):
    def poor_scores(folder, runs, round_name, **settings):
        return write_scores(folder, runs, round_name, clip=15.5, fid=240.0, **settings)

    loadgen = write_variant(tmp_path / "loadgen", side=8, record=RECORD, scores=poor_scores)
    build_tree(tmp_path / "closed", loadgen, tree_request())
    ok, errors = official_messages(inference_checkout, tmp_path / "closed", "v6.1")
    assert not ok
    expected = ("accuracy checks Checks failed", "NoResults", "SUMMARY: submission has errors")
    assert errors and all(any(text in line for text in expected) for line in errors), errors
    build_tree(tmp_path / "open", loadgen, tree_request(division="open"))
    ok, errors = official_messages(inference_checkout, tmp_path / "open", "v6.1")
    assert ok, "\n".join(errors)


def test_scores_of_part_iii_come_into_the_tree(loadgen, tmp_path):
    """And decide where TEST01 found images that differ."""
    runs = copied(loadgen, tmp_path)
    folder = runs / "Offline/part_iii"
    folder.mkdir()
    for name, clip in (("baseline", 31.5), ("compliance", 31.6)):
        (folder / f"{name}_accuracy.txt").write_text(accuracy_text(99.0, clip, "a" * 64))
    files = build_tree(tmp_path / "tree", runs, tree_request())
    root = "closed/acme/results/my-box/stable-diffusion-xl"
    assert f"{root}/Offline/TEST01/accuracy/baseline_accuracy.txt" in files
    assert f"{root}/SingleStream/TEST01/accuracy/baseline_accuracy.txt" not in files
