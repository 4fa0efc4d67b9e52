"""Metrics in one pass over two images on the CPU: nothing of their size is written but what was asked for.

Numba; the same computations in plain PyTorch, for other devices, are in `similarity` and `voxels`.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medwvae.wavelets.jit import compiled, inlined, share

# Compiled code leaves no trace for coverage; the tests compare it with scikit-image and with PyTorch.
# ruff: noqa: D103
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

_RUN: Final = 1 << 16
"""Voxels that are summed up by themselves first, so that rounding does not grow with the size of a volume."""


def structural_similarity(
    x: NDArray[Any],
    ref: NDArray[Any],
    window: NDArray[np.float64],
    across: NDArray[np.float64],
    constants: tuple[float, float],
    unbiased: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` with the SSIM map of volumes (B, D, H, W), C-contiguous, float32 or float64.

    Parameters
    ----------
    window : array (taps,)
        Of the window along H and W: odd, symmetric; no axis is shorter. Borders are mirrored with the edge voxel
        repeated.
    across : array (taps,)
        Along D; one weight of 1 compares slice by slice.
    constants : (float, float)
        (0.01 R)² and (0.03 R)².
    unbiased : float
        N / (N − 1) for a sample covariance, or 1.
    """
    share(similar_planes, x.shape[0] * x.shape[1], x.size, x, ref, window, across, *constants, unbiased, out)


def square_sums(x: NDArray[Any], ref: NDArray[Any], inside: NDArray[np.bool_] | None) -> tuple[float, float]:
    """Return Σ (x − ref)² and Σ ref² of flat images, float32 or float64; with a mask, over its voxels."""
    runs = -(-x.size // _RUN)
    sums = np.zeros((runs, 2))
    chosen = np.empty(0, np.bool_) if inside is None else inside
    share(sums_of_runs, runs, x.size, x, ref, chosen, sums)
    error, energy = sums.sum(0)
    return float(error), float(energy)


@compiled
def sums_of_runs(start, stop, x, ref, inside, sums):  # pragma: no cover
    for run in range(start, stop):
        begin, end = run * _RUN, min((run + 1) * _RUN, len(x))
        error, energy = 0.0, 0.0
        if len(inside):
            for i in range(begin, end):
                if inside[i]:
                    b = np.float64(ref[i])
                    difference = np.float64(x[i]) - b
                    error += difference * difference
                    energy += b * b
        else:
            for i in range(begin, end):
                b = np.float64(ref[i])
                difference = np.float64(x[i]) - b
                error += difference * difference
                energy += b * b
        sums[run, 0], sums[run, 1] = error, energy


@compiled
def similar_planes(start, stop, x, ref, window, across, c1, c2, unbiased, out):  # pragma: no cover
    """Items are (volume, slice).

    The four images whose local means make an SSIM (x, ref, x·ref, x² + ref²) exist only as rows: weighted across the
    slices, then along the row, then kept for as long as a window along the columns is high.
    """
    depth, height, width = x.shape[1], x.shape[2], x.shape[3]
    r, deep = len(window) // 2, len(across) // 2
    row, ring, means = np.empty((4, width + 2 * r)), np.empty((2 * r + 1, 4, width)), np.empty((4, width))
    for item in range(start, stop):
        batch, z = item // depth, item % depth
        ready = 0
        for y in range(height):
            while ready < min(height, y + r + 1):
                weighted_rows(x[batch], ref[batch], z, ready, across, deep, row[:, r : r + width])
                for c in range(4):
                    along_row(row[c], window, r, ring[ready % (2 * r + 1), c])
                ready += 1
            for c in range(4):
                down_columns(ring, c, y, height, window, r, means[c])
            ratio(means[0], means[1], means[2], means[3], c1, c2, unbiased, out[batch, z, y])


@inlined
def mirrored(k, size):  # pragma: no cover
    return -1 - k if k < 0 else 2 * size - 1 - k if k >= size else k


@inlined
def weighted_rows(x, ref, z, y, across, deep, rows):  # pragma: no cover
    """Sum the four images of row y over the slices around z."""
    rows[:] = 0
    add_images(x[z, y], ref[z, y], across[deep], rows[0], rows[1], rows[2], rows[3])
    for k in range(deep):
        a, b = mirrored(z + k - deep, len(x)), mirrored(z - k + deep, len(x))
        add_two_images(x[a, y], ref[a, y], x[b, y], ref[b, y], across[k], rows[0], rows[1], rows[2], rows[3])


@inlined
def add_images(a, b, w, first, second, product, squares):  # pragma: no cover
    for i in range(len(first)):
        p, q = np.float64(a[i]), np.float64(b[i])
        first[i] += w * p
        second[i] += w * q
        product[i] += w * (p * q)
        squares[i] += w * (p * p + q * q)


@inlined
def add_two_images(a, b, c, d, w, first, second, product, squares):  # pragma: no cover
    for i in range(len(first)):
        p, q, s, t = np.float64(a[i]), np.float64(b[i]), np.float64(c[i]), np.float64(d[i])
        first[i] += w * (p + s)
        second[i] += w * (q + t)
        product[i] += w * (p * q + s * t)
        squares[i] += w * ((p * p + q * q) + (s * s + t * t))


@inlined
def along_row(row, window, r, out):  # pragma: no cover
    """Filter a row that has room for r mirrored voxels at both ends."""
    size = len(out)
    for k in range(r):
        row[k], row[size + r + k] = row[2 * r - 1 - k], row[size + r - 1 - k]
    put(row[r : r + size], window[r], out)
    k = 0
    while k + 1 < r:
        w, v, end = window[k], window[k + 1], 2 * r - k
        for i in range(size):
            out[i] += w * (row[i + k] + row[i + end]) + v * (row[i + k + 1] + row[i + end - 1])
        k += 2
    if k < r:
        w, end = window[k], 2 * r - k
        for i in range(size):
            out[i] += w * (row[i + k] + row[i + end])


@inlined
def down_columns(ring, c, y, height, window, r, out):  # pragma: no cover
    """Filter image c down the columns at row y; row k lies at place k of the ring, modulo its length."""
    taps = 2 * r + 1
    put(ring[y % taps, c], window[r], out)
    k = 0
    while k + 1 < r:
        a, b = ring[mirrored(y + k - r, height) % taps, c], ring[mirrored(y - k + r, height) % taps, c]
        d, e = ring[mirrored(y + k + 1 - r, height) % taps, c], ring[mirrored(y - k - 1 + r, height) % taps, c]
        add_four(a, b, window[k], d, e, window[k + 1], out)
        k += 2
    if k < r:
        a, b = ring[mirrored(y + k - r, height) % taps, c], ring[mirrored(y - k + r, height) % taps, c]
        add_two(a, b, window[k], out)


@inlined
def put(a, w, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] = w * a[i]


@inlined
def add_two(a, b, w, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] += w * (a[i] + b[i])


@inlined
def add_four(a, b, w, c, d, v, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] += w * (a[i] + b[i]) + v * (c[i] + d[i])


@inlined
def ratio(mean_x, mean_ref, product, squares, c1, c2, unbiased, out):  # pragma: no cover
    for i in range(len(out)):
        means = mean_x[i] * mean_ref[i]
        energies = mean_x[i] * mean_x[i] + mean_ref[i] * mean_ref[i]
        numerator = (2 * means + c1) * (2 * unbiased * (product[i] - means) + c2)
        out[i] = numerator / ((energies + c1) * (unbiased * (squares[i] - energies) + c2))
