"""Boundary-adapted filters: nothing is invented beyond the border, and the transform stays critically sampled.

Near a border the filters are cut off and orthonormalised among themselves (ptwt's matrix transforms; the idea is that
of Jensen and la Cour-Harbo, Ripples in Mathematics, 2001, chapter 10).
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pywt
import torch
from numpy.typing import NDArray
from scipy import sparse

from medwvae.wavelets.fir import Pair, analysis_pair, one_pattern, synthesis_pair

BORDER = 12
"""Filter lengths from which on the two borders do not feel each other: longer axes repeat the rows in the middle."""
ORTHONORMAL_TO = 1e-14
SNAP = 1e-12


@lru_cache(maxsize=256)
def boundary_pairs(wavelet: str, size: int) -> tuple[Pair, Pair]:
    """Return the matrices of analysis, (K, size) each, and of synthesis, (size, K) each.

    An odd axis is extended by a zero, as ptwt does. An axis shorter than the filter is split by Haar, whose filters
    never cross a border. An orthonormal family stays orthonormal (ptwt's rows for long filters are so to 1e-4 only;
    the nearest orthonormal matrix is taken) and is inverted by its adjoint. Any other is inverted by the inverse
    matrix, since biorthogonal filters that are cut off are no longer dual.

    Raises
    ------
    ValueError
        If `size` < 1.
    """
    taps = pywt.Wavelet(wavelet).dec_len
    even = size + size % 2
    if even < taps:
        return boundary_pairs("haar", size)
    A, S = _dense(wavelet, min(even, BORDER * taps))
    half = len(A) // 2
    low, high = (_stretched(sparse.csr_matrix(part), even)[:, :size] for part in (A[:half], A[half:]))
    analysis = one_pattern(low.tocsr(), high.tocsr())
    low, high = (_stretched(sparse.csr_matrix(part.T), even).T.tocsr()[:size] for part in (S[:, :half], S[:, half:]))
    return analysis, one_pattern(low, high)


def _dense(wavelet: str, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    taps = pywt.Wavelet(wavelet).dec_len
    # ptwt builds on sparse autograd functions, which are switched off inside a custom operator; that switch is per
    # thread, and this may be such an operator's first use of the wavelet.
    with ThreadPoolExecutor(1) as elsewhere:
        A = elsewhere.submit(_from_ptwt, wavelet, size).result()
    if size == BORDER * taps:  # rounding couples the far borders of long filters, which would not survive stretching
        k = np.arange(size) % (size // 2)
        A = np.where(np.abs(2 * k[:, None] - np.arange(size)) < size // 2, A, 0)
    # Away from the borders both are the plain filters; snapped to them, those rows are equal to the last bit.
    interior = np.concatenate([part.toarray() for part in analysis_pair(wavelet, "periodization", size)])
    if pywt.Wavelet(wavelet).orthogonal:
        A = _snapped(_orthonormal(A), interior)
        return A, A.T
    dual = np.concatenate([part.toarray() for part in synthesis_pair(wavelet, "periodization", size)], axis=1)
    A = _snapped(A, interior)
    return A, _snapped(np.linalg.inv(A), dual)


def _from_ptwt(wavelet: str, size: int) -> NDArray[np.float64]:
    from ptwt.matmul_transform import construct_boundary_a

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: sparse tensors are in beta
        matrix = construct_boundary_a(pywt.Wavelet(wavelet), size, dtype=torch.float64).to_dense()
    return np.asarray(matrix.numpy())


def _orthonormal(A: NDArray[np.float64]) -> NDArray[np.float64]:
    """Newton-Schulz iteration for the polar factor (Higham, Functions of Matrices, 2008, section 8.3)."""
    before, defect = np.inf, np.abs(A @ A.T - np.eye(len(A))).max()
    while ORTHONORMAL_TO < defect < before:
        A = 1.5 * A - 0.5 * A @ A.T @ A
        before, defect = defect, np.abs(A @ A.T - np.eye(len(A))).max()
    return A


def _snapped(matrix: NDArray[np.float64], plain: NDArray[np.float64]) -> NDArray[np.float64]:
    close = np.where(np.abs(matrix - plain) < SNAP * np.abs(plain).max(), plain, matrix)
    return np.where(np.abs(close) < 1e-16, 0, close)


def _stretched(matrix: sparse.csr_matrix, size: int) -> sparse.csr_matrix:
    """Lengthen (K, N) to (size/2, size): the two halves of the rows stay at their border, the middle row repeats."""
    count, columns = matrix.shape
    missing = (size - columns) // 2
    if missing == 0:
        return matrix
    middle = matrix[count // 2].tocoo()
    top, bottom = matrix[: count // 2].tocoo(), matrix[count // 2 :].tocoo()
    k = np.arange(missing)[:, None]
    rows = np.concatenate((top.row, (k + count // 2 + 0 * middle.col).ravel(), bottom.row + count // 2 + missing))
    places = np.concatenate((top.col, (middle.col + 2 * k).ravel(), bottom.col + 2 * missing))
    values = np.concatenate((top.data, np.tile(middle.data, missing), bottom.data))
    return sparse.csr_matrix((values, (rows, places)), shape=(count + missing, size))
