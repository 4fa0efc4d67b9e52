"""To and from the forms of PyWavelets and ptwt."""

from typing import Any

import numpy as np
import ptwt
import pytest
import pywt
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medwvae.wavelets import dwt, from_pywt, idwt, to_ptwt, to_pywt
from tests.wavelets.cases import EXTENDING, image, pywt_wavedecn, refused_by_pywt, seeds, shapes, tensors

PTWT: Any = {1: (ptwt.wavedec, ptwt.waverec), 2: (ptwt.wavedec2, ptwt.waverec2), 3: (ptwt.wavedec3, ptwt.waverec3)}
SHAPES = pytest.mark.parametrize("shape", [(40,), (23,), (24, 32), (21, 18), (16, 20, 24), (13, 16, 11)])
some = st.sampled_from(["haar", "db2", "bior4.4", "sym5"])


def check_same(found, expected):
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert (found.shapes, found.axes, found.wavelet, found.mode) == (
        expected.shapes,
        expected.axes,
        expected.wavelet,
        expected.mode,
    )


@settings(max_examples=40, deadline=None)
@given(shape=shapes(24), levels=st.integers(1, 3), wavelet=some, mode=st.sampled_from(EXTENDING), seed=seeds)
def test_pywavelets_inverts_what_it_is_given(shape, levels, wavelet, mode, seed):
    x, n = image(*shape, seed=seed), len(shape)
    back = pywt.waverecn(to_pywt(dwt(x, levels, n, wavelet, mode)), wavelet, mode, axes=tuple(range(2, 2 + n)))
    np.testing.assert_allclose(back[(..., *(slice(size) for size in shape))], x, rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(shape=shapes(24), levels=st.integers(1, 3), wavelet=some, mode=st.sampled_from(EXTENDING), seed=seeds)
def test_what_pywavelets_makes_is_taken(shape, levels, wavelet, mode, seed):
    assume(not refused_by_pywt(shape, wavelet, mode, levels))
    x = image(*shape, seed=seed)
    found = from_pywt(pywt_wavedecn(x, wavelet, mode, levels), wavelet, mode, shape)
    check_same(found, dwt(x, levels, len(shape), wavelet, mode))
    torch.testing.assert_close(idwt(found), x, rtol=0, atol=1e-9)


def test_there_and_back():
    coefficients = dwt(image(21, 14), 3, 2, "db2", "symmetric")
    check_same(from_pywt(to_pywt(coefficients), "db2", "symmetric", (21, 14)), coefficients)


def test_wavedec_and_wavedec2_of_plain_and_of_batched_arrays():
    x, y = image(33), image(21, 18)
    by_name = dwt(x, 2, 1, "db2", "symmetric"), dwt(y, 2, 2, "db2", "symmetric")
    check_same(from_pywt(pywt.wavedec(x.numpy(), "db2", "symmetric", 2), "db2", "symmetric", (33,)), by_name[0])
    check_same(from_pywt(pywt.wavedec2(y.numpy(), "db2", "symmetric", 2), "db2", "symmetric", (21, 18)), by_name[1])
    plain = from_pywt(pywt.wavedec(x[0, 0].numpy(), "db2", "symmetric", 2), "db2", "symmetric", (33,))
    check_same(plain, dwt(x[:1, :1], 2, 1, "db2", "symmetric"))
    plain = from_pywt(pywt.wavedec2(y[0, 0].numpy(), "db2", "symmetric", 2), "db2", "symmetric", (21, 18))
    check_same(plain, dwt(y[:1, :1], 2, 2, "db2", "symmetric"))
    plain = from_pywt(pywt.wavedecn(y[0, 0].numpy(), "db2", "symmetric", 2), "db2", "symmetric", (21, 18))
    check_same(plain, dwt(y[:1, :1], 2, 2, "db2", "symmetric"))


@pytest.mark.parametrize("mode", EXTENDING)
@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_without_a_shape_even_images_come_back_whole(wavelet, mode):
    x = image(32, 24)
    found = from_pywt(pywt_wavedecn(x, wavelet, mode, 2), wavelet, mode)
    assert found.shapes[-1] == (32, 24)
    torch.testing.assert_close(idwt(found), x, rtol=0, atol=1e-10)


def test_coefficients_without_details_are_refused():
    with pytest.raises(ValueError, match="expected \\[approximation, details"):
        from_pywt([np.zeros((4, 4))], "haar", "periodization")


@pytest.mark.parametrize("mode", ["zero", "symmetric", "reflect", "periodic", "constant"])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
@SHAPES
def test_the_form_and_the_values_are_ptwts(shape, wavelet, mode):
    x, n = image(*shape), len(shape)
    decompose, reconstruct = PTWT[n]
    expected = decompose(x, wavelet, mode=mode, level=2)
    found = to_ptwt(dwt(x, 2, n, wavelet, mode))
    assert type(found) is type(expected)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-10)
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert type(mine) is type(theirs)
        if isinstance(mine, dict):
            assert set(mine) == set(theirs)
        names = range(len(theirs)) if isinstance(mine, tuple) else theirs if isinstance(mine, dict) else [...]
        for name in names:
            torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-10)
    back = reconstruct(found, wavelet)
    torch.testing.assert_close(back[(..., *(slice(size) for size in shape))], x, rtol=0, atol=1e-9)


def test_levels_that_split_different_axes_have_no_such_form():
    coefficients = dwt(image(8, 8), (2, 1))
    for form in (to_pywt, to_ptwt):
        with pytest.raises(ValueError, match="split different axes"):
            form(coefficients)
