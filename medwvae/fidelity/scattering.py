"""Features of images without training or weights: second-order wavelet scattering with Morlet filters, in 2D.

Mallat 2012, *Group invariant scattering*; Bruna and Mallat 2013, *Invariant scattering convolution networks*. An image
x is convolved with complex wavelets ψ of scale j and orientation θ, its modulus taken, and again with coarser ones:
S₀ = x ∗ φ, S₁ = |x ∗ ψ₁| ∗ φ, S₂ = ||x ∗ ψ₁| ∗ ψ₂| ∗ φ. Brightness, then strength of edges by scale and orientation,
then how these vary in space. All convolutions are products of discrete Fourier transforms.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Path = tuple[tuple[int, int], ...]
"""Wavelets a coefficient went through, (scale j, orientation) each: () is S₀; j = 0 is the finest."""

_SIGMA: Final = 0.8
_FREQUENCY: Final = 0.75 * math.pi
# Copies of a filter's spectrum that aliasing adds: the next one, 17/4 π or 10 standard deviations off, is below 1e-24.
_NEIGHBOURS: Final = range(-2, 3)


@dataclass(frozen=True)
class FilterBank:
    """Fourier transforms (real) of the filters on a periodic grid.

    Attributes
    ----------
    low : array, (H, W)
        φ̂, 1 at frequency zero.
    waves : dict of (j, orientation) to array, (H, W)
        ψ̂, 0 at frequency zero; orientation l oscillates along the angle π l / L from axis −2 towards axis −1.
    """

    low: NDArray[np.float64]
    waves: dict[tuple[int, int], NDArray[np.float64]]


def filter_bank(shape: tuple[int, int], scales: int, orientations: int) -> FilterBank:
    """Return Morlet wavelets at `scales` octaves and `orientations` angles in [0, π), and their Gaussian low-pass.

    Envelopes and centre frequencies are the usual ones (kymatio's, after Bruna and Mallat 2013): σ_j = 0.8 · 2^j
    pixels, ξ_j = 3π/4 · 2^−j, eccentricity 4/L but at most 1; of φ, σ = 0.8 · 2^(J−1). One factor on all ψ makes the
    Littlewood–Paley sum |φ̂(ω)|² + ½ Σ (|ψ̂(ω)|² + |ψ̂(−ω)|²) at most 1 (Mallat 2012): no distance is expanded.
    """
    slant = min(1.0, 4 / orientations)
    low = _gabor(shape, _SIGMA * 2 ** (scales - 1), 0.0, 0.0, 1.0)
    low /= low[0, 0]
    waves = {}
    for j, turn in product(range(scales), range(orientations)):
        angle, sigma = math.pi * turn / orientations, _SIGMA * 2**j
        wave = _gabor(shape, sigma, angle, _FREQUENCY / 2**j, slant)
        envelope = _gabor(shape, sigma, angle, 0.0, slant)
        waves[j, turn] = wave - wave[0, 0] / envelope[0, 0] * envelope
    power = sum((wave**2 for wave in waves.values()), np.zeros(shape))
    power = (power + np.roll(power[::-1, ::-1], 1, (0, 1))) / 2
    # Where φ alone reaches 1 (frequency zero) ψ has nothing; elsewhere the least room decides.
    where = power > 1e-9 * power.max()
    factor = math.sqrt(float(np.min((1 - low[where] ** 2) / power[where])))
    return FilterBank(low, {key: factor * wave for key, wave in waves.items()})


def _gabor(shape: tuple[int, int], sigma: float, angle: float, frequency: float, slant: float) -> NDArray[np.float64]:
    """Fourier transform of a sampled, periodised Gaussian of unit sum times exp(i ξ·u)."""
    total = np.zeros(shape)
    axes = [2 * math.pi * np.fft.fftfreq(size) for size in shape]
    for down, across in product(_NEIGHBOURS, _NEIGHBOURS):
        a = (axes[0] + 2 * math.pi * down)[:, None]
        b = (axes[1] + 2 * math.pi * across)[None, :]
        along = a * math.cos(angle) + b * math.sin(angle) - frequency
        aside = b * math.cos(angle) - a * math.sin(angle)
        total += np.exp(-0.5 * sigma**2 * (along**2 + (aside / slant) ** 2))
    return total


class Scattering(nn.Module):
    """Scattering maps of (B, C, H, W) images of any size; no parameters. Computed in float32, or float64 if given.

    Parameters
    ----------
    scales : int
        Octaves J; structure up to about 2^J pixels is described.
    orientations : int
        Angles L in [0, π).

    Notes
    -----
    Images are mirrored at their border (half-sample symmetric) by at least 2^J pixels. The modulus of scale j is kept
    at every 2^(j−1)-th pixel: aliasing changes maps by at most 2 % of their largest value (tested on white noise).
    """

    def __init__(self, scales: int = 4, orientations: int = 4) -> None:
        super().__init__()
        if scales < 1 or orientations < 1:
            raise ValueError(f"scattering needs scales and orientations >= 1, got {scales} and {orientations}")
        self.scales, self.orientations = scales, orientations
        self._banks: dict[tuple[int, int, torch.dtype, torch.device], tuple[Tensor, dict[tuple[int, int], Tensor]]] = {}

    def paths(self) -> list[Path]:
        """Return every path in the order of `maps`: S₀, all of S₁, all of S₂ (second scale coarser than the first)."""
        waves = list(product(range(self.scales), range(self.orientations)))
        second = [(first, then) for first in waves for then in waves if then[0] > first[0]]
        return [(), *((wave,) for wave in waves), *second]

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return S of every path of `paths`, (B, C, h, w) each at its own resolution, mirrored border cut off."""
        padded, spans = self._padded(x)
        low, waves = self._bank((padded.shape[-2], padded.shape[-1]), padded)
        spectra = {(): torch.fft.fft2(padded)}
        first: dict[Path, Tensor] = {}
        found: dict[Path, Tensor] = {(): self._smoothed(spectra[()], low, 1, spans)}
        for key, wave in waves.items():
            stride = self._stride(key[0])
            spectrum = torch.fft.fft2(torch.fft.ifft2(_folded(spectra[()] * wave, stride)).abs())
            first[(key,)] = spectrum
            found[(key,)] = self._smoothed(spectrum, _corner(low, stride), stride, spans)
        for path, spectrum in first.items():
            here = self._stride(path[0][0])
            for key, wave in waves.items():
                if key[0] > path[0][0]:
                    stride = self._stride(key[0])
                    product_ = spectrum * _corner(wave, here)
                    second = torch.fft.fft2(torch.fft.ifft2(_folded(product_, stride // here)).abs())
                    found[(*path, key)] = self._smoothed(second, _corner(low, stride), stride, spans)
        return [found[path] for path in self.paths()]

    def _stride(self, j: int) -> int:
        return 1 << max(j - 1, 0)

    def _smoothed(self, spectrum: Tensor, low: Tensor, stride: int, spans: tuple[slice, slice]) -> Tensor:
        smooth: Tensor = torch.fft.ifft2(spectrum * low).real
        rows, columns = (slice(s.start // stride, -(-s.stop // stride)) for s in spans)
        return smooth[..., rows, columns]

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[slice, slice]]:
        if x.ndim != 4 or x.numel() == 0:
            raise ValueError(f"scattering is for images (B, C, H, W), not for shape {tuple(x.shape)}; 3D is not built")
        if not x.is_floating_point():
            raise TypeError(f"scattering needs floating-point images, got {x.dtype}")
        x = x if x.dtype == torch.float64 else x.float()
        unit = 2**self.scales
        spans = []
        for axis in (2, 3):
            size = x.shape[axis]
            whole = unit * (math.ceil(size / unit) + 2)
            index = (torch.arange(whole, device=x.device) - unit) % (2 * size)
            x = x.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
            spans.append(slice(unit, unit + size))
        return x, (spans[0], spans[1])

    def _bank(self, shape: tuple[int, int], like: Tensor) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
        key = (*shape, like.dtype, like.device)
        if key not in self._banks:
            bank = filter_bank(shape, self.scales, self.orientations)
            waves = {name: torch.from_numpy(wave).to(like) for name, wave in bank.waves.items()}
            self._banks[key] = (torch.from_numpy(bank.low).to(like), waves)
        return self._banks[key]


def _folded(spectrum: Tensor, stride: int) -> Tensor:
    """Spectrum of every `stride`-th sample along both axes: the mean over the aliases."""
    if stride == 1:
        return spectrum
    h, w = spectrum.shape[-2] // stride, spectrum.shape[-1] // stride
    return spectrum.reshape(*spectrum.shape[:-2], stride, h, stride, w).mean((-4, -2))


def _corner(filter_: Tensor, stride: int) -> Tensor:
    """Fourier transform of a filter on the grid of every `stride`-th pixel: its lowest frequencies."""
    for axis in (-2, -1) if stride > 1 else ():
        size = filter_.shape[axis] // stride
        index = torch.fft.fftfreq(size, 1 / size, device=filter_.device).round().long()
        filter_ = filter_.index_select(axis, index % (size * stride))
    return filter_


class ScatteringFeatures(nn.Module):
    """One vector per image from its scattering maps: where structure lies, and what its texture is.

    S₀ and S₁ are averaged over the cells of a `grid` × `grid` partition of the image, because heads of one pose differ
    in where their edges are; S₂ is averaged over the whole image. Averages a are compressed to
    sign(a) · log(1 + |a| / `floor`) (Bruna and Mallat 2013 take the logarithm; the floor keeps noise of empty
    background from counting). Channels are concatenated.

    Parameters
    ----------
    scales, orientations : int
        See `Scattering`.
    grid : int
        Cells per axis. 1, a global average, does not see where things are; 4 and more, with some tens of images, mostly
        measures how heads of different people differ in shape (docs/fidelity.md).
    floor : float
        In the unit of the images; 0.01 is meant for images of range about 1.
    """

    def __init__(self, scales: int = 4, orientations: int = 4, grid: int = 2, floor: float = 0.01) -> None:
        super().__init__()
        if grid < 1 or not floor > 0:
            raise ValueError(f"scattering features need grid >= 1 and floor > 0, got {grid} and {floor}")
        self.scattering = Scattering(scales, orientations)
        self.grid, self.floor = grid, floor

    @property
    def name(self) -> str:
        """What to write beside a number that was measured in these features."""
        s = self.scattering
        return f"scattering J={s.scales} L={s.orientations} grid={self.grid} floor={self.floor:g}"

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return features of (B, C, H, W) images, (B, F), no unit; F = C · ((1 + J L) grid² + L² J (J − 1) / 2).

        Raises
        ------
        ValueError
            If `x` is no batch of 2D images.
        """
        with torch.autocast(x.device.type, enabled=False):
            maps = self.scattering.maps(x)
        parts = []
        for path, values in zip(self.scattering.paths(), maps, strict=True):
            cells = self.grid if len(path) < 2 else 1
            parts.append(nn.functional.adaptive_avg_pool2d(values, cells).flatten(1))
        averages = torch.cat(parts, 1)
        return averages.sign() * torch.log1p(averages.abs() / self.floor)
