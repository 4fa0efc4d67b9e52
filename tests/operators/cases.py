"""Every kind of forward operator on images of any shape, for the laws that all of them keep."""

import importlib.util

import torch
from hypothesis import strategies as st

from medwvae.operators import (
    CoilSampling,
    FourierSampling,
    Masking,
    RadialSampling,
    Radon,
    Resampling,
    bicubic,
    birdcage_maps,
    fan_beam,
    parallel_beam,
    radial_trajectory,
    through_plane,
)
from medwvae.operators.resampling import slice_matrix

HAS_TORCHKBNUFFT = importlib.util.find_spec("torchkbnufft") is not None
BATCH = 2
seeds = st.integers(0, 2**16)
sides = st.integers(4, 13)
dtypes = st.sampled_from([torch.float32, torch.float64])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def real(shape, seed, dtype=torch.float64):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def like(y, seed):
    """Random data in the shape and precision of some."""
    if not y.is_complex():
        return real(y.shape, seed, y.dtype)
    return torch.complex(real(y.shape, seed, y.real.dtype), real(y.shape, seed + 1, y.real.dtype))


def inner(a, b):
    """Re Σ a b̄ in double precision."""
    return (a.to(torch.complex128) * b.to(torch.complex128).conj()).sum().real


def symmetric(mask):
    """The mask and its mirror image through frequency zero, for real images."""
    axes = tuple(range(2, mask.ndim))
    return mask | mask.flip(axes).roll((1,) * len(axes), axes)


def phasor(shape, seed, dtype):
    angle = real((BATCH, 1, *shape), seed, dtype)
    return torch.polar(torch.ones_like(angle), angle)


def fourier(shape, channels, seed, dtype):
    mask = torch.rand((BATCH, 1, *shape), generator=generator(seed)) < 0.4
    if channels == 1:
        return FourierSampling(symmetric(mask), 1, dims=len(shape))
    return FourierSampling(mask, 2, phasor(shape, seed, dtype), dims=len(shape))


def coils(shape, channels, seed, dtype):
    mask = torch.rand((BATCH, 1, *shape), generator=generator(seed)) < 0.6
    maps = birdcage_maps(shape, 4).to(torch.complex64 if dtype == torch.float32 else torch.complex128)
    return CoilSampling(mask, maps, channels, phasor(shape, seed, dtype) if channels == 2 else None, len(shape))


def resampling(shape, channels, seed, dtype):
    return Resampling({-1: slice_matrix(shape[-1], 2, "rect"), -2: slice_matrix(shape[-2], 3, "rect")}, len(shape))


OPERATORS = {
    "FourierSampling": fourier,
    "CoilSampling": coils,
    "Masking": lambda shape, channels, seed, dtype: Masking(
        torch.rand((BATCH, 1, *shape), generator=generator(seed)) < 0.5, len(shape)
    ),
    "bicubic": lambda shape, channels, seed, dtype: bicubic(shape[-2:], 2 + seed % 3),
    "through_plane rect": lambda shape, channels, seed, dtype: through_plane(
        shape[-1], 2 + seed % 2, "rect", dims=len(shape)
    ),
    "through_plane gaussian": lambda shape, channels, seed, dtype: through_plane(
        shape[-2], 2, "gaussian", 2.0, -2, len(shape)
    ),
    "Resampling of two axes": resampling,
    "Radon parallel": lambda shape, channels, seed, dtype: Radon(parallel_beam(shape[-2:], 3 + seed % 4), len(shape)),
    "Radon limited": lambda shape, channels, seed, dtype: Radon(
        parallel_beam(shape[-2:], 4, arc=70.0, start=float(seed % 90)), len(shape)
    ),
    "Radon fan": lambda shape, channels, seed, dtype: Radon(fan_beam(shape[-2:], 3 + seed % 4), len(shape)),
}
if HAS_TORCHKBNUFFT:
    OPERATORS["RadialSampling"] = lambda shape, channels, seed, dtype: RadialSampling(
        shape, radial_trajectory(3, max(shape)).to(dtype), channels, birdcage_maps(shape, 2).to(dtype.to_complex())
    )
IN_3D = [name for name in OPERATORS if name not in {"RadialSampling"}]
