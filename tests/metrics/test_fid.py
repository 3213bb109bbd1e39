"""Fréchet distance against pytorch-fid, closed forms, and simulations of its sampling error."""

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path

import numpy as np
import pytest

import peers
from differences import frechet_difference, influence_difference, synthetic
from recipes import micro_recipe, scoring
from t2i.base.embedded import TRAINED
from t2i.metrics import fid, inception
from t2i.metrics.compare import compare
from t2i.metrics.features import NAMES, Features, gather
from t2i.metrics.fid import (
    Moments,
    frechet_distance,
    moments,
    normal_interval,
    positive_interval,
    read_moments,
    write_moments,
)
from t2i.metrics.labels import Network
from t2i.metrics.scores import reduce_metrics
from t2i.micro import pictures


@pytest.mark.slow
def test_distance_of_2100_rows_of_2048_features() -> None:
    assert frechet_difference(*synthetic(2100, 2500, 2048)) <= peers.FULL_RANK


@pytest.mark.parametrize(("rows", "reference"), [(500, 700), (65, 66), (2000, 100)])
def test_distance_of_full_rank(rows: int, reference: int) -> None:
    assert frechet_difference(*synthetic(rows, reference, 64)) <= peers.FULL_RANK


@pytest.mark.parametrize(
    ("rows", "reference"), [(24, 40), (24, 400), (400, 24), (2, 3), (64, 65), (65, 64)]
)
def test_distance_of_deficient_rank(rows: int, reference: int) -> None:
    assert frechet_difference(*synthetic(rows, reference, 64)) <= peers.RANK_DEFICIENT


def exact_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """The distance from centred rows X and Y themselves: tr((S S_r)^1/2) is |X Y'| in the nuclear
    norm, over the roots of the degrees of freedom. No root of rounded zeros is taken."""
    one, other = (rows.astype(np.float64) for rows in (features, reference))
    shift = one.mean(axis=0) - other.mean(axis=0)
    one, other = (rows - rows.mean(axis=0) for rows in (one, other))
    freedom = (len(one) - 1, len(other) - 1)
    traces = (one**2).sum() / freedom[0] + (other**2).sum() / freedom[1]
    norm = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(shift @ shift + traces - 2 * norm / np.sqrt(np.prod(freedom)))


@pytest.mark.slow
def test_distance_of_real_features_of_deficient_rank(micro_inception: Path) -> None:
    """Drawn pictures through Inception with random weights, against other pictures.

    scipy's root of a singular product of 2048 x 2048 is right to 1e-4 only, for 2000 zeros count
    as the roots of their rounding errors. So the peer gets the same features turned into a basis
    of the space that they span, which leaves the distance as it is.
    """
    network = inception.load_inception(micro_inception, "cpu")
    images = np.stack([np.asarray(pictures.paint(pictures.scene(n))) for n in range(40)])
    features = inception.image_features(network, images, 8)
    assert features.shape == (40, 2048)
    own, reference = features[:16], features[16:]
    ours, _ = frechet_distance(own, moments(reference))
    assert ours == pytest.approx(exact_distance(own, reference), rel=peers.NEARLY_SINGULAR)
    rows = features.astype(np.float64) - reference.mean(axis=0)
    basis, _ = np.linalg.qr(rows.T)
    expected = peers.frechet_distance(rows[:16] @ basis, rows[16:] @ basis)
    print(f"real features: {ours}, relative difference {abs(ours / expected - 1)}")
    assert ours == pytest.approx(expected, rel=peers.RANK_DEFICIENT)


def test_distance_of_gaussians_in_closed_form() -> None:
    """Diagonal covariances: |m - m_r|^2 plus the sum of (s - s_r)^2."""
    draw = np.random.default_rng(1)
    dimension = 12
    rows = draw.standard_normal((400, dimension))
    centred = rows - rows.mean(axis=0)
    whitened = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False))).T
    mean, deviation = draw.standard_normal(dimension), draw.uniform(0.1, 3, dimension)
    reference_mean, reference_deviation = np.zeros(dimension), draw.uniform(0, 3, dimension)
    reference = Moments(None, reference_mean, np.diag(reference_deviation**2))
    distance, _ = frechet_distance(whitened * deviation + mean, reference)
    expected = ((mean - reference_mean) ** 2).sum() + ((deviation - reference_deviation) ** 2).sum()
    assert distance == pytest.approx(expected, rel=1e-12)


def test_distance_is_zero_for_the_reference_itself() -> None:
    for rows, dimension in ((300, 32), (20, 64)):
        features, _ = synthetic(rows, 2, dimension)
        own = moments(features)
        distance, influence = frechet_distance(features, own)
        assert 0 <= distance < 1e-6 * np.trace(own.covariance)
        assert np.abs(influence).max() < 1e-5 * np.trace(own.covariance)


def test_distance_is_symmetric() -> None:
    one, other = synthetic(200, 300, 16)
    there, _ = frechet_distance(one, moments(other))
    back, _ = frechet_distance(other, moments(one))
    assert there == pytest.approx(back, rel=1e-11)


def test_both_ways_to_the_distance_agree() -> None:
    """Features that are always zero make more dimensions than rows and change nothing else."""
    features, reference = synthetic(50, 300, 24)
    distance, influence = frechet_distance(features, moments(reference))

    def padded(rows: np.ndarray) -> np.ndarray:
        return np.pad(rows, ((0, 0), (0, 60)))

    other, other_influence = frechet_distance(padded(features), moments(padded(reference)))
    assert other == pytest.approx(distance, rel=1e-6)
    np.testing.assert_allclose(other_influence, influence, rtol=1e-5, atol=1e-5)


def test_non_finite_features_are_located() -> None:
    features, reference = synthetic(50, 60, 8)
    features[7, 3] = np.nan
    features[9] = np.inf
    with pytest.raises(ValueError, match=r"features of rows \[7, 9\] are not finite"):
        frechet_distance(features, moments(reference))


@pytest.mark.parametrize("shape", [(1, 8), (0, 8), (8,)])
def test_too_few_rows_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least two rows"):
        moments(np.zeros(shape))


def test_influence_is_that_of_the_jackknife() -> None:
    difference = influence_difference()
    print(f"difference from the jackknife {difference}")
    assert difference < peers.INFLUENCE


def test_interval_equals_the_jackknife_interval() -> None:
    features, reference = synthetic(400, 500, 6)
    statistics = moments(reference)
    distance, influence = frechet_distance(features, statistics)
    left_out = np.array(
        [frechet_distance(np.delete(features, n, axis=0), statistics)[0] for n in range(400)]
    )
    error = np.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    low, high = normal_interval(distance, influence)
    assert (low + high) / 2 == pytest.approx(distance)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.03)


# The part of metrics.json that says how a variant was scored.
SCORED = {"protocol": {"networks": "one"}, "reference": {"sha256": "a"}}


def diagonal(mean: float, deviation: float, dimension: int) -> float:
    """Distance of an isotropic Gaussian from the standard one."""
    return dimension * (mean**2 + (deviation - 1) ** 2)


def test_intervals_cover_the_true_distance_and_the_true_difference() -> None:
    """400 simulated data sets of two variants that saw the same prompts."""
    dimension, count, repeats = 4, 300, 400
    reference = Moments(None, np.zeros(dimension), np.eye(dimension))
    spread = np.hypot(1.1, 0.1)
    truth = {"one": diagonal(0.8, 1, dimension), "other": diagonal(0.8, spread, dimension)}
    covered = {"one": 0, "difference": 0}
    paired, unpaired = [], []
    draw = np.random.default_rng(2)
    for _ in range(repeats):
        common = draw.standard_normal((count, dimension))
        variants = {
            "one": common + 0.8,
            "other": 1.1 * common + 0.1 * draw.standard_normal(common.shape) + 0.8,
        }
        scores = {name: frechet_distance(rows, reference) for name, rows in variants.items()}
        intervals = {name: normal_interval(*score) for name, score in scores.items()}
        low, high = intervals["one"]
        covered["one"] += low <= truth["one"] <= high
        zeros = np.zeros(count)
        facts = [
            {"samples": count, **SCORED, "fid": scores[name][0], "clip": 0.0}
            for name in ("one", "other")
        ]
        influences = [{"fid": scores[name][1], "clip": zeros} for name in ("one", "other")]
        low, high = compare(*facts, *influences)["fid_interval"]
        covered["difference"] += low <= truth["other"] - truth["one"] <= high
        paired.append(high - low)
        unpaired.append(sum(high - low for low, high in intervals.values()))
    print({name: hits / repeats for name, hits in covered.items()})
    for hits in covered.values():
        assert 0.915 <= hits / repeats <= 0.98
    assert np.mean(paired) < 0.5 * np.mean(unpaired)


def coverage(
    rows: int, spectrum: np.ndarray, reference: np.ndarray, shift: float, skewed: bool
) -> dict[str, float]:
    """Share of 400 intervals that hold the mean score of `rows` images, of both kinds.

    Features are independent, with variances `spectrum`, of a reference with other variances;
    `skewed` draws the first one from a gamma distribution.
    """
    draw = np.random.default_rng(7)
    statistics = Moments(None, np.zeros(len(spectrum)), np.diag(reference))
    scores = []
    for _ in range(400):
        features = draw.standard_normal((rows, len(spectrum)))
        if skewed:
            features[:, 0] = (draw.gamma(2, 1, rows) - 2) / np.sqrt(2)
        scores.append(frechet_distance((features + shift) * np.sqrt(spectrum), statistics))
    truth = np.mean([score for score, _ in scores])
    kinds = {"symmetric": normal_interval, "positive": positive_interval}
    return {
        name: float(np.mean([low <= truth <= high for low, high in (of(*s) for s in scores)]))
        for name, of in kinds.items()
    }


def test_fid_interval_covers_with_full_rank_as_in_the_official_run() -> None:
    """2.44 images for each feature, as 5000 for 2048, of another mean than the reference's."""
    falling = np.arange(1.0, 65) ** -1.0
    covered = coverage(156, falling, falling, 0.3, skewed=False)
    print(covered)
    assert 0.93 <= covered["positive"] <= 0.97


def test_fid_interval_covers_with_few_images_as_in_the_demo() -> None:
    """A sixteenth of an image for each feature, nearly all of it along one direction: the spectrum
    and the skewness of the demo's features, where the symmetric interval covers too little."""
    rest = 7e-4 * np.arange(1.0, 508) ** -1.5
    spectrum = np.concatenate([[1, 0.0072, 0.0053, 0.003, 0.0015], rest])
    covered = coverage(32, spectrum, spectrum, 0.0, skewed=True)
    print(covered)
    assert 0.93 <= covered["positive"] <= 0.97
    assert covered["symmetric"] < 0.88


def test_fid_interval_is_never_below_zero() -> None:
    influence = np.array([-50.0, 0, 50])
    low, high = positive_interval(2.0, influence)
    assert 0 < low < 2 < high < np.inf
    assert low * high == pytest.approx(4)
    assert positive_interval(0.0, influence)[0] == 0
    assert normal_interval(2.0, influence)[0] < 0
    assert np.isfinite(positive_interval(1e-9, influence)).all()


def made_up_features(count: int) -> Features:
    draw = np.random.default_rng(3)
    return Features(
        index=np.arange(count),
        inception=draw.standard_normal((count, 40)).astype(np.float32),
        clip=draw.normal(31, 3, count).astype(np.float32),
        clip_shifted=draw.normal(15, 3, count).astype(np.float32),
        sha256=np.array([f"{n:064x}" for n in range(count)]),
        low=np.zeros(count, dtype=np.uint8),
        high=np.full(count, 255, dtype=np.uint8),
        size=np.full((count, 2), 64),
    )


def cut(features: Features, order: np.ndarray, places: list[int]) -> list[Features]:
    """Parts of the features: rows in `order`, cut at `places`."""
    return [
        Features(**{name: getattr(features, name)[rows] for name in NAMES})
        for rows in np.split(order, places)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_same_bits_for_any_cut_and_order(seed: int) -> None:
    count = 101
    whole = made_up_features(count)
    reference = moments(np.random.default_rng(4).standard_normal((200, 40)))
    made = micro_recipe(), scoring(Network("a", "b", "random"), Network("c", "d", "random"))
    expected, influence = reduce_metrics(whole, reference, *made)
    draw = np.random.default_rng(seed)
    places = sorted(draw.choice(np.arange(1, count), size=draw.integers(1, 9), replace=False))
    order = draw.permutation(count) if seed % 2 else np.arange(count)
    parts = cut(whole, order, places)
    draw.shuffle(parts)
    again = gather(parts, count)
    for name in NAMES:
        assert np.array_equal(getattr(again, name), getattr(whole, name))
    found, found_influence = reduce_metrics(again, reference, *made)
    assert found == expected
    assert all(np.array_equal(found_influence[name], influence[name]) for name in influence)


def test_missing_and_repeated_samples_are_listed() -> None:
    whole = made_up_features(10)
    parts = cut(whole, np.array([0, 1, 2, 2, 5, 6, 7, 8, 9]), [4])
    with pytest.raises(ValueError, match="2 missing: 3, 4; 1 more than once: 2"):
        gather(parts, 10)


def test_clip_mean_and_interval() -> None:
    features = made_up_features(64)
    reference = moments(np.random.default_rng(4).standard_normal((200, 40)))
    made = micro_recipe(), scoring(Network("a", "b", "random"), Network("c", "d", "random"))
    metrics, influence = reduce_metrics(features, reference, *made)
    scores = features.clip.astype(np.float64)
    assert metrics["clip"] == scores.mean()
    half = 1.96 * scores.std(ddof=1) / 8
    assert metrics["clip_interval"] == pytest.approx(
        [scores.mean() - half, scores.mean() + half], rel=1e-4
    )
    assert metrics["fid"] == pytest.approx(
        fid.frechet_distance(features.inception, reference)[0], rel=0
    )
    assert not metrics["comparable"]["value"]
    assert metrics["model_weights"] == TRAINED
    metrics |= {"reference": SCORED["reference"]}
    other = {**metrics, "clip": metrics["clip"] + 1}
    shifted = {**influence, "clip": influence["clip"] + 1}
    result = compare(metrics, other, influence, shifted)
    assert result["clip_difference"] == pytest.approx(1)
    assert result["clip_interval"] == pytest.approx([1, 1])
    assert result["fid_interval"] == [0, 0]


@pytest.mark.parametrize(
    "change",
    [{"samples": 63}, {"protocol": {"networks": "others"}}, {"reference": {"sha256": "b"}}],
)
def test_what_cannot_be_compared_is_not(change: dict[str, object]) -> None:
    facts: dict[str, object] = {"samples": 64, **SCORED, "fid": 1.0, "clip": 2.0}
    influence = {"fid": np.ones(64), "clip": np.ones(64)}
    result = compare(facts, {**facts, **change}, influence, influence)
    assert not result["comparable"]
    assert result["reason"]
    assert result["fid_difference"] is result["clip_interval"] is None


def test_statistics_survive_being_written(tmp_path: Path) -> None:
    own = moments(synthetic(30, 2, 6)[0])
    write_moments(tmp_path / "statistics.npz", own)
    again = read_moments(tmp_path / "statistics.npz")
    assert again.count == 30
    assert np.array_equal(again.mean, own.mean)
    assert np.array_equal(again.covariance, own.covariance)


def test_statistics_as_mlperf_publishes_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "val2014.npz", mu=np.zeros(4, np.float32), sigma=np.eye(4))
    statistics = read_moments(tmp_path / "val2014.npz")
    assert statistics.count is None
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64


@pytest.mark.parametrize("content", [b"", b"no zip", {"mu": np.zeros(4)}])
def test_damaged_statistics_are_named(tmp_path: Path, content: bytes | dict[str, object]) -> None:
    path = tmp_path / "statistics.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=r"statistics\.npz: (damaged|not statistics)"):
        read_moments(path)
    np.savez(path, mu=np.zeros(4), sigma=np.eye(3))
    with pytest.raises(ValueError, match=r"statistics\.npz: mu \(4,\) and sigma \(3, 3\)"):
        read_moments(path)


def test_micro_features_are_alive(micro_inception: Path) -> None:
    """Random weights must tell pictures apart, or nothing above would show anything."""
    network = inception.load_inception(micro_inception, "cpu")
    images = np.stack([np.asarray(pictures.paint(pictures.scene(n))) for n in range(2)])
    features = inception.image_features(network, images, 2)
    assert (features.std(axis=1) > 0.01).all()
    assert np.abs(features[0] - features[1]).max() > 0.1
