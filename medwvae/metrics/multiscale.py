"""Multi-scale SSIM of volumes, by MONAI."""

from typing import Literal

import torch

from medwvae.fidelity.diversity import ms_ssim as of_images
from medwvae.metrics.similarity import GAUSSIAN_TAPS, box_of
from medwvae.metrics.voxels import Image, Mask, check_range, checked, tensor_of


def ms_ssim(x: Image, ref: Image, *, data_range: float, dims: Literal[2, 3], mask: Mask | None = None) -> float:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003), by MONAI, in float32; with `dims` = 2 the mean over slices.

    With a mask: of the box around it. As many of the five scales as the box allows (`fidelity.diversity.scales_for`);
    compare only values of one matrix size.

    Raises
    ------
    ValueError
        If shapes differ, an axis is shorter than 11 voxels, or the data range is not positive.
    """
    check_range(data_range)
    a, b = tensor_of(x), tensor_of(ref)
    if mask is not None and a.shape == b.shape:
        checked(mask, tuple(a.shape))
        box = box_of(mask, 0, GAUSSIAN_TAPS, dims)
        a, b = a[box], b[box]
    batches = [f.reshape(-1, 1, *f.shape[-dims:]) for f in (a, b)]
    step = 16 if dims == 2 else 1
    parts = zip(*(torch.split(batch, step) for batch in batches), strict=True)
    return float(torch.cat([of_images(p, q, data_range=data_range, dims=dims) for p, q in parts]).double().mean())
