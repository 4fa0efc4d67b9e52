"""Errors voxel by voxel: PSNR, NMSE; what all metrics ask of images, masks and data ranges.

Images are real, of any shape, in the same units: arrays, or tensors on any device. `mask` (bool, same shape) restricts
a metric to its voxels.
"""

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.wavelets.linear import has_numba

Array = NDArray[np.floating]
Image = Array | Tensor
Mask = NDArray[np.bool_]


class UndefinedError(ValueError):
    """The metric has no value for this reference: it is the mistake of neither image."""


_CHUNK: Final = {"cpu": 1 << 17}
"""Voxels at once where nothing is compiled: on a CPU as many as its caches hold; elsewhere all."""


def psnr(x: Image, ref: Image, *, data_range: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range² / MSE); infinite where `x` equals `ref`."""
    check_range(data_range)
    error, _, count = _sums(x, ref, mask)
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / (error / count))


def nmse(x: Image, ref: Image, *, mask: Mask | None = None) -> float:
    """Normalised mean squared error, ‖x − ref‖² / ‖ref‖² (fastMRI's; no unit)."""
    error, energy, _ = _sums(x, ref, mask)
    if energy == 0:
        raise UndefinedError("NMSE is not defined for a reference that is zero everywhere")
    return error / energy


def masked_mean(values: Array, mask: Mask | None = None) -> float:
    """Mean over the voxels of the mask (all voxels without one)."""
    return float(np.mean(values if mask is None else values[checked(mask, values.shape)]))


def tensor_of(x: Image) -> Tensor:
    """Return an image as a tensor; an array that lies as PyTorch can read it is not copied."""
    if isinstance(x, Tensor):
        return x.detach()
    return torch.from_numpy(np.ascontiguousarray(x)) if x.flags.writeable else torch.tensor(x)


def checked(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Return the mask; raise `ValueError` unless it is bool, of that shape, and has a voxel in it."""
    # Neither a broadcast mask nor an integer one (which would index) may pass.
    if mask.dtype != np.bool_ or mask.shape != tuple(shape) or not mask.any():
        raise ValueError(f"need a bool mask of shape {tuple(shape)} with a voxel in it, got {mask.dtype} {mask.shape}")
    return mask


def check_range(data_range: float) -> None:
    """Raise `ValueError` unless the data range is positive and finite."""
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"the data range must be positive and finite, got {data_range}")


def compiled_kernels(*images: Tensor) -> bool:
    """Return whether `metrics.kernels` can work on these: in the memory of the CPU, and Numba is there."""
    return all(x.device.type == "cpu" and x.numel() > 0 for x in images) and has_numba()


def as_float(x: Tensor) -> Tensor:
    """Return float32 and float64 as they are, anything else as float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.double()


def _sums(x: Image, ref: Image, mask: Mask | None) -> tuple[float, float, int]:
    """Return Σ (x − ref)², Σ ref² and the number of voxels, in float64."""
    if x.shape != ref.shape:
        raise ValueError(f"image and reference differ in shape: {tuple(x.shape)} and {tuple(ref.shape)}")
    a, b = tensor_of(x).reshape(-1), tensor_of(ref).reshape(-1)
    region = None if mask is None else np.ascontiguousarray(checked(mask, tuple(x.shape))).reshape(-1)
    count = len(a) if region is None else int(np.count_nonzero(region))
    if compiled_kernels(a, b):
        from medwvae.metrics.kernels import square_sums

        error, energy = square_sums(as_float(a).contiguous().numpy(), as_float(b).contiguous().numpy(), region)
        return error, energy, count
    inside = None if region is None else torch.from_numpy(region).to(a.device)
    error = energy = 0.0
    step = _CHUNK.get(a.device.type, max(1, len(a)))
    for start in range(0, len(a), step):
        p, q = a[start : start + step], b[start : start + step]
        if inside is not None:
            chosen = inside[start : start + step]
            p, q = p[chosen], q[chosen]
        q = q.double()
        difference = p.double() - q
        error += float(torch.dot(difference, difference))
        energy += float(torch.dot(q, q))
    return error, energy, count
