"""When scores may be compared with MLPerf's: every part of the recipe and of the scoring counts."""

from dataclasses import replace

import pytest

from recipes import MLPERF_RECIPE, MLPERF_SCORING, micro_recipe, scoring
from t2i.base.embedded import TRAINED
from t2i.base.files import file_digest, sha256_file
from t2i.metrics.labels import Network
from t2i.metrics.protocol import comparability, protocol


def test_the_benchmark_itself_is_comparable():
    assert comparability(MLPERF_RECIPE, MLPERF_SCORING, 5000) == {"value": True, "reasons": []}
    names = protocol(MLPERF_RECIPE, MLPERF_SCORING, 5000)
    assert names["fid"] == names["clip"] == "mlperf"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "mine"}, "the data set is mine, not MLPerf's coco2014"),
        ({"captions": "0" * 64}, "the captions are not the 5000 that MLPerf published"),
        ({"latents": "0" * 64}, "the starting latent is not the one that MLPerf published"),
        ({"steps": 4}, "4 steps, MLPerf takes 20"),
        ({"guidance": 1.0}, "guidance 1, MLPerf's is 8"),
        ({"negative_prompt": ""}, "the negative prompt is not MLPerf's"),
        ({"model": "mine"}, "the model is mine, not MLPerf's sdxl-base-1.0"),
        (
            {"model": "stand-in"},
            "the pictures are a stand-in's, which draws them without any model",
        ),
        ({"patch": "a.py:b"}, "the model is changed by the patch a.py:b"),
        (
            {"cache": {"interval": 2}},
            "DeepCache (every 2 steps a deep one) skips most of the model",
        ),
        ({"unet": "light"}, "the UNet is another (light)"),
        ({"cache": {"deep": [0, 3]}}, "DeepCache (deep steps 0, 3) skips most of the model"),
    ],
)
def test_another_recipe_is_not_comparable(changes, reason):
    recipe = replace(MLPERF_RECIPE, **changes)
    assert comparability(recipe, MLPERF_SCORING, 5000) == {"value": False, "reasons": [reason]}
    names = protocol(recipe, MLPERF_SCORING, 5000)
    assert names["fid"] == "inception-2015-12-05 against coco2014/val2014.npz"
    assert names["clip"] == "clip-vit-b-32"


@pytest.mark.parametrize(
    ("changes", "score", "words"),
    [
        ({"statistics": "reference/mine/a.npz"}, "fid", "reference statistics"),
        ({"statistics_blob": "0" * 40}, "fid", "reference statistics"),
        ({"inception": Network("inception-2015-12-05", "a", "random")}, "fid", "random weights"),
        ({"inception": Network("mine", "a", "published")}, "fid", "FID's network is mine"),
        ({"clip": Network("mine", "a", "published")}, "clip", "CLIP's network is mine"),
        ({"clip": Network("clip-vit-b-32", "a", "random")}, "clip", "random weights"),
    ],
)
def test_another_scoring_is_not_comparable(changes, score, words):
    changed = replace(MLPERF_SCORING, **changes)
    (reason,) = comparability(MLPERF_RECIPE, changed, 5000)["reasons"]
    assert words in reason
    names = protocol(MLPERF_RECIPE, changed, 5000)
    other = {"fid": "clip", "clip": "fid"}[score]
    assert names[score] != "mlperf" and names[other] == "mlperf"


@pytest.mark.parametrize("samples", [1, 128, 2048, 2049, 4999])
def test_fewer_samples_are_not_comparable(samples):
    (reason,) = comparability(MLPERF_RECIPE, MLPERF_SCORING, samples)["reasons"]
    assert f"{samples} samples, not MLPerf's 5000" in reason
    assert ("rank-deficient" in reason) == (samples < 2049)
    assert protocol(MLPERF_RECIPE, MLPERF_SCORING, samples)["clip"] != "mlperf"


def test_reasons_name_a_miniature_and_where_weights_come_from():
    networks = (
        Network("micro-inception", "b", "random"),
        Network("micro-clip", "d", TRAINED),
    )
    assert comparability(micro_recipe(), scoring(*networks), 5000)["reasons"] == [
        "micro-sdxl is a miniature trained on drawn pictures",
        "the data set is pictures, not MLPerf's coco2014",
        "the starting latent is not the one that MLPerf published",
        "FID's network is micro-inception, not MLPerf's, and has random weights",
        "the reference statistics of FID are not those that MLPerf published",
        "CLIP's network is micro-clip, not MLPerf's, and has weights trained on drawn pictures",
    ]


def test_digests_are_those_of_the_published_files(shared_data):
    folder = shared_data / "coco2014"
    assert sha256_file(folder / "captions_source.tsv") == MLPERF_RECIPE.captions
    assert sha256_file(folder / "latents.npy") == MLPERF_RECIPE.latents


def test_statistics_are_known_by_the_published_object_id(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"hello\n")
    assert file_digest(path, "git_blob") == "ce013625030ba8dba906f756967f9e9ca394464a"
