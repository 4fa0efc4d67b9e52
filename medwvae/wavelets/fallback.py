"""One level in plain PyTorch, for devices and machines without compiled kernels. Same arguments, same results."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medwvae.wavelets.filters import Mode, coefficient_length, is_haar
from medwvae.wavelets.matrices import Kind, banded


class _Rows(NamedTuple):
    """An operator by rows of equal length (ELL): columns (R, E), taps (E, R); short rows end in zero taps."""

    columns: Tensor
    low: Tensor
    high: Tensor


def split(x: Tensor, wavelet: str, mode: Mode, adjoint: bool) -> tuple[Tensor, Tensor]:
    """Return low band and details of (B, C, *spatial): analysis, or the adjoint of synthesis."""
    haar = is_haar(wavelet) and not any(size % 2 for size in x.shape[2:])
    bands = [x * 2 ** ((2 - x.ndim) / 2) if haar else x]
    for axis in range(2, x.ndim):
        if haar:
            halves = [(_every_second(band, axis, 0), _every_second(band, axis, 1)) for band in bands]
            bands = [band for even, odd in halves for band in (even + odd, even - odd)]
            continue
        rows = _rows(wavelet, mode, x.shape[axis], "synthesis adjoint" if adjoint else "analysis", x.dtype, x.device)
        bands = [_weighted(band, axis, rows.columns, taps) for band in bands for taps in (rows.low, rows.high)]
    return bands[0], torch.stack(bands[1:], dim=1)


def merge(low: Tensor, details: Tensor, shape: tuple[int, ...], wavelet: str, mode: Mode, adjoint: bool) -> Tensor:
    """Return the image (B, C, *shape): synthesis, or the adjoint of analysis."""
    parts = [low, *details.unbind(1)]
    haar = is_haar(wavelet) and not any(size % 2 for size in shape)
    for axis in range(low.ndim - 1, 1, -1):
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        if haar:
            parts = [torch.stack((a + d, a - d), dim=axis + 1).flatten(axis, axis + 1) for a, d in pairs]
            continue
        kind: Kind = "analysis adjoint" if adjoint else "synthesis"
        rows = _rows(wavelet, mode, shape[axis - 2], kind, low.dtype, low.device)
        parts = [
            _weighted(a, axis, rows.columns, rows.low) + _weighted(d, axis, rows.columns, rows.high) for a, d in pairs
        ]
    return parts[0] * 2 ** (-len(shape) / 2) if haar else parts[0]


@lru_cache(maxsize=256)
def _rows(wavelet: str, mode: Mode, size: int, kind: Kind, dtype: torch.dtype, device: torch.device) -> _Rows:
    splits = kind in ("analysis", "synthesis adjoint")
    operator = banded(wavelet, mode, size, kind, "float64")
    count = coefficient_length(size, wavelet, mode) if splits else size
    kept, shift = operator.places(np.arange(count), splits)
    begin, end = operator.starts[kept][:, None], operator.starts[kept + 1][:, None]
    place = begin + np.arange(int((end - begin).max()))
    # Short rows repeat their last column under a zero tap: any other could bring in a NaN from afar.
    entry = np.minimum(place, np.maximum(end - 1, 0))
    columns = torch.from_numpy(operator.columns[entry].astype(np.int64) + shift[:, None]).to(device)
    low, high = (torch.from_numpy(np.where(place < end, taps[entry], 0).T.copy()) for taps in operator[2:4])
    return _Rows(columns, low.to(device, dtype), high.to(device, dtype))


def _weighted(x: Tensor, axis: int, columns: Tensor, taps: Tensor) -> Tensor:
    """Σ_e taps[e] · x[columns[:, e]] along an axis."""
    shape = [1] * x.ndim
    shape[axis] = -1
    total = x.index_select(axis, columns[:, 0]) * taps[0].view(shape)
    for e in range(1, len(taps)):
        total = total + x.index_select(axis, columns[:, e]) * taps[e].view(shape)
    return total


def _every_second(x: Tensor, axis: int, start: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(start, None, 2),)]
