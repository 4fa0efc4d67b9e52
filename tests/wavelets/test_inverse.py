"""The inverse is exact: every family, mode, shape, and number of levels per axis."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import MODES, analyse, dwt, idwt, synthesise
from tests.wavelets.cases import WAVELETS, image, modes, seeds, shapes, shapes_and_levels
from tests.wavelets.cases import wavelets as families


def check_inverse(x, levels, wavelet, mode, tolerance=1e-9):
    back = idwt(dwt(x, levels, x.ndim - 2, wavelet, mode))
    assert back.shape == x.shape
    assert back.dtype == x.dtype
    torch.testing.assert_close(back, x, rtol=0, atol=tolerance)


@settings(max_examples=80, deadline=None)
@given(case=shapes_and_levels(65, 3), wavelet=families, mode=modes, seed=seeds)
def test_the_inverse_is_exact(case, wavelet, mode, seed):
    shape, levels = case
    check_inverse(image(*shape, seed=seed, batch=1, channels=2), levels, wavelet, mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_size_of_an_axis(mode):
    for wavelet in ("haar", "db2", "bior4.4"):
        for size in range(1, 66):
            check_inverse(image(size, batch=1, channels=1, seed=size), 2, wavelet, mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_family(mode):
    for wavelet in WAVELETS:
        for size in (5, 32):
            check_inverse(image(size, batch=1, channels=1, seed=size), 1, wavelet, mode)


@settings(max_examples=25, deadline=None)
@given(shape=shapes(40), wavelet=families, mode=modes, seed=seeds)
def test_single_precision_is_as_exact_as_it_can_be(shape, wavelet, mode, seed):
    check_inverse(image(*shape, seed=seed, batch=1, channels=1, dtype=torch.float32), 2, wavelet, mode, 1e-4)


@settings(max_examples=25, deadline=None)
@given(case=shapes_and_levels(16, 1), wavelet=st.sampled_from(["haar", "db3", "bior2.2"]), mode=modes)
def test_one_level_of_some_axes_and_its_inverse(case, wavelet, mode):
    shape, split = case
    x = image(*shape)
    axes = [axis for axis, own in enumerate(split) if own]
    approximation, details = analyse(x, len(shape), wavelet, mode, axes)
    assert details.shape == (2, 2 ** len(axes) - 1, *approximation.shape[1:])
    back = synthesise(approximation, details, shape, wavelet, mode, axes)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("mode", MODES)
def test_without_a_shape_the_inverse_is_the_largest_image(wavelet, mode):
    x = image(12, 8)
    torch.testing.assert_close(synthesise(*analyse(x, 2, wavelet, mode), None, wavelet, mode), x, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(shape=shapes(13), wavelet=families, mode=modes, seed=seeds)
def test_the_transform_is_linear(shape, wavelet, mode, seed):
    x, y = image(*shape, seed=seed), image(*shape, seed=seed + 1)
    n = len(shape)
    together = dwt(2 * x - 3 * y, 2, n, wavelet, mode).pack()
    apart = 2 * dwt(x, 2, n, wavelet, mode).pack() - 3 * dwt(y, 2, n, wavelet, mode).pack()
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)
