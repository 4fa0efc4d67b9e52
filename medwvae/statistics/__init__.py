"""Statistics over subjects: the subject is the unit, never the slice, the voxel or the session.

SciPy and statsmodels do the mathematics; what is asked of them, and why, is in docs/statistics.md.
"""

from medwvae.statistics.comparisons import SIGNIFICANT, Paired, Worsening, agree, holm, paired, worse
from medwvae.statistics.conformal import Calibration, calibrate, conformal_factor, coverage_of, scores
from medwvae.statistics.intervals import (
    FEW,
    FEWEST,
    RESAMPLES,
    Interval,
    bootstrap_bounds,
    expanded,
    mean_interval,
    per_subject,
)
from medwvae.statistics.power import subjects_needed
from medwvae.statistics.subgroups import age_band, groups, subgroup_rows

__all__ = [
    "FEW",
    "FEWEST",
    "RESAMPLES",
    "SIGNIFICANT",
    "Calibration",
    "Interval",
    "Paired",
    "Worsening",
    "age_band",
    "agree",
    "bootstrap_bounds",
    "calibrate",
    "conformal_factor",
    "coverage_of",
    "expanded",
    "groups",
    "holm",
    "mean_interval",
    "paired",
    "per_subject",
    "scores",
    "subgroup_rows",
    "subjects_needed",
    "worse",
]
