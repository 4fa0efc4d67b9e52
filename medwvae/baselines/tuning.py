"""Choosing a classical method's parameters on the validation subjects, at a bounded and stated cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medwvae.baselines import Classical, Params
from medwvae.metrics.voxels import psnr
from medwvae.operators import Measurement
from medwvae.statistics import per_subject


@dataclass(frozen=True)
class Case:
    """A validation volume: whose it is, its measurement of S slices, true magnitude (S, 1, H, W) and head (S, H, W)."""

    subject: str
    measurement: Measurement
    truth: Tensor
    head: NDArray[np.bool_]


@dataclass(frozen=True)
class Trial:
    """One parameter combination: PSNR inside the head in dB, mean over subjects, and wall seconds for all of them."""

    params: Params
    psnr: float
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """The best parameters and what it took to find them."""

    params: Params
    table: tuple[Trial, ...]

    @property
    def seconds(self) -> float:
        """Wall seconds of the whole search."""
        return sum(trial.seconds for trial in self.table)


def tune(method: Classical, cases: Sequence[Case], *, every: int = 4) -> Tuning:
    """Try every combination of the method's grid and keep the one with the best mean PSNR (the subject is the unit).

    Parameters
    ----------
    method : Classical
    cases : sequence of Case
    every : int
        Use every `every`-th slice between the first and the last that meet the head; of a method that restores volumes
        as a whole, as many successive slices from their middle.

    Raises
    ------
    ValueError
        If there is no case, or a case without head.
    """
    if not cases:
        raise ValueError(f"no validation subject to tune {method.name} on")
    ranges = [float(case.truth.max()) for case in cases]
    subsets = [_every(case, every, successive=method.whole) for case in cases]
    table = []
    for params in method.tried(cases[0].measurement):
        started = time.perf_counter()
        images = [method.run(case.measurement, **params) for case in subsets]
        seconds = time.perf_counter() - started
        values = [
            psnr(_slices(image), _slices(case.truth), data_range=data_range, mask=case.head)
            for image, case, data_range in zip(images, subsets, ranges, strict=True)
        ]
        mean = per_subject(values, [case.subject for case in cases]).mean()
        table.append(Trial(params, float(mean), seconds))
    best = max(table, key=lambda trial: trial.psnr)
    return Tuning(best.params, tuple(table))


def _every(case: Case, every: int, *, successive: bool) -> Case:
    inside = np.flatnonzero(case.head.any(axis=(1, 2)))
    if not len(inside):
        raise ValueError("a validation subject has an empty head mask")
    chosen = slice(int(inside[0]), int(inside[-1]) + 1, every)
    if successive:
        count = len(range(chosen.start, chosen.stop, every))
        first = (chosen.start + chosen.stop - count) // 2
        chosen = slice(first, first + count)
    return Case(case.subject, case.measurement[chosen], case.truth[chosen], case.head[chosen])


def _slices(image: Tensor) -> NDArray[np.float32]:
    return np.asarray(image[:, 0].cpu().numpy(), np.float32)
