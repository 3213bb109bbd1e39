"""Reference images: how a configuration names them, how they are read, what they are judged by."""

import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fake_job import Named, fake_job, run_script
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS
from t2i.base.files import write_json
from t2i.base.images import encode_png
from t2i.base.yaml import ConfigError, read_yaml
from t2i.compliance import variant
from t2i.compliance.variant import pixel_check
from t2i.config.check import checked_config
from t2i.config.derive import reference_pixels, variant_windows
from t2i.generate.read import read_references, read_samples
from t2i.generate.shard import (
    DamagedShard,
    add_sample,
    archive_facts,
    read_manifest,
    write_manifest,
)
from t2i.metrics.features import Features, write_features
from t2i.mlperf import ROUNDS

PROJECT = Path(__file__).parents[2]
SCHEMA = read_yaml(PROJECT / "config" / "schemas" / "config.schema.yaml")
TABLE = read_yaml(PROJECT / "config" / "sources.yaml")
DEMO = read_yaml(PROJECT / "config" / "config.yaml")
MLPERF = read_yaml(PROJECT / "config" / "mlperf.yaml")
WINDOWS = {"samples": 128, "fid": [1, 2], "clip": [3, 4]}
LIMITS = {"fp32": 0, "fp16": 1.5, "bf16": 1}
LABEL = "windows of a test"


def flat(level, side=8):
    return np.full((side, side, 3), level, np.uint8)


def write_references(folder, images):
    folder.mkdir()
    for index, image in images.items():
        (folder / f"{index:05d}.png").write_bytes(encode_png(image))
    return folder


def checked(windows, config=DEMO):
    return checked_config({**config, "windows": {**WINDOWS, **windows}}, SCHEMA, TABLE)


def mistakes(windows, config=DEMO):
    with pytest.raises(ConfigError) as caught:
        checked(windows, config)
    return str(caught.value).splitlines()[1:]


def test_windows_name_the_folder_of_reference_images(tmp_path):
    folder = write_references(tmp_path / "r", {12: flat(0), 3: flat(0)})
    (folder / "README.md").touch()
    config = checked({"images": str(folder), "image_difference": LIMITS, "label": LABEL})
    assert reference_pixels(config) == [f"{folder}/00003.png", f"{folder}/00012.png"]
    assert reference_pixels(checked({})) == []
    assert reference_pixels(checked_config({**DEMO, "windows": None}, SCHEMA, TABLE)) == []


def test_a_variant_has_the_limit_of_its_number_format(tmp_path):
    folder = write_references(tmp_path / "r", {0: flat(0)})
    config = checked({"images": str(folder), "image_difference": LIMITS})
    for dtype, limit in LIMITS.items():
        config["variants"] = {"one": {"dtype": dtype}}
        windows = variant_windows(config, "one")
        assert windows == {**config["windows"], "image_difference": limit}
    config["variants"] = {"one": {"dtype": "bf16", "fp8": {}}}
    assert variant_windows(config, "one")["image_difference"] == LIMITS["bf16"]
    config["windows"]["image_difference"]["fp8"] = 2.5
    assert variant_windows(config, "one")["image_difference"] == 2.5
    assert variant_windows({**config, "windows": None}, "one") is None
    assert variant_windows({**config, "windows": WINDOWS}, "one") == WINDOWS


@pytest.mark.parametrize("given", [{"images": "."}, {"image_difference": LIMITS}])
def test_folder_and_limit_come_together(given):
    (line,) = mistakes(given)
    assert line.startswith("  windows: got ")
    assert "image_difference beside images" in line and "images beside image_difference" in line


@pytest.mark.parametrize(
    "windows, start",
    [
        (
            {"image_difference": {**LIMITS, "bf16": -0.1}},
            "image_difference.bf16: got -0.1; expected at least 0",
        ),
        (
            {"image_difference": {**LIMITS, "fp32": "3"}},
            "image_difference.fp32: got '3'; expected a finite number",
        ),
        ({"image_difference": {"fp32": 1, "fp16": 1}}, "image_difference.bf16: missing"),
        ({"images": "no/such"}, "images: there is no folder 'no/such' that holds PNGs"),
        ({"images": ""}, "images: got ''; expected a name"),
        ({"images": "a\0b"}, "images: got 'a\\x00b'; expected a name"),
        ({"label": ""}, "label: got ''; expected a name"),
        ({"label": "two\nlines"}, "label: got 'two\\nlines'; expected a name"),
        ({"lable": "x"}, "lable: unknown key"),
    ],
)
def test_mistakes_in_windows_are_named(tmp_path, windows, start):
    good = {
        "images": str(write_references(tmp_path / "r", {0: flat(0)})),
        "image_difference": LIMITS,
    }
    lines = mistakes({**good, **windows})
    assert [line for line in lines if line.startswith(f"  windows.{start}")]
    checked(good)


@pytest.mark.parametrize("name", ["42.png", "000042.png", "fp32-00042.png"])
def test_a_file_that_is_named_by_no_sample_is_refused(tmp_path, name):
    folder = write_references(tmp_path / "r", {0: flat(0)})
    (folder / name).write_bytes(encode_png(flat(0)))
    (line,) = mistakes({"images": str(folder), "image_difference": LIMITS})
    assert line.startswith(f"  windows.images: {folder}/{name} is not named by a sample index")


@pytest.mark.parametrize("more", [{"label": "x"}, {"images": "r", "image_difference": LIMITS}])
def test_the_closed_division_has_windows_of_its_own(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    write_references(tmp_path / "r", {0: flat(0)})
    table = {**MLPERF, "windows": {**MLPERF["windows"], **more}}
    with pytest.raises(ConfigError, match="windows: got .*the closed division allows only"):
        checked_config(table, SCHEMA, TABLE)
    checked_config({**table, "division": "open"}, SCHEMA, TABLE)


def test_references_are_read_by_their_sample(tmp_path):
    folder = write_references(tmp_path / "r", {4000: flat(7), 3: flat(9)})
    references = read_references(sorted(folder.iterdir()))
    assert {index: int(image.max()) for index, image in references.items()} == {3: 9, 4000: 7}


@pytest.mark.parametrize(
    "data", [b"", b"text", encode_png(flat(3))[:50]], ids=["empty", "no PNG", "cut off"]
)
def test_a_damaged_reference_is_named(tmp_path, data):
    (tmp_path / "00007.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"00007\.png: not a reference image \("):
        read_references([tmp_path / "00007.png"])


def checked_pixels(references, images, limit=2.0, samples=128):
    return pixel_check(references, images, samples, limit, LABEL)


def test_images_within_the_limit_pass_with_mean_and_largest():
    references = {n: flat(100) for n in (3, 11, 90)}
    images = {3: flat(101), 11: flat(98), 90: flat(100), 5: flat(0)}
    check = checked_pixels(references, images)
    assert (check.id, check.verdict, check.source) == ("accuracy.pixels", PASS, LABEL)
    assert check.value == "1 on average over 3 images; largest 2, sample 11"
    assert (check.high, check.margin, check.low) == (2.0, 0.0, None)
    assert "within 2 grey levels" in check.rule


def test_one_broken_image_cannot_hide_in_the_mean():
    references = {n: flat(100) for n in range(10)}
    images = {n: flat(100) for n in range(10)}
    images[6] = flat(103)
    check = checked_pixels(references, images)
    assert check.verdict == FAIL
    assert check.value == "0.3 on average over 10 images; largest 3, sample 6"
    assert check.margin == -1.0


def test_a_difference_counts_whichever_image_is_brighter():
    assert checked_pixels({0: flat(0)}, {0: flat(255)}).value.endswith("largest 255, sample 0")
    assert checked_pixels({0: flat(255)}, {0: flat(0)}).value.endswith("largest 255, sample 0")


def test_a_reference_beyond_the_run_is_not_judged():
    references = {n: flat(0) for n in (5, 64, 63)}
    check = checked_pixels(references, {5: flat(255), 63: flat(0)}, samples=64)
    assert (check.verdict, check.margin) == (NOT_APPLICABLE, None)
    assert check.value == "reference images beyond the 64 samples: 64"


def test_another_size_fails_in_words():
    tall = np.zeros((16, 8, 3), np.uint8)
    check = checked_pixels({0: flat(0), 3: flat(0)}, {0: flat(0), 3: tall})
    assert check.verdict == FAIL
    assert check.value == "sample 3 has 8x16 pixels, its reference 8x8"


def write_shards(folder):
    """Two shards with images of level 10 n for sample n = 0 ... 4; their tars and manifests."""
    tars, manifests = [], []
    for indices in (range(3), range(3, 5)):
        tar = folder / f"{indices.start}.tar"
        with tarfile.open(tar, "w") as archive:
            samples = [add_sample(archive, n, 0, flat(10 * n), finite=True) for n in indices]
        facts = {"engine": "e", "device": "d", "software": "s", "inputs": "i"}
        write_manifest(tar.with_suffix(".json"), archive_facts(tar), samples, facts)
        tars.append(str(tar))
        manifests.append(str(tar.with_suffix(".json")))
    return tars, manifests


def test_images_of_samples_come_verified_from_their_shards(tmp_path):
    tars, manifests = write_shards(tmp_path)
    images = read_samples(tars, manifests, {4, 0, 99})
    assert {index: int(image.max()) for index, image in images.items()} == {0: 0, 4: 40}
    tars.reverse()
    with pytest.raises(DamagedShard):
        read_samples(tars, manifests, {4, 0})


def judged_by_script(folder, limit, judged):
    """The verdict on the five images of `write_shards`, as the rule's script writes it."""
    tars, manifests = write_shards(folder)
    references = write_references(folder / "r", {0: flat(1), 4: flat(42)})
    samples = [s for path in manifests for s in read_manifest(Path(path))["samples"]]
    features = Features(
        index=np.arange(5),
        inception=np.zeros((5, 4), np.float32),
        clip=np.zeros(5, np.float32),
        clip_shifted=np.zeros(5, np.float32),
        sha256=np.array([sample.sha256 for sample in samples]),
        low=np.zeros(5, np.uint8),
        high=np.full(5, 255, np.uint8),
        size=np.full((5, 2), 8, np.int64),
    )
    write_features(folder / "features.npz", features)
    metrics = {
        "samples": 5,
        "fid": 1.5,
        "clip": 3.5,
        "clip_shifted": 1.0,
        "clip_first": 0.8,
        "model_weights": "as fetched",
        "protocol": {"networks": {"clip": {"weights": "published"}}},
        "comparable": {"value": False, "reasons": ["5 samples"]},
    }
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "provenance.json", {"inputs": []})
    (folder / "sample_ids.txt").write_text("".join(f"{n}\n" for n in range(10)))
    shares = {
        "attributes": {
            name: {"share": 0.5} for name in ("shape", "colour", "size", "place", "background")
        }
    }
    write_json(folder / "judged.json", shares)
    windows = {**WINDOWS, "samples": 5, "label": LABEL}
    if limit is not None:
        windows.update(images=str(references), image_difference=limit)
    job = fake_job(
        Named(
            metrics=folder / "metrics.json",
            features=[folder / "features.npz"],
            manifests=manifests,
            judged=folder / "judged.json" if judged else [],
            references=reference_pixels({"windows": windows}),
            images=tars,
            sample_ids=folder / "sample_ids.txt",
            provenance=folder / "provenance.json",
            scenarios=[],
            submission=[],
        ),
        Named(folder / "compliance.json"),
        folder / "check.log",
        Named(
            division="open",
            samples=5,
            windows=windows,
            round="v6.1",
            shown=ROUNDS["v6.1"].image_ids,
        ),
        wildcards=SimpleNamespace(run="r", variant="v"),
    )
    run_script("check_compliance", job)
    return json.loads((folder / "compliance.json").read_text())


def test_the_verdict_asks_for_pixels_and_pictures_where_they_are_known(tmp_path):
    result = judged_by_script(tmp_path, limit=1.5, judged=True)
    checks = {check["id"]: check for check in result["checks"]}
    assert checks["accuracy.pixels"]["value"] == (
        "1.5 on average over 2 images; largest 2, sample 4"
    )
    assert checks["accuracy.pixels"]["source"] == checks["accuracy.fid"]["source"] == LABEL
    failed = {name for name, check in checks.items() if check["verdict"] == FAIL}
    pictures = {f"pictures.{name}" for name in variant.CAPTIONED}
    assert failed == {"accuracy.pixels", "pairing.first", *pictures}
    for name in failed:
        assert name in result["summary"]


def test_the_verdict_asks_for_neither_where_they_are_not(tmp_path):
    result = judged_by_script(tmp_path, limit=None, judged=False)
    names = [check["id"] for check in result["checks"]]
    assert not [name for name in names if name.startswith(("pictures.", "accuracy.pixels"))]
    assert "pairing.first" not in names
    assert result["summary"].startswith("All ")
    assert f"passed; FID and CLIP lie inside the {LABEL};" in result["summary"]
