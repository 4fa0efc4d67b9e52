"""How much samples differ from one another: mean MS-SSIM over pairs."""

from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import torch
from torch import Tensor

WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, fine to coarse (Wang, Simoncelli and Bovik 2003)."""

_TAPS: Final = 11


@dataclass(frozen=True)
class Diversity:
    """Mean MS-SSIM of pairs (low = diverse), its standard deviation over pairs, and how it was measured.

    Attributes
    ----------
    mean, deviation : float
        In [0, 1]; 1 if all images are equal.
    pairs, scales : int
        Number of pairs and of scales; compare only values of as many scales.
    """

    mean: float
    deviation: float
    pairs: int
    scales: int


def scales_for(shape: tuple[int, ...]) -> int:
    """Return how many of the five scales images of spatial `shape` allow: each halving must leave more than 11 voxels.

    MONAI asks for a shortest axis of at least 11 (s − 1)² voxels: 176 for five scales, 99 for four, 44 for three, 11
    for one or two. With two, the second scale needs 22, which MONAI does not check.

    Raises
    ------
    ValueError
        If an axis is shorter than the 11 voxels of the window.
    """
    shortest = min(shape)
    if shortest < _TAPS:
        raise ValueError(f"MS-SSIM needs {_TAPS} voxels along every axis, got {shape}")
    enough = (s for s in range(len(WEIGHTS), 1, -1) if shortest >= max(_TAPS * (s - 1) ** 2, _TAPS * 2 ** (s - 1)))
    return next(enough, 1)


def ms_ssim(x: Tensor, y: Tensor, *, data_range: float, dims: Literal[2, 3] = 2) -> Tensor:
    """Multi-scale SSIM of images (B, C, *spatial) one by one, (B,), by MONAI; Gaussian window of 11 taps, σ = 1.5.

    Small images get fewer scales, see `scales_for`; the weights of those left are scaled to sum 1.

    Raises
    ------
    ValueError
        If shapes differ or do not fit, or the data range is not positive.
    """
    from monai.metrics.regression import compute_ms_ssim

    if x.shape != y.shape or x.ndim != dims + 2 or not data_range > 0:
        raise ValueError(f"cannot compare {tuple(x.shape)} and {tuple(y.shape)} in {dims}D, data range {data_range}")
    weights = WEIGHTS[: scales_for(tuple(x.shape[2:]))]
    share = [weight / sum(weights) for weight in weights]
    found = compute_ms_ssim(x.float(), y.float(), spatial_dims=dims, data_range=data_range, weights=share)
    # Rounding may lift an exact 1.
    return torch.clamp(found[:, 0], 0, 1)


def diversity(
    images: Tensor, *, data_range: float, dims: Literal[2, 3] = 2, pairs: int = 500, seed: int = 0, batch: int = 32
) -> Diversity:
    """Mean MS-SSIM over random pairs of different images (Odena, Olah and Shlens 2017), without repetition.

    Only beside the same number of real images does it say anything: far above theirs, the samples are alike; far below,
    they may be noise.

    Parameters
    ----------
    images : Tensor, (N, C, *spatial)
    data_range : float
        In the images' unit.
    pairs : int
        At most; all N (N − 1) / 2 where there are no more.

    Raises
    ------
    ValueError
        If there are fewer than two images, or as for `ms_ssim`.
    """
    if len(images) < 2 or pairs < 1:
        raise ValueError(f"diversity needs two images and a pair, got {len(images)} and {pairs}")
    chosen = _pairs(len(images), pairs, seed)
    values = torch.cat(
        [
            ms_ssim(images[p[:, 0]], images[p[:, 1]], data_range=data_range, dims=dims)
            for p in torch.split(chosen, batch)
        ]
    ).double()
    deviation = float(values.std()) if len(values) > 1 else 0.0
    return Diversity(float(values.mean()), deviation, len(values), scales_for(tuple(images.shape[2:])))


def _pairs(count: int, most: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if count * (count - 1) // 2 <= 4 * most:
        every = torch.tensor(list(combinations(range(count), 2)))
        return every[torch.randperm(len(every), generator=generator)[:most]]
    found: dict[tuple[int, int], None] = {}
    while len(found) < most:
        i, j = sorted(torch.randint(count, (2,), generator=generator).tolist())
        if i != j:
            found[i, j] = None
    return torch.tensor(list(found))
