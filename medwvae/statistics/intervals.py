"""Mean and median over subjects with an interval: expanded BCa bootstrap (Efron 1987, Hesterberg 2015), by SciPy."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 9999

FEWEST = 3
"""Subjects under which there is no interval."""
FEW = 8
"""Subjects under which the intervals are known to be too narrow (docs/statistics.md)."""


@dataclass(frozen=True)
class Interval:
    """Mean over `n` subjects with its interval; `low` and `high` are NaN, and `note` says why, if there is none."""

    mean: float
    low: float
    high: float
    n: int
    note: str = ""
    median: float = math.nan


def mean_interval(
    values: ArrayLike, *, subjects: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of one value per subject with its BCa bootstrap interval; the same seed gives the same interval.

    Parameters
    ----------
    values : array (n,)
        One per subject; or, with `subjects`, one per session.
    subjects : sequence of str, optional
        Whose value each is. A subject's values are averaged first and subjects are resampled whole (a bootstrap
        clustered by subject): more sessions of the same people make no interval narrower than the people allow.

    Raises
    ------
    ValueError
        If `values` is empty, not one-dimensional, or holds NaN.
    """
    x = one_per_subject(values)
    if subjects is not None:
        x = per_subject(x, subjects)
    n, mean, median = x.size, float(x.mean()), float(np.median(x))
    if not np.isfinite(x).all():
        return Interval(mean, math.nan, math.nan, n, "no interval: a value is infinite", median)
    if n < FEWEST:
        note = f"no interval: {n} subject{'s' * (n > 1)}, at least {FEWEST} are needed"
        return Interval(mean, math.nan, math.nan, n, note, median)
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        return Interval(mean, mean, mean, n, "all subjects have the same value", median)
    low, high, note = _bounds(x.tobytes(), confidence, seed)
    return Interval(mean, low, high, n, note, median)


@lru_cache(maxsize=4096)
def _bounds(values: bytes, confidence: float, seed: int) -> tuple[float, float, str]:
    """Return the bounds of float64 values and a note; a page asks for the same several times."""
    x = np.frombuffer(values)
    low, high = (float(bound) for bound in bootstrap_bounds(x, confidence=confidence, seed=seed))
    if math.isfinite(low) and math.isfinite(high):
        return low, high, ""
    low, high = (float(b) for b in bootstrap_bounds(x, confidence=confidence, seed=seed, method="percentile"))
    return low, high, "percentile interval: BCa is undefined"


def per_subject(values: ArrayLike, subjects: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean of each subject's values, subjects in order of their names.

    Raises
    ------
    ValueError
        If there are not as many subjects as values.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(subjects) != x.size:
        raise ValueError(f"{x.size} values of {len(subjects)} subjects: each value needs its subject")
    _, place = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    return np.asarray(np.bincount(place, x) / np.bincount(place))


def bootstrap_bounds(
    x: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "BCa",
    resamples: int = RESAMPLES,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of the mean along the last axis; all other axes are studies of their own.

    Parameters
    ----------
    x : array (..., n)
    confidence : float
        How often the bounds are to hold the true mean; SciPy is asked for the level that is `expanded` to that end.

    Returns
    -------
    low, high : arrays (...)
        NaN where BCa is not defined.
    """
    with warnings.catch_warnings():  # a degenerate BCa gives NaN, which the caller handles and states
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (x,),
            np.mean,
            axis=-1,
            n_resamples=resamples,
            batch=max(1, 20_000_000 // x.size),
            confidence_level=expanded(confidence, x.shape[-1]),
            method=method,
            random_state=np.random.default_rng(seed),
        )
    return np.asarray(result.confidence_interval.low), np.asarray(result.confidence_interval.high)


def expanded(confidence: float, n: int) -> float:
    """Return the level to ask of a bootstrap of n subjects, so that it covers as often as `confidence` says.

    The bootstrap's distribution is too narrow twice over: by √((n − 1) / n), for it knows the variance about the
    sample's own mean, and by taking that variance for the true one, as Student's t does not. The level whose normal
    quantile is √(n / (n − 1)) t makes up for both (expanded percentile intervals: Hesterberg 2015, The American
    Statistician 69, 371-386); here it is that of a BCa interval.

    Raises
    ------
    ValueError
        If there are fewer than two subjects.
    """
    if n < 2:
        raise ValueError("an interval needs at least two subjects")
    quantile = math.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(2 * stats.norm.cdf(quantile) - 1)


def one_per_subject(values: ArrayLike) -> NDArray[np.float64]:
    """Return the values as floats; raise `ValueError` unless there is one per subject and none is NaN."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or np.isnan(x).any():
        raise ValueError(f"expected at least one value per subject and no NaN, got shape {x.shape}")
    return x
