"""Fréchet distance and MMD beside closed forms and others' code."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from medwvae.fidelity.distances import (
    frechet_distance,
    frechet_infinity,
    gaussian_frechet,
    mmd,
    principal_components,
)
from tests.fidelity.cases import noise

seeds = st.integers(0, 2**16)


def covariance(size, seed=0, rank=None):
    a = noise(rank or size + 3, size, seed=seed)
    return a.T @ a / len(a)


@pytest.mark.parametrize("size", [1, 3, 12])
def test_gaussian_frechet_equals_scipys_matrix_root(size):
    mean, other = noise(2, size)
    a, b = covariance(size, 1), covariance(size, 2)
    root = linalg.sqrtm((a @ b).numpy()).real
    expected = float((mean - other).square().sum() + a.trace() + b.trace()) - 2 * np.trace(root)
    assert gaussian_frechet(mean, a, other, b) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(means=st.tuples(st.floats(-5, 5), st.floats(-5, 5)), sds=st.tuples(st.floats(0, 5), st.floats(0, 5)))
def test_of_isotropic_gaussians_it_has_a_closed_form(means, sds):
    size = 4
    args = [
        (torch.full((size,), m, dtype=torch.float64), torch.eye(size) * s**2) for m, s in zip(means, sds, strict=True)
    ]
    expected = size * ((means[0] - means[1]) ** 2 + (sds[0] - sds[1]) ** 2)
    assert gaussian_frechet(*args[0], *args[1]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("count", "size"), [(200, 8), (40, 12)])
def test_frechet_distance_equals_monais_where_covariances_are_regular(count, size):
    from monai.metrics.fid import get_fid_score

    x, y = noise(count, size), 1.3 * noise(count + 7, size, seed=1) + 0.2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The `disp` argument", DeprecationWarning)
        expected = float(get_fid_score(x, y))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(counts=st.tuples(st.integers(2, 20), st.integers(2, 20)), size=st.integers(1, 20), seed=seeds)
def test_samples_give_the_distance_of_their_gaussians_even_if_singular(counts, size, seed):
    x, y = noise(counts[0], size, seed=seed), 2 * noise(counts[1], size, seed=seed + 1) + 1
    expected = gaussian_frechet(
        x.mean(0), torch.cov(x.T).reshape(size, size), y.mean(0), torch.cov(y.T).reshape(size, size)
    )
    found = frechet_distance(x, y)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found == pytest.approx(frechet_distance(y, x), rel=1e-9)
    turn = torch.linalg.qr(noise(size, size, seed=seed + 2)).Q
    assert found == pytest.approx(frechet_distance(x @ turn, y @ turn), rel=1e-6, abs=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * float(x.square().sum() + 1))
    shift = noise(1, size, seed=seed)
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-6, abs=1e-9)


def test_few_samples_bias_it_upward_and_the_extrapolation_takes_most_of_it_away():
    size, real = 10, noise(20000, 10)
    values = {n: np.mean([frechet_distance(noise(n, size, seed=s), real) for s in range(1, 11)]) for n in (25, 50, 100)}
    assert values[25] > 1.6 * values[50] > 1.6**2 * values[100] > 0
    infinite = np.mean([frechet_infinity(noise(100, size, seed=s), real) for s in range(1, 11)])
    assert abs(infinite) < 0.35 * values[100]


def test_principal_components_are_those_of_the_reference():
    reference = noise(50, 6) * torch.tensor([5.0, 3, 1, 0.1, 0.1, 0.1]) + 7
    basis = principal_components(reference, 3)
    assert basis.kept == pytest.approx(0.998, abs=2e-3)
    values = torch.linalg.eigvalsh(torch.cov(reference.T)).flip(0)[:3]
    torch.testing.assert_close(torch.cov(basis(reference).T), torch.diag(values), rtol=1e-9, atol=1e-9)
    whole = principal_components(reference, 6)
    other = noise(40, 6, seed=3) + 6
    assert frechet_distance(whole(other), whole(reference)) == pytest.approx(frechet_distance(other, reference))
    assert frechet_distance(basis(other), basis(reference)) < frechet_distance(other, reference)
    assert principal_components(torch.ones(5, 3), 2).kept == 1
    with pytest.raises(ValueError, match="1 to 4 components"):
        principal_components(noise(5, 9), 5)


def test_mmd_equals_the_sum_over_pairs():
    x, y = noise(7, 3), noise(5, 3, seed=1)

    def kernel(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within = sum(kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_2 = sum(kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(kernel(a, b) for a in x for b in y) / 35
    assert mmd(x, y).value == pytest.approx(within + within_2 - 2 * between)


def test_mmd_is_zero_on_average_for_equal_distributions_at_any_size():
    for size in (4, 20):
        values = [mmd(noise(size, 3, seed=s), noise(size + 3, 3, seed=s + 1000)).value for s in range(300)]
        assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
        assert min(values) < 0


def test_mmds_error_covers_its_spread_and_grows_with_a_shift():
    results = [mmd(noise(60, 3, seed=s), noise(60, 3, seed=s + 1000) + 0.5) for s in range(60)]
    spread = np.std([r.value for r in results])
    assert 0.7 * spread < np.median([r.error for r in results]) < 3 * spread
    assert mmd(noise(60, 3), noise(60, 3, seed=1) + 2).value > 20 * mmd(noise(60, 3), noise(60, 3, seed=1)).error
    assert math.isnan(mmd(noise(2, 3), noise(3, 3)).error)


def test_sets_that_cannot_be_compared_are_refused():
    for distance in (frechet_distance, mmd, frechet_infinity):
        with pytest.raises(ValueError, match="two images"):
            distance(noise(1, 3), noise(5, 3))
        with pytest.raises(ValueError, match="length"):
            distance(noise(20, 3), noise(20, 4))
    with pytest.raises(ValueError, match="16 samples"):
        frechet_infinity(noise(8, 3), noise(20, 3))
