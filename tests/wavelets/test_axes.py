"""Levels per axis: thick slices are not split as often as the plane."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import MODES, dwt, idwt
from tests.wavelets.cases import image, modes, seeds, shapes_and_levels, tensors


def check_names():
    coefficients = dwt(image(8, 8, 4), (3, 3, 1), 3)
    assert coefficients.names(1) == coefficients.names(2) == ("ada", "daa", "dda")
    assert coefficients.names(3) == ("aad", "ada", "add", "daa", "dad", "dda", "ddd")


def test_the_finest_levels_leave_the_slices_alone():
    check_names()
    coefficients = dwt(image(16, 24, 5), (3, 3, 1), 3)
    assert coefficients.axes == ((0, 1, 2), (0, 1), (0, 1))
    assert coefficients.shapes == ((4, 6, 5), (8, 12, 5), (16, 24, 5))
    assert coefficients.approximation.shape == (2, 3, 2, 3, 3)
    assert list(coefficients.subbands())[:8] == ["aaa3", *(f"{name}3" for name in coefficients.names(3))]


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "boundary"])
def test_it_is_pywavelets_over_the_axes_of_each_level(mode, wavelet):
    x = image(17, 12, 7, batch=1)
    found = dwt(x, (3, 3, 1), 3, wavelet, mode)
    y = x.numpy()
    for level, axes in ((1, (2, 3)), (2, (2, 3)), (3, (2, 3, 4))):
        bands = pywt.dwtn(y, wavelet, mode, axes)
        # pywt writes only the letters of the axes that it splits.
        named = {name if len(axes) == 3 else name + "a": band for name, band in bands.items()}
        y = named.pop("aaa")
        assert set(named) == set(found.level(level))
        for name, band in found.level(level).items():
            np.testing.assert_allclose(band, named[name], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.approximation, y, rtol=0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(case=shapes_and_levels(12, 2), wavelet=st.sampled_from(["haar", "db2"]), mode=modes, seed=seeds)
def test_reordering_the_axes_reorders_the_letters(case, wavelet, mode, seed):
    shape, levels = case
    n = len(shape)
    x = image(*shape, seed=seed)
    found = dwt(x, levels, n, wavelet, mode).subbands()
    mirrored = dwt(x.permute(0, 1, *range(1 + n, 1, -1)), levels[::-1], n, wavelet, mode).subbands()
    assert {name[:n][::-1] + name[n:] for name in found} == set(mirrored)
    for name, band in found.items():
        other = mirrored[name[:n][::-1] + name[n:]].permute(0, 1, *range(1 + n, 1, -1))
        torch.testing.assert_close(band, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("levels", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 2, 1), (1, 0, 0)])
def test_gradients_through_levels_that_leave_axes_alone(levels, wavelet):
    x = image(2, 3, 4, batch=1, channels=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tensors(dwt(x, levels, 3, wavelet, "symmetric")), (x,))
    layout = dwt(x.detach(), levels, 3, wavelet, "symmetric")
    bands = tuple(band.clone().requires_grad_() for band in tensors(layout))
    assert torch.autograd.gradcheck(lambda a, *details: idwt(layout.replace(a, details)), bands)
