"""Every rule can pass, fail and not apply, and nothing that gets worse begins to pass."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.base.check import CHECKER, FAIL, NOT_APPLICABLE, PASS, Check, check_records, verdict
from t2i.compliance import variant
from t2i.metrics.features import Features
from t2i.mlperf import CLOSED_WINDOWS

COMPARABLE = {"value": True, "reasons": []}
NOT_COMPARABLE = {"value": False, "reasons": ["64 samples", "random weights"]}
ORDER = {FAIL: 0, NOT_APPLICABLE: 1, PASS: 2}


def scores(fid=23.5, clip=31.75, samples=5000):
    """The part of metrics.json that is judged."""
    return {"fid": fid, "clip": clip, "samples": samples}


def features(n=4, **changes):
    """Features of n sound images."""
    whole = Features(
        index=np.arange(n, dtype=np.int64),
        inception=np.zeros((n, 2048), np.float32),
        clip=np.zeros(n, np.float32),
        clip_shifted=np.zeros(n, np.float32),
        sha256=np.full(n, "0" * 64),
        low=np.zeros(n, np.uint8),
        high=np.full(n, 255, np.uint8),
        size=np.full((n, 2), 1024, np.int64),
    )
    return dataclasses.replace(whole, **changes)


def manifest(**changes):
    """What has to be equal in all manifests."""
    facts = {
        "engine": "e",
        "device": {"name": "d"},
        "software": {"torch": "1"},
        "inputs": {"t": "x"},
    }
    return {**facts, **changes}


LOW_FID, HIGH_FID = CLOSED_WINDOWS["fid"]
LOW_CLIP, HIGH_CLIP = CLOSED_WINDOWS["clip"]


@pytest.mark.parametrize(
    "key, value, verdict",
    [
        ("fid", LOW_FID, PASS),
        ("fid", HIGH_FID, PASS),
        ("fid", math.nextafter(LOW_FID, 0), FAIL),
        ("fid", math.nextafter(HIGH_FID, 99), FAIL),
        ("fid", 0.0, FAIL),
        ("fid", 187.5, FAIL),
        ("fid", math.nan, FAIL),
        ("clip", LOW_CLIP, PASS),
        ("clip", HIGH_CLIP, PASS),
        ("clip", math.nextafter(LOW_CLIP, 0), FAIL),
        ("clip", math.nextafter(HIGH_CLIP, 99), FAIL),
        ("clip", 99.0, FAIL),
    ],
)
def test_both_ends_of_a_window_are_inside_and_too_good_fails(key, value, verdict):
    checks = variant.window_checks(scores(**{key: value}), CLOSED_WINDOWS)
    found = {check.id: check.verdict for check in checks}
    other = {"fid": "clip", "clip": "fid"}[key]
    assert found == {f"accuracy.{key}": verdict, f"accuracy.{other}": PASS}


@pytest.mark.parametrize(
    "value, margin", [(1.0, 0.0), (1.25, 0.25), (2.0, 1.0), (2.5, 0.5), (0.5, -0.5), (4.0, -1.0)]
)
def test_margin_is_the_distance_to_the_nearer_bound(value, margin):
    windows = {"samples": 5000, "fid": [1.0, 3.0], "clip": [0.0, 99.0]}
    fid, _ = variant.window_checks(scores(fid=value), windows)
    assert (fid.value, fid.low, fid.high, fid.margin) == (value, 1.0, 3.0, margin)


@pytest.mark.parametrize(
    "windows, words",
    [(None, "no window"), ({**CLOSED_WINDOWS, "samples": 64}, "meant for 64 samples")],
)
def test_accuracy_without_its_window_is_not_judged(windows, words):
    for check in variant.window_checks(scores(fid=999.0), windows):
        assert check.verdict == NOT_APPLICABLE
        assert words in check.source
        assert check.low is check.high is check.margin is None


@pytest.mark.parametrize(
    "comparable, closed, verdict",
    [
        (COMPARABLE, True, PASS),
        (COMPARABLE, False, PASS),
        (NOT_COMPARABLE, True, FAIL),
        (NOT_COMPARABLE, False, NOT_APPLICABLE),
    ],
)
def test_protocol(comparable, closed, verdict):
    check = variant.protocol_check(comparable, closed)
    assert check.verdict == verdict
    assert check.value == ("64 samples; random weights" if comparable["reasons"] else check.value)
    assert check.value


@pytest.mark.parametrize(
    "samples, closed, verdict, margin",
    [
        (5000, True, PASS, 0),
        (5000, False, PASS, 0),
        (4999, True, FAIL, -1),
        (5001, True, FAIL, -1),
        (64, False, NOT_APPLICABLE, -4936),
    ],
)
def test_sample_count(samples, closed, verdict, margin):
    check = variant.count_check(samples, closed)
    assert (check.value, check.verdict, check.margin) == (samples, verdict, margin)


def test_coverage():
    assert variant.coverage_check(np.arange(4), 4).verdict == PASS
    check = variant.coverage_check(np.array([0, 1, 1, 5]), 4)
    assert check.verdict == FAIL
    assert check.value == ("samples 0 to 3: 2 missing: 2, 3; 1 more than once: 1; 1 beyond: 5")


def published(name, matches):
    """A published input."""
    facts = {"sha256": "f" * 64, "published": "md5 abc", "matches": matches}
    return {"name": name, **facts}


def test_inputs():
    own = {"name": "pictures/captions.tsv", "sha256": "0", "published": None, "matches": None}
    (none,) = variant.input_checks([own])
    assert (none.id, none.verdict) == ("inputs", NOT_APPLICABLE)
    good, bad = variant.input_checks([own, published("a", True), published("b", False)])
    assert (good.id, good.verdict) == ("inputs.a", PASS)
    assert (bad.id, bad.verdict, bad.value) == ("inputs.b", FAIL, "f" * 64)
    assert bad.source == "config/sources.yaml: md5 abc"


def images(found, finite=None, side=None):
    """Verdicts of the checks of images by name."""
    finite = np.ones(len(found.index), bool) if finite is None else finite
    return {check.id: check for check in variant.image_checks(found, finite, side)}


def test_sound_images_pass():
    for side in (1024, None):
        assert {check.verdict for check in images(features(), side=side).values()} == {PASS}


@pytest.mark.parametrize(
    "changes, side, failing",
    [
        ({"size": np.full((4, 2), 512)}, 1024, "images.size"),
        ({"size": np.array([[64, 64]] * 3 + [[64, 32]])}, None, "images.size"),
        ({"high": np.array([255, 0, 255, 255], np.uint8)}, None, "images.black"),
        ({"low": np.array([0, 0, 255, 0], np.uint8)}, None, "images.constant"),
    ],
)
def test_unsound_images_fail_by_name(changes, side, failing):
    checks = images(features(**changes), side=side)
    assert {name for name, check in checks.items() if check.verdict == FAIL} == {failing}


def test_bad_samples_are_listed():
    found = features(40, index=np.arange(100, 140))
    finite = np.ones(40, bool)
    finite[[3, 7]] = False
    assert images(found, finite)["images.finite"].value == "2 of 40: samples 103, 107"
    check = images(found, np.zeros(40, bool))["images.finite"]
    assert check.value.startswith("40 of 40: samples 100, 101, ")
    assert check.value.endswith("119, ...")


@pytest.mark.parametrize(
    "ids, samples, closed, verdict, value",
    [
        (range(10), 10, True, PASS, "10 of 10"),
        (range(10), 9, True, FAIL, "9 of 10; beyond the 9 samples: 9"),
        (range(10), 9, False, NOT_APPLICABLE, "9 of 10; beyond the 9 samples: 9"),
        (range(9), 64, True, FAIL, "9 of 10"),
        ([], 64, True, FAIL, "0 of 10"),
    ],
)
def test_compliance_images(ids, samples, closed, verdict, value):
    check = variant.compliance_images_check(list(ids), samples, closed)
    assert (check.verdict, check.value) == (verdict, value)


@pytest.mark.parametrize(
    "clip, shifted, random, verdict",
    [
        (31.7, 15.0, False, PASS),
        (15.0, 31.7, False, FAIL),
        (15.0, 15.0, False, FAIL),
        (15.0, 31.7, True, NOT_APPLICABLE),
    ],
)
def test_pairing(clip, shifted, random, verdict):
    check = variant.pairing_check(clip, shifted, random)
    assert (check.verdict, check.margin) == (verdict, clip - shifted)


@pytest.mark.parametrize("key", ["engine", "device", "software", "inputs"])
def test_shards_of_two_kinds_fail(key):
    assert variant.uniformity_check([manifest(), manifest()]).verdict == PASS
    for position in range(3):
        manifests = [manifest(), manifest(), manifest()]
        manifests[position] = manifest(**{key: "other"})
        check = variant.uniformity_check(manifests)
        assert (check.verdict, check.value) == (FAIL, f"shards differ in {key}")


@pytest.mark.parametrize(
    "windows, source",
    [
        (CLOSED_WINDOWS, CHECKER),
        ({**CLOSED_WINDOWS, "label": "ours"}, "ours"),
        ({**CLOSED_WINDOWS, "fid": [23.0, 24.0]}, "windows of this run's configuration"),
        ({**CLOSED_WINDOWS, "clip": [31.0, 32.0], "label": "ours"}, "ours"),
    ],
)
def test_only_the_closed_windows_have_the_checker_for_their_source(windows, source):
    checks = variant.window_checks(scores(), windows)
    assert [check.source for check in checks] == [source, source]
    assert {check.verdict for check in checks} == {PASS}


def some(name, verdict, source="source"):
    return Check(name, "rule", 1, verdict, source)


@pytest.mark.parametrize(
    "verdicts, whole",
    [
        ([PASS, PASS], PASS),
        ([PASS, NOT_APPLICABLE], PASS),
        ([PASS, FAIL, NOT_APPLICABLE], FAIL),
        ([NOT_APPLICABLE, FAIL], FAIL),
        ([NOT_APPLICABLE], NOT_APPLICABLE),
        ([], NOT_APPLICABLE),
    ],
)
def test_verdict_of_a_run(verdicts, whole):
    assert verdict([some("x", verdict) for verdict in verdicts]) == whole


def test_summary_names_what_failed():
    checks = [some("accuracy.fid", FAIL), some("b", PASS), some("c", NOT_APPLICABLE)]
    assert variant.summary([*checks, some("d", FAIL)], "closed", COMPARABLE) == (
        "2 of 3 checks failed: accuracy.fid, d."
    )


def test_summary_claims_no_more_than_was_judged():
    accuracy = [some(f"accuracy.{key}", PASS, CHECKER) for key in ("fid", "clip")]
    assert variant.summary(accuracy, "closed", COMPARABLE) == (
        "All 2 checks that apply passed; closed-division accuracy targets met."
    )
    half = [some("accuracy.fid", PASS), some("accuracy.clip", NOT_APPLICABLE)]
    assert variant.summary(half, "closed", COMPARABLE) == (
        "All 1 checks that apply passed; accuracy not judged."
    )
    text = variant.summary(accuracy, "open", NOT_COMPARABLE)
    assert text.endswith("; the scores are not comparable with published ones.")
    assert "result" not in text


def test_summary_says_whose_windows_were_met():
    label = "demo windows of this project, not MLPerf's"
    accuracy = [some(f"accuracy.{key}", PASS, label) for key in ("fid", "clip", "pixels")]
    assert variant.summary(accuracy, "open", NOT_COMPARABLE) == (
        f"All 3 checks that apply passed; FID and CLIP lie inside the {label}; the scores are not "
        "comparable with published ones."
    )


def test_records_hold_what_the_file_promises():
    (record,) = check_records([some("x", PASS)])
    names = {"id", "rule", "value", "low", "high", "margin", "verdict", "source", "why", "mend"}
    assert set(record) == names


def judge(case):
    """All checks of a run that is described by a few values."""
    n = 4
    wide = {**CLOSED_WINDOWS, "samples": case["samples"]}
    found = features(
        n,
        low=np.array(case["low"], np.uint8),
        high=np.array(case["high"], np.uint8),
        size=np.full((n, 2), case["side"]),
    )
    return [
        *variant.window_checks(scores(case["fid"], case["clip"], case["samples"]), wide),
        variant.protocol_check(case["comparable"], case["closed"]),
        variant.count_check(case["samples"], case["closed"]),
        variant.coverage_check(np.array(case["index"]), n),
        *variant.image_checks(found, np.array(case["finite"]), 1024),
        variant.compliance_images_check(case["ids"], case["samples"], case["closed"]),
        variant.pairing_check(case["clip"], case["shifted"], False),
        variant.uniformity_check([manifest(), manifest(engine=case["engine"])]),
        *variant.input_checks([published("a", case["matches"])]),
    ]


FOUR = 4
CASES = st.fixed_dictionaries(
    {
        "fid": st.floats(20, 27),
        "clip": st.floats(31, 32.5),
        "samples": st.sampled_from([64, 4999, 5000]),
        "comparable": st.sampled_from([COMPARABLE, NOT_COMPARABLE]),
        "closed": st.booleans(),
        "index": st.sampled_from([[0, 1, 2, 3], [0, 1, 2, 2]]),
        "low": st.lists(st.sampled_from([0, 9]), min_size=FOUR, max_size=FOUR),
        "high": st.lists(st.sampled_from([0, 9, 255]), min_size=FOUR, max_size=FOUR),
        "side": st.sampled_from([512, 1024]),
        "finite": st.lists(st.booleans(), min_size=FOUR, max_size=FOUR),
        "ids": st.sampled_from([list(range(10)), list(range(60, 70)), [1, 2]]),
        "shifted": st.floats(10, 40),
        "engine": st.sampled_from(["e", "other"]),
        "matches": st.booleans(),
    }
)
WORSE = {
    "fid": lambda value, amount: value + amount if value > 23.48 else value - amount,
    "clip": lambda value, amount: value + amount if value > 31.75 else value - amount,
    "comparable": lambda *_: NOT_COMPARABLE,
    "index": lambda *_: [0, 0, 0, 9],
    "low": lambda value, _: [9, *value[1:]],
    "high": lambda value, _: [0, *value[1:]],
    "side": lambda *_: 512,
    "finite": lambda value, _: [False, *value[1:]],
    "ids": lambda value, _: [*value[1:], 99_999],
    "shifted": lambda value, amount: value + amount,
    "engine": lambda *_: "other",
    "matches": lambda *_: False,
}


@given(CASES, st.sampled_from(sorted(WORSE)), st.floats(0, 50))
def test_nothing_that_gets_worse_begins_to_pass(case, key, amount):
    worse = {**case, key: WORSE[key](case[key], amount)}
    if key == "clip":
        worse["shifted"] = worse["clip"] + (case["shifted"] - case["clip"])  # the pairing as it was
    before, after = judge(case), judge(worse)
    for one, other in zip(before, after, strict=True):
        if (one.id, key) == ("images.constant", "high"):
            continue  # an image that turns black is no longer merely of one colour
        assert ORDER[other.verdict] <= ORDER[one.verdict], (key, one, other)
    assert ORDER[verdict(after)] <= ORDER[verdict(before)]
