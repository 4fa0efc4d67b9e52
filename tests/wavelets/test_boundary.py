"""Boundary-adapted filters against ptwt's matrix transforms."""

import warnings
from typing import Any

import ptwt
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import dwt, idwt
from medwvae.wavelets.boundary import boundary_pairs
from tests.wavelets.cases import ORTHONORMAL, image, seeds

TRANSFORMS: Any = {1: ptwt.MatrixWavedec, 2: ptwt.MatrixWavedec2, 3: ptwt.MatrixWavedec3}


def pair_of_letters(bands):
    # The matrices write the letters of the last axis first, unlike ptwt.wavedec2.
    return dict(zip(("ad", "da", "dd"), bands, strict=True))


def by_ptwt(x, wavelet, levels):
    """Coefficients of ptwt's matrices by our names."""
    n = x.ndim - 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Ss]parse", UserWarning)  # torch: sparse tensors are in beta
        approximation, *details = TRANSFORMS[n](wavelet, levels)(x)
    found = {f"{'a' * n}{levels}": approximation}
    for level, bands in zip(range(levels, 0, -1), details, strict=True):
        named = {1: lambda b: {"d": b}, 2: pair_of_letters, 3: dict}[n](bands)
        found |= {f"{name}{level}": band for name, band in named.items()}
    return found


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym4", "coif1"])
@pytest.mark.parametrize("shape", [(64,), (35,), (100,), (32, 40), (33, 21), (16, 18, 20)])
def test_the_coefficients_are_ptwts(shape, wavelet):
    x = image(*shape, batch=1, channels=2)
    levels = 1 if len(shape) == 3 else 2
    expected = by_ptwt(x, wavelet, levels)
    found = dwt(x, levels, len(shape), wavelet, "boundary").subbands()
    assert set(found) == set(expected)
    for name, band in expected.items():
        torch.testing.assert_close(found[name], band, rtol=0, atol=1e-9)


@pytest.mark.parametrize("wavelet", ["db2", "db5"])
def test_long_axes_are_the_stretched_matrices_of_short_ones(wavelet):
    taps = pywt.Wavelet(wavelet).dec_len
    x = image(13 * taps, batch=1, channels=1)
    expected = by_ptwt(x, wavelet, 1)
    found = dwt(x, 1, 1, wavelet, "boundary").subbands()
    for name, band in expected.items():
        torch.testing.assert_close(found[name], band, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("wavelet", "size"), [("db2", 1), ("db2", 2), ("sym8", 3), ("sym8", 14), ("bior4.4", 5), ("bior4.4", 8)]
)
def test_an_axis_shorter_than_the_filter_is_split_by_haar(wavelet, size):
    x = image(size)
    ours, haar = dwt(x, 1, 1, wavelet, "boundary"), dwt(x, 1, 1, "haar", "zero")
    torch.testing.assert_close(ours.pack(), haar.pack())


@pytest.mark.parametrize("wavelet", ["db2", "sym8", "bior4.4"])
def test_an_axis_as_long_as_the_filter_is_not(wavelet):
    x = image(pywt.Wavelet(wavelet).dec_len)
    ours, haar = dwt(x, 1, 1, wavelet, "boundary"), dwt(x, 1, 1, "haar", "zero")
    assert not torch.allclose(ours.pack(), haar.pack())


@settings(max_examples=30, deadline=None)
@given(wavelet=st.sampled_from(ORTHONORMAL), half=st.integers(1, 60))
def test_orthonormal_families_stay_orthonormal(wavelet, half):
    (low, high), _ = boundary_pairs(wavelet, 2 * half)
    W = torch.tensor([*low.toarray().tolist(), *high.toarray().tolist()], dtype=torch.float64)
    torch.testing.assert_close(W @ W.T, torch.eye(2 * half, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [76, 77, 200, 1000])
def test_the_longest_filter_stays_orthonormal(size):
    x = image(size, batch=1, channels=1)
    found = dwt(x, 1, 1, "db38", "boundary")
    assert float(sum(norm.square().sum() for norm in found.norms().values())) == pytest.approx(
        float(x.square().sum()), rel=1e-10
    )
    torch.testing.assert_close(idwt(found), x, rtol=0, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(40, 120), wavelet=st.sampled_from(["db2", "sym4", "bior2.2", "bior4.4"]), seed=seeds)
def test_inside_the_image_it_is_the_plain_transform(size, wavelet, seed):
    x = image(2 * size, seed=seed)
    ours, plain = (dwt(x, 1, 1, wavelet, mode).details[0] for mode in ("boundary", "periodization"))
    border = pywt.Wavelet(wavelet).dec_len
    torch.testing.assert_close(ours[..., border:-border], plain[..., border:-border], rtol=0, atol=1e-12)
    assert not torch.allclose(ours, plain)
