"""Compressed sensing: the image sparse in wavelets among all that agree with the known k-space samples.

Lustig, Donoho and Pauly, Magn Reson Med 58 (2007). The same solver serves undersampled Cartesian k-space (complex
images) and truncated k-space (real ones): there it is super-resolution.
"""

import torch
from torch import Tensor

from medwvae.operators import Measurement, magnitude
from medwvae.wavelets import dwt, idwt

LEVELS = 3
FIRST_WEIGHT = 10.0
"""The threshold falls geometrically from this multiple of the weight: continuation, which speeds convergence."""
IMAGINARY_WEIGHT = 4.0
"""Extra weight on what the demodulation leaves in the imaginary part: it is error in the phase."""


def zero_filled(measurement: Measurement) -> Tensor:
    """Return the magnitude of the zero-filled inverse; for truncated k-space, sinc interpolation."""
    return magnitude(measurement.start).abs()


def symlet(moments: float) -> str:
    """Return the name of the symlet with so many vanishing moments; 1 is Haar."""
    return "haar" if moments == 1 else f"sym{int(moments)}"


def cs_wavelet(measurement: Measurement, weight: float, iterations: float, moments: float = 1) -> Tensor:
    """L1-regularised reconstruction with exact data consistency, by FISTA (Beck and Teboulle 2009).

    Noisy samples (`Measurement.noise`) are not agreed with exactly: least ½ ‖A x − y‖² + threshold · ‖details‖₁.

    The unknown is the magnitude image: a complex measurement is demodulated (`Measurement.phasor`), its real part is
    kept non-negative and its imaginary part small. The transform is shifted at random at each iteration, which stands
    in for the translation-invariant one.

    Parameters
    ----------
    weight : float
        Soft threshold on the details, as a fraction of the largest magnitude in the zero-filled volume.
    iterations : float
        Number of FISTA steps.
    moments : float
        Vanishing moments of the symlet.
    """
    generator = torch.Generator().manual_seed(0)
    threshold = weight * float(zero_filled(measurement).amax())
    steps, wavelet = int(iterations), symlet(moments)

    image = guess = measurement.start
    momentum = 1.0
    for step in range(steps):
        factor = max(1.0, FIRST_WEIGHT ** (1 - 2 * step / steps))
        previous, image = image, _sparsify(_nearer(measurement, guess), threshold * factor, wavelet, generator)
        last, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        guess = image + (last - 1) / momentum * (image - previous)
    return magnitude(measurement.averaged(image)).clamp(min=0)


def _nearer(measurement: Measurement, image: Tensor) -> Tensor:
    """Return the image put on exact data, or a step towards noisy ones: down the gradient of ½ ‖A x − y‖²."""
    if measurement.noise is None or measurement.operator is None or measurement.data is None:
        return measurement.project(image)
    return image - measurement.operator.gradient(image, measurement.data)


def _sparsify(image: Tensor, threshold: float, wavelet: str, generator: torch.Generator) -> Tensor:
    real = _shrink(image[:, :1], threshold, wavelet, generator).clamp(min=0)
    if image.shape[1] == 1:
        return real
    return torch.cat((real, _shrink(image[:, 1:], IMAGINARY_WEIGHT * threshold, wavelet, generator)), dim=1)


def _shrink(image: Tensor, threshold: float, wavelet: str, generator: torch.Generator) -> Tensor:
    down, right = torch.randint(0, 2**LEVELS, (2,), generator=generator).tolist()
    coefficients = dwt(image.roll((down, right), (-2, -1)), LEVELS, wavelet=wavelet)
    shrunk = coefficients.map_stacked(
        lambda kind, _, band: band if kind == "a" else torch.nn.functional.softshrink(band, threshold)
    )
    return idwt(shrunk).roll((-down, -right), (-2, -1))
