"""Fréchet distance between Gaussians fitted to features, and the sampling error of it.

d^2 = |m - m_r|^2 + tr(S) + tr(S_r) - 2 tr((S^1/2 S_r S^1/2)^1/2), with mean m and covariance S
(ddof 1) of the generated features and m_r, S_r of the reference (Dowson and Landau 1982; Heusel
et al. 2017). The last trace comes from symmetric eigenvalue problems in float64, so nothing can
become complex and singular covariances need no offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg

from t2i.base.arrays import read_arrays, write_arrays
from t2i.base.stats import Z95

LARGEST_EXPONENT = 100.0  # of an interval that says nothing any more, but is finite


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and covariance (d, d, ddof 1) of features, float64."""

    count: int | None
    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """Moments of features (n, d); n must be at least 2."""
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"features of shape {rows.shape}: at least two rows are needed")
    return Moments(len(rows), rows.mean(axis=0), np.cov(rows, rowvar=False))


def _symmetric_root(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Square root of a positive semi-definite matrix, and the root's trace."""
    values, vectors = scipy.linalg.eigh(matrix, driver="evd", check_finite=False)
    roots = np.sqrt(np.clip(values, 0.0, None))
    return (vectors * roots) @ vectors.T, float(roots.sum())


def frechet_distance(features: np.ndarray, reference: Moments) -> tuple[float, np.ndarray]:
    """Squared Fréchet distance of features (n, d) from the reference, and each row's influence.

    The influence (n,) float64 is the derivative of the distance when a row's weight grows: with
    centred row x and the transport map T = S^-1/2 (S^1/2 S_r S^1/2)^1/2 S^-1/2 it is
    2 (m - m_r)'x + x'x - x'T x, less its mean. Its variance over n is the distance's sampling
    variance (infinitesimal jackknife), at the price of the decomposition that is needed anyway.
    With fewer rows than dimensions the n x n Gram matrix G = X S_r X' is decomposed instead:
    x_i'T x_i is then (n - 1)^1/2 (G^1/2)_ii. Raises ValueError for non-finite features.
    """
    rows = np.asarray(features, dtype=np.float64)
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"features of rows {bad[:10].tolist()} are not finite")
    own = moments(rows)
    count, dimension = rows.shape
    centred = rows - own.mean
    shift = own.mean - reference.mean
    if count <= dimension:
        root, trace = _symmetric_root(centred @ reference.covariance @ centred.T)
        trace /= np.sqrt(count - 1)
        transported = np.sqrt(count - 1) * np.diagonal(root)
    else:
        values, vectors = scipy.linalg.eigh(own.covariance, driver="evd", check_finite=False)
        roots = np.sqrt(np.clip(values, 0.0, None))
        projected = roots[:, None] * (vectors.T @ reference.covariance @ vectors) * roots
        root, trace = _symmetric_root(projected)
        floor = roots.max(initial=0.0) * np.sqrt(dimension * np.finfo(np.float64).eps)
        inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > floor)
        whitened = (centred @ vectors) * inverse
        transported = np.einsum("ij,ij->i", whitened @ root, whitened)
    distance = shift @ shift + np.trace(own.covariance) + np.trace(reference.covariance) - 2 * trace
    influence = 2 * centred @ shift + np.einsum("ij,ij->i", centred, centred) - transported
    return max(float(distance), 0.0), influence - influence.mean()


def normal_interval(estimate: float, influence: np.ndarray) -> tuple[float, float]:
    """95 % interval of an estimate from its influence values (n,): estimate +- 1.96 s / sqrt(n)."""
    half = Z95 * float(np.std(influence, ddof=1)) / math.sqrt(len(influence))
    return estimate - half, estimate + half


def positive_interval(estimate: float, influence: np.ndarray) -> tuple[float, float]:
    """95 % interval of a positive estimate: estimate * exp(+-1.96 s / (sqrt(n) estimate)).

    The normal interval on the logarithm's scale. FID's distribution is skewed where features are
    more than images, or nearly of one dimension: there the symmetric interval covers about 80 %
    and reaches below 0 (tests/metrics/test_fid.py simulates both). An estimate of 0 has a bound
    above only.
    """
    high = normal_interval(estimate, influence)[1]
    if estimate <= 0:
        return 0.0, high
    reach = min((high - estimate) / estimate, LARGEST_EXPONENT)
    return estimate * math.exp(-reach), estimate * math.exp(reach)


def write_moments(path: Path, statistics: Moments) -> None:
    """Publish reference statistics as an npz with mu, sigma and count."""
    write_arrays(
        path,
        {
            "mu": statistics.mean,
            "sigma": statistics.covariance,
            "count": np.asarray(statistics.count),
        },
    )


def read_moments(path: Path) -> Moments:
    """Read reference statistics: an npz with mu (d,), sigma (d, d), and count where it is known.

    Raises ValueError, which names the file, when it holds something else.
    """
    arrays = read_arrays(path)
    try:
        mean, covariance = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
        count = int(arrays["count"]) if "count" in arrays else None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not statistics with mu and sigma ({error})") from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{path}: mu {mean.shape} and sigma {covariance.shape} do not fit together"
        )
    return Moments(count, mean, covariance)
