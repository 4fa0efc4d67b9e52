"""Cartesian acquisitions, with one coil or several, as measurements."""

from torch import Tensor

from medwvae.operators.coils import CoilSampling
from medwvae.operators.fourier import FourierSampling, low_frequency_phasor
from medwvae.operators.measurement import Measurement


def sample_kspace(
    image: Tensor, mask: Tensor, centre_columns: int = 0, *, centre_rows: int | None = None, maps: Tensor | None = None
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
    """

    def operator(phasor: Tensor | None) -> FourierSampling | CoilSampling:
        channels = image.shape[1]
        if maps is None:
            return FourierSampling(mask, channels, phasor)
        return CoilSampling(mask, maps, channels, phasor)

    kspace = operator(None).forward(image)
    sampling = operator(low_frequency_phasor(kspace, centre_columns, centre_rows, maps) if centre_columns else None)
    return Measurement(sampling.adjoint(kspace), sampling, kspace)
