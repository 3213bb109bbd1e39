import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_loadgen import DETAIL, SUMMARY, set_detail, set_summary
from fake_submission import build_submission
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS, Finding, Rule, at_least, judge, within
from t2i.base.files import file_table
from t2i.mlperf import CLOSED_WINDOWS
from t2i.submission.checks import system
from t2i.submission.checks.accuracy import hash_in, scores_in
from t2i.submission.checks.findings import number
from t2i.submission.checks.logs import RunLogs, log_checks
from t2i.submission.official import not_run
from t2i.submission.system import FIELDS, NOT_EMPTY
from t2i.submission.verdict import check_tree, submission_result
from tampering import OFFLINE, RUN, SYSTEM

SHORT = ("time: 5 s of 600 s", "count: 100 of 5000 samples")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("submission")
    return root / "tree", build_submission(root)


@pytest.fixture
def tree(good, tmp_path):
    return shutil.copytree(good[0], tmp_path / "tree")


def verdicts(tree, expected):
    return {check.id: check.verdict for check in check_tree(tree, expected)}


def failed(tree, expected):
    return {name for name, found in verdicts(tree, expected).items() if found == FAIL}


def test_ids_are_unique_and_every_rule_is_listed_for_any_tree(good, tmp_path):
    tree, expected = good
    names = [check.id for check in check_tree(tree, expected)]
    assert len(set(names)) == len(names)
    (tmp_path / "empty").mkdir()
    assert verdicts(tmp_path / "empty", expected).keys() == verdicts(tree, expected).keys()
    assert verdicts(tmp_path / "none", expected).keys() == verdicts(tree, expected).keys()


def test_an_empty_tree_passes_no_rule_on_content(good, tmp_path):
    found = verdicts(tmp_path, good[1])
    passed = {name for name, verdict in found.items() if verdict == PASS}
    assert passed <= {
        "submission.category",
        "submission.files.empty",
        "submission.files.folders",
        "submission.files.links",
        "submission.files.places",
        "submission.files.secrets",
        "submission.files.size",
        "submission.files.unknown",
    }


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"[" * 99999, b"{}", b"\xff\xfe", b"null"])
def test_no_content_of_any_file_raises(good, tree, content):
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            path.write_bytes(content)
    assert len(failed(tree, good[1])) > 100


def test_a_folder_for_a_file_and_a_file_for_a_folder(good, tree):
    (tree / SYSTEM).unlink()
    (tree / SYSTEM).mkdir()
    shutil.rmtree(tree / OFFLINE / "accuracy/images")
    (tree / OFFLINE / "accuracy/images").write_text("no folder")
    found = failed(tree, good[1])
    assert {"submission.system.fields", "submission.Offline.accuracy.images.ids"} <= found


def test_links_are_refused(good, tree):
    path = tree / OFFLINE / "README.md"
    path.rename(tree.parent / "README.md")
    path.symlink_to(tree.parent / "README.md")
    assert failed(tree, good[1]) == {"submission.files.links"}


def test_recorded_digests_notice_any_change(good, tree):
    expected = replace(good[1], files=file_table(good[0]))
    assert not failed(tree, expected)
    (tree / OFFLINE / "README.md").write_text("other words")
    assert failed(tree, expected) == {"submission.files.unchanged"}


def test_recorded_figure(good):
    tree, expected = good
    rate = 17.0
    assert not failed(tree, replace(expected, metrics={"Offline": rate}))
    name = "submission.Offline.performance.recorded"
    assert failed(tree, replace(expected, metrics={"Offline": 1.01 * rate})) == {name}


def test_closed_division_wants_the_benchmark_size(good):
    tree, expected = good
    found = failed(tree, replace(expected, side=1024))
    assert found == {
        f"submission.{name}.accuracy.images.size" for name in ("Offline", "SingleStream")
    }


def test_what_is_not_given_is_not_judged(good):
    tree, expected = good
    found = verdicts(tree, replace(expected, images=None, logs=None, files=None, metrics=None))
    skipped = {name for name, verdict in found.items() if verdict == NOT_APPLICABLE}
    assert "submission.Offline.accuracy.images.pixels" in skipped
    assert "submission.files.unchanged" in skipped
    assert FAIL not in found.values()


def test_open_division_lists_rules_of_the_closed_one(good, tree):
    (tree / "closed").rename(tree / "open")
    path = tree / "open" / SYSTEM.relative_to("closed")
    path.write_text(path.read_text().replace('"closed"', '"open"'))
    scores = tree / "open" / OFFLINE.relative_to("closed") / "accuracy/accuracy.txt"
    scores.write_text(scores.read_text().replace("31.75", "25.0"))
    expected = replace(good[1], division="open")
    found = verdicts(tree, expected)
    assert FAIL not in found.values()
    for name in ("accuracy.clip", "accuracy.fid", "TEST01", "TEST04"):
        assert found[f"submission.Offline.{name}"] == NOT_APPLICABLE


def test_short_run_is_judged_by_all_else(good, tree):
    run = tree / OFFLINE / RUN
    set_detail(run / DETAIL, "effective_min_duration_ms", 5000)
    set_summary(run / SUMMARY, "min_duration (ms)", "5000")
    expected = replace(good[1], shortened=SHORT)
    found = verdicts(tree, expected)
    assert found["submission.Offline.performance.min_duration"] == NOT_APPLICABLE
    assert found["submission.Offline.accuracy.clip"] == NOT_APPLICABLE
    set_detail(run / DETAIL, "effective_qsl_rng_seed", 1)
    assert "submission.Offline.performance.seeds.qsl" in failed(tree, expected)


WORSE = {
    "effective_min_duration_ms": (600000, -1, "min_duration"),
    "effective_performance_sample_count": (5000, -1, "samples"),
    "effective_samples_per_query": (5000, -1, "samples_per_query"),
    "effective_min_query_count": (1, -1, "min_query_count"),
    "num_errors": (0, 1, "errors"),
}


@pytest.fixture(scope="module")
def run_folder(good, tmp_path_factory):
    return shutil.copytree(good[0] / OFFLINE / RUN, tmp_path_factory.mktemp("run") / "run_1")


@settings(max_examples=25, deadline=None)
@given(key=st.sampled_from(sorted(WORSE)), first=st.integers(0, 10), more=st.integers(1, 10**9))
def test_a_worse_value_never_turns_a_fail_into_a_pass(run_folder, key, first, more):
    limit, direction, what = WORSE[key]
    before = (run_folder / DETAIL).read_bytes()
    outcomes = []
    for steps in (first, first + more):
        set_detail(run_folder / DETAIL, key, limit + direction * steps)
        checks = log_checks(RunLogs(run_folder, "Offline", "performance", "v6.1"), "a", (), 5000)
        outcomes.append(next(check.verdict for check in checks if check.id == f"a.{what}"))
    (run_folder / DETAIL).write_bytes(before)
    assert outcomes == [FAIL if first else PASS, FAIL]


@given(st.floats(), st.floats(0, 1e9), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_bounds_are_inclusive_and_farther_away_never_passes(value, farther, low, width):
    high = low + width
    assert within(low, low, high).ok and within(high, low, high).ok
    if not within(value, low, high).ok:
        away = value - farther if value < low else value + farther
        assert not within(away, low, high).ok
    if not at_least(value, low).ok:
        assert not at_least(value - farther, low).ok


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, None, "7", [7]])
def test_what_is_no_number_lies_in_no_bounds(value):
    assert not within(value, -1e9, None).ok


def test_a_rule_that_breaks_has_failed():
    def broken():
        raise RuntimeError("a bug")

    (check,) = judge([Rule("what", "a rule", "me", broken)], "p", (), closed=True, shortened=())
    assert (check.id, check.verdict) == ("p.what", FAIL)
    assert "RuntimeError: a bug" in check.value


def test_rules_that_do_not_apply_are_not_asked():
    rules = [
        Rule("closed", "", "", lambda: Finding(0, False), closed=True),
        Rule("whole", "", "", lambda: Finding(0, False), whole=True),
    ]
    checks = judge(rules, "p", (), closed=False, shortened=SHORT)
    assert [check.verdict for check in checks] == [NOT_APPLICABLE] * 2
    assert SHORT[0] in checks[1].value


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "", "1_0", "0x1", "١", "9" * 400])
def test_texts_that_are_no_number(text):
    with pytest.raises(ValueError, match="not a finite number"):
        number(text)


def test_scores_are_read_as_the_checker_reads_them(tmp_path):
    path = tmp_path / "accuracy.txt"
    path.write_text("Accuracy Results: {'FID_SCORE': '23.5', 'CLIP_SCORE': 31.75}\n")
    assert scores_in(path) == {"fid": 23.5, "clip": 31.75}
    for pattern, wanted in (("CLIP", "31.75"), ("FID", "23.5")):
        found = re.match(rf".*'{pattern}_SCORE':\s+'?([\d.]+).*", path.read_text())
        assert found and found[1] == wanted


@pytest.mark.parametrize("text", ["hash=ab", "hash=" + "g" * 64, "hash= " + "a" * 64, "a" * 64])
def test_a_hash_is_a_sha256(tmp_path, text):
    path = tmp_path / "accuracy.txt"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match="hex sha256"):
        hash_in(path)


def test_submission_json(good):
    tree, expected = good
    checks = check_tree(tree, expected)
    result = submission_result(tree, expected, checks, not_run("no checkout", "v6.1"))
    json.dumps(result, allow_nan=False)
    assert result["verdict"] == PASS
    assert result["files"] == file_table(tree)
    assert "was not run: no checkout" in result["summary"]
    assert result["checks"][-1]["id"] == "submission.official"
    worse = [replace(checks[0], verdict=FAIL), *checks[1:]]
    result = submission_result(tree, expected, worse, not_run("no checkout", "v6.1"))
    assert result["verdict"] == FAIL and checks[0].id in result["summary"]


@pytest.fixture
def constants(monkeypatch, inference_checkout):
    monkeypatch.syspath_prepend(inference_checkout / "tools/submission")
    from submission_checker import constants

    yield constants
    for name in [name for name in sys.modules if name.startswith("submission_checker")]:
        del sys.modules[name]


def test_tables_are_those_of_the_official_checker(constants):
    assert set(FIELDS) == set(constants.SYSTEM_DESC_REQUIRED_FIELDS)
    assert set(NOT_EMPTY) == set(constants.SYSTEM_DESC_MEANINGFUL_RESPONSE_REQUIRED_FIELDS)
    assert set(system.MEASUREMENT) == set(constants.SYSTEM_IMP_REQUIRED_FILES)
    assert set(system.STATUSES) == set(constants.VALID_AVAILABILITIES)
    model = constants.MODEL_CONFIG["v6.1"]
    target = model["accuracy-target"]["stable-diffusion-xl"]
    limits = model["accuracy-upper-limit"]["stable-diffusion-xl"]
    for name, low, high in (
        ("clip", target[1], limits[1]),
        ("fid", target[3], limits[3]),
    ):
        assert CLOSED_WINDOWS[name] == pytest.approx([low, high], abs=1e-8)
