"""The posterior mean of noisy coefficients: what integrals say, limits, and the levels of a Wavelet-VAE's prior."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.nets.shrinkage import gaussian_mean, laplace_mean, prior_mean
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.wavelets import dwt, idwt

VALUES = st.floats(-3, 3)
SCALES = st.floats(0.05, 3)


def model(dims=2, **choices):
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "widths": (4, 4),
        "blocks": 0,
        "prior_width": 6,
        "prior_blocks": 1,
        "refine": "none",
    } | choices
    return WaveletLatentVAE(objective=options.pop("objective", "elbo"), dims=dims, **options)


def shaken(network):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def image(shape, batch=2):
    return torch.rand((batch, 1, *shape), generator=torch.Generator().manual_seed(3))


def integral(noisy, deviation, log_prior, centre):
    """E[c | noisy] by a sum over a fine grid about all that weighs."""
    c = np.linspace(min(noisy, centre) - 9 * deviation, max(noisy, centre) + 9 * deviation, 200_001)
    log = log_prior(c) - ((noisy - c) / deviation) ** 2 / 2
    weight = np.exp(log - log.max())
    return float((c * weight).sum() / weight.sum())


def scalars(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@settings(max_examples=40, deadline=None)
@given(VALUES, SCALES, VALUES, SCALES)
def test_the_means_are_what_their_integrals_say(noisy, deviation, location, scale):
    arguments = scalars(noisy, deviation**2, location, scale)
    expected = integral(noisy, deviation, lambda c: -np.abs(c - location) / scale, location)
    assert float(laplace_mean(*arguments)) == pytest.approx(expected, abs=2e-4)
    expected = integral(noisy, deviation, lambda c: -(((c - location) / scale) ** 2) / 2, location)
    assert float(gaussian_mean(*arguments)) == pytest.approx(expected, abs=2e-4)


@settings(max_examples=40, deadline=None)
@given(VALUES, SCALES, VALUES, SCALES)
def test_the_mean_lies_between_location_and_value_and_shrinks_by_the_threshold_at_most(
    noisy, variance, location, scale
):
    noisy_, variance_, location_, scale_ = scalars(noisy, variance, location, scale)
    noisy_.requires_grad_(True)
    answer = laplace_mean(noisy_, variance_, location_, scale_)
    (slope,) = torch.autograd.grad(answer, noisy_)
    mean = answer.detach()
    low, high = sorted((noisy, location))
    assert low - 1e-9 <= float(mean) <= high + 1e-9
    assert abs(noisy - float(mean)) <= variance / scale + 1e-9  # the soft threshold of the maximum a posteriori
    assert float(slope) >= 0  # the posterior variance over that of the noise
    mirrored = laplace_mean(-noisy_.detach(), variance_, -location_, scale_)
    torch.testing.assert_close(mirrored, -mean)


@pytest.mark.parametrize(("variance", "scale"), [(1e-12, 1e-6), (1e-8, 100.0), (1e4, 1e-6), (1e4, 1e3), (1e-3, 1e-6)])
def test_extremes_stay_finite_in_single_precision(variance, scale):
    noisy = torch.tensor([-40.0, -1.0, 0.0, 1e-9, 0.3, 40.0])
    found = laplace_mean(noisy, torch.tensor(variance), torch.tensor(0.1), torch.tensor(scale))
    assert found.isfinite().all()
    assert ((found - 0.1).abs() <= (noisy - 0.1).abs() + 2e-4 * max(1, math.sqrt(variance))).all()


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([2, 3]), st.tuples(*[st.integers(4, 13)] * 3), st.sampled_from(["haar", "sym4"]))
def test_any_shape_and_no_noise_leave_the_image(dims, sizes, wavelet):
    x = image(sizes[:dims])
    found = prior_mean(shaken(model(dims, wavelet=wavelet)), x, torch.full((1,) * (dims + 2), 1e-12))
    torch.testing.assert_close(found, x, atol=1e-4, rtol=0)


def test_an_untrained_prior_shrinks_every_coefficient_towards_nought():
    network, x, variance = model(wavelet="db2"), image((16, 24)), 0.04
    location, deviation = network.coarse_density()

    def shrunk(kind, level, part):
        if kind == "a":
            return gaussian_mean(part, torch.tensor(variance), location, deviation)
        scale = 2**level * 0.1 + 1e-6  # the silent head's, in units of the coefficients
        return laplace_mean(part, torch.tensor(variance), torch.tensor(0.0), torch.tensor(scale))

    expected = idwt(dwt(x, 2, 2, "db2", "periodization").map_stacked(shrunk))
    found = prior_mean(network, x, torch.full((1, 1, 1, 1), variance))
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


def test_noise_may_differ_from_pixel_to_pixel():
    network, x = shaken(model()), image((13, 22))
    everywhere = torch.full((2, 1, 13, 22), 0.02)
    same = prior_mean(network, x, everywhere[:1, :, :1, :1])
    torch.testing.assert_close(prior_mean(network, x, everywhere), same, atol=1e-6, rtol=1e-5)
    everywhere[..., :8] = 1e-12  # blocks of four columns without noise: the coefficients of Haar stay there
    found = prior_mean(network, x, everywhere)
    torch.testing.assert_close(found[..., :8], x[..., :8], atol=1e-4, rtol=0)
    assert not torch.allclose(found[..., 8:], x[..., 8:], atol=1e-3)


def test_images_of_a_batch_do_not_meet():
    network, x = shaken(model()), image((16, 16), batch=3)
    variance = torch.tensor([0.01, 0.04, 0.09]).reshape(3, 1, 1, 1)
    together = prior_mean(network, x, variance)
    apart = [prior_mean(network, x[k : k + 1], variance[k : k + 1]) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("choices", [{"rate": 4}, {"objective": "sparse"}])
def test_a_model_without_a_density_of_everything_is_refused(choices):
    with pytest.raises(ValueError, match="ELBO mode at rate 1"):
        prior_mean(model(**choices), image((16, 16)), torch.ones(1, 1, 1, 1))


def test_draws_of_the_prior_come_back_better_than_by_the_best_linear_filter_of_each_subband():
    # With what the model knows of itself, its mean has the smallest squared error of all estimates.
    network = shaken(model(blocks=0))
    with torch.no_grad():
        z = network.draw(64, (16, 16), torch.Generator().manual_seed(0))
        x = idwt(network.coefficients(z))
    noise = 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = prior_mean(network, x + noise, torch.full((1, 1, 1, 1), 0.09))

    def wiener(kind, level, part):
        power = part.square().mean((0, -2, -1), keepdim=True)
        return part * (1 - 0.09 / power).clamp(min=0)

    linear = idwt(dwt(x + noise, 2).map_stacked(wiener))
    assert float((found - x).square().mean()) < float((linear - x).square().mean()) < float(noise.square().mean())
    assert math.isfinite(float(found.sum()))
