"""Whole heads in one grid: a box of whole voxels about each, blocks of them averaged; nothing is interpolated."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medwvae.data.loaders import Case

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """Where a small grid lies in a volume of RAS+ axes.

    Attributes
    ----------
    start : (int, int, int)
        Voxel of the volume where the grid begins; it may lie outside, where there is air.
    size : (int, int, int)
        Voxels of the grid.
    block : (int, int, int)
        Voxels of the volume along each axis that make one of the grid.
    """

    start: Grid
    size: Grid
    block: Grid

    @classmethod
    def about(cls, head: NDArray[np.bool_], size: Grid, block: Grid) -> Self:
        """Return the grid whose middle is that of the head's bounding box (of the volume's, without a head)."""
        start = []
        for axis in range(3):
            inside = np.flatnonzero(head.any(tuple(other for other in range(3) if other != axis)))
            first, last = (inside[0], inside[-1]) if len(inside) else (0, head.shape[axis] - 1)
            start.append(int(first + last + 1 - size[axis] * block[axis]) // 2)
        return cls((start[0], start[1], start[2]), size, block)

    def image(self, volume: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the means of the blocks; outside the volume there is air, 0."""
        return self._means(volume).astype(np.float32)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the blocks of which at least half lies in the mask."""
        return np.asarray(self._means(mask) >= 0.5)

    def affine(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the affine of the grid in a volume of this affine, mm: the centre of a block is that of its voxels."""
        step = np.diag([*self.block, 1.0])
        step[:3, 3] = np.array(self.start) + (np.array(self.block) - 1) / 2
        return np.asarray(affine @ step, np.float64)

    def _means(self, volume: NDArray[np.generic]) -> NDArray[np.float64]:
        box = np.zeros([n * b for n, b in zip(self.size, self.block, strict=True)], np.float64)
        inner, outer = [], []
        for begin, room, have in zip(self.start, box.shape, volume.shape, strict=True):
            low, high = max(begin, 0), max(min(begin + room, have), max(begin, 0))
            outer.append(slice(low, high))
            inner.append(slice(low - begin, high - begin))
        box[tuple(inner)] = volume[tuple(outer)]
        (x, y, z), (i, j, k) = self.size, self.block
        return np.asarray(box.reshape(x, i, y, j, z, k).mean((1, 3, 5)))


def place(case: Case, size: Grid, block: Grid) -> Placement:
    """Return where such a grid lies in the canonical volume of a case."""
    return Placement.about(np.moveaxis(case.prepared.head, 0, case.prepared.axis), size, block)


def placed(case: Case, size: Grid, block: Grid) -> Case:
    """Return a case on such a grid, its axes those of the canonical volume, R, A, S, whatever its slices were."""
    prepared, grid = case.prepared, place(case, size, block)
    own = replace(
        prepared,
        image=grid.image(np.moveaxis(prepared.image, 0, prepared.axis)),
        head=grid.mask(np.moveaxis(prepared.head, 0, prepared.axis)),
        axis=0,
        affine=grid.affine(prepared.affine),
    )
    return replace(case, prepared=own)
