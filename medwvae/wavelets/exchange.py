"""Coefficients to and from the forms of PyWavelets and ptwt."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medwvae.wavelets.coefficients import Coefficients, subband_names
from medwvae.wavelets.filters import Mode, coefficient_length
from medwvae.wavelets.level import longest

LIKE_WAVEDEC2 = ("da", "ad", "dd")
"""Order of (horizontal, vertical, diagonal) in the tuples of PyWavelets' and ptwt's two-dimensional functions."""


def to_pywt(coefficients: Coefficients) -> list[Any]:
    """Return the list of `pywt.wavedecn`, NumPy arrays (B, C, *spatial): [a_J, {'ad': ..., ...}, ..., {...}].

    `pywt.waverecn(..., axes=(2, 3))` takes it back, for as many axes as there are spatial ones.

    Raises
    ------
    ValueError
        If the levels split different axes, for which PyWavelets has no form.
    """
    approximation, *levels = _plain(coefficients)
    return [_array(approximation), *({name: _array(band) for name, band in bands.items()} for bands in levels)]


def from_pywt(
    coefficients: Sequence[Any],
    wavelet: str,
    mode: Mode,
    shape: Sequence[int] | None = None,
) -> Coefficients:
    """Take the list of `pywt.wavedec`, `wavedec2` or `wavedecn`.

    Parameters
    ----------
    coefficients : sequence
        Arrays (*spatial) or (B, C, *spatial).
    wavelet, mode : str
        What they were made with.
    shape : sequence of int, optional
        The image's spatial shape; without it, the largest with so many coefficients.

    Raises
    ------
    ValueError
        If there is no level of details, a subband is missing, or sizes do not fit wavelet, mode and shape.
    """
    if not isinstance(coefficients, Sequence) or len(coefficients) < 2:
        raise ValueError("expected [approximation, details, ...] as pywt.wavedec, wavedec2 or wavedecn return them")
    levels = [_named(level) for level in coefficients[1:]]
    n = len(next(iter(levels[0]), ""))
    names = subband_names(n)[1:]
    if any(set(level) != set(names) for level in levels) or not 1 <= n <= 3:
        raise ValueError(
            f"every level needs the subbands {', '.join(names)}; got {[sorted(level) for level in levels]}"
        )
    details = [torch.stack([_tensor(level[name], n) for name in names], dim=1) for level in levels]
    finest = tuple(longest(size, wavelet, mode) for size in details[-1].shape[3:]) if shape is None else tuple(shape)
    shapes = (*(tuple(d.shape[3:]) for d in details[1:]), finest)
    approximation, axes = _tensor(coefficients[0], n), (tuple(range(n)),) * len(details)
    for low, band, size in zip((approximation, *details), (details[0], *details), (shapes[0], *shapes), strict=True):
        expected = tuple(coefficient_length(s, wavelet, mode) for s in size)
        if tuple(band.shape[3:]) != expected or (low is approximation and tuple(low.shape[2:]) != expected):
            raise ValueError(
                f"{wavelet!r}, {mode!r} gives an image of {size} subbands of {expected}; these have another size"
            )
    return Coefficients(approximation, tuple(details), shapes, axes, wavelet, mode)


def to_ptwt(coefficients: Coefficients) -> Any:
    """Return the form of `ptwt.wavedec` (1D), `wavedec2` (2D) or `wavedec3` (3D); tensors (B, C, *spatial).

    Raises
    ------
    ValueError
        If the levels split different axes, for which ptwt has no form.
    """
    from ptwt.constants import WaveletDetailTuple2d

    approximation, *levels = _plain(coefficients)
    if coefficients.spatial_dims == 1:
        return [approximation, *(bands["d"] for bands in levels)]
    if coefficients.spatial_dims == 2:
        return (
            approximation,
            *(WaveletDetailTuple2d(*(bands[name] for name in LIKE_WAVEDEC2)) for bands in levels),
        )
    return (approximation, *levels)


def _plain(coefficients: Coefficients) -> list[Any]:
    if any(len(axes) != coefficients.spatial_dims for axes in coefficients.axes):
        raise ValueError(
            f"these levels split different axes, {coefficients.axes}; only dwt and idwt have a form for that"
        )
    return [coefficients.approximation, *(dict(bands) for _, bands in coefficients)]


def _named(level: Any) -> Mapping[str, Any]:
    if isinstance(level, Mapping):
        return level
    if isinstance(level, tuple | list):
        return dict(zip(LIKE_WAVEDEC2, level, strict=True))
    return {"d": level}


def _array(band: Tensor) -> Any:
    return band.detach().cpu().numpy()


def _tensor(band: Any, spatial_dims: int) -> Tensor:
    if band is None:
        raise ValueError("a subband is None; put zeros of its shape in its place")
    tensor = torch.as_tensor(band)
    if tensor.ndim not in (spatial_dims, spatial_dims + 2):
        raise ValueError(
            f"expected subbands (*spatial) or (B, C, *spatial) of {spatial_dims}D, got {tuple(tensor.shape)}"
        )
    return tensor[None, None] if tensor.ndim == spatial_dims else tensor
