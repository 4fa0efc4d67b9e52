"""Radial k-space by the non-uniform Fourier transform of torchkbnufft (extra: `radial`)."""

import warnings
from typing import Any

import torch
from torch import Tensor

from medwvae.errors import MedwvaeError
from medwvae.operators.base import Operator
from medwvae.operators.fourier import as_complex, parts

GOLDEN_ANGLE = torch.pi * (5**0.5 - 1) / 2


class RadialSampling(Operator):
    """Samples on spokes through the centre of k-space: y = F_Ω (s_c x), complex (B, coils, samples).

    Kaiser-Bessel gridding (Fessler and Sutton, IEEE TSP 51, 2003; Muckley et al., torchkbnufft, ISMRM sampling
    workshop 2020), orthonormal. `pseudo_inverse` is gridding with ramp density compensation, as in filtered
    back-projection. 2D and 3D (a trajectory decides).

    Parameters
    ----------
    shape : tuple of int
        Of the images.
    trajectory : Tensor
        k-space positions in radians per pixel, (dims, samples), see `radial_trajectory`.
    channels : {1, 2}
        Of the images.
    maps : Tensor, optional
        Coil sensitivities, complex (B or 1, coils, *spatial).

    Raises
    ------
    MedwvaeError
        If torchkbnufft is not installed.
    """

    def __init__(self, shape: tuple[int, ...], trajectory: Tensor, channels: int, maps: Tensor | None = None) -> None:
        self.shape, self.channels, self.dims, self.maps = shape, channels, len(shape), maps
        self._trajectory = [trajectory]  # in a list: it has no batch axis to take images from
        self._transforms: dict[tuple[torch.dtype, torch.device], tuple[Any, Any]] = {}
        _torchkbnufft()

    @property
    def trajectory(self) -> Tensor:
        """Positions in k-space, (dims, samples)."""
        return self._trajectory[0]

    def _forward(self, x: Tensor) -> Tensor:
        image = as_complex(x)
        forward, _ = self._pair(x.dtype, x.device)
        result: Tensor = forward(image if self.maps is None else image * self.maps, self._omega(x), norm="ortho")
        return result

    def _adjoint(self, y: Tensor) -> Tensor:
        real = y.real
        _, adjoint = self._pair(real.dtype, y.device)
        image: Tensor = adjoint(y, self._omega(real), norm="ortho")
        if self.maps is not None:
            image = (image * self.maps.conj()).sum(1, keepdim=True)
        return parts(image, self.channels)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        density = self._omega(y.real).norm(dim=0)
        # A spoke's innermost sample stands for a disc of half its spacing, not for nothing.
        density = density.clamp(min=float(density[density > 0].min()) / 4)
        start = self._adjoint(y * density)
        again = self._forward(start)
        product = (again.conj() * y).real.flatten(1).sum(1) / again.abs().square().flatten(1).sum(1)
        return start * product.reshape(-1, *[1] * (start.ndim - 1))

    def _omega(self, like: Tensor) -> Tensor:
        return self.trajectory.to(like)

    def _pair(self, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
        key = (dtype, device)
        if key not in self._transforms:
            kb = _torchkbnufft()
            self._transforms[key] = (
                kb.KbNufft(im_size=self.shape, dtype=dtype, device=device),
                kb.KbNufftAdjoint(im_size=self.shape, dtype=dtype, device=device),
            )
        return self._transforms[key]


def radial_trajectory(spokes: int, samples: int, *, golden: bool = True) -> Tensor:
    """Diameters through the centre of 2D k-space: (2, spokes · samples) in radians per pixel.

    Golden-angle order (Winkelmann et al., IEEE TMI 26, 2007), or equal angles over a half circle.
    """
    step = GOLDEN_ANGLE if golden else torch.pi / spokes
    angles = torch.arange(spokes, dtype=torch.float64) * step
    radius = (torch.arange(samples, dtype=torch.float64) - samples // 2) * 2 * torch.pi / samples
    return torch.stack((angles.sin()[:, None] * radius, angles.cos()[:, None] * radius)).flatten(1)


def _torchkbnufft() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is compiled with torch.jit.script
            import torchkbnufft
    except ModuleNotFoundError as error:
        raise MedwvaeError("radial k-space needs torchkbnufft; install medwvae[radial]") from error
    return torchkbnufft
