"""Statistics over subjects: the subject is the unit, never the slice or the voxel.

Intervals are bias-corrected and accelerated bootstrap intervals (Efron 1987) of the mean; paired comparisons use
Wilcoxon's signed-rank test; several comparisons at once are adjusted after Holm (1979).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """Mean over `n` subjects with its interval; `low` and `high` are NaN, and `note` says why, if there is none."""

    mean: float
    low: float
    high: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class Paired:
    """Two methods on the same subjects.

    Attributes
    ----------
    difference : Interval
        Mean of first − second, in the unit of the values.
    p : float
        Two-sided Wilcoxon signed-rank p value; NaN if there is no pair.
    p_smallest : float
        The smallest p that this number of pairs can give, 2^(1 − n): .125 for n = 4, however large the difference.
    above, below : int
        Subjects in which the first value is above, or below, the second.
    """

    difference: Interval
    p: float
    p_smallest: float
    above: int
    below: int


def mean_interval(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of one value per subject with its BCa bootstrap interval; the same seed gives the same interval.

    Raises
    ------
    ValueError
        If `values` is empty, not one-dimensional, or holds NaN.
    """
    x = _one_per_subject(values)
    n, mean = x.size, float(x.mean())
    if not np.isfinite(x).all():
        return Interval(mean, math.nan, math.nan, n, "no interval: a value is infinite")
    if n < 3:
        return Interval(mean, math.nan, math.nan, n, f"no interval: {n} subject{'s' * (n > 1)}, at least 3 are needed")
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        return Interval(mean, mean, mean, n, "all subjects have the same value")
    low, high = _bootstrap(x, "BCa", confidence, seed)
    if math.isfinite(low) and math.isfinite(high):
        return Interval(mean, low, high, n)
    return Interval(mean, *_bootstrap(x, "percentile", confidence, seed), n, "percentile interval: BCa is undefined")


def paired(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Paired:
    """Compare two methods, one finite value per subject each, in the same order of subjects.

    Subjects without a difference are dropped from the test (Wilcoxon's own rule); if none is left, p is 1.

    Raises
    ------
    ValueError
        If the numbers of values differ, there is none, or one is not finite.
    """
    a, b = _one_per_subject(first), _one_per_subject(second)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"expected finite pairs, got {a.size} and {b.size} values")
    difference = a - b
    if difference.any():
        with warnings.catch_warnings():  # ties among few pairs: SciPy says that it falls back to the approximation
            warnings.simplefilter("ignore")
            p = float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)
    else:
        p = 1.0
    return Paired(
        difference=mean_interval(difference, confidence=confidence, seed=seed),
        p=p,
        p_smallest=2.0 ** (1 - a.size),
        above=int((difference > 0).sum()),
        below=int((difference < 0).sum()),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number after Holm's step-down procedure, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _one_per_subject(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or np.isnan(x).any():
        raise ValueError(f"expected at least one value per subject and no NaN, got shape {x.shape}")
    return x


def _bootstrap(x: NDArray[np.float64], method: str, confidence: float, seed: int) -> tuple[float, float]:
    with warnings.catch_warnings():  # a degenerate BCa gives NaN, which the caller handles and states
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (x,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method=method,
            random_state=np.random.default_rng(seed),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
