"""What the user may ask for instead of a refusal: an even grid of slices, and a tilted gantry put straight."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def resampled(voxels: NDArray[np.float32], places: tuple[float, ...], depth: int) -> NDArray[np.float32]:
    """Return (depth, row, column) on an even grid, linear between the slices that lie at `places` (rising) on it.

    A slice that lies on the grid is kept as it is.
    """
    at = np.asarray(places)
    even = np.empty((depth, *voxels.shape[1:]), np.float32)
    for k in range(depth):
        above = min(int(np.searchsorted(at, k)), len(at) - 1)
        if at[above] == k:
            even[k] = voxels[above]
            continue
        share = np.float32((k - at[above - 1]) / (at[above] - at[above - 1]))
        even[k] = (1 - share) * voxels[above - 1] + share * voxels[above]
    return even


def sheared(
    voxels: NDArray[np.float32], affine: NDArray[np.float64], lean: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return a leaning stack on a grid with right angles, and its affine.

    Parameters
    ----------
    voxels
        (slice, row, column).
    affine
        (column, row, slice) to RAS mm of the grid with right angles through the first slice.
    lean
        By how many (columns, rows) a slice lies further along than the one before it. The canvas grows so that nothing
        is cut off; where no slice reaches, it holds the smallest value of the volume (air). Linear interpolation.
    """
    depth, rows, columns = voxels.shape
    furthest = [(depth - 1) * shift for shift in lean]
    before = [max(0, math.ceil(-shift - 1e-9)) for shift in furthest]
    after = [max(0, math.ceil(shift - 1e-9)) for shift in furthest]
    air = float(voxels.min())
    straight = np.empty((depth, before[1] + rows + after[1], before[0] + columns + after[0]), np.float32)
    canvas = np.full(straight.shape[1:], air, np.float32)
    for k, image in enumerate(voxels):
        canvas[before[1] : before[1] + rows, before[0] : before[0] + columns] = image
        ndimage.shift(canvas, (k * lean[1], k * lean[0]), straight[k], order=1, mode="nearest", prefilter=False)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, 0] * before[0] + affine[:3, 1] * before[1]
    return straight, moved
