"""PyWavelets is the standard: the same coefficients, the same inverse, band for band."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medwvae.wavelets import analyse, dwt, idwt, subband_names, to_pywt
from tests.wavelets.cases import EXTENDING, WAVELETS, image, like, pywt_wavedecn, refused_by_pywt, seeds, shapes
from tests.wavelets.cases import wavelets as families

SIZES = (1, 2, 7, 33, 64)


def check_bands(x, levels, wavelet, mode, rtol):
    n = x.ndim - 2
    approximation, *details = pywt_wavedecn(x.double(), wavelet, mode, levels)
    found = dwt(x, levels, n, wavelet, mode)
    scale = max(1.0, np.abs(approximation).max())
    named = found.subbands()
    assert len(named) == 1 + levels * (2**n - 1)
    np.testing.assert_allclose(named["a" * n + str(levels)], approximation, rtol=0, atol=rtol * scale)
    for level, bands in zip(range(levels, 0, -1), details, strict=True):
        assert set(found.names(level)) == set(bands)
        for name, band in bands.items():
            np.testing.assert_allclose(named[f"{name}{level}"], band, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("mode", EXTENDING)
def test_every_family_at_every_kind_of_size(mode):
    assert len(WAVELETS) >= 106
    for wavelet in WAVELETS:
        for size in SIZES:
            if not refused_by_pywt((size,), wavelet, mode, 2):
                check_bands(image(size, batch=1, channels=2, seed=size), 2, wavelet, mode, 1e-10)


@settings(max_examples=80, deadline=None)
@given(
    shape=shapes(40),
    levels=st.integers(1, 4),
    wavelet=families,
    mode=st.sampled_from(EXTENDING),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=seeds,
)
def test_every_number_of_axes_and_levels_in_both_precisions(shape, levels, wavelet, mode, dtype, seed):
    assume(not refused_by_pywt(shape, wavelet, mode, levels))
    x = image(*shape, seed=seed, batch=1, channels=2, dtype=dtype)
    check_bands(x, levels, wavelet, mode, 1e-10 if dtype == torch.float64 else 1e-5)


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes(40),
    levels=st.integers(1, 3),
    wavelet=st.sampled_from([name for name in WAVELETS if name != "dmey"]),  # whose inverse is only ours exact
    mode=st.sampled_from(EXTENDING),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=seeds,
)
def test_the_inverse_of_any_coefficients(shape, levels, wavelet, mode, dtype, seed):
    n = len(shape)
    made = like(dwt(image(*shape, batch=1, channels=2, dtype=dtype), levels, n, wavelet, mode), seed)
    expected = pywt.waverecn(
        to_pywt(made.replace(made.approximation.double(), tuple(band.double() for band in made.details))),
        wavelet,
        mode,
        axes=tuple(range(2, 2 + n)),
    )
    cropped = expected[(..., *(slice(size) for size in shape))]
    tolerance = (1e-10 if dtype == torch.float64 else 1e-5) * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(idwt(made), cropped, rtol=0, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(shape=shapes(13), wavelet=st.sampled_from(["haar", "db3", "rbio2.4"]), seed=seeds)
def test_the_details_of_one_level_are_stacked_in_the_order_of_their_names(shape, wavelet, seed):
    x = image(*shape, seed=seed)
    n = len(shape)
    expected = pywt.dwtn(x.numpy(), wavelet, "symmetric", axes=tuple(range(2, 2 + n)))
    approximation, details = analyse(x, n, wavelet, "symmetric")
    names = subband_names(n)
    assert details.shape == (2, 2**n - 1, 3, *approximation.shape[2:])
    for name, band in zip(names, (approximation, *details.unbind(1)), strict=True):
        np.testing.assert_allclose(band, expected[name], rtol=0, atol=1e-10)
