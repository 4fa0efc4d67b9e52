"""Long axes: the operator of a short axis, stretched, is that of the long one, and takes no more room."""

import numpy as np
import pytest
import pywt
import torch

from medwvae.wavelets import MODES, analyse, dwt, idwt
from medwvae.wavelets.filters import coefficient_length
from medwvae.wavelets.matrices import Kind, banded

SIZES = (480, 999, 1000, 1001, 5003)
WAVELETS = ("db4", "sym20", "bior4.4")
SPLITTING: tuple[Kind, Kind] = ("analysis", "synthesis adjoint")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_long_signals_are_pywavelets_and_come_back(wavelet, mode):
    for size in SIZES:
        x = torch.randn(1, 2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
        found = dwt(x, 2, 1, wavelet, mode)
        torch.testing.assert_close(idwt(found), x, rtol=0, atol=1e-9)
        if mode != "boundary":
            expected = pywt.wavedec(x.numpy(), wavelet, mode, 2)
            np.testing.assert_allclose(found.approximation, expected[0], rtol=0, atol=1e-10)
            for band, own in zip(found.details, expected[1:], strict=True):
                np.testing.assert_allclose(band[:, 0], own, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_gradients_are_the_adjoint(wavelet, mode):
    for size in SIZES:
        generator = torch.Generator().manual_seed(size)
        x = torch.randn(1, 1, size, dtype=torch.float64, generator=generator).requires_grad_()
        bands = analyse(x, 1, wavelet, mode)
        cotangents = [torch.randn(band.shape, dtype=torch.float64, generator=generator) for band in bands]
        (gradient,) = torch.autograd.grad(bands, x, cotangents)
        there = sum(torch.sum(band * other) for band, other in zip(bands, cotangents, strict=True))
        torch.testing.assert_close(torch.sum(gradient * x), torch.as_tensor(there), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("kind", [*SPLITTING, "synthesis", "analysis adjoint"])
@pytest.mark.parametrize("mode", MODES)
def test_operators_of_long_axes_take_no_more_room(mode, kind):
    size = 10**7
    short, long = (banded("db4", mode, n, kind, "float32") for n in (200, size))
    assert long.columns.size == short.columns.size
    count = coefficient_length(size, "db4", mode)
    rows, columns = (count, size) if kind in SPLITTING else (size, count)
    kept, shift = (int(place[0]) for place in long.places(np.array([rows - 1]), kind in SPLITTING))
    reach = int(long.columns[long.starts[kept] : long.starts[kept + 1]].max()) + shift
    assert columns - 8 <= reach < columns


@pytest.mark.parametrize("kind", [*SPLITTING, "synthesis", "analysis adjoint"])
@pytest.mark.parametrize("size", [5, 97, 98, 301])
def test_every_row_is_kept_somewhere(size, kind):
    operator = banded("db2", "symmetric", size, kind, "float64")
    rows = len(range(size)) if kind not in SPLITTING else (size + 3) // 2
    kept, shift = operator.places(np.arange(rows), kind in SPLITTING)
    assert set(kept) == set(range(len(operator.starts) - 1))
    assert (shift >= 0).all()
