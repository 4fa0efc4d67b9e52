"""Split-conformal calibration of a spread: by which factor it must be stretched to hold a share of the errors.

Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005), with the normalised score
|x − x̂| / spread of Lei et al. (JASA 113, 2018). The subject is the unit: the voxels of a subject depend on one another,
and each subject weighs the same, as in hierarchical conformal prediction (Lee, Barber and Willett, 2023).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medwvae.errors import InputError
from medwvae.names import INTERVAL_LEVELS

VOXELS: Final = 50_000
"""The most voxels of one volume that are looked at: neighbours say the same, and subjects are the unit."""


def scores(error: ArrayLike, spread: ArrayLike, *, seed: int = 0) -> NDArray[np.float32]:
    """Return |error| / spread of up to `VOXELS` voxels, drawn by chance from those whose spread is not 0.

    A spread of 0 says that a voxel is known; such voxels would be covered by any factor, and hide how the others fare.
    """
    wide = np.asarray(spread).ravel()
    places = np.flatnonzero(wide > 0)
    if places.size > VOXELS:
        places = np.random.default_rng(seed).choice(places, VOXELS, replace=False)
    found: NDArray[np.float32] = (np.abs(np.asarray(error).ravel()[places]) / wide[places]).astype(np.float32)
    return found


def conformal_factor(subjects: Sequence[NDArray[np.floating]], level: float, *, bounded: bool = False) -> float:
    """Return the smallest q for which |error| ≤ q · spread holds for a share `level`, on average over subjects.

    Parameters
    ----------
    subjects : sequence of array
        Scores of each subject (`scores`).
    bounded : bool
        Count one more subject, of which nothing is covered. Then the expected coverage of an exchangeable new subject
        is at least `level` (conformal risk control: Angelopoulos et al. 2022, theorem 1), and above it by up to
        1 / (n + 1). Otherwise it is `level` up to an error that falls with the number of subjects, on either side.

    Raises
    ------
    InputError
        If there is no subject with a voxel, or too few for such a bound.
    """
    kept = [np.asarray(one, np.float64) for one in subjects if len(one)]
    if not kept:
        raise InputError("there is no uncertain voxel in the head of any validation subject: nothing to calibrate on")
    goal = level * (len(kept) + 1) / len(kept) if bounded else level
    if goal > 1:
        raise InputError(
            f"{len(kept)} validation subjects cannot promise {level:.0%}: {round(level / (1 - level))} are needed; "
            "add some, or set restore.uncertainty.bounded=false"
        )
    values = np.concatenate(kept)
    weights = np.concatenate([np.full(one.size, 1 / (len(kept) * one.size)) for one in kept])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, goal - 1e-9))
    return float(values[order[min(place, values.size - 1)]])


def coverage_of(subjects: Sequence[NDArray[np.floating]], factor: float) -> float:
    """Return the share of voxels with a score of at most `factor`, the mean over subjects."""
    return float(np.mean([np.mean(one <= factor) for one in subjects if len(one)]))


@dataclass(frozen=True)
class Calibration:
    """What validation subjects say of a spread.

    Attributes
    ----------
    level : float
        Share of voxels that the written intervals hold.
    factors : mapping
        Level to factor q; `level` is among them.
    subjects : int
        Subjects behind it.
    left_out : tuple of float
        Coverage at `level` of each subject by the factor of all others: how far a new one may lie off.
    """

    level: float
    factors: Mapping[float, float]
    subjects: int
    left_out: tuple[float, ...] = ()

    @property
    def factor(self) -> float:
        """Half-width of an interval as a multiple of the spread."""
        return self.factors[self.level]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        factors = {f"{level:g}": factor for level, factor in self.factors.items()}
        return {
            "level": self.level, "factors": factors, "subjects": self.subjects, "left_out": list(self.left_out),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Self:
        """Undo `to_dict`; what else is there is left alone."""
        factors = {float(level): float(factor) for level, factor in parts["factors"].items()}
        return cls(parts["level"], factors, parts["subjects"], tuple(parts["left_out"]))


def calibrate(
    by_subject: Mapping[str, Sequence[NDArray[np.floating]]], level: float, *, bounded: bool = False
) -> Calibration:
    """Calibrate on the scores of each subject's volumes; subjects count equally; see `conformal_factor`."""
    pooled = [np.concatenate(list(volumes)) for _, volumes in sorted(by_subject.items())]
    known = [one for one in pooled if len(one)]
    factors = {}
    for own in sorted({*INTERVAL_LEVELS, level}):
        promised = bounded and (own == level or own * (len(known) + 1) <= len(known))
        factors[own] = conformal_factor(known, own, bounded=promised)
    left_out: tuple[float, ...] = ()
    if len(known) > 1:
        left_out = tuple(
            round(coverage_of([one], conformal_factor(known[:k] + known[k + 1 :], level)), 4)
            for k, one in enumerate(known)
        )
    return Calibration(level, factors, len(known), left_out)
