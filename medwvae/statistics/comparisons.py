"""Two methods, or two runs, on the same subjects: Wilcoxon's signed-rank test, effect sizes, Holm's adjustment."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from medwvae.statistics.intervals import Interval, mean_interval, one_per_subject
from medwvae.statistics.power import subjects_needed

SIGNIFICANT: Final = 0.05
"""What p has to fall below; one level for every test of the project."""


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
        The smallest p that n pairs with a difference can give, 2^(1 − n): .125 for n = 4, however large it is. Pairs
        without one do not count, for Wilcoxon's test drops them.
    above, below : int
        Subjects in which the first value is above, or below, the second.
    rank_biserial : float
        Matched-pairs rank-biserial correlation, (R₊ − R₋) / (R₊ + R₋), −1 to 1; 0 without any difference.
    dz : float
        Cohen's d_z: mean of the differences / their standard deviation; infinite if they are all alike, NaN for one.
    needed : int or None
        Subjects that a study would need to find a difference of this d_z (`subjects_needed`).
    """

    difference: Interval
    p: float
    p_smallest: float
    above: int
    below: int
    rank_biserial: float
    dz: float
    needed: int | None


@dataclass(frozen=True)
class Worsening:
    """Whether one run is worse than another by more than a margin, see `worse`."""

    mean: float
    p: float
    p_smallest: float
    n: int


def paired(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Paired:
    """Compare two methods, one finite value per subject each, in the same order of subjects.

    Subjects without a difference are dropped from the test (Wilcoxon's own rule); if none is left, p is 1.

    Raises
    ------
    ValueError
        If the numbers of values differ, there is none, or one is not finite.
    """
    difference = _differences(first, second)
    dz = _dz(difference)
    return Paired(
        difference=mean_interval(difference, confidence=confidence, seed=seed),
        p=float(_wilcoxon(difference, "two-sided").pvalue) if difference.any() else 1.0,
        p_smallest=min(1.0, 2.0 ** (1 - np.count_nonzero(difference))),
        above=int((difference > 0).sum()),
        below=int((difference < 0).sum()),
        rank_biserial=_rank_biserial(difference),
        dz=dz,
        needed=subjects_needed(dz),
    )


def agree(difference: float, rank_biserial: float) -> bool:
    """Return whether mean and ranks point the same way.

    Wilcoxon's p speaks of the ranks. Where a few large differences turn the mean the other way, a small p says nothing
    for the direction of the mean.
    """
    return difference * rank_biserial > 0


def worse(first: ArrayLike, second: ArrayLike, *, margin: float = 0.0) -> Worsening:
    """Test whether the first is below the second by more than a margin, paired by subject; higher values are better.

    One-sided Wilcoxon signed-rank test of first − second + margin: the hypothesis to reject is that it lies, in the
    middle, at or above zero. With n pairs p cannot fall below 2^−n.

    Raises
    ------
    ValueError
        As for `paired`, or if the margin is negative.
    """
    if not margin >= 0:
        raise ValueError(f"the margin is how much worse is accepted, at least 0; got {margin}")
    difference = _differences(first, second)
    shifted = difference + margin
    p = float(_wilcoxon(shifted, "less").pvalue) if shifted.any() else 1.0
    return Worsening(float(difference.mean()), p, 2.0**-difference.size, difference.size)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number after Holm's (1979) step-down procedure, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _differences(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    a, b = one_per_subject(first), one_per_subject(second)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"expected finite pairs, got {a.size} and {b.size} values")
    return np.asarray(a - b)


def _wilcoxon(difference: NDArray[np.float64], alternative: Literal["two-sided", "less", "greater"]) -> Any:
    with warnings.catch_warnings():  # ties among many pairs: SciPy says that it falls back to the approximation
        warnings.simplefilter("ignore")
        return stats.wilcoxon(difference, zero_method="wilcox", alternative=alternative)


def _rank_biserial(difference: NDArray[np.float64]) -> float:
    n = int(np.count_nonzero(difference))
    if n == 0:
        return 0.0
    # With this alternative SciPy's statistic is R₊, the sum of the ranks of the positive differences.
    return float(_wilcoxon(difference, "greater").statistic) / (n * (n + 1) / 4) - 1


def _dz(difference: NDArray[np.float64]) -> float:
    if difference.size < 2:
        return math.nan
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    if spread <= 1e-12 * abs(mean):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread
