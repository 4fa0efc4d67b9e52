"""How many subjects a difference needs to be found."""

import math
from bisect import bisect_left
from functools import lru_cache

MOST = 100_000
"""Beyond this number of subjects the difference counts as none."""


@lru_cache(maxsize=4096)
def subjects_needed(dz: float, *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Return the number of paired subjects for which Wilcoxon's test finds a difference of this size.

    The paired t test's number (statsmodels), divided by 3/π, the efficiency of Wilcoxon's test relative to it where
    differences are normal (Pitman), and never below the least with which a p under `alpha` exists (6 for .05).
    It takes the size that was measured for the true one: with few subjects it is a guess.

    Parameters
    ----------
    dz : float
        Cohen's d_z, mean of the differences / their standard deviation.
    power : float
        Probability to find it. alpha : float, of the two-sided test.

    Returns
    -------
    int or None
        None if there is no difference to find, or it would take more than 100 000.
    """
    least = math.ceil(1 - math.log2(alpha)) if alpha < 1 else 1
    size = abs(dz)
    if math.isinf(size):
        return least
    if math.isnan(size) or size == 0:
        return None
    from statsmodels.stats.power import TTestPower

    test = TTestPower()

    def reached(n: int) -> float:
        return float(test.power(size, n, alpha, alternative="two-sided"))

    if reached(MOST) < power:
        return None
    found = bisect_left(range(2, MOST), power, key=reached) + 2
    return max(least, math.ceil(found / (3 / math.pi)))
