"""Radial k-space against the discrete Fourier sum; skipped where torchkbnufft is not installed."""

import sys

import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from medwvae.errors import MedwvaeError
from medwvae.operators import RadialSampling, as_complex, birdcage_maps, radial_trajectory, with_phase
from tests.operators.cases import HAS_TORCHKBNUFFT, real

needs = pytest.mark.skipif(not HAS_TORCHKBNUFFT, reason="torchkbnufft is an extra (radial)")


@needs
def test_samples_are_the_fourier_sum():
    shape, trajectory = (14, 12), radial_trajectory(5, 16)
    x = real((2, 2, *shape), 0)
    y = RadialSampling(shape, trajectory, 2).forward(x)
    # torchkbnufft puts the origin of the image at its middle, N // 2.
    places = [np.arange(n) - n // 2 for n in shape]
    phase = trajectory[0].numpy()[:, None, None] * places[0][:, None] + trajectory[1].numpy()[:, None, None] * places[1]
    kernel = np.exp(-1j * phase) / np.sqrt(np.prod(shape))
    expected = np.einsum("bchw,khw->bck", as_complex(x).numpy(), kernel)
    found = y.numpy() * np.vdot(y.numpy(), expected).real / np.vdot(y.numpy(), y.numpy()).real
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


@needs
def test_gridding_gives_the_image_back_and_data_consistency_improves_it():
    shape = (32, 32)
    head = torch.from_numpy(resize(shepp_logan_phantom(), shape, anti_aliasing=True)).float()[None, None]
    truth = with_phase(head, torch.zeros(()))
    operator = RadialSampling(shape, radial_trajectory(40, 64).float(), 2, birdcage_maps(shape, 4))
    y = operator.forward(truth)
    start = operator.pseudo_inverse(y)
    assert float((start - truth).norm() / truth.norm()) < 0.4
    better = operator.project(start, y, 6)
    assert float((better - truth).norm()) < 0.6 * float((start - truth).norm())


@needs
def test_gradient_proximal_map_and_mirror():
    shape = (10, 9)
    operator = RadialSampling(shape, radial_trajectory(4, 10), 2)
    x = real((1, 2, *shape), 0).requires_grad_()
    image = operator.forward(x)
    y = torch.complex(real(image.shape, 1), real(image.shape, 2))
    (gradient,) = torch.autograd.grad((image * y.conj()).real.sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        z = operator.proximal(x, y, 1.0, steps=15)
        residual = operator.gradient(z, y) + z - x
        assert float(residual.norm()) <= 1e-3 * float(x.norm())
        mirrored, data = operator.mirrored((-1,), image)
        torch.testing.assert_close(mirrored.forward(x.flip(-1)), data, rtol=1e-5, atol=1e-5)


def test_spokes_pass_the_centre_and_stay_within_the_band():
    for golden in (True, False):
        trajectory = radial_trajectory(7, 20, golden=golden)
        assert trajectory.shape == (2, 140)
        assert float(trajectory.norm(dim=0).max()) <= np.pi + 1e-9
        assert int((trajectory.norm(dim=0) < 1e-12).sum()) == 7


def test_without_torchkbnufft(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchkbnufft", None)
    with pytest.raises(MedwvaeError, match=r"medwvae\[radial\]"):
        RadialSampling((8, 8), radial_trajectory(3, 8), 1)
