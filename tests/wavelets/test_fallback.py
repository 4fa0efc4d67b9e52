"""The plain PyTorch path, for CUDA and where Numba is missing, gives what the compiled kernels give."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import MODES, dwt, fallback, idwt, linear
from tests.wavelets.cases import image, inner, like, modes, seeds, shapes_and_levels, tensors

some = st.sampled_from(["haar", "db1", "db2", "bior4.4", "sym7", "dmey"])


def without_numba():
    return mock.patch.object(linear, "has_numba", lambda: False)


def everything(x, levels, wavelet, mode, seed=0):
    """Coefficients, inverse of others, and the gradients of both."""
    x = x.clone().requires_grad_()
    n = x.ndim - 2
    found = dwt(x, levels, n, wavelet, mode)
    others = like(found, seed).map_stacked(lambda _, __, b: b.to(x.device).requires_grad_())
    back = idwt(others)
    gradients = torch.autograd.grad(inner(found, like(found, seed + 1).map_stacked(lambda _, __, b: b.to(x.device))), x)
    inverse_gradients = torch.autograd.grad(torch.sum(back * x.detach()), tensors(others))
    values = (*tensors(found), back)
    return tuple(value.detach() for value in (*values, *gradients, *inverse_gradients))


def check_same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


@settings(max_examples=60, deadline=None)
@given(
    case=shapes_and_levels(20, 2),
    wavelet=some,
    mode=modes,
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=seeds,
)
def test_values_and_gradients_are_those_of_the_kernels(case, wavelet, mode, dtype, seed):
    shape, levels = case
    x = image(*shape, seed=seed, batch=1, channels=2, dtype=dtype)
    expected = everything(x, levels, wavelet, mode, seed)
    with without_numba():
        found = everything(x, levels, wavelet, mode, seed)
    check_same(found, expected, 1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_it_is_taken_where_numba_is_missing_and_only_there(wavelet):
    x = image(8, 6)
    with (
        mock.patch.object(fallback, "split", wraps=fallback.split) as split,
        mock.patch.object(fallback, "merge", wraps=fallback.merge) as merge,
    ):
        idwt(dwt(x, 2, wavelet=wavelet))
        assert (split.call_count, merge.call_count) == (0, 0)
        with without_numba():
            idwt(dwt(x, 2, wavelet=wavelet))
        assert (split.call_count, merge.call_count) == (2, 2)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_half_precision_is_rounded_once_there_too(wavelet):
    x = image(9, 12).bfloat16()
    with without_numba():
        found, expected = dwt(x, 3, wavelet=wavelet), dwt(x.float(), 3, wavelet=wavelet)
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b.bfloat16())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("shape", [(33,), (20, 24), (9, 13, 8)])
def test_cuda_gives_what_the_cpu_gives(shape, wavelet, mode):
    x = image(*shape, batch=1, channels=2)
    check_same(everything(x.cuda(), 2, wavelet, mode), everything(x, 2, wavelet, mode), 1e-11)
