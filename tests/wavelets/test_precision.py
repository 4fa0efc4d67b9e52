"""Half precision is single precision rounded once; the other precisions are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import analyse, dwt, idwt, synthesise
from tests.wavelets.cases import image, like, modes, seeds, shapes, tensors

HALF = [torch.bfloat16, torch.float16]
some = st.sampled_from(["haar", "db2", "bior4.4", "sym8"])


@settings(max_examples=40, deadline=None)
@given(shape=shapes(24), wavelet=some, mode=modes, dtype=st.sampled_from(HALF), seed=seeds)
def test_three_levels_in_half_precision_are_rounded_once(shape, wavelet, mode, dtype, seed):
    x, n = image(*shape, seed=seed).to(dtype), len(shape)
    found, expected = dwt(x, 3, n, wavelet, mode), dwt(x.float(), 3, n, wavelet, mode)
    for half, single in zip(tensors(found), tensors(expected), strict=True):
        assert half.dtype == dtype
        assert torch.equal(half, single.to(dtype))
    coefficients = like(expected, seed).map_stacked(lambda _, __, b: b.to(dtype))
    back, exact = idwt(coefficients), idwt(coefficients.map_stacked(lambda _, __, b: b.float()))
    assert back.dtype == dtype
    assert torch.equal(back, exact.to(dtype))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_one_level_in_half_precision_is_rounded_once(wavelet, dtype):
    x = image(11, 14).to(dtype)
    found, expected = analyse(x, 2, wavelet), analyse(x.float(), 2, wavelet)
    for half, single in zip(found, expected, strict=True):
        assert torch.equal(half, single.to(dtype))
    back = synthesise(*found, (11, 14), wavelet)
    exact = synthesise(found[0].float(), found[1].float(), (11, 14), wavelet)
    assert torch.equal(back, exact.to(dtype))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_training_in_half_precision(wavelet, dtype):
    x = image(11, 14).to(dtype)
    half, single = x.clone().requires_grad_(), x.float().requires_grad_()
    for leaf in (half, single):
        coefficients = dwt(leaf, 3, 2, wavelet, "symmetric")
        weighted = coefficients.map_stacked(lambda _, level, band: band * level)
        idwt(weighted).float().square().sum().backward()
    assert half.grad is not None
    assert single.grad is not None
    assert half.grad.dtype == dtype
    scale = float(single.grad.abs().max())
    torch.testing.assert_close(half.grad.float(), single.grad, rtol=0, atol=16 * torch.finfo(dtype).eps * scale)


@pytest.mark.parametrize("wavelet", ["haar", "bior4.4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_autocast_changes_nothing(wavelet, dtype):
    x = image(17, 12).to(dtype)
    outside = dwt(x, 3, 2, wavelet, "reflect")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = dwt(x, 3, 2, wavelet, "reflect")
        back = idwt(inside)
    for a, b in zip(tensors(inside), tensors(outside), strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)
    assert back.dtype == dtype
    assert torch.equal(back, idwt(outside))


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_is_kept(wavelet, dtype):
    x = image(11, 14, dtype=dtype)
    coefficients = dwt(x, 3, 2, wavelet, "symmetric")
    assert {band.dtype for band in tensors(coefficients)} == {dtype}
    tolerance = max(20 * torch.finfo(dtype).eps, 1e-11)  # PyWavelets' taps of db2 and bior4.4 have some 12 digits
    torch.testing.assert_close(idwt(coefficients), x, rtol=0, atol=tolerance)
