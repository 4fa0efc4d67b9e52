"""Conformal factors: their level on the calibration set, and on subjects that are exchangeable with it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medwvae.errors import InputError
from medwvae.names import INTERVAL_LEVELS
from medwvae.statistics import Calibration, calibrate, conformal_factor, coverage_of, scores
from medwvae.statistics.conformal import VOXELS


def subjects(count, seed=0, voxels=400, between=0.1):
    """Scores of exchangeable subjects, each with a difficulty of its own and another number of voxels."""
    rng = np.random.default_rng(seed)
    return [
        np.abs(rng.normal(size=rng.integers(voxels // 2, voxels))) * np.exp(rng.normal(0, between))
        for _ in range(count)
    ]


@given(st.integers(1, 8), st.sampled_from(INTERVAL_LEVELS), st.integers(0, 50))
def test_the_level_is_attained_on_the_calibration_set(count, level, seed):
    known = subjects(count, seed, between=0.5)
    found = coverage_of(known, conformal_factor(known, level))
    largest = max(1 / one.size for one in known) / count
    assert level - 1e-9 <= found <= level + largest + 1e-9


def test_it_is_the_quantile_where_all_subjects_are_of_one_size():
    rng = np.random.default_rng(0)
    known = [rng.random(100) for _ in range(5)]
    expected = np.quantile(np.concatenate(known), 0.9, method="inverted_cdf")
    assert conformal_factor(known, 0.9) == pytest.approx(expected)


def test_exchangeable_subjects_are_covered():
    met = [
        coverage_of(everyone[16:], conformal_factor(everyone[:16], 0.9))
        for everyone in (subjects(36, seed) for seed in range(60))
    ]
    assert np.mean(met) == pytest.approx(0.9, abs=0.01)
    assert np.mean(np.abs(np.array(met) - 0.9) <= 0.02) > 0.85


def test_a_bound_is_kept_on_average_and_needs_subjects():
    met = [
        coverage_of(everyone[10:], conformal_factor(everyone[:10], 0.8, bounded=True))
        for everyone in (subjects(14, seed, between=0.6) for seed in range(60))
    ]
    assert 0.8 <= np.mean(met) <= 0.8 + 1 / 11 + 0.01
    assert np.isfinite(conformal_factor(subjects(9), 0.9, bounded=True))
    with pytest.raises(InputError, match="8 validation subjects cannot promise 90%: 9 are needed"):
        conformal_factor(subjects(8), 0.9, bounded=True)


def test_a_subject_weighs_as_much_as_another_whatever_its_size():
    small, large = np.full(10, 1.0), np.full(10_000, 2.0)
    assert conformal_factor([small, large], 0.5) == 1
    assert conformal_factor([small, large], 0.51) == 2
    found = calibrate({"a": [np.full(5, 1.0), np.full(5, 1.0)], "b": [large]}, 0.5)
    assert found.factor == 1 and found.subjects == 2
    assert found.left_out == (1.0, 0.0)


def test_what_is_known_does_not_count():
    error, spread = np.array([0.0, 0.1, -0.4, 9.0]), np.array([0.0, 0.2, 0.2, 0.0])
    np.testing.assert_allclose(sorted(scores(error, spread)), [0.5, 2])
    with pytest.raises(InputError, match="nothing to calibrate on"):
        conformal_factor([scores(error, 0 * spread)], 0.9)
    many = np.arange(1.0, 3 * VOXELS)
    drawn = scores(many, np.ones_like(many), seed=1)
    assert drawn.size == VOXELS == np.unique(drawn).size
    np.testing.assert_array_equal(drawn, scores(many, np.ones_like(many), seed=1))


def test_a_calibration_travels_as_json():
    found = calibrate({f"s{k}": [one] for k, one in enumerate(subjects(4))}, 0.9)
    assert list(found.factors) == sorted(INTERVAL_LEVELS)
    assert list(found.factors.values()) == sorted(found.factors.values())
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert len(found.left_out) == 4
    assert calibrate({"one": [subjects(1)[0]]}, 0.9).left_out == ()
