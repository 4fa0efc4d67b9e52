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

_REACH: Final = 5
"""Voxels on either side of the centre that the longest window reaches; a shorter one has weights of 0 there."""
_ROWS: Final = 8
"""Rows that are weighted across the slices at once."""
_VECTOR: Final = 32
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
        Of the window along H and W: odd, at most 11, symmetric; no axis is shorter. Borders are mirrored with the edge
        voxel repeated.
    across : array (taps,)
        Along D; one weight of 1 compares slice by slice.
    constants : (float, float)
        (0.01 R)² and (0.03 R)².
    unbiased : float
        N / (N − 1) for a sample covariance, or 1.
    """
    flat = [image.reshape(*image.shape[:2], -1) for image in (x, ref)]
    longer = np.pad(window, _REACH - len(window) // 2)
    share(similar_planes, x.shape[0] * x.shape[1], x.size, *flat, longer, across, *constants, unbiased, out)


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
    """Items are (volume, slice); images are (B, D, H · W), the map is (B, D, H, W).

    The four images whose local means make an SSIM (x, ref, x·ref, x² + ref²) exist only as rows: weighted across the
    slices, a few rows at once, then along the row, then kept for as long as a window along the columns is high.
    """
    depth, height, width = out.shape[1], out.shape[2], out.shape[3]
    wide = -(-width // _VECTOR) * _VECTOR  # rows of our own leave the compiler's loops no remainder
    sums, row = np.empty((4, _ROWS * width)), np.zeros(wide + 2 * _REACH)
    ring, means = np.empty((2 * _REACH + 1, 4, wide)), np.empty((4, wide))
    for item in range(start, stop):
        batch, z = item // depth, item % depth
        ready = 0
        for y in range(height):
            while ready < min(height, y + _REACH + 1):
                if ready % _ROWS == 0:
                    end = min(ready + _ROWS, height)
                    weighted(x[batch], ref[batch], z, ready * width, end * width, across, sums)
                first = ready % _ROWS * width
                for c in range(4):
                    mirror(sums[c, first : first + width], row)
                    along_row(row, window, ring[ready % (2 * _REACH + 1), c])
                ready += 1
            for c in range(4):
                down_columns(ring, c, y, height, window, means[c])
            ratio(means[0], means[1], means[2], means[3], c1, c2, unbiased, out[batch, z, y])


@inlined
def mirrored(k, size):  # pragma: no cover
    return -1 - k if k < 0 else 2 * size - 1 - k if k >= size else k


@inlined
def weighted(x, ref, z, begin, end, across, sums):  # pragma: no cover
    """Sum the four images of voxels `begin` to `end` of a slice over the slices around it."""
    deep, n = len(across) // 2, end - begin
    a, b, w = x[z, begin:end], ref[z, begin:end], across[deep]
    put(a, w, sums[0, :n])
    put(b, w, sums[1, :n])
    put_product(a, b, w, sums[2, :n])
    put_squares(a, b, w, sums[3, :n])
    for k in range(deep):
        low, high, w = mirrored(z + k - deep, len(x)), mirrored(z - k + deep, len(x)), across[k]
        a, b, c, d = x[low, begin:end], x[high, begin:end], ref[low, begin:end], ref[high, begin:end]
        add_sum(a, b, w, sums[0, :n])
        add_sum(c, d, w, sums[1, :n])
        add_products(a, b, c, d, w, sums[2, :n])
        add_squares(a, b, c, d, w, sums[3, :n])


# One output each: with more the compiler would give up proving that nothing overlaps.


@inlined
def put(a, w, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] = w * np.float64(a[i])


@inlined
def put_product(a, b, w, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] = w * (np.float64(a[i]) * np.float64(b[i]))


@inlined
def put_squares(a, b, w, out):  # pragma: no cover
    for i in range(len(out)):
        p, q = np.float64(a[i]), np.float64(b[i])
        out[i] = w * (p * p + q * q)


@inlined
def add_sum(a, b, w, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] += w * (np.float64(a[i]) + np.float64(b[i]))


@inlined
def add_products(a, b, c, d, w, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] += w * (np.float64(a[i]) * np.float64(c[i]) + np.float64(b[i]) * np.float64(d[i]))


@inlined
def add_squares(a, b, c, d, w, out):  # pragma: no cover
    for i in range(len(out)):
        p, q, s, t = np.float64(a[i]), np.float64(b[i]), np.float64(c[i]), np.float64(d[i])
        out[i] += w * ((p * p + q * q) + (s * s + t * t))


@inlined
def mirror(a, row):  # pragma: no cover
    """Copy a row to the middle of a longer one, mirrored beyond both ends."""
    n = len(a)
    for i in range(n):
        row[i + _REACH] = a[i]
    for k in range(_REACH):
        row[k], row[n + _REACH + k] = a[_REACH - 1 - k], a[n - 1 - k]


@inlined
def along_row(row, window, out):  # pragma: no cover
    w0, w1, w2, w3, w4, w5 = window[0], window[1], window[2], window[3], window[4], window[5]
    for i in range(len(out)):
        outer = w0 * (row[i] + row[i + 10]) + w1 * (row[i + 1] + row[i + 9])
        middle = w2 * (row[i + 2] + row[i + 8]) + w3 * (row[i + 3] + row[i + 7])
        out[i] = outer + middle + (w4 * (row[i + 4] + row[i + 6]) + w5 * row[i + 5])


@inlined
def down_columns(ring, c, y, height, window, out):  # pragma: no cover
    """Filter image c down the columns at row y; row k lies at place k of the ring, modulo its length."""
    first_six(row_at(ring, c, y - 5, height), row_at(ring, c, y + 5, height), row_at(ring, c, y - 4, height),
              row_at(ring, c, y + 4, height), row_at(ring, c, y - 3, height), row_at(ring, c, y + 3, height),
              window, out)  # fmt: skip
    last_five(row_at(ring, c, y - 2, height), row_at(ring, c, y + 2, height), row_at(ring, c, y - 1, height),
              row_at(ring, c, y + 1, height), row_at(ring, c, y, height), window, out)  # fmt: skip


@inlined
def row_at(ring, c, k, height):  # pragma: no cover
    return ring[mirrored(k, height) % len(ring), c]


@inlined
def first_six(a, b, c, d, e, f, window, out):  # pragma: no cover
    w0, w1, w2 = window[0], window[1], window[2]
    for i in range(len(out)):
        out[i] = w0 * (a[i] + b[i]) + w1 * (c[i] + d[i]) + w2 * (e[i] + f[i])


@inlined
def last_five(a, b, c, d, e, window, out):  # pragma: no cover
    w3, w4, w5 = window[3], window[4], window[5]
    for i in range(len(out)):
        out[i] += w3 * (a[i] + b[i]) + w4 * (c[i] + d[i]) + w5 * e[i]


@inlined
def ratio(mean_x, mean_ref, product, squares, c1, c2, unbiased, out):  # pragma: no cover
    for i in range(len(out)):
        means = mean_x[i] * mean_ref[i]
        energies = mean_x[i] * mean_x[i] + mean_ref[i] * mean_ref[i]
        numerator = (2 * means + c1) * (2 * unbiased * (product[i] - means) + c2)
        out[i] = numerator / ((energies + c1) * (unbiased * (squares[i] - energies) + c2))
