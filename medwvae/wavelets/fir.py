"""One level along one axis as two sparse matrices, low-pass and high-pass, for the modes that extend the signal.

Convention of PyWavelets, with the extended signal x̃ and filters of L taps:

    a[k] = Σ_j h[j] x̃[2k + o − j],      x[t] = Σ_k g[t + L − 1 − o − 2k] a[k] + (the same for the details),

o = 1 in the redundant modes and L/2 in `periodization`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medwvae.wavelets.filters import FilterBank, Mode, coefficient_length, extended, filter_bank

Pair = tuple[sparse.csr_matrix, sparse.csr_matrix]
"""Low-pass and high-pass, float64, sorted CSR with one pattern (explicit zeros kept)."""
REFINED_ABOVE = 1e-9
"""A bank whose synthesis misses the identity by more than this (dmey: 1e-2) gets a refined synthesis."""
INVERSE_TO = 1e-13
NEGLIGIBLE = 1e-15


def analysis_pair(wavelet: str, mode: Mode, size: int) -> Pair:
    """Return the matrices (K, size) that filter, extend and keep every second sample.

    Raises
    ------
    ValueError
        If wavelet or mode is unknown or `size` < 1.
    """
    count, bank = coefficient_length(size, wavelet, mode), filter_bank(wavelet)
    k, j = np.meshgrid(np.arange(count), np.arange(bank.length), indexing="ij")
    columns = extended(2 * k + _offset(bank, mode) - j, size, mode)
    kept = columns >= 0
    return pair(k[kept], columns[kept], bank.dec_low[j[kept]], bank.dec_high[j[kept]], (count, size))


def synthesis_pair(wavelet: str, mode: Mode, size: int) -> Pair:
    """Return the matrices (size, K) with S_low A_low + S_high A_high = 1."""
    count, bank = coefficient_length(size, wavelet, mode), filter_bank(wavelet)
    # Seen from the coefficients: k and the tap i give t = i − (L − 1 − o) + 2k.
    k, i = np.meshgrid(np.arange(count), np.arange(bank.length), indexing="ij")
    rows = i - (bank.length - 1 - _offset(bank, mode)) + 2 * k
    if mode == "periodization":
        rows = rows % (2 * count)
    kept = (rows >= 0) & (rows < size)
    synthesis = pair(rows[kept], k[kept], bank.rec_low[i[kept]], bank.rec_high[i[kept]], (size, count))
    return _refined(analysis_pair(wavelet, mode, size), synthesis)


def pair(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    shape: tuple[int, int],
) -> Pair:
    """Return two CSR matrices from the entries of one pattern; entries at the same place add up."""
    matrices = [sparse.csr_matrix((taps, (rows, columns)), shape=shape) for taps in (low, high)]
    for matrix in matrices:
        matrix.sum_duplicates()
    return matrices[0], matrices[1]


def one_pattern(low: sparse.csr_matrix, high: sparse.csr_matrix) -> Pair:
    """Give two matrices the union of their patterns, with explicit zeros."""
    a, d = low.tocoo(), high.tocoo()
    rows, columns = np.concatenate((a.row, d.row)), np.concatenate((a.col, d.col))
    padded_low = np.concatenate((a.data, np.zeros(d.nnz)))
    padded_high = np.concatenate((np.zeros(a.nnz), d.data))
    return pair(rows, columns, padded_low, padded_high, low.shape)


def _offset(bank: FilterBank, mode: Mode) -> int:
    return bank.length // 2 if mode == "periodization" else 1


def _refined(analysis: Pair, synthesis: Pair) -> Pair:
    """Newton-Schulz steps S ← (2 − SA) S until SA = 1: the discrete Meyer filters alone invert to 1e-2 only."""
    A, S = sparse.vstack(analysis).tocsr(), sparse.hstack(synthesis).tocsr()
    identity = sparse.identity(S.shape[0], format="csr")
    before, defect = np.inf, abs(S @ A - identity).max()
    if defect < REFINED_ABOVE:
        return synthesis
    while INVERSE_TO < defect < before:
        S = ((2 * identity - S @ A) @ S).tocsr()
        S.data[abs(S.data) < NEGLIGIBLE] = 0
        S.eliminate_zeros()
        before, defect = defect, abs(S @ A - identity).max()
    half = S.shape[1] // 2
    return one_pattern(S[:, :half], S[:, half:])
