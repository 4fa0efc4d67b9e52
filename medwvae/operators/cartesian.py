"""A Cartesian acquisition with one coil, as a measurement."""

from torch import Tensor

from medwvae.operators.fourier import FourierSampling, low_frequency_phasor
from medwvae.operators.measurement import Measurement


def sample_kspace(image: Tensor, mask: Tensor, centre_columns: int = 0) -> Measurement:
    """Keep the k-space samples of `image` under `mask`; the start is the zero-filled inverse.

    With `centre_columns` > 0, that many central columns are known to be sampled: the image's phase is estimated from
    them, and the measurement demodulates by it.
    """
    kspace = FourierSampling(mask, image.shape[1]).forward(image)
    phasor = low_frequency_phasor(kspace, centre_columns) if centre_columns else None
    operator = FourierSampling(mask, image.shape[1], phasor)
    return Measurement(operator.adjoint(kspace), operator, kspace)
