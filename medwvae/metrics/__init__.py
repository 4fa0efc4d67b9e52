"""Image quality against a known truth. Nothing here has a default data range.

    >>> psnr(x, ref, data_range=float(ref.max()), mask=head)
    >>> definition("hfen").text

What each number means, its range and how a mask restricts it are in `medwvae.metrics.definitions` and docs/metrics.md.
"""

from medwvae.metrics.ct import hu_bias, hu_noise, noise_power
from medwvae.metrics.definitions import DEFINITIONS, Definition, definition
from medwvae.metrics.edges import edge_sharpness, gradient_error, hfen
from medwvae.metrics.lesions import lesion_contrast
from medwvae.metrics.multiscale import ms_ssim
from medwvae.metrics.similarity import GAUSSIAN_TAPS, UNIFORM_TAPS, SsimKind, ssim, ssim_map, ssim_tensor
from medwvae.metrics.subbands import subband_errors
from medwvae.metrics.voxels import Array, Image, Mask, masked_mean, nmse, psnr

__all__ = [
    "DEFINITIONS",
    "GAUSSIAN_TAPS",
    "UNIFORM_TAPS",
    "Array",
    "Definition",
    "Image",
    "Mask",
    "SsimKind",
    "definition",
    "edge_sharpness",
    "gradient_error",
    "hfen",
    "hu_bias",
    "hu_noise",
    "lesion_contrast",
    "masked_mean",
    "ms_ssim",
    "nmse",
    "noise_power",
    "psnr",
    "ssim",
    "ssim_map",
    "ssim_tensor",
    "subband_errors",
]
