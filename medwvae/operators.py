"""Physics of the measurements: what the scanner would have given, and how to stay true to it.

Every image batch is (B, C, H, W): C = 1 for a real (magnitude) image, C = 2 for the real and imaginary parts of a
complex one. k-space is kept in FFT order (zero frequency first), orthonormal, so that the Fourier transform is unitary
and the adjoint of sampling is the zero-filled inverse.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pattern = Literal["random", "equispaced"]


@dataclass  # not frozen: Lightning Fabric converts the precision of a copy's fields
class Measurement:
    """What a restoration method may see.

    Attributes
    ----------
    start : Tensor
        A†y, (B, C, H, W): the noisy or the zero-filled image, demodulated where there is a `phasor`.
    kspace : Tensor or None
        y, complex (B, 1, H, W), zero where not sampled; None for denoising.
    mask : Tensor or None
        Sampled positions, bool, broadcastable to `kspace`.
    sigma : Tensor or None
        Noise standard deviation in image units, (B or 1, 1, 1, 1), for denoising.
    phasor : Tensor or None
        e^{iφ̂}, complex (B, 1, H, W): estimate of the image's smooth phase. Images are kept demodulated, x e^{−iφ̂}, so
        that they are nearly real and positive, as tissue is; k-space is that of the image with its phase.
    label : Tensor or None
        Class of each image (contrast, modality), int64, (B,), for models that read it.
    """

    start: Tensor
    kspace: Tensor | None = None
    mask: Tensor | None = None
    sigma: Tensor | None = None
    phasor: Tensor | None = None
    label: Tensor | None = None

    def __getitem__(self, index: slice) -> "Measurement":
        """Take some images of the batch."""

        def take(x: Tensor | None) -> Tensor | None:
            return x if x is None or len(x) == 1 < len(self.start) else x[index]

        others = (self.kspace, self.mask, self.sigma, self.phasor, self.label)
        return Measurement(self.start[index], *(take(x) for x in others))

    def to(self, device: torch.device) -> "Measurement":
        """Move to a device."""

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)

        others = (self.kspace, self.mask, self.sigma, self.phasor, self.label)
        return Measurement(self.start.to(device), *(move(x) for x in others))

    def project(self, image: Tensor) -> Tensor:
        """Return the image nearest to `image` that agrees with every known k-space sample (exact data consistency).

        Identity when there are no known samples. For real images (C = 1) the mask must be symmetric under k → −k.
        """
        if self.kspace is None or self.mask is None:
            return image
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            kspace = torch.where(self.mask, self.kspace, to_kspace(image, self.phasor))
            return from_kspace(kspace, image.shape[1], self.phasor)

    def conditioned(self) -> Tensor:
        """Return the start image with the noise level, where known, as one more (constant) channel."""
        if self.sigma is None:
            return self.start
        level = self.sigma.expand(len(self.start), 1, *self.start.shape[2:])
        return torch.cat((self.start, level), dim=1)

    def flip(self, axes: tuple[int, ...]) -> "Measurement":
        """Mirror the image axes (of -2, -1): the measurement of the mirrored image, for the flip self-ensemble.

        Mirroring by array reversal is k → −k times a linear phase, so k-space is recomputed from the start image.
        """
        if not axes:
            return self
        start = self.start.flip(axes)
        if self.kspace is None or self.mask is None:
            return replace(self, start=start)
        phasor = None if self.phasor is None else self.phasor.flip(axes)
        # k → −k of the mask: reverse, then roll by one so that frequency zero stays in place.
        mask = self.mask.flip(axes).roll((1,) * len(axes), axes)
        kspace = torch.where(mask, to_kspace(start, phasor), torch.zeros((), device=start.device))
        return replace(self, start=start, kspace=kspace, mask=mask, phasor=phasor)


def as_complex(image: Tensor) -> Tensor:
    """(B, 1 or 2, H, W) real tensor to (B, 1, H, W) complex."""
    if image.shape[1] == 1:
        return torch.complex(image, torch.zeros_like(image))
    return torch.complex(image[:, :1], image[:, 1:])


def magnitude(image: Tensor) -> Tensor:
    """(B, 1 or 2, H, W) to (B, 1, H, W): the modulus of a complex image; a real one as it is."""
    if image.shape[1] == 1:
        return image
    modulus: Tensor = torch.linalg.vector_norm(image, dim=1, keepdim=True)
    return modulus


def to_kspace(image: Tensor, phasor: Tensor | None = None) -> Tensor:
    """F: unitary 2D Fourier transform of image × phasor, (B, 1 or 2, H, W) to complex (B, 1, H, W)."""
    full = as_complex(image)
    kspace: Tensor = torch.fft.fft2(full if phasor is None else full * phasor, norm="ortho")
    return kspace


def from_kspace(kspace: Tensor, channels: int, phasor: Tensor | None = None) -> Tensor:
    """F^H, demodulated: complex (B, 1, H, W) to a real image (`channels` = 1, imaginary part dropped) or 2 channels."""
    image = torch.fft.ifft2(kspace, norm="ortho")
    if phasor is not None:
        image = image * phasor.conj()
    return image.real if channels == 1 else torch.cat((image.real, image.imag), dim=1)


def sample_kspace(image: Tensor, mask: Tensor, centre_columns: int = 0) -> Measurement:
    """Keep the k-space samples of `image` under `mask`; the start is the zero-filled inverse.

    With `centre_columns` > 0, that many central columns are known to be sampled: the image's phase is estimated from
    them, and the measurement demodulates by it.
    """
    kspace = torch.where(mask, to_kspace(image), torch.zeros((), device=image.device))
    phasor = low_frequency_phasor(kspace, centre_columns) if centre_columns else None
    return Measurement(from_kspace(kspace, image.shape[1], phasor), kspace, mask, phasor=phasor)


def low_frequency_phasor(kspace: Tensor, columns: int) -> Tensor:
    """e^{iφ̂} of the low-pass image, complex (B, 1, H, W): a Hann window over the central columns of k-space.

    As in homodyne reconstruction (Noll, Nishimura and Macovski, IEEE TMI 10, 1991).
    """
    height, width = kspace.shape[-2:]
    half = max(columns // 2, 1)
    # Along the fully sampled rows a window twice as wide: less ringing, the same smoothness.
    window = _hann(height, 2 * half)[:, None] * _hann(width, half)
    low_pass = torch.fft.ifft2(kspace * window.to(kspace.device), norm="ortho")
    return torch.polar(torch.ones_like(low_pass.real), low_pass.angle())


def _hann(size: int, half: int) -> Tensor:
    frequency = torch.fft.fftfreq(size, 1 / size).abs() / half
    return torch.where(frequency < 1, 0.5 + 0.5 * torch.cos(torch.pi * frequency), torch.zeros(()))


def truncation_mask(shape: tuple[int, int], factor: int) -> Tensor:
    """Central block of k-space that an acquisition at 1/`factor` of the in-plane resolution covers: (1, 1, H, W) bool.

    Protocol `ixi-td`. Symmetric under k → −k (an unpaired Nyquist line is left out), so real images stay real.
    """
    keeps = []
    for size in shape:
        low = -(-size // factor)
        keeps.append(torch.fft.fftfreq(size, 1 / size).abs() < low / 2)
    return torch.logical_and(keeps[0][:, None], keeps[1][None, :])[None, None]


def cartesian_mask(
    width: int, acceleration: float, centre: float, pattern: Pattern, generator: torch.Generator
) -> Tensor:
    """Columns of a Cartesian acquisition: (1, 1, 1, W) bool in FFT order.

    The lowest `centre` fraction of the columns is kept; of the others, either each with the probability that gives
    W / `acceleration` columns on average (`random`, fastMRI knee) or an equispaced comb with a random offset
    (`equispaced`, fastMRI brain). Source: Zbontar et al., arXiv 1811.08839, section 4.3.
    """
    low = round(width * centre)
    start = (width - low + 1) // 2
    columns = torch.zeros(width, dtype=torch.bool)
    columns[start : start + low] = True
    if pattern == "random":
        probability = (width / acceleration - low) / (width - low)
        columns |= torch.rand(width, generator=generator) < probability
    else:
        # Spacing of the comb adjusted so that comb plus centre make the acceleration (fastMRI's EquispacedFraction).
        spacing = acceleration * (low - width) / (low * acceleration - width)
        offset = int(torch.randint(0, round(spacing), (1,), generator=generator))
        comb = np.around(np.arange(offset, width - 1, spacing)).astype(int)
        columns[torch.from_numpy(comb)] = True
    mask: Tensor = torch.fft.ifftshift(columns)
    return mask[None, None, None]


def smooth_phase(shape: tuple[int, int], generator: torch.Generator, waves: float = 1.0) -> Tensor:
    """Draw a smooth random phase (H, W) in radians, as coils and field inhomogeneity leave it on MR images.

    A second-order polynomial in the normalised coordinates with coefficients drawn in ±π·`waves`.
    """
    coefficients = (torch.rand(6, generator=generator) * 2 - 1) * torch.pi * waves
    y = torch.linspace(-1, 1, shape[0])[:, None]
    x = torch.linspace(-1, 1, shape[1])[None, :]
    terms = (torch.ones_like(x * y), x + 0 * y, y + 0 * x, x * y, x**2 + 0 * y, y**2 + 0 * x)
    return torch.stack([c * term for c, term in zip(coefficients, terms, strict=True)]).sum(0)


def with_phase(image: Tensor, phase: Tensor) -> Tensor:
    """Magnitude image (B, 1, H, W) and phase (H, W) or (B, 1, H, W) to the 2-channel complex image."""
    return torch.cat((image * torch.cos(phase), image * torch.sin(phase)), dim=1)


def rician(image: Tensor, sigma: float | Tensor, generator: torch.Generator) -> Tensor:
    """Magnitude of `image` plus complex Gaussian noise: √((x + σn₁)² + (σn₂)²), protocol `brainweb-rician`.

    `sigma` in image units, a number or a tensor that broadcasts to the image.
    """
    noise = torch.randn((2, *image.shape), generator=generator).to(image.device) * sigma
    return torch.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)


def rician_mean(signal: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """Return the expected magnitude of a Rician variable with true `signal`: σ√(π/2) L_{1/2}(−signal²/2σ²)."""
    from scipy.special import i0e, i1e

    z = signal**2 / (4 * sigma**2)
    mean: NDArray[np.floating] = sigma * np.sqrt(np.pi / 2) * ((1 + 2 * z) * i0e(z) + 2 * z * i1e(z))
    return mean


def remove_rician_bias(mean: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """Invert `rician_mean`: the signal whose expected magnitude is `mean` (0 below the noise floor).

    Koay and Basser, J Magn Reson 179 (2006): here by a monotone look-up table.
    """
    signal = np.linspace(0, max(float(mean.max()), 10 * sigma) + 5 * sigma, 20_000)
    return np.asarray(np.interp(mean, rician_mean(signal, sigma), signal), mean.dtype)
