"""Choosing a classical method's parameters on the validation subjects, at a bounded and stated cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.baselines import Classical, Params
from medwvae.metrics import psnr
from medwvae.operators import Measurement


@dataclass(frozen=True)
class Case:
    """One validation subject: the measurement of its S slices, the true magnitude (S, 1, H, W), the head (S, H, W)."""

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
        Use every `every`-th of the slices that meet the head.

    Raises
    ------
    ValueError
        If there is no case, or a case without head.
    """
    if not cases:
        raise ValueError(f"no validation subject to tune {method.name} on")
    ranges = [float(case.truth.max()) for case in cases]
    subsets = [_every(case, every) for case in cases]
    table = []
    for params in method.grid:
        started = time.perf_counter()
        images = [method.run(case.measurement, **params) for case in subsets]
        seconds = time.perf_counter() - started
        values = [
            psnr(_slices(image), _slices(case.truth), data_range=data_range, mask=case.head)
            for image, case, data_range in zip(images, subsets, ranges, strict=True)
        ]
        table.append(Trial(params, float(np.mean(values)), seconds))
    best = max(table, key=lambda trial: trial.psnr)
    return Tuning(best.params, tuple(table))


def select(measurement: Measurement, slices: Tensor) -> Measurement:
    """Return the measurement of some of its slices (indices)."""
    kspace, mask = measurement.kspace, measurement.mask
    return replace(
        measurement,
        start=measurement.start[slices],
        kspace=None if kspace is None else kspace[slices],
        mask=mask if mask is None or mask.shape[0] == 1 else mask[slices],
    )


def _every(case: Case, every: int) -> Case:
    chosen = np.flatnonzero(case.head.any(axis=(1, 2)))[::every]
    indices = torch.from_numpy(chosen)
    return Case(select(case.measurement, indices), case.truth[indices], case.head[chosen])


def _slices(image: Tensor) -> NDArray[np.float32]:
    return np.asarray(image[:, 0].cpu().numpy(), np.float32)
