"""Edges and fine detail: gradients, the Laplacian of Gaussian. Filters see voxels outside the mask, sums do not."""

import math
from typing import Literal

import torch
from torch import Tensor

from medwvae.metrics.filters import along
from medwvae.metrics.voxels import Image, Mask, UndefinedError, checked, tensor_of

Dims = Literal[2, 3]
EDGES = 0.9
"""Quantile of the truth's gradient magnitude above which a voxel counts as an edge."""


def gradient_error(x: Image, ref: Image, *, dims: Dims, mask: Mask | None = None) -> float:
    """NMSE of the gradient magnitudes, Σ (|∇x| − |∇ref|)² / Σ |∇ref|²; no unit, 0 is best.

    ∇ are central differences per voxel over the last `dims` axes (one-sided at the border, as `numpy.gradient`).

    Raises
    ------
    ValueError
        If shapes differ, the mask does not fit, or the reference has no gradient there.
    """
    a, b, inside = _three(x, ref, mask)
    theirs, own = (_select(_length(gradient(f, dims)), inside) for f in (a, b))
    return _share(theirs - own, own, "gradient")


def hfen(x: Image, ref: Image, *, dims: Dims, mask: Mask | None = None) -> float:
    """High-frequency error norm ‖LoG x − LoG ref‖ / ‖LoG ref‖ (Ravishankar and Bresler 2011); no unit, 0 is best.

    LoG is the Laplacian of Gaussian over the last `dims` axes, 15 taps, σ = 1.5 voxels (`scipy.ndimage.
    gaussian_laplace(..., 1.5, radius=7)`).

    Raises
    ------
    ValueError
        If shapes differ, the mask does not fit, or the reference has no detail there.
    """
    a, b, inside = _three(x, ref, mask)
    own = _select(laplacian(b, dims), inside)
    return math.sqrt(_share(_select(laplacian(a - b, dims), inside), own, "detail"))


def edge_sharpness(x: Image, ref: Image, *, dims: Dims, mask: Mask | None = None) -> float:
    """Slope of edges relative to the truth's, Σ ∇x·∇ref / Σ |∇ref|² over the truth's edges; no unit, 1 is best.

    Below 1 edges are blurred, above 1 exaggerated. Edges are the tenth of the (masked) voxels with the largest |∇ref|.
    It is a projection: noise, which has no part in the direction of the truth's edges, does not count as sharpness.

    Raises
    ------
    ValueError
        If shapes differ, the mask does not fit, or the reference has no gradient there.
    """
    a, b, inside = _three(x, ref, mask)
    own = gradient(b, dims)
    strength = _length(own)
    of_mask = _select(strength, inside)
    # torch.quantile refuses more than 16 million voxels; the k-th value does not.
    threshold = of_mask.kthvalue(max(1, round(EDGES * of_mask.numel()))).values
    edges = strength >= threshold if inside is None else (strength >= threshold) & inside
    energy = float((strength[edges] ** 2).sum())
    if energy == 0:
        raise UndefinedError("edge sharpness is not defined for a reference without a gradient")
    return float((gradient(a, dims) * own).sum(0)[edges].sum()) / energy


def gradient(x: Tensor, dims: Dims) -> Tensor:
    """Return the central differences along the last `dims` axes, stacked along a new first axis."""
    return torch.stack(torch.gradient(x, dim=tuple(range(-dims, 0))))


def laplacian(x: Tensor, dims: Dims) -> Tensor:
    """Return the Laplacian of Gaussian over the last `dims` axes, σ = 1.5 voxels, 15 taps; borders mirrored."""
    axes: tuple[Literal[-1, -2, -3], ...] = (-1, -2, -3) if dims == 3 else (-1, -2)
    total = torch.zeros_like(x)
    for curved in axes:
        part = x
        for axis in axes:
            part = along(part, axis, "curvature" if axis == curved else "smooth")
        total += part
    return total


def _three(x: Image, ref: Image, mask: Mask | None) -> tuple[Tensor, Tensor, Tensor | None]:
    if x.shape != ref.shape:
        raise ValueError(f"image and reference differ in shape: {tuple(x.shape)} and {tuple(ref.shape)}")
    a, b = tensor_of(x).double(), tensor_of(ref).double()
    inside = None if mask is None else torch.from_numpy(checked(mask, tuple(a.shape))).to(a.device)
    return a, b, inside


def _length(vectors: Tensor) -> Tensor:
    # torch.linalg.vector_norm along the first axis takes ten times as long.
    return vectors.square().sum(0).sqrt()


def _select(x: Tensor, inside: Tensor | None) -> Tensor:
    return x.reshape(-1) if inside is None else x[inside]


def _share(difference: Tensor, own: Tensor, what: str) -> float:
    energy = float(torch.dot(own, own))
    if energy == 0:
        raise UndefinedError(f"not defined for a reference without any {what}")
    return float(torch.dot(difference, difference)) / energy
