"""Several receive coils: sampling with their sensitivity maps, simulated or estimated from the calibration lines."""

from functools import lru_cache

import torch
from torch import Tensor

from medwvae.errors import MedwvaeError
from medwvae.operators.base import Operator
from medwvae.operators.fourier import (
    as_complex,
    fourier,
    hann,
    inverse_fourier,
    mirrored_kspace,
    mirrored_mask,
    parts,
)

FLOOR = 0.05
"""Least root sum of squares, as a fraction of its maximum, at which estimated maps are trusted; 0 elsewhere."""


class CoilSampling(Operator):
    """Samples of every coil's k-space: y_c = M F(s_c x e^{iφ̂}), complex (B, coils, *spatial), zero where not sampled.

    SENSE (Pruessmann et al., Magn Reson Med 42, 1999). Its adjoint combines the coils; with maps whose squares add up
    to 1, ‖A‖ ≤ 1.

    Parameters
    ----------
    mask : Tensor
        Sampled positions, bool, (B or 1, 1, *spatial) or broadcastable to it, in FFT order.
    maps : Tensor
        s, complex (B or 1, coils, *spatial).
    channels : {1, 2}
        Of the images.
    phasor : Tensor, optional
        See `FourierSampling`.
    """

    def __init__(self, mask: Tensor, maps: Tensor, channels: int, phasor: Tensor | None = None, dims: int = 2) -> None:
        self.mask: Tensor = mask
        self.maps, self.channels, self.phasor, self.dims = maps, channels, phasor, dims

    def _forward(self, x: Tensor) -> Tensor:
        image = as_complex(x)
        return self._masked(fourier(self.maps * (image if self.phasor is None else image * self.phasor), self.dims))

    def _adjoint(self, y: Tensor) -> Tensor:
        image = (inverse_fourier(self._masked(y), self.dims) * self.maps.conj()).sum(1, keepdim=True)
        return parts(image if self.phasor is None else image * self.phasor.conj(), self.channels)

    def mirrored(self, axes: tuple[int, ...], y: Tensor) -> tuple[Operator, Tensor]:
        """See `Operator.mirrored`."""
        mask, maps = mirrored_mask(self.mask, axes), self.maps.flip(axes)
        phasor = None if self.phasor is None else self.phasor.flip(axes)
        operator = CoilSampling(mask, maps, self.channels, phasor, self.dims)
        return operator, mirrored_kspace(y, mask, axes, self.dims)

    def _masked(self, kspace: Tensor) -> Tensor:
        return torch.where(self.mask, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device))


@lru_cache(maxsize=8)
def birdcage_maps(shape: tuple[int, ...], coils: int, *, radius: float = 1.5, rings: int = 1) -> Tensor:
    """Sensitivities of loops around the object: complex64 (1, coils, *shape), squares add up to 1.

    The Biot-Savart approximation of the usual simulations (1/distance, phase of the angle; Guerquin-Kern et al., IEEE
    TMI 31, 2012), as in SigPy and BART.

    Parameters
    ----------
    shape : (H, W) or (D, H, W)
        In 3D the coils stand on `rings` rings along the first axis.
    radius : float
        Of the ring, in half widths of the image.
    rings : int
        Must divide `coils`.

    Raises
    ------
    ValueError
        If the coils cannot be shared out equally to the rings.
    """
    if coils % rings or (len(shape) == 2 and rings != 1):
        raise ValueError(f"{coils} coils cannot stand on {rings} rings of a {len(shape)}D image")
    *_, y, x = torch.meshgrid(
        *((torch.arange(size, dtype=torch.float64) - size / 2) / (size / 2) for size in shape), indexing="ij"
    )
    z = _axis(shape) if len(shape) == 3 else torch.zeros(())
    per_ring = coils // rings
    maps = []
    for coil in range(coils):
        angle = torch.tensor(2 * torch.pi * (coil % per_ring) / per_ring, dtype=torch.float64)
        right, down = x - radius * angle.cos(), y - radius * angle.sin()
        height = z - ((coil // per_ring) - (rings - 1) / 2) * 2 / rings
        distance = torch.sqrt(right**2 + down**2 + height**2).clamp(min=1e-9)
        maps.append(torch.polar(1 / distance, torch.atan2(right, -down) - angle))
    stacked = torch.stack(maps)
    return (stacked / root_sum_of_squares(stacked[None])[0]).to(torch.complex64)[None]


def root_sum_of_squares(images: Tensor) -> Tensor:
    """√Σ|x_c|² over the coils: (B, coils, *spatial) to real (B, 1, *spatial)."""
    return images.abs().square().sum(1, keepdim=True).sqrt()


def low_resolution_maps(kspace: Tensor, calibration: tuple[int, ...]) -> Tensor:
    """Estimate the maps from the central lines: each coil's low-pass image over their root sum of squares.

    McKenzie et al., Magn Reson Med 47 (2002). The phase is relative to the coils' first principal component, so that
    the object keeps its own phase. Maps are 0 where there is no signal.

    Parameters
    ----------
    kspace : Tensor
        Complex (B, coils, *spatial) in FFT order, fully sampled in the centre.
    calibration : tuple of int
        Sampled lines along each spatial axis.
    """
    dims = len(calibration)
    window = torch.ones((), device=kspace.device)
    for axis, lines in enumerate(calibration):
        taper = hann(kspace.shape[axis - dims], max(lines // 2, 1)).to(kspace.device)
        window = window * taper.reshape(-1, *[1] * (dims - axis - 1))
    images = inverse_fourier(kspace * window, dims)
    flat = images.flatten(2)
    covariance = flat @ flat.mH
    principal = torch.linalg.eigh(covariance).eigenvectors[..., -1]
    virtual = torch.einsum("bc,bcn->bn", principal.conj(), flat).reshape(len(images), 1, *images.shape[2:])
    total = root_sum_of_squares(images)
    trusted = total > FLOOR * total.flatten(1).amax(1).reshape(-1, *[1] * (dims + 1))
    reference = torch.polar(torch.ones_like(virtual.abs()), -virtual.angle())
    maps = images * reference / total.clamp(min=torch.finfo(total.dtype).tiny)
    return torch.where(trusted, maps, torch.zeros((), dtype=maps.dtype, device=maps.device))


def espirit_maps(kspace: Tensor, calibration: int, *, threshold: float = 0.02, crop: float = 0.95) -> Tensor:
    """Estimate the maps by ESPIRiT (Uecker et al., Magn Reson Med 71, 2014), as SigPy does (extra: `mri`).

    Parameters
    ----------
    kspace : Tensor
        Complex (B, coils, *spatial) in FFT order, fully sampled in the centre.
    calibration : int
        Width of the central block.
    threshold, crop : float
        Least singular value of the calibration matrix and least eigenvalue of the maps, as fractions.

    Raises
    ------
    MedwvaeError
        If SigPy is not installed.
    """
    try:
        from sigpy.mri.app import EspiritCalib
    except ModuleNotFoundError as error:
        raise MedwvaeError("ESPIRiT needs SigPy; install medwvae[mri], or use low_resolution_maps") from error
    dims = kspace.ndim - 2
    axes = tuple(range(-dims, 0))
    maps = []
    for one in torch.fft.fftshift(kspace, dim=axes).cpu().numpy():
        estimate = EspiritCalib(one, calib_width=calibration, thresh=threshold, crop=crop, show_pbar=False).run()
        maps.append(torch.from_numpy(estimate))
    # SigPy's transform is centred: its maps belong to the image whose middle is the origin.
    shifted: Tensor = torch.fft.ifftshift(torch.stack(maps), dim=axes)
    return shifted.to(kspace)


def _axis(shape: tuple[int, ...]) -> Tensor:
    return ((torch.arange(shape[0], dtype=torch.float64) - shape[0] / 2) / (shape[0] / 2)).reshape(-1, 1, 1)
