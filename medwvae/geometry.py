"""Affines: LPS to RAS, spacing, orientation. An affine maps voxel indices (i, j, k) to millimetres."""

from typing import Final

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from medwvae.errors import Refusal

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


def is_plausible(spacing: tuple[float, ...]) -> bool:
    """Return whether voxels of this size, mm, can be of a patient: 1 µm to 100 mm along every axis."""
    return all(0.001 <= mm <= 100 for mm in spacing)


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


def onto_grid(
    volume: NDArray[np.generic],
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    grid: NDArray[np.float64],
    *,
    tolerance: float = 1e-3,
) -> NDArray[np.generic]:
    """Return the volume with its axes permuted and flipped into another order of the same grid: undoes `to_ras`.

    No voxel is resampled. The order follows from the two affines alone, so an orientation halfway between two axes
    cannot be taken for another one.

    Parameters
    ----------
    volume, affine
        3-D and its 4x4 affine, mm.
    shape, grid
        Shape and affine that are wanted.
    tolerance
        How far a corner voxel may lie from where the grid has it, in mm.

    Raises
    ------
    Refusal
        If the two are not the same voxels; says whether spacing, direction, size or position differ.
    """
    if not np.allclose(sorted(spacing_of(affine)), sorted(spacing_of(grid)), rtol=1e-3):
        theirs, ours = (" x ".join(f"{mm:.3g}" for mm in spacing_of(a)) for a in (affine, grid))
        raise Refusal(f"the voxel sizes differ: {theirs} mm in the volume, {ours} mm in its source")
    turn = np.linalg.inv(grid)[:3, :3] @ affine[:3, :3]
    signs = np.rint(turn)
    if np.abs(turn - signs).max() > 0.01 or not np.array_equal(np.abs(signs) @ np.abs(signs).T, np.eye(3)):
        raise Refusal("the volume is turned against its source: their axes do not run in the same directions")
    axes = np.abs(signs).argmax(axis=1)  # grid axis g is axis axes[g] of the volume
    if tuple(volume.shape[axis] for axis in axes) != tuple(shape):
        theirs, ours = ("x".join(str(n) for n in size) for size in ([volume.shape[a] for a in axes], shape))
        raise Refusal(f"the volume has {theirs} voxels, its source {ours}")
    expected = np.eye(4)
    expected[:3, :3] = signs
    expected[:3, 3] = [0 if signs[g].sum() > 0 else shape[g] - 1 for g in range(3)]
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.shape) - 1)
    shift = affine_at(affine, corners) - affine_at(grid @ expected, corners)
    if (worst := float(np.linalg.norm(shift, axis=1).max())) > tolerance:
        raise Refusal(f"the volume lies up to {worst:.3g} mm away from its source")
    turned = np.transpose(volume, axes)
    flipped = tuple(slice(None, None, 1 if signs[g].sum() > 0 else -1) for g in range(3))
    return np.ascontiguousarray(turned[flipped])


def affine_at(affine: NDArray[np.floating], voxels: NDArray[np.int_ | np.floating]) -> NDArray[np.float64]:
    """Return where voxel indices (n, 3) lie, in mm (n, 3)."""
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3], dtype=np.float64)
