"""Noise: Gaussian, Rician and Poisson in the image, photons in the sinogram; what they do to a mean."""

import math
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Signal = TypeVar("Signal", Tensor, NDArray[np.floating])


def gaussian(image: Tensor, sigma: float | Tensor, generator: torch.Generator) -> Tensor:
    """Additive white noise: x + σn. `sigma` in image units, a number or a tensor that broadcasts to the image."""
    return image + torch.randn(image.shape, generator=generator).to(image.device) * sigma


def rician(image: Tensor, sigma: float | Tensor, generator: torch.Generator) -> Tensor:
    """Magnitude of `image` plus complex Gaussian noise: √((x + σn₁)² + (σn₂)²), protocol `brainweb-rician`.

    `sigma` in image units, a number or a tensor that broadcasts to the image.
    """
    noise = torch.randn((2, *image.shape), generator=generator).to(image.device) * sigma
    return torch.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)


def poisson(image: Tensor, counts: float, maximum: float | Tensor, generator: torch.Generator) -> Tensor:
    """Count photons: Poisson(c x / max) max / c, where `counts` c is the expected count at the `maximum`.

    Its mean is x (negative values count as 0), its variance x max / c.
    """
    scale = counts / maximum
    expected = (image.clamp(min=0) * scale).cpu()
    return torch.poisson(expected, generator=generator).to(image.device) / scale


def complex_gaussian(kspace: Tensor, sigma: float | Tensor, generator: torch.Generator) -> Tensor:
    """Receiver noise: independent Gaussian noise of `sigma` in the real and in the imaginary part of k-space."""
    noise = torch.randn((2, *kspace.shape), generator=generator).to(kspace.device)
    return kspace + torch.complex(noise[0], noise[1]) * sigma


def low_dose(
    sinogram: Tensor,
    photons: float,
    generator: torch.Generator,
    *,
    scale: float = 1.0,
    electronic: float = 0.0,
    floor: float = 0.1,
) -> Tensor:
    """Line integrals as a scanner with few photons gives them: −ln(N / N₀) / `scale`.

    N ~ Poisson(N₀ e^{−`scale`·p}) + `electronic`·n, at least `floor`. With N₀ = 4096, no electronic noise and a floor
    of 0.1 the simulation of LoDoPaB-CT (Leuschner et al., Scientific Data 8, 2021), where `scale` is μmax.

    Parameters
    ----------
    photons : float
        N₀, expected photons per detector element without an object.
    scale : float
        Attenuation per unit of the line integrals; their product is the exponent of Beer and Lambert.
    electronic : float
        Standard deviation of the electronic noise, in photons.
    """
    expected = photons * torch.exp(-scale * sinogram)
    counts = torch.poisson(expected.cpu(), generator=generator).to(sinogram.device)
    if electronic:
        counts = gaussian(counts, electronic, generator)
    return -torch.log(counts.clamp(min=floor) / photons) / scale


def anscombe(counts: NDArray[np.floating]) -> NDArray[np.floating]:
    """Stabilise the variance of Poisson counts to about 1: 2√(n + 3/8) (Anscombe, Biometrika 35, 1948)."""
    return np.asarray(2 * np.sqrt(np.maximum(counts, 0) + 0.375), counts.dtype)


def inverse_anscombe(mean: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the expected count whose stabilised values have this mean, without bias (0 below that of no count).

    Closed form of Mäkitalo and Foi, IEEE TIP 20 (2011).
    """
    d = np.maximum(mean, 2 * np.sqrt(0.375))
    root = np.sqrt(1.5)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 0.125
    return np.asarray(np.maximum(counts, 0), mean.dtype)


def rician_mean(signal: Signal, sigma: float | Tensor) -> Signal:
    """Return the expected magnitude of a Rician variable with true `signal`: σ√(π/2) L_{1/2}(−signal²/2σ²).

    Of an array, or of a tensor, differentiable.
    """
    from scipy import special as of_arrays

    special: Any = torch.special if isinstance(signal, Tensor) else of_arrays
    z: Any = signal**2 / (4 * sigma**2)
    mean: Signal = sigma * math.sqrt(math.pi / 2) * ((1 + 2 * z) * special.i0e(z) + 2 * z * special.i1e(z))
    return mean


def remove_rician_bias(mean: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """Invert `rician_mean`: the signal whose expected magnitude is `mean` (0 below the noise floor).

    Koay and Basser, J Magn Reson 179 (2006): here by a monotone look-up table.
    """
    signal = np.linspace(0, max(float(mean.max()), 10 * sigma) + 5 * sigma, 20_000)
    return np.asarray(np.interp(mean, rician_mean(signal, sigma), signal), mean.dtype)
