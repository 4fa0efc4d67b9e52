"""Energy, adjoints and derivatives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from medwvae.wavelets import MODES, dwt, idwt
from tests.wavelets.cases import ORTHONORMAL, energy, image, inner, like, modes, seeds, shapes, tensors
from tests.wavelets.cases import wavelets as families

BANKS = ("haar", "db2", "bior2.2")
# PyWavelets prints the taps of the longest symlets and coiflets with some ten digits.
TOLERANCE = 1e-9

orthonormal = st.sampled_from(ORTHONORMAL)


def check_orthonormal(shape, levels, wavelet, mode, seed):
    x, n = image(*shape, seed=seed, batch=1), len(shape)
    forward = dwt(x, levels, n, wavelet, mode)
    arbitrary = like(forward, seed)
    torch.testing.assert_close(energy(forward), x.square().sum(), rtol=TOLERANCE, atol=0)
    scale = float(torch.sqrt(energy(forward) * energy(arbitrary)))
    torch.testing.assert_close(
        inner(forward, arbitrary), torch.sum(x * idwt(arbitrary)), rtol=0, atol=TOLERANCE * scale
    )


@settings(max_examples=40, deadline=None)
@given(
    halves=st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.integers(1, 7)] * n)),
    levels=st.integers(1, 3),
    wavelet=orthonormal,
    mode=st.sampled_from(["periodization", "boundary"]),
    seed=seeds,
)
def test_orthonormal_wavelets_keep_the_energy_and_their_adjoint_is_the_inverse(halves, levels, wavelet, mode, seed):
    check_orthonormal(tuple(half * 2**levels for half in halves), levels, wavelet, mode, seed)


@pytest.mark.parametrize("mode", ["periodization", "boundary"])
def test_every_orthonormal_family(mode):
    for wavelet in ORTHONORMAL:
        check_orthonormal((48,), 1, wavelet, mode, 0)


def test_biorthogonal_wavelets_do_not_keep_it():
    x = image(32, 32)
    forward = dwt(x, 2, 2, "bior3.1", "periodization")
    assert energy(forward) > 1.1 * x.square().sum()


@settings(max_examples=50, deadline=None)
@given(shape=shapes(33), levels=st.integers(1, 2), wavelet=families, mode=modes, seed=seeds)
def test_autograd_gives_the_adjoint_of_analysis(shape, levels, wavelet, mode, seed):
    x, y = image(*shape, batch=1, seed=seed).requires_grad_(), image(*shape, batch=1, seed=seed + 1)
    forward = dwt(x, levels, len(shape), wavelet, mode)
    weights = like(forward, seed)
    (adjoint,) = torch.autograd.grad(inner(forward, weights), x)
    product = torch.sum(y * adjoint)
    scale = float(y.norm() * adjoint.norm())
    torch.testing.assert_close(
        inner(dwt(y, levels, len(shape), wavelet, mode), weights), product, rtol=0, atol=1e-12 * scale
    )


@settings(max_examples=50, deadline=None)
@given(shape=shapes(33), levels=st.integers(1, 2), wavelet=families, mode=modes, seed=seeds)
def test_autograd_gives_the_adjoint_of_synthesis(shape, levels, wavelet, mode, seed):
    layout = dwt(image(*shape, batch=1), levels, len(shape), wavelet, mode)
    first, second = like(layout, seed).map_stacked(lambda _, __, b: b.requires_grad_()), like(layout, seed + 1)
    weights = image(*shape, batch=1, seed=seed)
    gradient, *gradients = torch.autograd.grad(torch.sum(idwt(first) * weights), tensors(first))
    adjoint = layout.replace(gradient, tuple(gradients))
    scale = float(torch.sqrt(energy(second) * energy(adjoint)))
    torch.testing.assert_close(inner(second, adjoint), torch.sum(idwt(second) * weights), rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("wavelet", BANKS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 1)])
def test_first_and_second_derivatives(shape, mode, wavelet):
    n = len(shape)
    x = image(*shape, batch=1, channels=1).requires_grad_()
    layout = dwt(x.detach(), 1, n, wavelet, mode)

    def forward(x):
        return tensors(dwt(x, 1, n, wavelet, mode))

    def backward(approximation, *details):
        return idwt(layout.replace(approximation, details))

    assert gradcheck(forward, (x,))
    assert gradgradcheck(lambda x: [t.pow(3) for t in forward(x)], (x,))
    bands = tuple(band.clone().requires_grad_() for band in tensors(layout))
    assert gradcheck(backward, bands)
    assert gradgradcheck(lambda *bands: backward(*bands).pow(3), bands)


@pytest.mark.parametrize("wavelet", BANKS)
def test_a_gradient_from_some_subbands_only(wavelet):
    x = image(9, 8).requires_grad_()
    (from_one,) = torch.autograd.grad(dwt(x, 2, wavelet=wavelet).level(1)["da"].sum(), x)
    masked = dwt(x, 2, wavelet=wavelet).map(lambda name, level, b: b if (name, level) == ("da", 1) else 0 * b)
    (from_all,) = torch.autograd.grad(sum(band.sum() for band in tensors(masked)), x)
    torch.testing.assert_close(from_one, from_all)
    assert from_one.abs().sum() > 0


# PyTorch scripts some of its own forward-mode rules on first use.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wavelet", BANKS)
@pytest.mark.parametrize("shape", [(5,), (3, 2)])
def test_forward_mode(shape, wavelet):
    n = len(shape)
    x = image(*shape, batch=1, channels=1).requires_grad_()
    layout = dwt(x.detach(), 1, n, wavelet, "symmetric")
    bands = tuple(band.clone().requires_grad_() for band in tensors(layout))
    options = {"check_forward_ad": True, "check_backward_ad": False}
    assert gradcheck(lambda x: tensors(dwt(x, 1, n, wavelet, "symmetric")), (x,), **options)
    assert gradcheck(lambda a, *details: idwt(layout.replace(a, details)), bands, **options)
    assert gradgradcheck(lambda x: dwt(x, 1, n, wavelet, "symmetric").pack().pow(3), (x,), check_fwd_over_rev=True)


@pytest.mark.parametrize("wavelet", BANKS)
@pytest.mark.parametrize("dim", [0, 2])
@pytest.mark.parametrize("levels", [2, (2, 1)])
def test_vmap_is_a_loop(dim, levels, wavelet):
    stack = torch.stack([image(9, 7, seed=seed) for seed in range(4)], dim)
    layout = dwt(image(9, 7), levels, 2, wavelet, "reflect")

    def bands(x):
        return tensors(dwt(x, levels, 2, wavelet, "reflect"))

    mapped = torch.vmap(bands, in_dims=dim)(stack)
    loop = [bands(x) for x in stack.unbind(dim)]
    for found, expected in zip(mapped, zip(*loop, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected))
    back = torch.vmap(lambda a, *details: idwt(layout.replace(a, details)))(*mapped)
    torch.testing.assert_close(back, stack.movedim(dim, 0))
    # One of the arguments may be the same for all.
    back = torch.vmap(lambda a: idwt(layout.replace(a, layout.details)))(mapped[0])
    one_by_one = [idwt(layout.replace(a, layout.details)) for a in mapped[0]]
    torch.testing.assert_close(back, torch.stack(one_by_one))


@pytest.mark.parametrize("wavelet", BANKS)
def test_gradients_of_each_image_of_a_batch(wavelet):
    """torch.func: vmap over grad."""
    x = image(9, 7, batch=4)

    def loss(image):
        return idwt(dwt(image[None], 2, 2, wavelet).map_stacked(lambda _, level, b: level * b)).pow(2).sum()

    found = torch.vmap(torch.func.grad(loss))(x)
    expected = torch.stack([torch.func.grad(loss)(one) for one in x])
    torch.testing.assert_close(found, expected)
