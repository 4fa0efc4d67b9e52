"""What the inverse transform makes of variances: how uncertain coefficients are an uncertain image."""

import torch
from torch import Tensor

from medwvae.wavelets.coefficients import Coefficients


def idwt_variance(variances: Coefficients) -> Tensor:
    """Return the variance of every voxel of `idwt(c)` for independent coefficients c with these variances.

    That is Σ_k w_k(v)² σ_k²: the inverse with its filters squared. Haar's squares are all ½ along a split axis, so each
    coefficient's variance is shared out evenly among the voxels that it reaches; their sum is kept. Squares of
    coefficients in place of variances give the energy that each voxel's neighbourhood has in these subbands.

    Parameters
    ----------
    variances : Coefficients
        In the layout of `dwt` by Haar, of any size.

    Returns
    -------
    Tensor
        (B, C, *spatial), in the image's shape.

    Raises
    ------
    ValueError
        If the wavelet is not Haar, whose voxels are the only ones that are correlated within blocks alone.
    """
    if variances.wavelet not in ("haar", "db1") or variances.mode != "periodization":
        raise ValueError(f"variances are known of Haar and periodization, got {variances.wavelet}, {variances.mode}")
    x = variances.approximation
    for details, shape, axes in zip(variances.details, variances.shapes, variances.axes, strict=True):
        x = (x + details.sum(1)) / 2 ** len(axes)
        for axis, size in enumerate(shape):
            if axis in axes:
                x = torch.repeat_interleave(x, 2, dim=2 + axis)
            x = x.narrow(2 + axis, 0, size)
    return x
