import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.latents.interpolate import between, smoothness, walk
from tests.latents.models import Waves, images

MODEL = Waves()


def ends(seed=0):
    return images(MODEL, 2, (16, 14), seed).split(1)


@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_a_walk_begins_and_ends_with_the_reconstructions(kind):
    a, b = ends()
    walked = walk(MODEL, a, b, steps=5, kind=kind)
    assert walked.shape == (5, 1, 16, 14)
    torch.testing.assert_close(walked[[0, -1]], MODEL.reconstruct(torch.cat((a, b))))


def test_of_a_linear_model_the_linear_walk_is_the_cross_fade():
    found = smoothness(MODEL, walk(MODEL, *ends(), steps=6, kind="linear"), data_range=2.0)
    assert found.path_ratio == pytest.approx(1, abs=1e-5)
    assert found.rmse_variation == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(found.residual, found.crossfade_residual, rtol=1e-3)
    assert len(found.rmse) == len(found.dissimilarity) == 5
    assert len(found.residual) == 6
    assert set(found.summary()) == {
        "path_ratio",
        "rmse_variation",
        "dissimilarity_variation",
        "strangeness",
        "crossfade_strangeness",
    }


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 7))
def test_no_way_is_shorter_than_the_direct_one(seed, steps):
    random = torch.randn(steps, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    assert smoothness(MODEL, random, data_range=2.0).path_ratio >= 1
    assert smoothness(MODEL, walk(MODEL, *ends(seed), steps=steps), data_range=2.0).path_ratio >= 1 - 1e-6


def test_what_the_model_does_not_know_is_strange():
    walked = walk(MODEL, *ends(), steps=5)
    noisy = walked.clone()
    noisy[1:-1] += 0.3 * torch.randn(noisy[1:-1].shape, generator=torch.Generator().manual_seed(1))
    found = [smoothness(MODEL, one, data_range=2.0) for one in (walked, noisy)]
    assert found[1].strangeness > 5 * found[0].strangeness


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_a_spherical_walk_stays_on_the_sphere(seed, t):
    generator = torch.Generator().manual_seed(seed)
    a, b = (tuple(torch.randn(1, n, generator=generator, dtype=torch.float64) for n in (3, 4)) for _ in range(2))

    def norm(z):
        return torch.cat([part.flatten() for part in z]).norm()

    first, last = (tuple(part / norm(z) for part in z) for z in (a, b))
    assert float(norm(between(first, last, t))) == pytest.approx(1)
    for end, z in zip((0.0, 1.0), (a, b), strict=True):
        for part, own in zip(between(a, b, end), z, strict=True):
            torch.testing.assert_close(part, own)


def test_parallel_and_opposite_latents_are_walked_straight():
    a = (torch.tensor([[1.0, 2.0]]),)
    for factor in (1.0, 2.0, -1.0, 0.0):
        b = (factor * a[0],)
        torch.testing.assert_close(between(a, b, 0.25)[0], 0.75 * a[0] + 0.25 * b[0])


def test_what_is_no_walk_is_refused():
    a, b = ends()
    with pytest.raises(ValueError, match="one shape"):
        walk(MODEL, a, b[..., 1:])
    with pytest.raises(ValueError, match="2 ends"):
        walk(MODEL, a, b, steps=1)
    with pytest.raises(ValueError, match="3 images"):
        smoothness(MODEL, torch.cat((a, b)), data_range=1.0)
