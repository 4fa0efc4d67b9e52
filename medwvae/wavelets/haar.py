"""Haar's own kernels: every output is a sum or difference of 2^n neighbours, so nothing needs a buffer.

Arrays as in `kernels`. The kernels do the pairs inside the image; where an axis is odd, its last sample and the partner
that the border mode gives it are a slab of two, transformed in the same way.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medwvae.wavelets.filters import Mode, extended
from medwvae.wavelets.jit import compiled, share

LIGHTER = 2
"""How many times less work an element is than in the general kernels, roughly."""

# ruff: noqa: E741
# mypy: disable-error-code="no-untyped-def, no-untyped-call"


def split(x: NDArray[Any], low: NDArray[Any], details: NDArray[Any], mode: Mode) -> None:
    """Fill the low band (B, C, *⌈half⌉) and the details (B, 2^n − 1, C, *⌈half⌉) of images (B, C, *spatial)."""
    _shared((_split_1d, _split_2d, _split_3d)[x.ndim - 3], x, x, low, details)
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        if size % 2:
            last = x.take([size - 1], axis)
            partner = int(extended(np.array([size]), size, mode)[0])
            slab = np.concatenate((last, x.take([partner], axis) if partner >= 0 else np.zeros_like(last)), axis)
            edge_low, edge_details = (np.empty_like(band.take([0], axis - x.ndim)) for band in (low, details))
            split(slab, edge_low, edge_details, mode)
            _last(low, axis - x.ndim)[...] = edge_low
            _last(details, axis - x.ndim)[...] = edge_details


def merge(low: NDArray[Any], details: NDArray[Any], out: NDArray[Any]) -> None:
    """Fill the images (B, C, *spatial) from their bands."""
    _shared((_merge_1d, _merge_2d, _merge_3d)[out.ndim - 3], out, low, details, out)
    for axis in range(2, out.ndim):
        size = out.shape[axis]
        if size % 2:
            slab = np.empty((*out.shape[:axis], 2, *out.shape[axis + 1 :]), out.dtype)
            merge(low.take([-1], axis - out.ndim), details.take([-1], axis - out.ndim), slab)
            _last(out, axis)[...] = slab.take([0], axis)


def _last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.moveaxis(np.moveaxis(array, axis, 0)[-1:], 0, axis)


def _shared(kernel: Any, image: NDArray[Any], *arrays: NDArray[Any]) -> None:
    along = image.shape[2] // 2 if image.ndim > 3 else 1
    share(kernel, image.shape[0] * image.shape[1] * along, image.size // LIGHTER, *arrays)


@compiled
def _square(p, q, u, v):  # pragma: no cover
    """Add and subtract the samples p q (first row) and u v (second): aa, ad, da, dd. Its own inverse."""
    a, d, b, e = p + q, p - q, u + v, u - v
    return a + b, d + e, a - b, d - e


@compiled
def _split_1d(start, stop, x, low, details):  # pragma: no cover
    s = x.dtype.type(math.sqrt(0.5))
    for item in range(start, stop):
        b, c = divmod(item, x.shape[1])
        r, lo, hi = x[b, c], low[b, c], details[b, 0, c]
        for i in range(len(r) // 2):
            lo[i], hi[i] = (r[2 * i] + r[2 * i + 1]) * s, (r[2 * i] - r[2 * i + 1]) * s


@compiled
def _merge_1d(start, stop, low, details, out):  # pragma: no cover
    s = out.dtype.type(math.sqrt(0.5))
    for item in range(start, stop):
        b, c = divmod(item, out.shape[1])
        r, lo, hi = out[b, c], low[b, c], details[b, 0, c]
        for i in range(len(r) // 2):
            r[2 * i], r[2 * i + 1] = (lo[i] + hi[i]) * s, (lo[i] - hi[i]) * s


@compiled
def _split_2d(start, stop, x, low, details):  # pragma: no cover
    H, W = x.shape[2:]
    s = x.dtype.type(0.5)
    for item in range(start, stop):
        image, k = divmod(item, H // 2)
        b, c = divmod(image, x.shape[1])
        r0, r1 = x[b, c, 2 * k], x[b, c, 2 * k + 1]
        aa, ad, da, dd = low[b, c, k], details[b, 0, c, k], details[b, 1, c, k], details[b, 2, c, k]
        for i in range(W // 2):
            p, q, u, v = _square(r0[2 * i], r0[2 * i + 1], r1[2 * i], r1[2 * i + 1])
            aa[i], ad[i], da[i], dd[i] = p * s, q * s, u * s, v * s


@compiled
def _merge_2d(start, stop, low, details, out):  # pragma: no cover
    H, W = out.shape[2:]
    s = out.dtype.type(0.5)
    for item in range(start, stop):
        image, k = divmod(item, H // 2)
        b, c = divmod(image, out.shape[1])
        r0, r1 = out[b, c, 2 * k], out[b, c, 2 * k + 1]
        aa, ad, da, dd = low[b, c, k], details[b, 0, c, k], details[b, 1, c, k], details[b, 2, c, k]
        for i in range(W // 2):
            p, q, u, v = _square(aa[i], ad[i], da[i], dd[i])
            r0[2 * i], r0[2 * i + 1], r1[2 * i], r1[2 * i + 1] = p * s, q * s, u * s, v * s


@compiled
def _split_3d(start, stop, x, low, details):  # pragma: no cover
    D, H, W = x.shape[2:]
    s = x.dtype.type(math.sqrt(0.125))
    for item in range(start, stop):
        image, k = divmod(item, D // 2)
        b, c = divmod(image, x.shape[1])
        for j in range(H // 2):
            r0, r1 = x[b, c, 2 * k, 2 * j], x[b, c, 2 * k, 2 * j + 1]
            r2, r3 = x[b, c, 2 * k + 1, 2 * j], x[b, c, 2 * k + 1, 2 * j + 1]
            o0, o1, o2, o3 = low[b, c, k, j], details[b, 0, c, k, j], details[b, 1, c, k, j], details[b, 2, c, k, j]
            o4, o5, o6, o7 = (
                details[b, 3, c, k, j],
                details[b, 4, c, k, j],
                details[b, 5, c, k, j],
                details[b, 6, c, k, j],
            )
            for i in range(W // 2):
                a, d, e, f = _square(r0[2 * i], r0[2 * i + 1], r1[2 * i], r1[2 * i + 1])
                g, h, l, m = _square(r2[2 * i], r2[2 * i + 1], r3[2 * i], r3[2 * i + 1])
                o0[i], o1[i], o2[i], o3[i] = (a + g) * s, (d + h) * s, (e + l) * s, (f + m) * s
                o4[i], o5[i], o6[i], o7[i] = (a - g) * s, (d - h) * s, (e - l) * s, (f - m) * s


@compiled
def _merge_3d(start, stop, low, details, out):  # pragma: no cover
    D, H, W = out.shape[2:]
    s = out.dtype.type(math.sqrt(0.125))
    for item in range(start, stop):
        image, k = divmod(item, D // 2)
        b, c = divmod(image, out.shape[1])
        for j in range(H // 2):
            r0, r1 = out[b, c, 2 * k, 2 * j], out[b, c, 2 * k, 2 * j + 1]
            r2, r3 = out[b, c, 2 * k + 1, 2 * j], out[b, c, 2 * k + 1, 2 * j + 1]
            o0, o1, o2, o3 = low[b, c, k, j], details[b, 0, c, k, j], details[b, 1, c, k, j], details[b, 2, c, k, j]
            o4, o5, o6, o7 = (
                details[b, 3, c, k, j],
                details[b, 4, c, k, j],
                details[b, 5, c, k, j],
                details[b, 6, c, k, j],
            )
            for i in range(W // 2):
                p, q, u, v = _square(o0[i] + o4[i], o1[i] + o5[i], o2[i] + o6[i], o3[i] + o7[i])
                r0[2 * i], r0[2 * i + 1], r1[2 * i], r1[2 * i + 1] = p * s, q * s, u * s, v * s
                p, q, u, v = _square(o0[i] - o4[i], o1[i] - o5[i], o2[i] - o6[i], o3[i] - o7[i])
                r2[2 * i], r2[2 * i + 1], r3[2 * i], r3[2 * i + 1] = p * s, q * s, u * s, v * s
