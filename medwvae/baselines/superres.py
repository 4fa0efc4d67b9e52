"""Super-resolution by interpolation of the low-resolution image that the scanner would have shown.

Of truncated k-space the low-resolution image is the inverse transform of the known block: both grids are periodic and
share their first sample; low-resolution sample j lies at high-resolution position j·N/n. Of an image reduced in space
the samples lie in the middle of the pixels that they stand for, and the image is mirrored at its border. Interpolation
is linear and separable, so each axis is one (N, n) matrix, and a volume takes two matrix products.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.operators import Measurement, Resampling, from_kspace

AxisMatrix = Callable[[int, int, float | None], NDArray[np.float64]]
"""(full, low, spacing) → (full, low); the spacing is None on periodic grids."""


def spline(measurement: Measurement, order: float) -> Tensor:
    """Spline interpolation, order 1 (linear) to 5; 3 is the usual cubic."""
    return _interpolate(measurement, lambda full, low, spacing: spline_matrix(full, low, int(order), spacing))


def lanczos(measurement: Measurement, lobes: float) -> Tensor:
    """Lanczos-windowed sinc interpolation with `lobes` lobes on either side."""
    return _interpolate(measurement, lambda full, low, spacing: lanczos_matrix(full, low, int(lobes), spacing))


def spline_matrix(full: int, low: int, order: int, spacing: float | None = None) -> NDArray[np.float64]:
    """(full, low) matrix of the spline interpolation from `low` to `full` samples."""
    from scipy import ndimage

    mode = "grid-wrap" if spacing is None else "reflect"
    places = [_positions(full, low, spacing)]
    columns = [ndimage.map_coordinates(unit, places, order=order, mode=mode) for unit in np.eye(low)]
    return np.stack(columns, axis=1)


def lanczos_matrix(full: int, low: int, lobes: int, spacing: float | None = None) -> NDArray[np.float64]:
    """(full, low) matrix of the Lanczos interpolation; each row sums to 1, so constants stay constant."""
    positions = _positions(full, low, spacing)
    if spacing is None:
        distance = positions[:, None] - np.arange(low)
        kernel = _lanczos((distance + low / 2) % low - low / 2, lobes)
    else:
        reach = lobes + 1
        extended = _lanczos(positions[:, None] - np.arange(-reach, low + reach), lobes)
        folded = np.arange(-reach, low + reach) % (2 * low)
        kernel = np.zeros((full, low))
        for column, place in enumerate(np.where(folded < low, folded, 2 * low - 1 - folded)):
            kernel[:, place] += extended[:, column]
    normalised: NDArray[np.float64] = kernel / kernel.sum(axis=1, keepdims=True)
    return normalised


def _positions(full: int, low: int, spacing: float | None) -> NDArray[np.float64]:
    """Places of the high-resolution samples on the low-resolution grid."""
    places = np.arange(full) * low / full if spacing is None else (np.arange(full) + 0.5) / spacing - 0.5
    return np.asarray(places, np.float64)


def _lanczos(distance: NDArray[np.float64], lobes: int) -> NDArray[np.float64]:
    return np.where(np.abs(distance) < lobes, np.sinc(distance) * np.sinc(distance / lobes), 0)


def low_resolution(measurement: Measurement) -> Tensor:
    """Return the real image (S, 1, h, w) on the coarse grid, in the units of the start."""
    if isinstance(measurement.operator, Resampling) and measurement.data is not None:
        return measurement.data
    if measurement.kspace is None or measurement.mask is None:
        raise ValueError("super-resolution needs the known k-space block, or the small image")
    known = measurement.mask.expand(1, 1, *measurement.start.shape[-2:])[0, 0]
    block = measurement.kspace[:, :, known.any(1)][..., known.any(0)]
    scale = math.sqrt(block.shape[-2] * block.shape[-1] / known.numel())
    return from_kspace(block, 1) * scale


def _interpolate(measurement: Measurement, matrix: AxisMatrix) -> Tensor:
    image, operator = low_resolution(measurement), measurement.operator
    spacing = operator.spacing if isinstance(operator, Resampling) else None
    for axis in (-2, -1):
        full, low = measurement.start.shape[axis], image.shape[axis]
        if spacing is None or axis in spacing:
            weights = torch.from_numpy(matrix(full, low, spacing[axis] if spacing else None)).to(image)
            image = weights @ image if axis == -2 else image @ weights.T
    return torch.clamp(image, min=0)
