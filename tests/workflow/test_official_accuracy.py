"""MLPerf's own accuracy script beside ours: one log, the same weights, the same scores."""

import t2i.job.torch_shim  # noqa: F401

import importlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import peers
from accuracy_logs import log_text
from recipes import micro_recipe, scoring
from t2i.loadgen.accuracy import ScoredLog, score_log
from t2i.metrics import clip, inception
from t2i.metrics.fid import read_moments
from t2i.metrics.labels import Network
from t2i.metrics.scores import reduce_metrics

pytestmark = pytest.mark.slow
HAS_IJSON = importlib.util.find_spec("ijson") is not None

COUNT, SIDE = 12, 1024
ARRIVAL = np.random.default_rng(5).permutation(COUNT).tolist()
IDS = [ARRIVAL[0], ARRIVAL[7]]
CAPTIONS = [f"picture {n} of a cat, a dog and {n * n} birds" for n in range(COUNT)]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth random pictures (12, 1024, 1024, 3) uint8."""
    generator = np.random.default_rng(6)
    coarse = generator.integers(0, 256, (COUNT, 24, 24, 3), dtype=np.uint8)
    smooth = [
        Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in coarse
    ]
    return np.stack([np.asarray(image) for image in smooth])


@pytest.fixture(scope="module")
def log(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures' accuracy log; the first record comes once more at the end."""
    path = tmp_path_factory.mktemp("log") / "mlperf_log_accuracy.json"
    order = [*ARRIVAL, ARRIVAL[0]]
    path.write_bytes(log_text([(index, images[index].tobytes()) for index in order]))
    return path


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reference statistics as val2014.npz has them, of random features."""
    path = tmp_path_factory.mktemp("statistics") / "statistics.npz"
    features = np.random.default_rng(7).gamma(0.5, 0.4, (2500, 2048))
    np.savez(path, mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))
    return path


@pytest.fixture(scope="module")
def ours(
    log: Path,
    statistics: Path,
    micro_inception: Path,
    random_clip: tuple[Path, Any, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ScoredLog, dict[str, Any], Path]:
    """Our scores in batches of four, the metrics, and the folder of compliance images."""
    folder = tmp_path_factory.mktemp("ours")
    networks = (
        inception.load_inception(micro_inception, "cpu"),
        clip.load_clip(random_clip[0], "cpu"),
    )
    scored = score_log(log, (SIDE, SIDE), COUNT, CAPTIONS, None, *networks, 4, IDS, folder, True)
    network = Network("random", "0" * 64, "random")
    reference = read_moments(statistics)
    return (
        scored,
        reduce_metrics(scored.features, reference, micro_recipe(), scoring(network, network))[0],
        folder,
    )


def test_features_and_scores_of_the_peers(
    ours: tuple[ScoredLog, dict[str, Any], Path],
    images: np.ndarray,
    peer_inception: nn.Module,
    random_clip: tuple[Path, Any, Any],
) -> None:
    """By pytorch-fid and open_clip; their distance of such features is compared in test_fid.py."""
    features = np.stack([peers.inception_features(peer_inception, image) for image in images])
    difference = np.abs(ours[0].features.inception - features).max()
    assert difference <= peers.FEATURES * np.abs(features).max()
    _, model, transform = random_clip
    pairs = zip(images, CAPTIONS, strict=True)
    score = np.mean([peers.clip_score(model, transform, *pair) for pair in pairs])
    assert ours[1]["clip"] == pytest.approx(float(score), abs=1e-5)


@pytest.fixture
def accuracy_coco(
    monkeypatch: pytest.MonkeyPatch,
    inference_checkout: Path,
    published_state: dict[str, torch.Tensor],
    random_clip: tuple[Path, Any, Callable[..., Any]],
) -> ModuleType:
    """The official script, with the random weights where it would download published ones."""
    monkeypatch.syspath_prepend(inference_checkout / "text_to_image/tools")
    if not HAS_IJSON:  # imported always, used for low memory only
        monkeypatch.setitem(sys.modules, "ijson", ModuleType("ijson"))
    _, model, transform = random_clip
    monkeypatch.setattr(
        open_clip, "create_model_and_transforms", lambda *_, **__: (model, None, transform)
    )
    script = importlib.import_module("accuracy_coco")
    monkeypatch.setattr("fid.inception.load_state_dict_from_url", lambda *_, **__: published_state)
    return script


@pytest.mark.usefixtures("inference_checkout")  # first, for its skip comes before costly fixtures
@pytest.mark.parametrize("low_memory", [False, True])
def test_scores_of_the_official_script(
    ours: tuple[ScoredLog, dict[str, Any], Path],
    accuracy_coco: ModuleType,
    log: Path,
    statistics: Path,
    tmp_path: Path,
    low_memory: bool,
) -> None:
    if low_memory and not HAS_IJSON:
        pytest.skip("the official script reads a log as a stream by ijson, which is not installed")
    output = tmp_path / "coco-results.json"
    captions = pd.DataFrame({"caption": CAPTIONS})
    compute = "compute_accuracy_low_memory" if low_memory else "compute_accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scipy: the argument is old, the matrix singular
        getattr(accuracy_coco, compute)(
            str(log), str(output), "cpu", True, IDS, str(tmp_path), captions, str(statistics)
        )
    results = json.loads(output.read_text())
    scored, metrics, folder = ours
    print(f"FID {metrics['fid']}, CLIP {metrics['clip']}, official {results}")
    assert metrics["fid"] == pytest.approx(float(results["FID_SCORE"]), rel=5e-6)
    assert metrics["clip"] == pytest.approx(float(results["CLIP_SCORE"]), abs=1e-5)
    assert sorted(scored.compliance_images) == sorted(IDS)
    for index in IDS:
        with (
            Image.open(tmp_path / f"{index}.png") as theirs,
            Image.open(folder / f"{index}.png") as own,
        ):
            assert np.array_equal(np.asarray(theirs), np.asarray(own))
