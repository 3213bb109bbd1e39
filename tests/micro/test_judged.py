"""What the pixel judge says of a variant, and the checks that follow from it."""

import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from fake_job import Named, fake_job, run_script
from recipes import micro_recipe, scoring
from t2i.base.check import FAIL, PASS
from t2i.base.stats import wilson_interval
from t2i.compliance import variant
from t2i.generate.shard import add_sample, archive_facts, write_manifest
from t2i.metrics.features import Features
from t2i.metrics.fid import moments
from t2i.metrics.labels import Network
from t2i.metrics.scores import reduce_metrics
from t2i.micro.judge import ATTRIBUTES, CAPTIONED
from t2i.micro.judged import captioned_scene, judge_images
from t2i.micro.pictures import COUNT, captions, coco_annotations, paint
from t2i.prompts.captions import format_captions, sample_captions

DOCUMENT = coco_annotations()
CAPTIONS = sample_captions(DOCUMENT["annotations"], DOCUMENT["images"], COUNT)
SAMPLES = 24


def picture(index, **changes):
    """The picture that a sample's caption asks for, or one that differs in some attributes."""
    scene = captioned_scene(CAPTIONS[index])
    return np.asarray(paint(type(scene)(**{**vars(scene), **changes})))


def another(value, *choices):
    return next(choice for choice in choices if choice != value)


def test_a_samples_scene_is_the_one_that_its_caption_tells():
    for caption in CAPTIONS:
        assert caption.caption in captions(captioned_scene(caption))


def test_pictures_as_captioned_are_all_right():
    judged = judge_images(((n, picture(n)) for n in range(SAMPLES)), CAPTIONS)
    assert judged["samples"] == SAMPLES
    assert set(judged["attributes"]) == {*ATTRIBUTES, "all"}
    low, high = wilson_interval(SAMPLES, SAMPLES)
    assert high == 1.0 and 0.8 < low < 0.9
    for found in judged["attributes"].values():
        assert found == {"share": 1.0, "count": 24, "n": 24, "interval": [low, high]}
    assert judged["wrong"] == []


def test_each_wrong_picture_is_named_with_what_was_found():
    scenes = [captioned_scene(CAPTIONS[n]) for n in range(SAMPLES)]
    changes = {
        2: {"colour": another(scenes[2].colour, "red", "blue")},
        5: {"size": another(scenes[5].size, "small", "large"), "background": "mint"},
        7: {"shape": another(scenes[7].shape, "circle", "square")},
    }
    if scenes[5].background == "mint":
        changes[5]["background"] = "brown"
    images = [(n, picture(n, **changes.get(n, {}))) for n in range(SAMPLES)]
    empty = np.broadcast_to(images[9][1][0, 0], images[9][1].shape)
    images[9] = (9, empty)
    judged = judge_images(reversed(images), CAPTIONS)
    counts = {name: found["count"] for name, found in judged["attributes"].items()}
    assert counts == {
        "shape": 22,
        "colour": 22,
        "size": 22,
        "place": 23,
        "background": 23,
        "all": 21,
    }
    assert judged["attributes"]["colour"]["share"] == 22 / 24
    assert judged["attributes"]["colour"]["interval"] == [*wilson_interval(22, 24)]
    wrong = {sample["index"]: sample["attributes"] for sample in judged["wrong"]}
    assert set(wrong) == {2, 5, 7, 9}
    for n in (2, 5, 7):
        assert wrong[n] == {
            name: {"captioned": getattr(scenes[n], name), "found": value}
            for name, value in changes[n].items()
        }
    assert {name: of["found"] for name, of in wrong[9].items()} == {
        "shape": None,
        "colour": None,
        "size": None,
        "place": None,
    }


@pytest.mark.parametrize("count, total", [(0, 10), (1, 10), (5, 10), (10, 10), (122, 128)])
def test_wilson_interval_is_scipys(count, total):
    expected = scipy.stats.binomtest(count, total).proportion_ci(method="wilson")
    assert wilson_interval(count, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_solves_its_definition():
    """At each end the observed share is 1.96 standard errors of that end away."""
    share = 37 / 50
    for end in wilson_interval(37, 50):
        error = (end * (1 - end) / 50) ** 0.5
        assert abs(end - share) / error == pytest.approx(1.959963984540054)


def test_wilson_interval_ends_exactly_at_none_and_all():
    for total in range(1, 600):
        assert wilson_interval(0, total)[0] == 0.0
        assert wilson_interval(total, total)[1] == 1.0


@pytest.mark.parametrize("count, total", [(1, 0), (-1, 4), (5, 4), (0, 0)])
def test_what_is_no_share_has_no_interval(count, total):
    with pytest.raises(ValueError, match=f"{count} of {total} samples are not a valid share"):
        wilson_interval(count, total)


def shares(**others):
    """Judged pictures with all shares at 1 but some."""
    return {"attributes": {name: {"share": others.get(name, 1.0)} for name in (*ATTRIBUTES, "all")}}


@pytest.mark.parametrize("name", CAPTIONED)
@pytest.mark.parametrize("share, verdict", [(0.9, PASS), (np.nextafter(0.9, 0), FAIL), (0.0, FAIL)])
def test_a_share_below_nine_tenths_fails_by_name(name, share, verdict):
    checks = {check.id: check for check in variant.picture_checks(shares(**{name: share}))}
    assert [*checks] == [f"pictures.{key}" for key in ("colour", "size", "place", "background")]
    found = checks.pop(f"pictures.{name}")
    assert (found.verdict, found.value, found.low) == (verdict, share, 0.9)
    assert found.margin == share - 0.9
    assert found.source == "this workflow"
    assert f"the {name} of the caption is seen in at least 90%" in found.rule
    assert {check.verdict for check in checks.values()} == {PASS}


def test_shapes_are_not_judged():
    checks = variant.picture_checks(shares(shape=0.0, all=0.0))
    assert {check.verdict for check in checks} == {PASS}


@pytest.mark.parametrize("share, verdict", [(1.0, PASS), (0.95, PASS), (0.9499, FAIL)])
def test_own_captions_come_first(share, verdict):
    check = variant.first_check(share)
    assert (check.id, check.verdict, check.value) == ("pairing.first", verdict, share)
    assert (check.low, check.high, check.margin) == (0.95, None, share - 0.95)
    assert check.source == "this workflow"


def test_metrics_count_how_often_the_own_caption_comes_first():
    draw = np.random.default_rng(0)
    features = Features(
        index=np.arange(5),
        inception=draw.normal(size=(5, 4)).astype(np.float32),
        clip=np.array([3, 2, 5, 4, 1], np.float32),
        clip_shifted=np.array([2, 2, 1, 9, 0], np.float32),  # a tie is no first place
        sha256=np.full(5, "0" * 64),
        low=np.zeros(5, np.uint8),
        high=np.full(5, 255, np.uint8),
        size=np.full((5, 2), 64, np.int64),
    )
    networks = [Network(name, "0" * 64, "random") for name in ("inception", "clip")]
    reference = moments(draw.normal(size=(9, 4)))
    metrics, _ = reduce_metrics(features, reference, micro_recipe(), scoring(*networks))
    assert metrics["clip_first"] == 0.6
    assert metrics["clip_first_interval"] == [*wilson_interval(3, 5)]
    assert json.loads(json.dumps(metrics)) == metrics


def test_script_judges_the_verified_images_of_all_shards(tmp_path, capsys):
    tars, manifests = [], []
    for indices in (range(3), range(3, 5)):
        tar = tmp_path / f"{indices.start}.tar"
        with tarfile.open(tar, "w") as archive:
            samples = [
                add_sample(archive, n, 0, picture(4 if n == 3 else n), finite=True) for n in indices
            ]
        tars.append(tar)
        manifests.append(tar.with_suffix(".json"))
        write_manifest(manifests[-1], archive_facts(tar), samples, {})
    table = tmp_path / "captions.tsv"
    table.write_text(format_captions(CAPTIONS), encoding="utf-8")
    job = fake_job(
        Named(images=tars, manifests=manifests, captions=table),
        Named(str(tmp_path / "judged.json")),
        tmp_path / "judge.log",
        wildcards=SimpleNamespace(run="r", variant="v"),
    )
    run_script("judge_pictures", job)
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert (judged["schema"], judged["run"], judged["variant"]) == (1, "r", "v")
    assert judged["samples"] == 5
    assert judged["attributes"]["all"]["count"] == 4
    assert [sample["index"] for sample in judged["wrong"]] == [3]
    tars[0].write_bytes(tars[1].read_bytes())
    with pytest.raises(SystemExit):
        run_script("judge_pictures", job)
