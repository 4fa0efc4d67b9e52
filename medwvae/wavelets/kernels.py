"""One level over the last one to three axes for any `Banded` operator: one pass over the input, one over the output.

Each kernel walks the output along the first transformed axis. It combines whole planes (rows) of the input, which the
compiler vectorises, into buffers that stay in cache, and goes on from there with the next axis. The last axis is split
into its even and odd samples first, so that its taps, too, become sums of shifted rows.

Arrays are C-contiguous: images (B, C, *spatial), the low band
(B, C, *coefficients), details (B, 2^n − 1, C, *coefficients). An operator is passed as its six
fields. Items are (batch, channel, index along the first transformed axis).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medwvae.wavelets.jit import compiled, inlined, share

# Compiled code leaves no trace for coverage; every kernel is compared with PyWavelets in the tests.
# ruff: noqa: D103
# mypy: disable-error-code="no-untyped-def, no-untyped-call"


def split(x: NDArray[Any], low: NDArray[Any], details: NDArray[Any], operators: Sequence[Any]) -> None:
    """Fill low band (B, C, *coefficients) and details (B, 2^n − 1, C, *coefficients) of images (B, C, *spatial).

    One operator per axis, n = 1, 2 or 3.
    """
    kernel = (split_1d, split_2d, split_3d)[len(operators) - 1]
    share(kernel, _items(low.shape), x.size, x, low, details, *operators)


def merge(low: NDArray[Any], details: NDArray[Any], out: NDArray[Any], operators: Sequence[Any]) -> None:
    """Fill the images (B, C, *spatial) from their bands."""
    kernel = (merge_1d, merge_2d, merge_3d)[len(operators) - 1]
    share(kernel, _items(out.shape), out.size, low, details, out, *operators)


def _items(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] * (shape[2] if len(shape) > 3 else 1)


@inlined
def add1(to_low, to_high, a, low, high, e):  # pragma: no cover
    """Add tap e, of row a."""
    l0, h0 = low[e], high[e]
    for i in range(len(to_low)):
        to_low[i] += l0 * a[i]
        to_high[i] += h0 * a[i]


@inlined
def add2(to_low, to_high, a, b, low, high, e):  # pragma: no cover
    """Add taps e and e + 1, of rows a and b."""
    l0, l1, h0, h1 = low[e], low[e + 1], high[e], high[e + 1]
    for i in range(len(to_low)):
        to_low[i] += l0 * a[i] + l1 * b[i]
        to_high[i] += h0 * a[i] + h1 * b[i]


@inlined
def add8(to_low, to_high, a, b, low, high, e):  # pragma: no cover
    """Add taps e to e + 7, of rows a and b in turn, each time one sample further on.

    Two rows and no more: with a row per tap the compiler would give up proving that nothing overlaps.
    """
    l0, l1, l2, l3 = low[e], low[e + 1], low[e + 2], low[e + 3]
    l4, l5, l6, l7 = low[e + 4], low[e + 5], low[e + 6], low[e + 7]
    h0, h1, h2, h3 = high[e], high[e + 1], high[e + 2], high[e + 3]
    h4, h5, h6, h7 = high[e + 4], high[e + 5], high[e + 6], high[e + 7]
    for i in range(len(to_low)):
        a0, b0, a1, b1, a2, b2, a3, b3 = a[i], b[i], a[i + 1], b[i + 1], a[i + 2], b[i + 2], a[i + 3], b[i + 3]
        to_low[i] += ((l0 * a0 + l1 * b0) + (l2 * a1 + l3 * b1)) + ((l4 * a2 + l5 * b2) + (l6 * a3 + l7 * b3))
        to_high[i] += ((h0 * a0 + h1 * b0) + (h2 * a1 + h3 * b1)) + ((h4 * a2 + h5 * b2) + (h6 * a3 + h7 * b3))


@inlined
def combine(x, k, starts, columns, low, high, first, last, to_low, to_high):  # pragma: no cover
    """Row k: to_low, to_high = Σ_e low[e], high[e] · x[columns[e]], over the rows of x (N, W)."""
    to_low[:] = 0
    to_high[:] = 0
    row, shift = k, 0
    if first <= k < last:
        row, shift = first, 2 * (k - first)
    elif k >= last > first:
        row = k - (last - first - 1)
    by = np.uint64(shift)
    e, end = starts[row], starts[row + 1]
    while e + 1 < end:
        add2(to_low, to_high, x[columns[e] + by], x[columns[e + 1] + by], low, high, e)
        e += 2
    if e < end:
        add1(to_low, to_high, x[columns[e] + by], low, high, e)


@inlined
def gather(x, y, t, starts, columns, low, high, first, last, out):  # pragma: no cover
    """Row t: out = Σ_e low[e] · x[columns[e]] + high[e] · y[columns[e]], over the rows of x and y (K, W)."""
    out[:] = 0
    row, shift = t, 0
    if first <= t // 2 < last:
        row, shift = 2 * first + t % 2, t // 2 - first
    elif t // 2 >= last > first:
        row = t - 2 * (last - first - 1)
    by = np.uint64(shift)
    e, end = starts[row], starts[row + 1]
    while e + 1 < end:
        p, q = columns[e] + by, columns[e + 1] + by
        a, b, c, d = x[p], y[p], x[q], y[q]
        l0, h0, l1, h1 = low[e], high[e], low[e + 1], high[e + 1]
        for i in range(len(out)):
            out[i] += (l0 * a[i] + h0 * b[i]) + (l1 * c[i] + h1 * d[i])
        e += 2
    if e < end:
        a, b, l0, h0 = x[columns[e] + by], y[columns[e] + by], low[e], high[e]
        for i in range(len(out)):
            out[i] += l0 * a[i] + h0 * b[i]


@inlined
def split_border(x, y, begin, end, removed, starts, columns, low, high, aa, ad, da, dd):  # pragma: no cover
    """Fill outputs `begin` to before `end`, whose rows are kept `removed` further up."""
    for k in range(begin, end):
        a = b = c = d = x.dtype.type(0)
        for e in range(starts[k - removed], starts[k - removed + 1]):
            u, v, l0, h0 = x[columns[e]], y[columns[e]], low[e], high[e]
            a += l0 * u
            b += h0 * u
            c += l0 * v
            d += h0 * v
        aa[k], ad[k], da[k], dd[k] = a, b, c, d


@inlined
def split_rows(x, y, starts, columns, low, high, first, last, even, odd, aa, ad, da, dd):  # pragma: no cover
    """Split two rows along the last axis: x into aa and ad, y into da and dd."""
    split_border(x, y, 0, first, 0, starts, columns, low, high, aa, ad, da, dd)
    split_border(x, y, last, len(aa), max(last - first - 1, 0), starts, columns, low, high, aa, ad, da, dd)
    split_inside(x, starts, columns, low, high, first, last, even, odd, aa, ad)
    split_inside(y, starts, columns, low, high, first, last, even, odd, da, dd)


@inlined
def split_inside(x, starts, columns, low, high, first, last, even, odd, to_low, to_high):  # pragma: no cover
    """Fill what repeats, by sums over the even and the odd samples."""
    if last > first:
        half = len(x) // 2
        for i in range(half):
            even[i] = x[2 * i]
            odd[i] = x[2 * i + 1]
        if len(x) % 2:
            even[half] = x[2 * half]
        low_row, high_row = to_low[first:last], to_high[first:last]
        low_row[:] = 0
        high_row[:] = 0
        e, end = starts[first], starts[first + 1]
        p = np.int64(columns[e])
        a = odd[p // 2 :] if p % 2 else even[p // 2 :]
        b = even[p // 2 + 1 :] if p % 2 else odd[p // 2 :]
        while e + 7 < end:
            add8(low_row, high_row, a, b, low, high, e)
            a, b = a[4:], b[4:]
            e += 8
        while e + 1 < end:
            add2(low_row, high_row, a, b, low, high, e)
            a, b = a[1:], b[1:]
            e += 2
        if e < end:
            add1(low_row, high_row, a, low, high, e)


@inlined
def merge_border(x, y, begin, end, removed, starts, columns, low, high, out):  # pragma: no cover
    """Fill samples `begin` to before `end`, whose rows are kept `removed` further up."""
    for t in range(begin, end):
        s = x.dtype.type(0)
        for e in range(starts[t - removed], starts[t - removed + 1]):
            s += low[e] * x[columns[e]] + high[e] * y[columns[e]]
        out[t] = s


@inlined
def add_phase(x, y, begin, end, columns, low, high, out):  # pragma: no cover
    """out[i] = Σ_e low[e] · x[c + i] + high[e] · y[c + i] for consecutive columns c from columns[begin]."""
    out[:] = 0
    c = np.int64(columns[begin])
    a, b = x[c:], y[c:]
    e = begin
    while e + 3 < end:
        l0, l1, l2, l3 = low[e], low[e + 1], low[e + 2], low[e + 3]
        h0, h1, h2, h3 = high[e], high[e + 1], high[e + 2], high[e + 3]
        for i in range(len(out)):
            out[i] += ((l0 * a[i] + h0 * b[i]) + (l1 * a[i + 1] + h1 * b[i + 1])) + (
                (l2 * a[i + 2] + h2 * b[i + 2]) + (l3 * a[i + 3] + h3 * b[i + 3])
            )
        a, b = a[4:], b[4:]
        e += 4
    while e < end:
        l0, h0 = low[e], high[e]
        for i in range(len(out)):
            out[i] += l0 * a[i] + h0 * b[i]
        a, b = a[1:], b[1:]
        e += 1


@inlined
def merge_row(x, y, starts, columns, low, high, first, last, even, odd, out):  # pragma: no cover
    """Merge along the last axis: border samples one by one, the others by sums for the even and for the odd samples."""
    merge_border(x, y, 0, 2 * first, 0, starts, columns, low, high, out)
    merge_border(x, y, 2 * last, len(out), 2 * max(last - first - 1, 0), starts, columns, low, high, out)
    n = last - first
    if n > 0:
        begin = 2 * first
        add_phase(x, y, starts[begin], starts[begin + 1], columns, low, high, even[:n])
        add_phase(x, y, starts[begin + 1], starts[begin + 2], columns, low, high, odd[:n])
        for i in range(n):
            out[2 * (first + i)] = even[i]
            out[2 * (first + i) + 1] = odd[i]


@compiled
def split_1d(start, stop, x, low_band, details, op):  # pragma: no cover
    even, odd = np.empty(x.shape[2] // 2 + 1, x.dtype), np.empty(x.shape[2] // 2 + 1, x.dtype)
    starts, columns, low, high, first, last = op
    for item in range(start, stop):
        i, j = divmod(item, x.shape[1])
        x_row, a, d = x[i, j], low_band[i, j], details[i, 0, j]
        split_border(x_row, x_row, 0, first, 0, starts, columns, low, high, a, d, a, d)
        removed = max(last - first - 1, 0)
        split_border(x_row, x_row, last, len(a), removed, starts, columns, low, high, a, d, a, d)
        split_inside(x_row, starts, columns, low, high, first, last, even, odd, a, d)


@compiled
def split_2d(start, stop, x, low_band, details, op0, op1):  # pragma: no cover
    W = x.shape[3]
    rows, even, odd = np.empty((2, W), x.dtype), np.empty(W // 2 + 1, x.dtype), np.empty(W // 2 + 1, x.dtype)
    r0, r1 = rows[0], rows[1]
    s0, c0, l0, h0, f0, e0 = op0
    s1, c1, l1, h1, first, last = op1
    for item in range(start, stop):
        image, k = divmod(item, low_band.shape[2])
        i, j = divmod(image, x.shape[1])
        combine(x[i, j], k, s0, c0, l0, h0, f0, e0, r0, r1)
        aa, ad, da, dd = low_band[i, j, k], details[i, 0, j, k], details[i, 1, j, k], details[i, 2, j, k]
        split_rows(r0, r1, s1, c1, l1, h1, first, last, even, odd, aa, ad, da, dd)


@compiled
def split_3d(start, stop, x, low_band, details, op0, op1, op2):  # pragma: no cover
    D, H, W = x.shape[2:]
    planes, rows = np.empty((2, H, W), x.dtype), np.empty((2, W), x.dtype)
    even, odd = np.empty(W // 2 + 1, x.dtype), np.empty(W // 2 + 1, x.dtype)
    flat, r0, r1 = planes.reshape(2, H * W), rows[0], rows[1]
    s0, c0, l0, h0, f0, e0 = op0
    s1, c1, l1, h1, f1, e1 = op1
    s2, c2, l2, h2, first, last = op2
    for item in range(start, stop):
        image, z = divmod(item, low_band.shape[2])
        i, j = divmod(image, x.shape[1])
        combine(x[i, j].reshape(D, H * W), z, s0, c0, l0, h0, f0, e0, flat[0], flat[1])
        for p in range(2):
            for k in range(low_band.shape[3]):
                combine(planes[p], k, s1, c1, l1, h1, f1, e1, r0, r1)
                aa = details[i, 3, j, z, k] if p else low_band[i, j, z, k]
                ad, da, dd = (
                    details[i, 4 * p, j, z, k],
                    details[i, 4 * p + 1, j, z, k],
                    details[i, 4 * p + 2, j, z, k],
                )
                split_rows(r0, r1, s2, c2, l2, h2, first, last, even, odd, aa, ad, da, dd)


@compiled
def merge_1d(start, stop, low_band, details, out, op):  # pragma: no cover
    even, odd = np.empty(out.shape[2] // 2 + 1, out.dtype), np.empty(out.shape[2] // 2 + 1, out.dtype)
    starts, columns, low, high, first, last = op
    for item in range(start, stop):
        i, j = divmod(item, out.shape[1])
        merge_row(low_band[i, j], details[i, 0, j], starts, columns, low, high, first, last, even, odd, out[i, j])


@compiled
def merge_2d(start, stop, low_band, details, out, op0, op1):  # pragma: no cover
    W, Kw = out.shape[3], low_band.shape[3]
    rows, even, odd = np.empty((2, Kw), out.dtype), np.empty(W // 2 + 1, out.dtype), np.empty(W // 2 + 1, out.dtype)
    r0, r1 = rows[0], rows[1]
    s0, c0, l0, h0, f0, e0 = op0
    s1, c1, l1, h1, first, last = op1
    for item in range(start, stop):
        image, t = divmod(item, out.shape[2])
        i, j = divmod(image, out.shape[1])
        gather(low_band[i, j], details[i, 1, j], t, s0, c0, l0, h0, f0, e0, r0)
        gather(details[i, 0, j], details[i, 2, j], t, s0, c0, l0, h0, f0, e0, r1)
        merge_row(r0, r1, s1, c1, l1, h1, first, last, even, odd, out[i, j, t])


@compiled
def merge_3d(start, stop, low_band, details, out, op0, op1, op2):  # pragma: no cover
    H, W = out.shape[3:]
    Kz, Kh, Kw = low_band.shape[2:]
    planes, rows = np.empty((4, Kh, Kw), out.dtype), np.empty((2, Kw), out.dtype)
    even, odd = np.empty(W // 2 + 1, out.dtype), np.empty(W // 2 + 1, out.dtype)
    flat, r0, r1 = planes.reshape(4, Kh * Kw), rows[0], rows[1]
    s0, c0, l0, h0, f0, e0 = op0
    s1, c1, l1, h1, f1, e1 = op1
    s2, c2, l2, h2, first, last = op2
    for item in range(start, stop):
        image, z = divmod(item, out.shape[2])
        i, j = divmod(image, out.shape[1])
        for s in range(4):
            x = (details[i, s - 1, j] if s else low_band[i, j]).reshape(Kz, Kh * Kw)
            gather(x, details[i, 3 + s, j].reshape(Kz, Kh * Kw), z, s0, c0, l0, h0, f0, e0, flat[s])
        for t in range(H):
            gather(planes[0], planes[2], t, s1, c1, l1, h1, f1, e1, r0)
            gather(planes[1], planes[3], t, s1, c1, l1, h1, f1, e1, r1)
            merge_row(r0, r1, s2, c2, l2, h2, first, last, even, odd, out[i, j, z, t])
