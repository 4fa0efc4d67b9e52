"""Where in the image each wavelet coefficient stands, and how far its synthesis reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor

from medwvae.wavelets import Coefficients, Mode
from medwvae.wavelets.filters import filter_bank
from medwvae.wavelets.matrices import axis_pair

HALF = 0.5 - 1e-9
"""What is added before a centre is rounded down: a centre between two voxels goes to the first, whatever rounds."""


@dataclass(frozen=True)
class AxisPlaces:
    """The K coefficients of one axis of N voxels, at one level.

    Attributes
    ----------
    centres : dict of str to array (K,)
        Centre of energy of each coefficient's synthesis in voxels, for the letters `a` and `d`; infinite where nothing
        of it lies in the image. Along an axis that wraps around (`periodization`), the centre on the circle.
    footprint : array (N, K), bool
        Which voxels a coefficient of either letter changes.
    wraps : bool
        Whether what leaves the axis at one end comes back at the other.
    """

    centres: dict[str, NDArray[np.float64]]
    footprint: NDArray[np.bool_]
    wraps: bool

    def nearest(self, letter: str) -> NDArray[np.intp]:
        """Return, for each voxel, the coefficient whose centre is nearest, (N,)."""
        distance = np.abs(self.centres[letter] - np.arange(len(self.footprint))[:, None])
        if self.wraps:
            distance = np.minimum(distance, np.abs(len(self.footprint) - distance))
        return np.asarray(distance.argmin(1))

    def voxels(self, letter: str) -> NDArray[np.int64]:
        """Return the voxel at each coefficient's centre, (K,)."""
        size = len(self.footprint)
        voxels = np.floor(np.nan_to_num(self.centres[letter], posinf=size - 1) + HALF).astype(np.int64)
        return voxels % size if self.wraps else voxels.clip(0, size - 1)


def reach(wavelet: str, levels: int) -> int:
    """Return how far from its centre a coefficient changes the image, in voxels, along one axis.

    A coefficient of level j spreads over (2^j − 1)(L − 1) + 1 voxels for filters of L taps. Its centre is the centre of
    its energy, so that the reach is about half of that for symmetric filters, more for others. A coefficient at a
    border of the image, in any mode, may be cut off or wrap around; `regions` sees to those.

    Parameters
    ----------
    wavelet : str
        PyWavelets' name.
    levels : int
        Level of the coefficient: 1 is the finest.

    Raises
    ------
    ValueError
        If there is no such wavelet, or `levels` < 1.
    """
    if levels < 1:
        raise ValueError(f"levels count from 1 (finest), got {levels}")
    bank = filter_bank(wavelet)
    responses = [np.array(taps) for taps in (bank.rec_low, bank.rec_high)]
    pattern = np.asarray((np.abs(responses) > 0).any(0), np.float64)
    for _ in range(levels - 1):
        responses = [np.convolve(_upsampled(response), bank.rec_low) for response in responses]
        pattern = np.asarray(np.convolve(_upsampled(pattern), (np.abs(bank.rec_low) > 0).astype(np.float64)))
    taps = np.arange(len(pattern))
    used = taps[pattern > 0]
    centres = [int(np.floor((taps * r**2).sum() / (r**2).sum() + HALF)) for r in responses]
    return int(max(max(c - used[0], used[-1] - c) for c in centres))


def places(coefficients: Coefficients, level: int) -> list[AxisPlaces]:
    """Return the places of a level's coefficients along every axis; those of `a` are also the approximation's."""
    place = coefficients.levels - level
    finest_first = list(zip(coefficients.shapes[place:], coefficients.axes[place:], strict=True))[::-1]
    return [
        _axis_places(
            coefficients.wavelet,
            coefficients.mode,
            coefficients.shapes[-1][axis],
            tuple(shape[axis] for shape, axes in finest_first if axis in axes),
            axis in coefficients.axes[place],
        )
        for axis in range(coefficients.spatial_dims)
    ]


def regions(
    coefficients: Coefficients, level: int, mask: Tensor, *, protect: bool = False
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return which coefficients of a level belong inside a mask, and which outside, by the letters of their subband.

    A coefficient belongs where its centre lies. One that would change a voxel farther than `reach` on the other side
    (it wraps around, or a border filter is longer than the others) belongs nowhere.

    Parameters
    ----------
    mask : Tensor
        bool, (M, 1, *spatial of the image).
    protect : bool
        Those that would change any voxel of the mask do not belong outside.

    Returns
    -------
    dict
        For each subband's letters, `aa` included, (inside, outside): bool, (M, 1, *spatial of the level).
    """
    axes = places(coefficients, level)
    place = coefficients.levels - level
    splits = [sum(axis in split for split in coefficients.axes[place:]) for axis in range(len(axes))]
    reaches = [reach(coefficients.wavelet, count) if count else 0 for count in splits]
    far_inside, far_outside = mask.cpu() if protect else _eroded(mask, reaches), _eroded(~mask, reaches)
    footprints = [torch.from_numpy(axis.footprint).float() for axis in axes]
    spoils_inside = _any_along(far_inside, [f.T for f in footprints])
    spoils_outside = _any_along(far_outside, [f.T for f in footprints])
    found = {}
    for name in ("a" * len(axes), *coefficients.names(level)):
        inside = mask.cpu()
        for axis, (letter, along) in enumerate(zip(name, axes, strict=True)):
            inside = inside.index_select(2 + axis, torch.from_numpy(along.voxels(letter)))
        found[name] = (inside & ~spoils_outside).to(mask.device), (~inside & ~spoils_inside).to(mask.device)
    return found


def support(coefficients: Coefficients, level: int, chosen: Tensor) -> Tensor:
    """Return the voxels that a level's chosen coefficients can change, bool (M, 1, *spatial of the image).

    Parameters
    ----------
    chosen : Tensor
        bool, (M, 1, *spatial of the level).
    """
    footprints = [torch.from_numpy(axis.footprint).float() for axis in places(coefficients, level)]
    return _any_along(chosen.cpu(), footprints).to(chosen.device)


@lru_cache(maxsize=256)
def _axis_places(wavelet: str, mode: Mode, size: int, sizes: tuple[int, ...], splits: bool) -> AxisPlaces:
    """Chain the synthesis matrices of an axis of `size` voxels whose levels have `sizes` samples, finest first."""
    low = high = reached = footprint = sparse.identity(size, format="csr")
    for samples in sizes:
        pair = axis_pair(wavelet, mode, samples, "synthesis")
        low, high = low @ pair[0], low @ pair[1]
        # Patterns are chained apart from the numbers, which can cancel.
        patterns = [(abs(matrix) > 0).astype(np.float64) for matrix in pair]
        reached, footprint = reached @ patterns[0], reached @ (patterns[0] + patterns[1])
    wraps = mode == "periodization" and bool(sizes)
    if not splits:
        high, footprint = low, reached
    return AxisPlaces(
        {letter: _centres(synthesis, wraps) for letter, synthesis in (("a", low), ("d", high))},
        footprint.toarray() > 0,
        wraps,
    )


def _centres(synthesis: sparse.csr_matrix, wraps: bool) -> NDArray[np.float64]:
    energy = np.asarray(synthesis.multiply(synthesis).toarray())
    size, voxels = len(energy), np.arange(len(energy))
    total = energy.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if not wraps:
            return np.where(total > 0, voxels @ energy / total, np.inf)
        # First the direction on the circle, then the plain mean of what lies around it.
        around = np.angle(np.exp(2j * np.pi * voxels / size) @ energy) * size / (2 * np.pi)
        offsets = (voxels[:, None] - around + size / 2) % size - size / 2
        centres = (around + (offsets * energy).sum(0) / total) % size
    return np.where(total > 0, centres, np.inf)


def _eroded(mask: Tensor, reaches: Sequence[int]) -> Tensor:
    """Keep the voxels that have no voxel of the other side within reach; beyond the image there is none."""
    eroded = mask.cpu().numpy().astype(np.uint8)
    for axis, radius in enumerate(reaches):
        if radius:
            eroded = ndimage.minimum_filter1d(eroded, 2 * radius + 1, axis=2 + axis, mode="constant", cval=1)
    return torch.from_numpy(eroded > 0)


def _any_along(mask: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one boolean matrix (out, in) per spatial axis to (M, 1, *in)."""
    values = mask.float()
    for axis, matrix in enumerate(matrices):
        values = (values.movedim(2 + axis, -1) @ matrix.T > 0).float().movedim(-1, 2 + axis)
    return values > 0


def _upsampled(response: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = np.zeros(2 * len(response) - 1)
    spread[::2] = response
    return spread
