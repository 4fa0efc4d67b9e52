"""Which positions of Cartesian k-space are measured: columns, discs, and the half that partial Fourier leaves out.

All masks are in FFT order.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.wavelets.jit import compiled

Pattern = Literal["random", "equispaced", "poisson-disc"]
GROWTH = 2.0
"""How much wider apart the samples of a Poisson-disc mask lie at the edge of k-space than at its centre, less one."""


def cartesian_mask(
    width: int, acceleration: float, centre: float, pattern: Literal["random", "equispaced"], generator: torch.Generator
) -> Tensor:
    """Columns of a Cartesian acquisition: (1, 1, 1, W) bool in FFT order.

    The lowest `centre` fraction of the columns is kept; of the others, either each with the probability that gives
    W / `acceleration` columns on average (`random`, fastMRI knee) or an equispaced comb with a random offset
    (`equispaced`, fastMRI brain). Source: Zbontar et al., arXiv 1811.08839, section 4.3.
    """
    low = round(width * centre)
    start = (width - low + 1) // 2
    columns = torch.zeros(width, dtype=torch.bool)
    columns[start : start + low] = True
    if pattern == "random":
        probability = (width / acceleration - low) / (width - low)
        columns |= torch.rand(width, generator=generator) < probability
    else:
        # Spacing of the comb adjusted so that comb plus centre make the acceleration (fastMRI's EquispacedFraction).
        spacing = acceleration * (low - width) / (low * acceleration - width)
        offset = int(torch.randint(0, round(spacing), (1,), generator=generator))
        comb = np.around(np.arange(offset, width - 1, spacing)).astype(int)
        columns[torch.from_numpy(comb)] = True
    mask: Tensor = torch.fft.ifftshift(columns)
    return mask[None, None, None]


def poisson_disc_mask(
    shape: tuple[int, int],
    acceleration: float,
    calibration: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Two phase-encoding axes of a 3D acquisition, variable-density Poisson-disc: (1, 1, H, W) bool in FFT order.

    Positions are visited in random order and taken if no sample lies within a distance that grows linearly from the
    centre of k-space; a central block of `calibration` positions is always measured. The distance is found by
    bisection, to within 2 % of H·W / `acceleration` samples. Bridson, SIGGRAPH sketches 2007; Vasanawala et al.,
    IEEE ISBI 2011 (protocol `calgary`).

    Raises
    ------
    ValueError
        If the calibration block alone is more than may be measured.
    """
    height, width = shape
    wanted = height * width / acceleration
    if calibration[0] * calibration[1] > wanted:
        raise ValueError(
            f"a calibration block of {calibration[0]} x {calibration[1]} exceeds the 1/{acceleration:g} of "
            f"{height} x {width} positions that is measured"
        )
    order = torch.randperm(height * width, generator=generator).numpy()
    distance, block = _distances(shape), _block(shape, calibration)
    low, high = 0.0, float(max(shape))
    for _ in range(24):
        spread = (low + high) / 2
        taken = block.copy()
        _throw(order, distance * spread, taken)  # type: ignore[no-untyped-call]
        count = int(taken.sum())
        if abs(count - wanted) <= 0.02 * wanted:
            break
        low, high = (spread, high) if count > wanted else (low, spread)
    mask: Tensor = torch.fft.ifftshift(torch.from_numpy(taken))
    return mask[None, None]


def partial_fourier_mask(size: int, fraction: float) -> Tensor:
    """Lines along one axis that a partial-Fourier acquisition keeps: (size,) bool in FFT order.

    `fraction` (above ½) of them: all of one half, and of the other the lowest ones.

    Raises
    ------
    ValueError
        If the fraction is not in (0.5, 1].
    """
    if not 0.5 < fraction <= 1:
        raise ValueError(f"partial Fourier keeps more than half of the lines and at most all, got {fraction:g}")
    frequency = torch.fft.fftfreq(size, 1 / size).round().long()
    kept = round(size * fraction)
    mask: Tensor = frequency >= (size + 1) // 2 - kept
    return mask


@lru_cache(maxsize=8)
def _distances(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the least distance of neighbours, relative to that at the centre, centred."""
    y, x = ((np.arange(n) - n // 2) / (n / 2) for n in shape)
    return np.asarray(1 + GROWTH * np.hypot(y[:, None], x[None, :]))


def _block(shape: tuple[int, int], calibration: tuple[int, int]) -> NDArray[np.bool_]:
    taken = np.zeros(shape, bool)
    top, left = (n // 2 - c // 2 for n, c in zip(shape, calibration, strict=True))
    taken[top : top + calibration[0], left : left + calibration[1]] = True
    return taken


@compiled
def _throw(order, distance, taken):  # type: ignore[no-untyped-def]
    height, width = taken.shape
    for place in order:
        y, x = place // width, place % width
        if taken[y, x]:
            continue
        radius = distance[y, x]
        reach = int(radius)
        free = True
        for v in range(max(0, y - reach), min(height, y + reach + 1)):
            for u in range(max(0, x - reach), min(width, x + reach + 1)):
                if taken[v, u] and (v - y) ** 2 + (u - x) ** 2 < radius**2:
                    free = False
                    break
            if not free:
                break
        taken[y, x] = free
