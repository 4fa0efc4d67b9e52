"""Compressed sensing: the image sparse in wavelets among all that agree with the known k-space samples.

Lustig, Donoho and Pauly, Magn Reson Med 58 (2007). The same solver serves undersampled Cartesian k-space (complex
images) and truncated k-space (real ones): there it is super-resolution.
"""

import torch
from torch import Tensor

from medwvae.operators import Measurement, as_complex, magnitude
from medwvae.wavelets import dwt, idwt

LEVELS = 3
FIRST_WEIGHT = 10.0
"""The threshold falls geometrically from this multiple of the weight: continuation, which speeds convergence."""
IMAGINARY_WEIGHT = 4.0
"""Extra weight on what is left in the imaginary part once the phase is removed: it is error in the phase."""


def zero_filled(measurement: Measurement) -> Tensor:
    """Return the magnitude of the zero-filled inverse; for truncated k-space, sinc interpolation."""
    return magnitude(measurement.start).abs()


def cs_wavelet(measurement: Measurement, weight: float, iterations: float) -> Tensor:
    """L1-regularised reconstruction with exact data consistency, by FISTA (Beck and Teboulle 2009).

    The unknown is the magnitude image: a smooth phase, estimated from the fully sampled centre of k-space (as in
    homodyne reconstruction, Noll et al. 1991), is removed first. The Haar transform is shifted at random at each
    iteration, which stands in for the translation-invariant one.

    Parameters
    ----------
    weight : float
        Soft threshold on the details, as a fraction of the largest magnitude in the zero-filled volume.
    iterations : float
        Number of FISTA steps.
    """
    generator = torch.Generator().manual_seed(0)
    complex_image = measurement.start.shape[1] == 2
    phasor = low_frequency_phase(measurement) if complex_image else None
    threshold = weight * float(zero_filled(measurement).amax())
    steps = int(iterations)

    image = guess = measurement.start
    momentum = 1.0
    for step in range(steps):
        factor = max(1.0, FIRST_WEIGHT ** (1 - 2 * step / steps))
        previous, image = image, _sparsify(measurement.project(guess), phasor, threshold * factor, generator)
        last, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        guess = image + (last - 1) / momentum * (image - previous)
    return magnitude(measurement.project(image)).clamp(min=0)


def low_frequency_phase(measurement: Measurement) -> Tensor:
    """e^{iφ} of the low-pass image, complex (S, 1, H, W): Hann window over the columns that every slice has."""
    if measurement.kspace is None or measurement.mask is None:
        raise ValueError("reconstruction needs k-space and its mask")
    height, width = measurement.start.shape[-2:]
    mask = measurement.mask.expand(*measurement.mask.shape[:2], height, width)
    columns = mask.flatten(0, 2).all(0)
    paired = columns & columns.flip(0).roll(1)
    half = int(paired[: width // 2 + 1].long().cumprod(0).sum())
    # Along the fully sampled rows a window twice as wide: less ringing, the same smoothness.
    window = _hann(height, 2 * half)[:, None] * _hann(width, half)
    low_pass = torch.fft.ifft2(measurement.kspace * window.to(measurement.start), norm="ortho")
    return torch.polar(torch.ones_like(low_pass.real), low_pass.angle())


def _hann(size: int, half: int) -> Tensor:
    frequency = torch.fft.fftfreq(size, 1 / size).abs() / max(half, 1)
    return torch.where(frequency < 1, 0.5 + 0.5 * torch.cos(torch.pi * frequency), torch.zeros(()))


def _sparsify(image: Tensor, phasor: Tensor | None, threshold: float, generator: torch.Generator) -> Tensor:
    if phasor is None:
        return _shrink(image, threshold, generator).clamp(min=0)
    flat = as_complex(image) * phasor.conj()
    real = _shrink(flat.real, threshold, generator).clamp(min=0)
    imaginary = _shrink(flat.imag, IMAGINARY_WEIGHT * threshold, generator)
    back = torch.complex(real, imaginary) * phasor
    return torch.cat((back.real, back.imag), dim=1)


def _shrink(image: Tensor, threshold: float, generator: torch.Generator) -> Tensor:
    down, right = torch.randint(0, 2**LEVELS, (2,), generator=generator).tolist()
    coefficients = dwt(image.roll((down, right), (-2, -1)), LEVELS)
    shrunk = coefficients.map(
        lambda name, _, band: band if name == "a" else torch.nn.functional.softshrink(band, threshold)
    )
    return idwt(shrunk).roll((-down, -right), (-2, -1))
