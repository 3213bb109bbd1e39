"""A scenario inferred from another one's logs, and several systems in one package."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from fake_loadgen import SIDE, captions, write_json
from fake_submission import build_submission
from t2i.base.files import read_json
from t2i.compliance.variant import FAIL
from t2i.submission.discover import judge_tree
from t2i.submission.official import official_checks, run_checker
from t2i.submission.package import pack
from t2i.submission.verdict import Expected, check_tree

OFFLINE = "closed/acme/results/my-box/stable-diffusion-xl/Offline"


@pytest.fixture(scope="module")
def inferred(tmp_path_factory) -> tuple[Path, Expected]:
    root = tmp_path_factory.mktemp("inferred")
    return root, build_submission(root, inferred=True)


def failed(checks) -> set[str]:
    return {check.id for check in checks if check.verdict == FAIL}


def test_an_inferred_scenario_passes(inferred):
    root, expected = inferred
    checks = check_tree(root / "tree", expected)
    assert not failed(checks)
    (check,) = (check for check in checks if check.id == "submission.Offline.inferred")
    assert check.value == "the logs of SingleStream"
    page = (root / "tree" / OFFLINE / "README.md").read_text()
    assert "Inferred from SingleStream, whose logs these are." in page


def test_a_scenario_that_ran_is_not_inferred(tmp_path):
    checks = check_tree(tmp_path / "tree", build_submission(tmp_path))
    assert not [check for check in checks if check.id.endswith(".inferred")]


@pytest.mark.parametrize(
    "name",
    [
        "performance/run_1/mlperf_log_summary.txt",
        "accuracy/accuracy.txt",
        "TEST04/performance/run_1/mlperf_log_summary.txt",
    ],
)
def test_other_logs_than_the_source_are_noticed(inferred, tmp_path, name):
    tree = shutil.copytree(inferred[0] / "tree", tmp_path / "tree")
    with (tree / OFFLINE / name).open("a") as handle:
        handle.write("\n")
    assert "submission.Offline.inferred" in failed(check_tree(tree, inferred[1]))


def test_a_datacenter_system_infers_nothing(inferred, tmp_path):
    expected = replace(inferred[1], system_type="datacenter", scenarios=("SingleStream", "Offline"))
    assert "submission.Offline.inferred" in failed(check_tree(inferred[0] / "tree", expected))


def test_mlperfs_checker_takes_it(inferred, real, tmp_path):
    official = run_checker(real, inferred[0] / "tree", "v6.1", tmp_path)
    assert official["state"] == "run" and not failed(official_checks(official, False))


def finished(root: Path, name: str, **settings) -> Path:
    """The folder of a variant whose submission passed."""
    variant = root / name
    build_submission(variant, **settings)
    (variant / "tree").rename(variant / "submission")
    for scenario in (variant / "loadgen").iterdir():
        write_json(scenario / "verdict.json", {"scenario": scenario.name, "metric": None})
    write_json(variant / "submission.json", {"verdict": "pass", "summary": ""})
    return variant


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """Images of these trees are small, in the closed division too."""
    monkeypatch.setattr("t2i.submission.discover.CLOSED_SIDE", SIDE)


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("variants")
    return [
        finished(root, "one"),
        finished(root, "two", system="other-box"),
        finished(root, "three", division="open"),
    ]


def test_systems_and_divisions_share_a_package(variants, tmp_path):
    names = pack(variants, tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert archive.getnames() == names
        archive.extractall(tmp_path / "tree", filter="data")
    for place in ("closed/acme/systems/my-box.json", "closed/acme/systems/other-box.json"):
        assert place in names
    assert "open/acme/src/stable-diffusion-xl/my-box/README.md" in names
    checks = judge_tree(tmp_path / "tree", captions=captions())
    assert not failed(checks)
    assert {check.id.split(":")[0] for check in checks} == {
        "closed/acme/my-box",
        "closed/acme/other-box",
        "open/acme/my-box",
    }
    pack(variants, tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == (tmp_path / "all.tar.gz").read_bytes()


def test_an_edit_in_one_system_is_charged_to_it(variants, tmp_path):
    pack(variants[:2], tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        archive.extractall(tmp_path / "tree", filter="data")
    (
        tmp_path / "tree/closed/acme/results/other-box/stable-diffusion-xl/Offline/odd.txt"
    ).write_text("x")
    assert failed(judge_tree(tmp_path / "tree")) == {
        "closed/acme/other-box: submission.files.unknown"
    }


def test_what_did_not_pass_is_not_packed(variants, tmp_path):
    for change, words in (
        ({"verdict": "fail", "summary": "1 of 2 checks failed"}, "the verdict is fail: 1 of 2"),
        (None, "missing; run the workflow to its end first"),
    ):
        variant = shutil.copytree(variants[0], tmp_path / words[:6])
        if change is None:
            (variant / "submission.json").unlink()
        else:
            write_json(variant / "submission.json", change)
        with pytest.raises(ValueError, match=words):
            pack([variant], tmp_path / "all.tar.gz")
    assert not (tmp_path / "all.tar.gz").exists()


def test_an_edited_tree_is_not_packed(variants, tmp_path):
    variant = shutil.copytree(variants[0], tmp_path / "edited")
    path = variant / "submission/closed/acme/systems/my-box.json"
    system = read_json(path)
    write_json(path, {**system, "hw_notes": "faster than it was"})
    with pytest.raises(ValueError, match="run.files"):
        pack([variant], tmp_path / "all.tar.gz")


def test_a_rehearsal_is_not_packed(variants, tmp_path):
    variant = shutil.copytree(variants[0], tmp_path / "rehearsal")
    built = read_json(variant / "submission_files.json")
    built["request"]["settings"]["stand_in"] = {"side": 16, "images_per_second": 1.0}
    write_json(variant / "submission_files.json", built)
    with pytest.raises(ValueError, match="a rehearsal without a model"):
        pack([variant], tmp_path / "all.tar.gz")


def test_one_system_twice_needs_equal_files(variants, tmp_path):
    twin = finished(tmp_path, "twin", inferred=True)
    with pytest.raises(ValueError, match="give each system its own name"):
        pack([variants[0], twin], tmp_path / "all.tar.gz")
