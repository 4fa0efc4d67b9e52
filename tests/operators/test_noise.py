"""Noise laws against SciPy's distributions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medwvae.operators import anscombe, complex_gaussian, gaussian, inverse_anscombe, poisson, rician
from tests.operators.cases import generator

COUNT = 40_000


def flat(value):
    return torch.full((1, 1, 200, 200), value, dtype=torch.float64)


@pytest.mark.parametrize("signal", [0.0, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_rician_noise_is_scipys_distribution(signal, sigma):
    noisy = rician(flat(signal), sigma, generator(0)).numpy().ravel()
    law = stats.rice(signal / sigma, scale=sigma)
    assert noisy.mean() == pytest.approx(law.mean(), abs=5 * law.std() / np.sqrt(COUNT))
    assert noisy.var() == pytest.approx(law.var(), rel=0.04)
    assert stats.kstest(noisy, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("signal", [0.0, 0.2, 1.0, 3.0])
def test_poisson_noise_has_the_mean_and_the_variance_of_counts(signal):
    counts, maximum = 400.0, 3.0
    noisy = poisson(flat(signal), counts, maximum, generator(0))
    variance = signal * maximum / counts
    assert float(noisy.mean()) == pytest.approx(signal, abs=5 * np.sqrt(variance / COUNT))
    assert float(noisy.var()) == pytest.approx(variance, rel=0.04)
    whole = noisy * counts / maximum
    torch.testing.assert_close(whole, whole.round())


def test_poisson_noise_knows_a_maximum_for_each_image_and_no_negative_signal():
    images = torch.ones(2, 1, 200, 200)
    noisy = poisson(images, 100, torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1), generator(1))
    np.testing.assert_allclose(noisy.var((1, 2, 3)), [0.01, 0.04], rtol=0.05)
    assert not poisson(-images, 100, 1.0, generator(1)).any()


def test_gaussian_noise_in_the_image_and_in_kspace():
    noise = gaussian(flat(3.0), 0.5, generator(2)).numpy().ravel() - 3
    assert stats.kstest(noise, stats.norm(scale=0.5).cdf).pvalue > 1e-3
    kspace = complex_gaussian(torch.zeros(1, 2, 100, 200, dtype=torch.complex128), 0.5, generator(3))
    for part in (kspace.real, kspace.imag):
        assert stats.kstest(part.numpy().ravel(), stats.norm(scale=0.5).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(kspace.real.ravel(), kspace.imag.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("mean", [4.0, 10.0, 100.0])
def test_anscombe_makes_the_variance_one(mean):
    counts = np.arange(0, int(mean + 12 * np.sqrt(mean)) + 20)
    weights, values = stats.poisson(mean).pmf(counts), anscombe(counts.astype(float))
    expected = (weights * values).sum()
    assert (weights * (values - expected) ** 2).sum() == pytest.approx(1, abs=0.06)


@settings(max_examples=30)
@given(mean=st.floats(0.5, 300))
def test_its_inverse_is_unbiased(mean):
    counts = np.arange(0, int(mean + 15 * np.sqrt(mean)) + 30)
    expected = (stats.poisson(mean).pmf(counts) * anscombe(counts.astype(float))).sum()
    assert float(inverse_anscombe(np.array([expected]))[0]) == pytest.approx(mean, rel=0.02, abs=0.02)
