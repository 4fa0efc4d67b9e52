"""The classical methods under every degradation that a task can name."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from medwvae.baselines import Classical, classical
from medwvae.baselines.superres import lanczos_matrix, low_resolution, spline_matrix
from medwvae.baselines.tuning import Case, tune
from medwvae.degradation import BicubicSuperres, Degradation, Denoise, Recon, ThickSlices
from medwvae.errors import ConfigError
from medwvae.metrics import psnr
from medwvae.names import EXTRAS
from medwvae.operators import Measurement, magnitude

SHAPE = (48, 72)


def truth(batch=2):
    phantom = torch.from_numpy(resize(shepp_logan_phantom(), SHAPE, anti_aliasing=True)).float()
    return torch.stack([phantom, phantom.flip(-1)])[:batch, None]


def measured(degrade: Degradation, image):
    return degrade(image, image.amax().reshape(1), torch.Generator().manual_seed(0), None).measurement


def quality(image, reference):
    return psnr(image.numpy(), reference.numpy(), data_range=float(reference.max()))


@settings(max_examples=20)
@given(low=st.integers(9, 20), factor=st.integers(2, 4), order=st.integers(1, 5))
def test_splines_on_the_reduced_grid_are_scipys_zoom(low, factor, order):
    signal = np.random.default_rng(0).random(low)
    zoomed = ndimage.zoom(signal, factor, order=order, mode="reflect", grid_mode=True)
    ours = spline_matrix(factor * low, low, order, float(factor)) @ signal
    np.testing.assert_allclose(ours, zoomed, atol=1e-9)


@settings(max_examples=20)
@given(low=st.integers(9, 20), factor=st.integers(2, 4), lobes=st.integers(2, 6))
def test_lanczos_on_the_reduced_grid_keeps_constants_and_is_symmetric(low, factor, lobes):
    matrix = lanczos_matrix(factor * low, low, lobes, float(factor))
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(lanczos_matrix(low, low, lobes, 1.0), np.eye(low), atol=1e-12)


@pytest.mark.parametrize(
    "degrade", [BicubicSuperres(2), BicubicSuperres(3), ThickSlices(2), ThickSlices(3, "gaussian")]
)
def test_super_resolution_of_small_images(degrade):
    image = truth()
    given = measured(degrade, image)
    assert low_resolution(given) is given.data
    blocks = given.data
    for axis in (-2, -1):
        blocks = blocks.repeat_interleave(image.shape[axis] // given.data.shape[axis], axis)
    nearest = quality(blocks, image)
    for name, params in (
        ("zero_filled", {}),
        ("spline", {"order": 3}),
        ("lanczos", {"lobes": 3}),
        ("cs_wavelet", {"weight": 1e-4, "iterations": 30}),
        ("cs_wavelet", {"weight": 1e-4, "iterations": 30, "moments": 4}),
        ("tv", {"huber": 0.01, "iterations": 50}),
    ):
        restored = classical("superres")[name].run(given, **params)
        assert restored.shape == image.shape
        assert (restored >= 0).all()
        assert quality(restored, image) >= nearest  # of thick slices A† is the nearest neighbour
    consistent = given.operator.forward(given.project(restored))
    assert float((consistent - given.data).abs().max()) <= 1e-5 * float(given.data.max())


@pytest.mark.parametrize("law", ["rician", "gaussian", "poisson"])
@pytest.mark.parametrize("name", ["nlm", "tv", "bayes_shrink", "bilateral", "bm3d", "bm4d"])
def test_denoising_knows_the_law(name, law):
    if name in EXTRAS["denoise"]:
        pytest.importorskip(name, reason="an extra: pip install 'medwvae[bm]'")
    image = truth()
    given = measured(Denoise(0.1, law), image)
    method = classical("denoise")[name]
    restored = method.run(given, **method.grid[len(method.grid) // 2])
    assert quality(restored, image) > quality(given.start, image) + 1.5
    # No bias in a flat image, dark enough for the Rician and the Poisson one to show.
    flat = torch.full((8 if name == "bm4d" else 1, 1, *SHAPE), 0.3)
    found = Denoise(0.2, law)(flat, torch.ones(1), torch.Generator().manual_seed(0), None).measurement
    strongest = max(method.grid, key=lambda params: tuple(params.values()))
    assert float(method.run(found, **strongest).mean()) == pytest.approx(0.3, abs=0.02)


def test_poisson_noise_needs_its_maximum():
    given = measured(Denoise(0.1, "poisson"), truth())
    method = classical("denoise")["tv"]
    with pytest.raises(ValueError, match="maximum"):
        method.run(Measurement(given.start, sigma=given.sigma, law="poisson"), weight=0.5)


@pytest.mark.parametrize(
    "degrade",
    [
        Recon(4, 0.15, "random", 0.2, coils=4),
        Recon(4, 0.15, "poisson-disc", 0.2),
        Recon(2, 0.2, "random", 0.2, partial=0.75),
    ],
)
def test_compressed_sensing_of_other_acquisitions(degrade):
    image = truth()
    given = measured(degrade, image)
    restored = classical("recon")["cs_wavelet"].run(given, weight=6e-4, iterations=40)
    assert quality(restored, image) > quality(magnitude(given.start), image) + 0.5


@pytest.mark.parametrize("name", EXTRAS["denoise"])
def test_a_method_of_a_package_that_is_not_there_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install"):
        classical("denoise")[name].run(measured(Denoise(0.1), truth()), noise=1.0)


def test_methods_of_whole_volumes_are_tuned_on_successive_slices():
    images = torch.arange(20.0).reshape(20, 1, 1, 1).expand(-1, -1, 4, 4)
    head = np.zeros((20, 4, 4), bool)
    head[3:18] = True
    seen = []

    def run(measurement, **params):
        seen.append(measurement.start[:, 0, 0, 0].tolist())
        return measurement.start

    one = Case("one", Measurement(images), images + 1, head)
    for whole, expected in ((False, [3.0, 7.0, 11.0, 15.0]), (True, [8.0, 9.0, 10.0, 11.0])):
        tune(Classical("x", "denoise", run, whole=whole), [one], every=4)
        assert seen.pop() == expected
