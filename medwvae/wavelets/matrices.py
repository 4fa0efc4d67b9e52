"""The operator of one axis, ready to be applied: border rules, odd and tiny sizes are rows of a sparse matrix.

Whatever applies a level (`kernels`, `fallback`) only multiplies; analysis, synthesis and the adjoints that
backpropagation needs differ in nothing but the matrix.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medwvae.wavelets.boundary import BORDER, boundary_pairs
from medwvae.wavelets.filters import Mode, filter_bank
from medwvae.wavelets.fir import Pair, analysis_pair, synthesis_pair

Kind = Literal["analysis", "synthesis", "analysis adjoint", "synthesis adjoint"]


class Banded(NamedTuple):
    """Two sparse matrices with one pattern, by rows (CSR); a run of rows that are shifts of one another is kept once.

    A kept row r holds `low[e]` and `high[e]` at column `columns[e]` for e in `starts[r] : starts[r + 1]`. Rows from
    `first` to before `last` repeat: where a signal is split, each is the one before it moved by two columns; where it
    is merged, each *pair* of rows is the pair before it moved by one column, and `first` and `last` count pairs. Of
    them only the first is kept, so that an operator takes no more room for a longer axis.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.uint64]
    low: NDArray[np.floating]
    high: NDArray[np.floating]
    first: int
    last: int

    def places(self, rows: NDArray[np.int64], splits: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each row is kept and by how many columns it is moved from there."""
        lag, step = (1, 2) if splits else (2, 1)
        block = rows // lag
        removed = max(self.last - self.first - 1, 0) * lag
        repeats = (block >= self.first) & (block < self.last)
        kept = np.where(repeats, self.first * lag + rows % lag, np.where(block < self.first, rows, rows - removed))
        return kept, np.where(repeats, step * (block - self.first), 0)


def axis_pair(wavelet: str, mode: Mode, size: int, kind: Kind) -> Pair:
    """Return (low-pass, high-pass): (K, size) for analysis and synthesis adjoint, (size, K) for the others.

    Raises
    ------
    ValueError
        If wavelet or mode is unknown or `size` < 1.
    """
    analyses = kind.startswith("analysis")
    if mode == "boundary":
        pair = boundary_pairs(wavelet, size)[0 if analyses else 1]
    else:
        pair = (analysis_pair if analyses else synthesis_pair)(wavelet, mode, size)
    if kind.endswith("adjoint"):
        low, high = (matrix.T.tocsr() for matrix in pair)
        low.sort_indices()
        high.sort_indices()
        return low, high
    return pair


@lru_cache(maxsize=1024)
def banded(wavelet: str, mode: Mode, size: int, kind: Kind, dtype: str) -> Banded:
    """Return the operator of an axis of `size` samples with taps of the given dtype.

    Beyond a few filter lengths the borders do not feel each other: a long axis is a short one, stretched.
    """
    short = BORDER * filter_bank(wavelet).length - size % 2
    operator = _kept_once(wavelet, mode, min(size, short), kind)
    if size > short and operator.last - operator.first > short // 4:
        operator = _stretched(operator, short, size - short, kind in ("analysis", "synthesis adjoint"))
    elif size > short:  # filters that rounding keeps from repeating (sym20 cut off at the border; dmey's inverse)
        operator = _kept_once(wavelet, mode, size, kind)
    return operator._replace(low=operator.low.astype(dtype), high=operator.high.astype(dtype))


@lru_cache(maxsize=256)
def _kept_once(wavelet: str, mode: Mode, size: int, kind: Kind) -> Banded:
    low, high = axis_pair(wavelet, mode, size, kind)
    starts, columns = low.indptr.astype(np.int64), low.indices.astype(np.int64)
    splits = kind in ("analysis", "synthesis adjoint")
    first, last = _repeating(starts, columns, low.data, high.data, splits)
    lag = 1 if splits else 2
    begin, end = starts[(first + 1) * lag if first < last else 0], starts[last * lag]
    kept = np.r_[0:begin, end : len(columns)]
    rows = np.r_[0 : (first + 1) * lag, last * lag : len(starts) - 1] if first < last else np.arange(len(starts) - 1)
    lengths = np.diff(starts)[rows]
    # Unsigned, so that the kernels need not look out for Python's negative indices.
    return Banded(
        np.concatenate(([0], np.cumsum(lengths))),
        columns[kept].astype(np.uint64),
        low.data[kept],
        high.data[kept],
        first,
        last,
    )


def _stretched(operator: Banded, size: int, more: int, splits: bool) -> Banded:
    """Lengthen the axis by `more` samples, an even number: what lies beyond its middle moves along."""
    columns = operator.columns.astype(np.int64)
    beyond, moved = (size // 2, more) if splits else (size // 4, more // 2)
    columns[columns >= beyond] += moved
    return operator._replace(columns=columns.astype(np.uint64), last=operator.last + more // 2)


def _repeating(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    splits: bool,
) -> tuple[int, int]:
    """Return the longest run around the middle of rows (or pairs of rows) that are shifts of the middle one."""
    lag, shift = (1, 2) if splits else (2, 1)
    blocks = (len(starts) - 1) // lag
    if blocks < 2:
        return 0, 0
    middle = blocks // 2
    alike = np.ones(blocks, dtype=bool)
    for part in range(lag):
        rows = np.arange(blocks) * lag + part
        taps = np.diff(starts)[rows]
        width = int(taps[middle])
        alike &= taps == width
        own = np.where(alike, starts[rows], starts[rows[middle]])[:, None] + np.arange(width)
        moved = columns[own] - shift * (np.arange(blocks) - middle)[:, None]
        alike &= (moved == moved[middle]).all(1)
        alike &= (low[own] == low[own[middle]]).all(1) & (high[own] == high[own[middle]]).all(1)
        # The kernels read a repeating row's columns as one unbroken range.
        if width == 0 or (np.diff(moved[middle]) != 1).any():
            return 0, 0
    broken = np.flatnonzero(~alike)
    first = int(broken[broken < middle].max(initial=-1)) + 1
    return first, int(broken[broken > middle].min(initial=blocks))
