"""Filter banks of the discrete wavelet families, taken from PyWavelets, and what each border mode does to an axis."""

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import pywt
from numpy.typing import NDArray

Mode = Literal["periodization", "symmetric", "reflect", "periodic", "zero", "constant", "boundary"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""The border modes, by PyWavelets' names; `boundary` is ptwt's name for boundary-adapted filters."""


class FilterBank(NamedTuple):
    """Four FIR filters of equal, even length; PyWavelets' order and normalisation (low-pass sums to √2)."""

    dec_low: NDArray[np.float64]
    dec_high: NDArray[np.float64]
    rec_low: NDArray[np.float64]
    rec_high: NDArray[np.float64]

    @property
    def length(self) -> int:
        """Number of taps."""
        return len(self.dec_low)


@lru_cache(maxsize=128)
def filter_bank(wavelet: str) -> FilterBank:
    """Return the bank of a discrete wavelet: 'haar', 'db4', 'sym8', 'coif2', 'bior4.4', 'rbio3.1', 'dmey', ...

    Raises
    ------
    ValueError
        If PyWavelets has no discrete wavelet of this name.
    """
    try:
        found = pywt.Wavelet(wavelet)
    except (ValueError, TypeError, AttributeError):
        families = ", ".join(
            family for family in pywt.families() if set(pywt.wavelist(family)) & set(pywt.wavelist(kind="discrete"))
        )
        raise ValueError(f"no discrete wavelet is called {wavelet!r}; the families are {families}") from None
    return FilterBank(*(np.array(taps) for taps in found.filter_bank))


def is_haar(wavelet: str) -> bool:
    """Whether the filters are Haar's, under any of their names (db1, bior1.1, rbio1.1)."""
    return filter_bank(wavelet).length == 2


def coefficient_length(size: int, wavelet: str, mode: Mode) -> int:
    """Return the number of coefficients per subband along an axis of `size` samples.

    Critically sampled modes give ⌈N/2⌉, the others ⌊(N + L − 1)/2⌋ for a filter of L taps.

    Raises
    ------
    ValueError
        If the mode is unknown or `size` < 1.
    """
    if mode not in MODES:
        raise ValueError(f"no border mode is called {mode!r}; there are {', '.join(MODES)}")
    if size < 1:
        raise ValueError(f"an axis needs at least one sample, got {size}")
    if mode in ("periodization", "boundary"):
        return (size + 1) // 2
    return (size + filter_bank(wavelet).length - 1) // 2


def extended(positions: NDArray[np.int64], size: int, mode: Mode) -> NDArray[np.int64]:
    """Return the sample of an axis that stands at each position, −1 where there is a zero.

    The extension rules of PyWavelets (`pywt.Modes`); `reflect` of a single sample is constant.
    """
    if mode == "periodization":  # an odd axis first repeats its last sample
        return np.minimum(positions % (size + size % 2), size - 1)
    if mode == "periodic":
        return positions % size
    if mode == "symmetric":
        return _folded(positions, size, 2 * size)
    if mode == "reflect":
        return _folded(positions, size, max(2 * size - 2, 1))
    if mode == "constant":
        return positions.clip(0, size - 1)
    return np.where((positions >= 0) & (positions < size), positions, -1)


def _folded(positions: NDArray[np.int64], size: int, period: int) -> NDArray[np.int64]:
    within = positions % period
    # Half-sample symmetry mirrors n to 2N − 1 − n, whole-sample symmetry to 2N − 2 − n.
    mirrored = period - within - (1 if period == 2 * size else 0)
    return np.where(within < size, within, mirrored)
