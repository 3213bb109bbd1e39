"""Scores of an accuracy log: the same as the shards', regardless of the order of its images."""

import t2i.job.torch_shim  # noqa: F401

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from accuracy_logs import log_text
from recipes import micro_recipe, scoring
from t2i.base.files import sha256_file
from t2i.base.images import pixel_digest
from t2i.generate.shard import Sample
from t2i.loadgen.accuracy import (
    ScoredLog,
    logged_samples,
    score_log,
    score_samples,
    write_scores,
)
from t2i.loadgen.accuracy_log import accuracy_text
from t2i.metrics import clip, inception
from t2i.metrics.features import NAMES, Features, gather
from t2i.metrics.fid import moments
from t2i.metrics.labels import Network
from t2i.metrics.scores import reduce_metrics
from t2i.metrics.scoring import score_shard
from t2i.micro import pictures

COUNT, SIZE, BATCH = 5, (40, 64), 2
CAPTIONS = [f"a picture of {n} things" for n in range(COUNT + 2)]  # the data set has two more
ARRIVAL = [3, 0, 4, 1, 2]
IDS = [3, 4475, 1]  # 3 arrives first
FACTS = {"run": "try", "variant": "fp32", "scenario": "Offline"}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Pictures (5, 40, 64, 3) uint8."""
    drawn = [np.asarray(pictures.paint(pictures.scene(n), 64))[12:52] for n in range(COUNT)]
    return np.stack(drawn)


@pytest.fixture(scope="module")
def networks(micro_inception: Path, random_clip: tuple[Path, Any, Any]) -> tuple[Any, Any]:
    """Inception and CLIP with random weights."""
    return inception.load_inception(micro_inception, "cpu"), clip.load_clip(random_clip[0], "cpu")


@pytest.fixture(scope="module")
def sharded(images: np.ndarray, networks: tuple[Any, Any]) -> Features:
    """Features by the way of shards: of three and of two samples."""
    samples = [Sample(n, n, "", pixel_digest(image), True) for n, image in enumerate(images)]
    cuts = (slice(0, 3), slice(3, 5))
    parts = [score_shard(samples[cut], images[cut], CAPTIONS, *networks, BATCH) for cut in cuts]
    return gather(parts, COUNT)


@pytest.fixture
def log(tmp_path: Path, images: np.ndarray) -> Path:
    """The images in a log, as they arrived."""
    path = tmp_path / "log.json"
    path.write_bytes(log_text([(index, images[index].tobytes()) for index in ARRIVAL]))
    return path


@pytest.fixture
def score(log: Path, tmp_path: Path, networks: tuple[Any, Any]) -> Callable[..., ScoredLog]:
    def scored(known: Features | None = None, networks: Any = networks) -> ScoredLog:
        folder = tmp_path / "scores/images"
        return score_log(log, SIZE, COUNT, CAPTIONS, known, *networks, BATCH, IDS, folder)

    return scored


def assert_equal(one: Features, other: Features) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def metrics(features: Features) -> dict[str, Any]:
    """FID and CLIP against moments of random features."""
    reference = moments(np.random.default_rng(1).random((30, 2048)))
    network = Network("random", "0" * 64, "random")
    return reduce_metrics(features, reference, micro_recipe(), scoring(network, network))[0]


def test_the_same_numbers_as_from_shards(
    score: Callable[..., ScoredLog], sharded: Features, log: Path
) -> None:
    scored = score()
    assert_equal(scored.features, sharded)
    assert metrics(scored.features) == metrics(sharded)  # bit by bit
    assert (scored.sha256, scored.size) == (sha256_file(log), log.stat().st_size)
    assert scored.reused == 0


def changed(features: Features, row: int, **values: Any) -> Features:
    """Features with other values in one row."""
    arrays = {name: getattr(features, name).copy() for name in values}
    for name, value in values.items():
        arrays[name][row] = value
    return replace(features, **arrays)


def rows(features: Features, order: list[int]) -> Features:
    return Features(**{name: getattr(features, name)[order] for name in NAMES})


def test_known_features_are_taken_over(score: Callable[..., ScoredLog], sharded: Features) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("an image was scored although its features are known")

    known = changed(sharded, 2, clip=99.0)  # nobody else would score so
    scored = score(rows(known, [4, 2, 0, 1, 3]), networks=(forbidden, forbidden))
    assert_equal(scored.features, known)
    assert scored.reused == COUNT
    assert scored.compliance_images == {3: sharded.sha256[3], 1: sharded.sha256[1]}


@pytest.mark.parametrize(
    "values", [{"sha256": "0" * 64}, {"size": (64, 40)}, {"index": 99}], ids=str
)
def test_features_of_other_pixels_are_not_taken_over(
    score: Callable[..., ScoredLog], sharded: Features, values: dict[str, Any]
) -> None:
    known = changed(sharded, 2, clip=99.0, **values)
    scored = score(known)
    assert_equal(scored.features, sharded)
    assert scored.reused == COUNT - 1


def test_features_of_a_part(score: Callable[..., ScoredLog], sharded: Features) -> None:
    scored = score(rows(sharded, [0, 2]))
    assert_equal(scored.features, sharded)
    assert scored.reused == 2


def test_no_more_than_a_batch_of_images_is_held(
    score: Callable[..., ScoredLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def watched(samples: list[Sample], *rest: Any) -> Features:
        sizes.append(len(samples))
        return score_shard(samples, *rest)

    monkeypatch.setattr("t2i.metrics.scoring.score_shard", watched)
    score()
    assert sizes == [2, 2, 1]


def test_compliance_images(
    score: Callable[..., ScoredLog], sharded: Features, images: np.ndarray, tmp_path: Path
) -> None:
    scored = score(sharded)
    folder = tmp_path / "scores/images"
    assert {path.name for path in folder.iterdir()} == {"3.png", "1.png", "captions.txt"}
    for index in (3, 1):
        with Image.open(folder / f"{index}.png") as image:
            assert np.array_equal(np.asarray(image), images[index])
    text = (folder / "captions.txt").read_text()
    assert text == "3  a picture of 3 things\n1  a picture of 1 things\n"
    assert scored.compliance_images == {n: pixel_digest(images[n]) for n in (3, 1)}
    assert scored.beyond == [4475]


def test_written_scores(
    score: Callable[..., ScoredLog],
    sharded: Features,
    images: np.ndarray,
    log: Path,
    tmp_path: Path,
) -> None:
    scored = score(sharded)
    folder = tmp_path / "scores"
    values = {**metrics(scored.features), "clip": 31.7}  # the checker reads no minus
    write_scores(folder, log, SIZE, scored, values, FACTS)
    document = json.loads((folder / "accuracy.json").read_text())
    assert document == {
        "schema": 1,
        **FACTS,
        **values,
        "log": {"sha256": sha256_file(log), "bytes": log.stat().st_size},
        "image": [40, 64],
        "reused_features": COUNT,
        "compliance_images": {str(n): pixel_digest(images[n]) for n in (3, 1)},
        "compliance_images_beyond": [4475],
        "image_sha256": [pixel_digest(image) for image in images],
    }
    truncated = (folder / "mlperf_log_accuracy.json").read_bytes()
    assert truncated == log.read_bytes()[:4096] + b"\n\n...\n\n" + log.read_bytes()[-4096:]
    text = (folder / "accuracy.txt").read_text()
    # The checker's patterns, which it matches against each line.
    patterns = (r".*'FID_SCORE':\s+'?([\d.]+).*", r".*'CLIP_SCORE':\s+'?([\d.]+).*")
    found = [re.match(pattern, text.splitlines()[0]) for pattern in patterns]
    assert [float(match.group(1)) for match in found if match] == [values["fid"], values["clip"]]
    assert f"hash={sha256_file(log)}" in text.splitlines()


def test_accuracy_text_as_the_official_script_prints_it() -> None:
    results = {"FID_SCORE": f"{np.float64(23.909) / 3}", "CLIP_SCORE": f"{np.float64(31.75)}"}
    text = accuracy_text(23.909 / 3, 31.75, "ab")
    assert text == f"Accuracy Results: {results}\n\nhash=ab\n"
    assert "'0.0000012'" in accuracy_text(1.2e-6, 31.0, "ab")  # of 1.2e-06 it would read 1.2


def test_a_damaged_log_is_refused(
    score: Callable[..., ScoredLog], sharded: Features, log: Path
) -> None:
    log.write_bytes(log.read_bytes()[:-9])
    with pytest.raises(ValueError, match="record 4 at byte .* is cut off: .* 1 of 5 samples have"):
        score(sharded)


def test_too_few_captions(log: Path, tmp_path: Path, networks: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="4 captions are too few for the 5 samples"):
        score_log(log, SIZE, COUNT, CAPTIONS[:4], None, *networks, BATCH, IDS, tmp_path / "images")


def test_neither_module_needs_torch() -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    code = "import sys, t2i.loadgen.accuracy; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=scripts)


def test_some_samples_are_scored_as_all_are(
    log: Path, images: np.ndarray, sharded: Features, networks: tuple[Any, Any], tmp_path: Path
) -> None:
    """Part III of TEST01: of an index that comes again, with other pixels, the first one counts."""
    path = tmp_path / "test01.json"
    records = [(3, images[3]), (1, images[1]), (3, 255 - images[3]), (4, images[4])]
    path.write_bytes(log_text([(index, image.tobytes()) for index, image in records]))
    assert logged_samples(path) == [1, 3, 4]
    found, sha256 = score_samples(path, SIZE, [1, 3, 4], CAPTIONS, *networks, BATCH)
    wanted = Features(**{name: getattr(sharded, name)[[1, 3, 4]] for name in NAMES})
    assert_equal(found, wanted)
    assert sha256 == sha256_file(path)
    again, _ = score_samples(log, SIZE, [1, 3, 4], CAPTIONS, *networks, BATCH)
    assert_equal(again, wanted)
    with pytest.raises(ValueError, match=r"has no image of samples \[2\]"):
        score_samples(path, SIZE, [1, 2], CAPTIONS, *networks, BATCH)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut off"):
        logged_samples(path)
