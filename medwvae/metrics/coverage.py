"""How intervals of a restored volume hold against the truth: coverage, width, and where they fail."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medwvae.metrics.voxels import Array, Mask

THIRDS = 3
RANKED = 50_000
"""The most voxels whose ranks are compared."""
STRATA = {
    "width": ("narrow", "wide"),
    "intensity": ("dark", "bright"),
    "edges": ("flat", "edges"),
}
"""The lowest and the highest third of the voxels by each; `edges` is the gradient of the truth in plane."""


def interval_metrics(
    x: Array, ref: Array, spread: Array, *, mask: Mask, factors: Mapping[float, float], stratified: float = 0.9
) -> dict[str, float]:
    """Return the metrics of `x` ± q · `spread` against the truth, over the voxels of a mask that are not known.

    A voxel whose spread is 0 was measured; any interval covers it, so it does not count. A volume without any other has
    no metrics.

    Parameters
    ----------
    x, ref, spread : array of float, (slices, H, W)
        Restored and true volume and the spread, in the same units.
    factors : mapping
        Level to factor q, such as 0.9 to 1.7.
    stratified : float
        Level of the width and of the coverage in thirds of the voxels.

    Returns
    -------
    dict
        `coverage_50` and so on by level; `interval_width`, mean full width as a share of the truth's maximum;
        `coverage_narrow` and so on, see `STRATA`; `width_error_rank`, Spearman's correlation of width and error.
    """
    places = mask & (spread > 0)
    if not places.any():
        return {}
    error, wide = np.abs(x - ref)[places].astype(np.float64), spread[places].astype(np.float64)
    found = {f"coverage_{100 * level:g}": float(np.mean(error <= q * wide)) for level, q in factors.items()}
    q = factors[stratified]
    found["interval_width"] = float(2 * q * wide.mean() / ref.max())
    covered = error <= q * wide
    slopes = np.hypot(*np.gradient(ref.astype(np.float64), axis=(1, 2)))[places]
    for kind, values in (("width", wide), ("intensity", ref[places]), ("edges", slopes)):
        for name, third in zip(STRATA[kind], (0, THIRDS - 1), strict=True):
            found[f"coverage_{name}"] = float(covered[_third(values) == third].mean())
    chosen = np.arange(error.size)
    if error.size > RANKED:
        chosen = np.random.default_rng(0).choice(error.size, RANKED, replace=False)
    if np.ptp(wide[chosen]) > 0 and np.ptp(error[chosen]) > 0:
        found["width_error_rank"] = float(stats.spearmanr(wide[chosen], error[chosen]).statistic)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _third(values: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return 0, 1 or 2 for each value: the third that it belongs to by rank; ties lie where they were found."""
    ranks = np.empty(values.size, np.intp)
    ranks[np.argsort(values, kind="stable")] = np.arange(values.size)
    return ranks * THIRDS // values.size
