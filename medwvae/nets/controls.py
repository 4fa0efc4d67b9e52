"""Controls of a rate-matched comparison that train nothing: what a plain wavelet transform keeps at the same rate."""

import math
from collections.abc import Iterable
from typing import Unpack

import pywt
import torch
from torch import Tensor

from medwvae.errors import ConfigError
from medwvae.nets.latent import Latent, LatentModel, Posterior, only
from medwvae.nets.normal_prior import Options
from medwvae.nets.rates import kept_subbands
from medwvae.nets.zones import Zone
from medwvae.wavelets import Coefficients, Mode, dwt, idwt


class Control(LatentModel):
    """A fixed transform behind the interface of a `LatentModel`: no parameters, no density, nothing to draw from."""

    has_density = False

    def __init__(self, wavelet: str, mode: Mode, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        if not pywt.Wavelet(wavelet).orthogonal:
            raise ConfigError(f"a control needs an orthogonal wavelet, for its largest coefficients; {wavelet} is none")
        self.wavelet, self.mode = wavelet, mode
        self.log_sigma.requires_grad_(False)

    def _transform(self, x: Tensor, levels: int) -> Coefficients:
        with torch.autocast(x.device.type, enabled=False):
            return dwt(x.float(), levels, self.dims, self.wavelet, self.mode)

    def _layout(self, z: Tensor, shape: tuple[int, ...], levels: int) -> Coefficients:
        return self._transform(z.new_zeros((len(z), self.channels, *shape)), levels)


class KeptSubbands(Control):
    """Coarse subbands alone, the rest zero ("LL only").

    Latent: the approximation of level L, then its kept detail subbands as channels.

    Parameters
    ----------
    rate : int
        Values of the image (pixels · channels) per latent value, see `kept_subbands`.
    extra : tuple of str, optional
        Detail subbands kept of level L.
    wavelet, mode : str
        Transform, see `medwvae.wavelets.dwt`; `periodization` has exactly pixels / rate values.
    **options
        See `LatentModel`.
    """

    def __init__(
        self,
        *,
        rate: int,
        extra: tuple[str, ...] | None = None,
        wavelet: str = "haar",
        mode: Mode = "periodization",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(wavelet, mode, **options)
        self.cut, self.names = kept_subbands(rate, self.dims, extra)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`; the scale is 0."""
        coefficients = self._transform(x, self.cut)
        bands = coefficients.level(self.cut)
        details = (torch.cat([bands[name] for name in self.names], dim=1),) if self.names else ()
        mean = (coefficients.approximation, *details)
        return Posterior(mean, tuple(part.new_zeros(()) for part in mean))

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        layout = self._layout(z[0], shape, self.cut)
        kept = dict(zip(self.names, torch.split(z[1], self.channels, dim=1), strict=True)) if self.names else {}
        coarsest = torch.stack([kept.get(name, zero) for name, zero in layout.level(self.cut).items()], dim=1)
        return idwt(layout.replace(z[0], (coarsest, *layout.details[1:])))


class KeptZone(Control):
    """The k = values / rate coefficients with the largest mean square over training images, the rest zero.

    Call `measure` first. Latent: one tensor in Mallat's layout.

    Parameters
    ----------
    rate : int
        Values of the image per kept coefficient.
    shape : tuple of int
        Spatial shape of all images.
    levels : int
        J of the transform.
    wavelet : str
        Family; the border is periodic.
    **options
        See `LatentModel`.
    """

    def __init__(
        self,
        *,
        rate: int,
        shape: tuple[int, ...],
        levels: int = 4,
        wavelet: str = "haar",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(wavelet, "periodization", **options)
        self.levels, self.shape = levels, shape
        grid = self._transform(torch.zeros(1, self.channels, *shape), levels).pack().shape[1:]
        self.zone = Zone(shape, tuple(grid), self.channels * math.prod(shape) // rate)

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """See `LatentModel`."""
        return self.zone.count

    def measure(self, images: Iterable[Tensor]) -> None:
        """See `LatentModel`: choose the zone."""
        self.zone.measure(self._transform(image, self.levels).pack().square() for image in images)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`; the scale is 0."""
        inside = (self.zone(tuple(x.shape[2:])),)
        kept = only((self._transform(x, self.levels).pack(),), inside)
        return Posterior(kept, (kept[0].new_zeros(()),), inside)

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        return idwt(self._layout(z[0], shape, self.levels).unpack(z[0]))


class LargestCoefficients(Control):
    """The k = pixels · channels / rate largest coefficients of each image's orthonormal transform, the rest zero.

    The best approximation in k terms of the basis (Mallat 2008, section 9.2). It is no fair latent: which coefficients
    they are differs from image to image and costs bits beyond their values, `position_bits`; and channels count as
    pixels. Latent: one tensor in Mallat's layout, zero where nothing was kept.

    Parameters
    ----------
    rate : int
        Values of the image per kept coefficient.
    levels : int
        J of the transform.
    wavelet, mode : str
        Transform, see `medwvae.wavelets.dwt`.
    **options
        See `LatentModel`.
    """

    def __init__(
        self,
        *,
        rate: int,
        levels: int = 4,
        wavelet: str = "haar",
        mode: Mode = "periodization",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(wavelet, mode, **options)
        if rate < 1:
            raise ConfigError(f"the rate of a control is 1 or more, not {rate}")
        self.rate, self.levels = rate, levels

    def latent_values(self, shape: tuple[int, ...]) -> int:
        """Return k, at least 1."""
        return max(1, self.channels * math.prod(shape) // self.rate)

    def position_bits(self, shape: tuple[int, ...]) -> float:
        """Return the bits that name the positions of k coefficients among all, log₂ (n over k), for one image."""
        n, k = self.channels * math.prod(shape), self.latent_values(shape)
        return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """See `LatentModel`; the scale is 0."""
        packed = self._transform(x, self.levels).pack()
        values = packed.flatten(1)
        chosen = values.abs().topk(self.latent_values(tuple(x.shape[2:])), dim=1).indices
        kept = torch.zeros_like(values).scatter(1, chosen, values.gather(1, chosen)).reshape(packed.shape)
        return Posterior((kept,), (kept.new_zeros(()),))

    def decode(self, z: Latent, shape: tuple[int, ...], label: Tensor | None = None) -> Tensor:
        """See `LatentModel`."""
        return idwt(self._layout(z[0], shape, self.levels).unpack(z[0]))
