"""Affines: LPS to RAS, spacing, orientation. An affine maps voxel indices (i, j, k) to millimetres."""

from typing import Final

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

LPS_TO_RAS: Final[NDArray[np.float64]] = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM patient coordinates run to the left and posterior, ours (NIfTI's) to the right and anterior."""


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the voxel size in mm along each array axis: the norms of the affine's columns."""
    i, j, k = voxel_sizes(np.asarray(affine, dtype=np.float64))
    return float(i), float(j), float(k)


def codes_of(affine: NDArray[np.float64]) -> tuple[str, str, str]:
    """Return where each array axis runs to, for example `("R", "A", "S")`, the closest of the six directions."""
    i, j, k = aff2axcodes(affine)
    return i, j, k


def is_singular(affine: NDArray[np.float64], *, tolerance: float = 1e-4) -> bool:
    """Return whether the affine cannot be inverted: not finite, a zero column, or columns in one plane.

    The volume of the parallelepiped spanned by the unit axes is compared with `tolerance`, so that the answer does
    not depend on the voxel size.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return True
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if (lengths < 1e-9).any():
        return True
    return bool(abs(np.linalg.det(matrix[:3, :3] / lengths)) < tolerance)


def shear_of(affine: NDArray[np.float64]) -> float:
    """Return the largest cosine between two array axes: 0 for a grid with right angles."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def to_ras(volume: NDArray[np.generic], affine: NDArray[np.float64]) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Return the volume with its axes flipped and permuted to the closest RAS+, and its affine.

    No voxel is resampled: an oblique volume stays oblique, every value keeps its place in millimetres.

    Parameters
    ----------
    volume
        First three axes are spatial; further axes are left alone.
    affine
        4x4, mm, not singular.

    Raises
    ------
    ValueError
        If the affine is singular.
    """
    if is_singular(affine):
        raise ValueError("the affine is singular: it does not say where the voxels lie")
    orientation = io_orientation(affine)
    turned = apply_orientation(volume, orientation)
    if not (turned.flags.c_contiguous or turned.flags.f_contiguous):
        turned = np.ascontiguousarray(turned)
    return turned, affine @ inv_ornt_aff(orientation, volume.shape[:3])
