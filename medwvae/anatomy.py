"""Which slices of a head to show."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def middle(profile: NDArray[np.floating], axis: int) -> int:
    """Return the index of a slice through the middle of the anatomy.

    Parameters
    ----------
    profile : array (S,)
        How much of the anatomy each slice holds, in the canonical order (RAS+).
    axis : {0, 1, 2}
        Axis of the volume across the slices. Across axial ones (2) the middle lies above the centre of gravity, which
        in a head scan is pulled down by the neck and the face.
    """
    share = np.cumsum(profile) / max(float(np.sum(profile)), 1e-12)
    return min(int(np.searchsorted(share, 0.65 if axis == 2 else 0.5)), len(profile) - 1)


def three_slices(volumes: NDArray[T]) -> NDArray[T]:
    """Return the middle slice across each axis of volumes, in one picture.

    Parameters
    ----------
    volumes : array (..., X, Y, Z)
        In the canonical order (RAS+).

    Returns
    -------
    array (..., X + X + Y, max(Y, Z))
        One after the other along the first axis, each in the middle of the second, zeros around: the axial, the coronal
        and the sagittal slice, which radiological display turns to sagittal, coronal, axial from left to right.
    """
    slices = [volumes.take(volumes.shape[axis] // 2, axis) for axis in (-1, -2, -3)]
    width = max(one.shape[-1] for one in slices)
    parts = []
    for one in slices:
        missing = width - one.shape[-1]
        parts.append(np.pad(one, [(0, 0)] * (one.ndim - 1) + [(missing // 2, missing - missing // 2)]))
    return np.concatenate(parts, axis=-2)
