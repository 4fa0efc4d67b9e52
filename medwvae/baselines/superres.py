"""Super-resolution by interpolation of the low-resolution image that the scanner would have shown.

The low-resolution image is the inverse transform of the known k-space block. Both grids are periodic and share their
first sample: low-resolution sample j lies at high-resolution position j·N/n. Interpolation is linear and separable,
so each axis is one (N, n) matrix, and a volume takes two matrix products.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.operators import Measurement, from_kspace

AxisMatrix = Callable[[int, int], NDArray[np.float64]]


def spline(measurement: Measurement, order: float) -> Tensor:
    """Periodic spline interpolation, order 1 (linear) to 5; 3 is the usual cubic."""
    return _interpolate(measurement, lambda full, low: spline_matrix(full, low, int(order)))


def lanczos(measurement: Measurement, lobes: float) -> Tensor:
    """Lanczos-windowed sinc interpolation with `lobes` lobes on either side."""
    return _interpolate(measurement, lambda full, low: lanczos_matrix(full, low, int(lobes)))


def spline_matrix(full: int, low: int, order: int) -> NDArray[np.float64]:
    """(full, low) matrix of the periodic spline interpolation from `low` to `full` samples."""
    from scipy import ndimage

    positions = np.arange(full) * low / full
    columns = [ndimage.map_coordinates(unit, [positions], order=order, mode="grid-wrap") for unit in np.eye(low)]
    return np.stack(columns, axis=1)


def lanczos_matrix(full: int, low: int, lobes: int) -> NDArray[np.float64]:
    """(full, low) matrix of the periodic Lanczos interpolation; each row sums to 1, so constants stay constant."""
    distance = np.arange(full)[:, None] * low / full - np.arange(low)
    distance = (distance + low / 2) % low - low / 2
    kernel = np.where(np.abs(distance) < lobes, np.sinc(distance) * np.sinc(distance / lobes), 0)
    normalised: NDArray[np.float64] = kernel / kernel.sum(axis=1, keepdims=True)
    return normalised


def low_resolution(measurement: Measurement) -> Tensor:
    """Return the real image (S, 1, h, w) on the coarse grid of the known k-space block, in the units of the start."""
    if measurement.kspace is None or measurement.mask is None:
        raise ValueError("super-resolution needs the known k-space block")
    known = measurement.mask.expand(1, 1, *measurement.start.shape[-2:])[0, 0]
    block = measurement.kspace[:, :, known.any(1)][..., known.any(0)]
    scale = math.sqrt(block.shape[-2] * block.shape[-1] / known.numel())
    return from_kspace(block, 1) * scale


def _interpolate(measurement: Measurement, matrix: AxisMatrix) -> Tensor:
    image = low_resolution(measurement)
    rows, columns = (
        torch.from_numpy(matrix(full, low)).to(image)
        for full, low in zip(measurement.start.shape[-2:], image.shape[-2:], strict=True)
    )
    return torch.clamp(rows @ image @ columns.T, min=0)
