"""Inputs and strategies of the wavelet tests."""

import warnings

import pywt
import torch
from hypothesis import strategies as st

from medwvae.wavelets import MODES, Mode
from medwvae.wavelets.filters import coefficient_length

WAVELETS = tuple(pywt.wavelist(kind="discrete"))
ORTHONORMAL = tuple(name for name in WAVELETS if pywt.Wavelet(name).orthogonal and name != "dmey")
EXTENDING: tuple[Mode, ...] = tuple(mode for mode in MODES if mode != "boundary")
"""The modes that PyWavelets has too."""

wavelets = st.sampled_from(WAVELETS)
modes = st.sampled_from(MODES)
seeds = st.integers(0, 2**16)


def image(*spatial, seed=0, batch=2, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *spatial, generator=generator, dtype=dtype)


def like(coefficients, seed=0):
    """Coefficients of the same layout that are no image's, in general."""
    generator = torch.Generator().manual_seed(seed)
    return coefficients.map_stacked(lambda _, __, b: torch.randn(b.shape, generator=generator, dtype=b.dtype))


def tensors(coefficients):
    return (coefficients.approximation, *coefficients.details)


def inner(a, b):
    """Inner product of two transforms."""
    return sum(torch.sum(x * y) for x, y in zip(tensors(a), tensors(b), strict=True))


def energy(coefficients):
    return inner(coefficients, coefficients)


def shapes(largest, most_axes=3):
    return st.integers(1, most_axes).flatmap(lambda n: st.tuples(*[st.integers(1, largest)] * n))


def shapes_and_levels(largest, deepest):
    """A shape and a number of levels per axis, of which some may be 0 but not all."""
    return shapes(largest).flatmap(
        lambda shape: st.tuples(st.just(shape), st.tuples(*[st.integers(0, deepest)] * len(shape)).filter(any))
    )


def refused_by_pywt(shape, wavelet, mode, levels):
    """PyWavelets does not reflect a single sample."""
    sizes = set(shape)
    for _ in range(levels):
        if mode == "reflect" and 1 in sizes:
            return True
        sizes = {coefficient_length(size, wavelet, mode) for size in sizes}
    return False


def pywt_wavedecn(x, wavelet, mode, levels):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Level value of", UserWarning)  # too many levels for the size
        return pywt.wavedecn(x.numpy(), wavelet, mode, levels, tuple(range(2, x.ndim)))
