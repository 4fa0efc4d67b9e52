"""Total variation under exact and noisy data, and the filters beside it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import denoise_tv_chambolle, inpaint_biharmonic

from medwvae.baselines import classical, denoise, variation
from medwvae.baselines.inpaint import biharmonic
from medwvae.baselines.variation import divergence, gradient
from medwvae.degradation import Inpaint, Recon, SparseView
from medwvae.names import Task
from medwvae.operators import Masking, Measurement

SIZES = st.integers(2, 17)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def squares(batch=2, size=32):
    image = torch.full((batch, 1, size, size), 0.2)
    image[:, :, 8:22, 6:20] = 1.0
    image[1:, :, 12:16, 10:28] = 0.6
    return image


def length(image):
    slopes = gradient(image)
    return float(torch.hypot(slopes[0], slopes[1]).sum())


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3))
def test_the_divergence_is_the_negative_adjoint(height, width, batch):
    x = torch.randn(batch, 1, height, width, generator=generator(), dtype=torch.float64)
    p = torch.randn(2, batch, 1, height, width, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close((gradient(x) * p).sum(), -(x * divergence(p)).sum())
    assert float(gradient(x).square().sum() / x.square().sum()) <= 8


@pytest.mark.parametrize("degrade", [Recon(3, 0.2, "random", 0.0), Inpaint(), SparseView(16)])
def test_pieces_of_one_value_come_back(degrade):
    # Rectangles have little variation: what compressed sensing promises holds nearly exactly.
    image = squares()
    given_ = degrade(image, torch.ones(2), generator(), None).measurement
    name: Any = {"Recon": "recon", "Inpaint": "inpaint", "SparseView": "ct"}[type(degrade).__name__]
    params = {"weight": 3e-4, "iterations": 300} if name == "ct" else {"huber": 0.0, "iterations": 300}
    restored = classical(name)["tv"].run(given_, **params)
    error = float((restored - image).square().mean().sqrt())
    start = float((given_.start[:, :1] - image).square().mean().sqrt())
    assert error < 0.35 * start
    if name == "inpaint":
        assert torch.equal(restored[given_.mask.expand_as(image)], image[given_.mask.expand_as(image)])


def test_more_iterations_have_less_variation_and_the_same_data():
    image = squares()
    given_ = Inpaint()(image, torch.ones(2), generator(), None).measurement
    lengths = [length(variation.tv(given_, huber=0, iterations=n)) for n in (10, 40, 200)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] <= 1.02 * length(image)


def test_ct_with_an_identity_for_its_rays_is_tv_denoising(monkeypatch):
    # ½ |x − y|² + w TV(x) is what scikit-image solves; columns of the identity sum to 1.
    noisy = (squares() + 0.1 * torch.randn(2, 1, 32, 32, generator=generator())).clamp(min=0)

    class Identity:
        def forward(self, x):
            return x

        adjoint = forward

    monkeypatch.setattr(variation, "sinogram_of", lambda given: (Identity(), given.data))
    unit = float(noisy.max())
    ours = variation.tv_ct(Measurement(noisy, data=noisy), weight=0.15 / unit, iterations=400)
    for own, image in zip(ours[:, 0], noisy[:, 0], strict=True):
        theirs = denoise_tv_chambolle(image.numpy().astype(np.float64), weight=0.15, eps=1e-9, max_num_iter=4000)
        np.testing.assert_allclose(own.numpy(), theirs, atol=5e-3)


def test_an_empty_volume_stays_empty():
    tasks: dict[Task, Any] = {"recon": Recon(3, 0.2, "random", 0.0), "inpaint": Inpaint(), "ct": SparseView(8)}
    for name, degrade in tasks.items():
        empty = degrade(torch.zeros(2, 1, 16, 18), torch.ones(2), generator(), None).measurement
        assert not classical(name)["tv"].run(empty, **classical(name)["tv"].grid[0]).any()


def test_biharmonic_is_scikit_images_slice_by_slice():
    image = squares()
    for run in (None, 1):  # one mask for all slices, and one for each
        given_ = Inpaint()(image, torch.ones(2), generator(), run).measurement
        assert given_.mask is not None
        mask = given_.mask.expand_as(image)
        restored = biharmonic(given_)
        assert torch.equal(restored[mask], image[mask])
        for own, start, known in zip(restored, given_.start, mask, strict=True):
            theirs = inpaint_biharmonic(start[0].numpy(), ~known[0].numpy())
            np.testing.assert_allclose(own[0].numpy(), np.maximum(theirs, 0), atol=1e-5)
    with pytest.raises(ValueError, match="mask"):
        biharmonic(Measurement(image))


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 16), st.integers(5, 16), st.floats(0.6, 1.6))
def test_the_bilateral_filter_keeps_constants_and_place(height, width, distance):
    level = torch.ones(1, 1, 1, 1)
    flat = Measurement(torch.full((1, 1, height, width), 7.0), sigma=level, law="gaussian")
    torch.testing.assert_close(denoise.bilateral(flat, 2.0, distance), flat.start)
    # With no regard to values it is a Gaussian mean, symmetric about each pixel.
    image = torch.rand(1, 1, height, width, generator=generator())
    one = denoise.bilateral(Measurement(image, sigma=level, law="gaussian"), 1e4, distance)
    other = denoise.bilateral(Measurement(image.flip(-1, -2), sigma=level, law="gaussian"), 1e4, distance)
    torch.testing.assert_close(other.flip(-1, -2), one)


def test_the_bilateral_filter_keeps_a_high_edge():
    step = torch.zeros(1, 1, 16, 16)
    step[..., 8:] = 50
    restored = denoise.bilateral(Measurement(step, sigma=torch.ones(1, 1, 1, 1), law="gaussian"), 2.0, 1.5)
    torch.testing.assert_close(restored, step, rtol=0, atol=1e-3)


def test_masks_are_part_of_the_measurement():
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    image = torch.rand(2, 1, 8, 8, generator=generator())
    full = Measurement(image, Masking(mask), image)
    torch.testing.assert_close(variation.tv(full, huber=0.01, iterations=5), full.start)
