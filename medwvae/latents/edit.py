"""Gain per subband, level and region: smooth the background, leave the lesion."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from medwvae.latents.places import regions, support
from medwvae.wavelets import Coefficients, Mode, dwt, idwt

Gains = Mapping[str, float]
"""Factors by what they act on: a subband ('ad1', 'aa3'), a level ('level1'), 'details', or 'approximation'.

Where several name a subband, the narrowest holds: subband, then level, then details. What none names keeps its value.
"""


def edit(
    image: Tensor,
    gains: Gains,
    mask: Tensor | None = None,
    *,
    inside: Gains | None = None,
    protect: bool = False,
    levels: int | Sequence[int] = 3,
    spatial_dims: int = 2,
    wavelet: str = "db4",
    mode: Mode = "symmetric",
) -> Tensor:
    """Multiply an image's wavelet coefficients by gains outside a mask, and by others inside it.

    Outside and inside are where a coefficient's centre lies (`places.regions`). What is added to the image is the
    inverse transform of the coefficients' change, and only at voxels that a changed coefficient reaches: all others
    keep their bits. So no voxel of the mask changes that is farther than `places.reach(wavelet, j)` from its outside
    (along some axis), where j is the coarsest level of `gains`; likewise outside for `inside`.

    Parameters
    ----------
    image : Tensor
        (B, C, *spatial), floating point; any units.
    gains : mapping of str to float
        See `Gains`; they act outside the mask, or everywhere without one.
    mask : Tensor, optional
        bool, *spatial or (B or 1, 1, *spatial).
    inside : mapping of str to float, optional
        Gains inside the mask; by default nothing changes there.
    protect : bool
        Leave coefficients as they are that lie outside and reach into the mask: without `inside`, no voxel of it
        changes, at the price of a rim around it where little does.
    levels, spatial_dims, wavelet, mode
        Of the transform, see `medwvae.wavelets.dwt`.

    Returns
    -------
    Tensor
        The edited image, of the same shape and type.

    Raises
    ------
    ValueError
        If a gain names nothing that the transform has or is not finite, `inside` comes without a mask, or the mask
        is not bool or has another shape.
    """
    coefficients = dwt(image, levels, spatial_dims, wavelet, mode)
    weights = _weights(coefficients, gains, mask, inside, protect)
    if not weights:
        return image.clone()
    reached = torch.zeros((), dtype=torch.bool, device=image.device)
    for level in range(1, coefficients.levels + 1):
        names = (*coefficients.names(level), "a" * spatial_dims)
        chosen = [weights[f"{name}{level}"] != 0 for name in names if f"{name}{level}" in weights]
        if chosen:
            reached = reached | support(coefficients, level, torch.stack(chosen).any(0))
    change = idwt(coefficients.map(lambda name, level, band: _weighted(band, weights.get(f"{name}{level}"))))
    return torch.where(reached, image + change, image)


def edited(
    coefficients: Coefficients,
    gains: Gains,
    mask: Tensor | None = None,
    *,
    inside: Gains | None = None,
    protect: bool = False,
) -> Coefficients:
    """Return coefficients times their gains: of an image, or the latent of a model whose latent they are.

    The parameters are those of `edit`; the mask lies on the grid of the image that the coefficients decode to.

    Raises
    ------
    ValueError
        As `edit`.
    """
    weights = _weights(coefficients, gains, mask, inside, protect)

    def scaled(name: str, level: int, band: Tensor) -> Tensor:
        weight = weights.get(f"{name}{level}")
        return band if weight is None else band + _weighted(band, weight)

    return coefficients.map(scaled)


def acting(coefficients: Coefficients, gains: Gains) -> dict[str, list[str]]:
    """Return the subbands that each gain names, whether or not a narrower one holds there.

    Raises
    ------
    ValueError
        As `edit`.
    """
    return {
        name: [band for band, _ in _factors(coefficients, gains) if name in _names(coefficients, band)]
        for name in gains
    }


def _weighted(band: Tensor, weight: Tensor | None) -> Tensor:
    return torch.zeros_like(band) if weight is None else band * weight.to(band.real.dtype)


def _weights(
    coefficients: Coefficients, gains: Gains, mask: Tensor | None, inside: Gains | None, protect: bool
) -> dict[str, Tensor]:
    """Return gain − 1 of every coefficient of the subbands that change, (B or 1, 1, *spatial of the level) each."""
    device = coefficients.approximation.device
    if mask is None:
        if inside is not None or protect:
            raise ValueError("gains inside a mask, and its protection, need a mask")
        bands = coefficients.subbands()
        return {
            band: torch.full((1, 1, *bands[band].shape[2:]), factor - 1, dtype=torch.float64, device=device)
            for band, factor in _factors(coefficients, gains)
            if factor != 1
        }
    mask = _checked(mask, coefficients).to(device)
    within = dict(_factors(coefficients, inside or {}))
    found = {}
    levels = range(1, coefficients.levels + 1)
    belonging = {level: regions(coefficients, level, mask, protect=protect) for level in levels}
    for band, factor in _factors(coefficients, gains):
        if factor != 1 or within[band] != 1:
            name, level = _split(band)
            inner, outer = belonging[level][name]
            found[band] = (factor - 1) * outer.double() + (within[band] - 1) * inner.double()
    return found


def _factors(coefficients: Coefficients, gains: Gains) -> Iterator[tuple[str, float]]:
    """Yield every subband with its gain."""
    bands = list(coefficients.subbands())
    levels = [f"level{level}" for level in range(1, coefficients.levels + 1)]
    if unknown := [name for name in gains if name not in {*bands, *levels, "details", "approximation"}]:
        raise ValueError(
            f"no subband or level is called {', '.join(map(repr, unknown))}; have: details, approximation, "
            f"{', '.join(levels)}, {', '.join(bands)}"
        )
    for name, factor in gains.items():
        if not math.isfinite(factor):
            raise ValueError(f"the gain of {name} is {factor}; gains are finite numbers")
    for band in bands:
        yield band, next((float(gains[name]) for name in _names(coefficients, band) if name in gains), 1.0)


def _names(coefficients: Coefficients, band: str) -> tuple[str, ...]:
    """Return what names a subband, the narrowest first."""
    if band == f"{'a' * coefficients.spatial_dims}{coefficients.levels}":
        return band, "approximation"
    return band, f"level{_split(band)[1]}", "details"


def _split(band: str) -> tuple[str, int]:
    """Take 'ad1' apart into letters and level."""
    match = re.fullmatch(r"([ad]+)(\d+)", band)
    assert match is not None, band  # noqa: S101 -- names come from `Coefficients.subbands`
    return match[1], int(match[2])


def _checked(mask: Tensor, coefficients: Coefficients) -> Tensor:
    shape = coefficients.shapes[-1]
    wide = mask[None, None] if mask.ndim == len(shape) else mask
    batch = len(coefficients.approximation)
    if wide.dtype != torch.bool or wide.shape[1:] != (1, *shape) or wide.shape[0] not in (1, batch):
        raise ValueError(
            f"the mask has to be bool and of shape {shape} or ({batch}, 1, {', '.join(map(str, shape))}); "
            f"got {mask.dtype} {tuple(mask.shape)}"
        )
    return wide
