"""Cartesian acquisitions, with one coil or several, as measurements."""

import torch
from torch import Tensor

from medwvae.operators.coils import CoilSampling
from medwvae.operators.fourier import FourierSampling, low_frequency_phasor
from medwvae.operators.measurement import Measurement
from medwvae.operators.noise import complex_gaussian


def sample_kspace(
    image: Tensor,
    mask: Tensor,
    centre_columns: int = 0,
    *,
    centre_rows: int | None = None,
    maps: Tensor | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Measurement:
    """Keep the k-space samples of `image` under `mask`; the start is the zero-filled inverse.

    Parameters
    ----------
    image : Tensor
        (B, C, H, W).
    mask : Tensor
        Sampled positions, bool, broadcastable to k-space, in FFT order.
    centre_columns : int
        Central columns known to be sampled: the image's phase is estimated from them, and the measurement demodulates
        by it. 0 for no demodulation.
    centre_rows : int, optional
        Central rows known to be sampled, where the rows are not sampled in full.
    maps : Tensor, optional
        Sensitivities of several coils, (B or 1, coils, H, W), which the methods know.
    noise : Tensor, optional
        Standard deviation of the noise of every sample, of its real and of its imaginary part, (B or 1, 1, 1, 1), drawn
        by `generator`.

    Raises
    ------
    ValueError
        If there is noise to draw and nothing to draw it by.
    """

    def operator(phasor: Tensor | None) -> FourierSampling | CoilSampling:
        channels = image.shape[1]
        if maps is None:
            return FourierSampling(mask, channels, phasor)
        return CoilSampling(mask, maps, channels, phasor)

    kspace = operator(None).forward(image)
    if noise is not None:
        if generator is None:
            raise ValueError("noise needs a generator")
        kspace = torch.where(mask, complex_gaussian(kspace, noise, generator), 0)
    sampling = operator(low_frequency_phasor(kspace, centre_columns, centre_rows, maps) if centre_columns else None)
    return Measurement(sampling.adjoint(kspace), sampling, kspace, noise=noise)
