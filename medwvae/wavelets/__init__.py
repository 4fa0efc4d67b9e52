"""The discrete wavelet transform of images and volumes in PyTorch: any family, any shape, exact inverse.

    >>> coefficients = dwt(volume, levels=(3, 3, 1), spatial_dims=3, wavelet="bior4.4", mode="symmetric")
    >>> coefficients.level(1)["dda"]
    >>> volume = idwt(coefficients)

The guide is docs/wavelets.md; the module needs nothing else of medwvae.
"""

from medwvae.wavelets.coefficients import Coefficients, subband_names
from medwvae.wavelets.exchange import from_pywt, to_ptwt, to_pywt
from medwvae.wavelets.filters import MODES, Mode
from medwvae.wavelets.level import analyse, synthesise
from medwvae.wavelets.transform import DWT, IDWT, dwt, idwt
from medwvae.wavelets.variance import idwt_variance

__all__ = [
    "DWT",
    "IDWT",
    "MODES",
    "Coefficients",
    "Mode",
    "analyse",
    "dwt",
    "from_pywt",
    "idwt",
    "idwt_variance",
    "subband_names",
    "synthesise",
    "to_ptwt",
    "to_pywt",
]
