"""Laws of the statistics: SciPy and hand-worked cases are the references."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from medwvae.statistics import FEW, RESAMPLES, bootstrap_bounds, expanded, holm, mean_interval, paired

values = st.lists(st.floats(-50, 50, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=3, max_size=12)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_interval_is_scipys_bca_at_the_expanded_level():
    x = np.random.default_rng(3).gamma(2.0, size=11)
    level = 2 * stats.norm.cdf((11 / 10) ** 0.5 * stats.t.ppf(0.975, 10)) - 1
    expected = stats.bootstrap(
        (x,), np.mean, n_resamples=RESAMPLES, confidence_level=level, random_state=np.random.default_rng(5)
    ).confidence_interval
    interval = mean_interval(x, seed=5)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert interval.mean == pytest.approx(x.mean()) and interval.n == 11 and interval.note == ""
    assert interval.median == np.median(x)


@given(st.floats(0.5, 0.99), st.integers(2, 200))
def test_the_expanded_level_makes_the_limits_of_the_normal_law_students(confidence, n):
    """mean ± z · (standard deviation with divisor n) / √n at the expanded level is mean ± t · s / √n."""
    x = np.random.default_rng(n).normal(size=n)
    z = stats.norm.isf((1 - expanded(confidence, n)) / 2)
    assume(z < 7)  # beyond, the level is 1 but for rounding
    low, high = stats.t.interval(confidence, n - 1, x.mean(), stats.sem(x))
    assert (x.mean() - z * x.std() / n**0.5, x.mean() + z * x.std() / n**0.5) == pytest.approx((low, high), rel=1e-4)


@pytest.mark.parametrize("n", [FEW, 10, 40])
def test_interval_covers_as_often_as_it_says(n):
    # Student's limits of the same studies hold the mean in 95 of 100, and chance moves both alike: as a control variate
    # they take most of the simulation's error away.
    studies = np.random.default_rng(0).normal(1.0, 2.0, (2500, n))
    low, high = bootstrap_bounds(studies, resamples=1999, seed=1)
    held = (low <= 1.0) & (high >= 1.0)
    student = abs(studies.mean(1) - 1.0) <= stats.t.ppf(0.975, n - 1) * stats.sem(studies, axis=1)
    assert np.std(held * 1.0 - student) / len(studies) ** 0.5 < 0.005
    assert 0.93 <= held.mean() - student.mean() + 0.95 <= 0.97


def test_many_studies_at_once_are_each_by_itself():
    # Of few subjects, resamples that only permute them tie with their mean but for rounding, and BCa counts ties.
    studies = np.random.default_rng(0).gamma(2.0, size=(3, 20))
    low, high = bootstrap_bounds(studies, seed=4)
    for k, study in enumerate(studies):
        interval = mean_interval(study, seed=4)
        assert (interval.low, interval.high) == pytest.approx((low[k], high[k]))


@settings(max_examples=25, deadline=None)
@given(values)
def test_interval_holds_the_mean_and_scales_with_the_unit(x):
    interval, scaled = mean_interval(x), mean_interval(np.array(x) * 4.0)  # a power of two: exact in floating point
    assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9
    assert min(x) - 1e-9 <= interval.low and interval.high <= max(x) + 1e-9
    assert (scaled.low, scaled.high) == pytest.approx((interval.low * 4.0, interval.high * 4.0))


def test_no_interval_without_enough_subjects_and_the_reason_is_given():
    for n in (1, 2):
        interval = mean_interval(np.arange(n) + 1.0)
        assert math.isnan(interval.low) and math.isnan(interval.high) and f"{n} subject" in interval.note
    same = mean_interval([4.0, 4.0, 4.0])
    assert (same.low, same.mean, same.high) == (4.0, 4.0, 4.0) and "same value" in same.note
    exact = mean_interval([30.0, math.inf, 31.0])
    assert exact.mean == math.inf and "infinite" in exact.note


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_values_that_are_not_one_per_subject_are_refused(bad):
    with pytest.raises(ValueError, match="value per subject"):
        mean_interval(bad)


def test_paired_is_scipys_wilcoxon():
    rng = np.random.default_rng(1)
    a = rng.normal(size=9)
    b = a + rng.normal(0.4, 1.0, size=9)
    result = paired(a, b)
    assert result.p == stats.wilcoxon(a, b).pvalue
    assert result.above == int((a > b).sum()) and result.above + result.below == 9
    assert result.difference.mean == pytest.approx((a - b).mean())


@given(st.integers(2, 9))
@settings(deadline=None, max_examples=8)
def test_smallest_p_is_reached_and_never_passed(n):
    ahead = paired(np.arange(n) + 1.0, np.zeros(n))
    assert ahead.p == pytest.approx(ahead.p_smallest)
    assert paired([9.0] * 4, [1.0, 2.0, 3.0, 4.0]).p_smallest == 0.125
    alike = np.zeros(3)  # which the test drops
    assert paired(np.r_[np.arange(n) + 1.0, alike], np.zeros(n + 3)).p_smallest == ahead.p_smallest
    assert paired(alike, alike).p_smallest == paired(alike, alike).p == 1.0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=3, max_size=10))
def test_paired_is_symmetric(pairs):
    a, b = np.array(pairs, float).T
    one, other = paired(a, b), paired(b, a)
    assert one.p == pytest.approx(other.p)
    assert one.difference.mean == pytest.approx(-other.difference.mean)
    assert (one.above, one.below) == (other.below, other.above)


def test_equal_methods_do_not_differ():
    assert paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).p == 1.0


def test_pairs_must_match():
    with pytest.raises(ValueError, match="pairs"):
        paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="pairs"):
        paired([1.0, math.inf], [1.0, 2.0])


def test_holm_by_hand():
    # Sorted: .005·4 = .02, .01·3 = .03, .03·2 = .06, .04·1 = .04, which is raised to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(probabilities)
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p):
    adjusted = holm(p)
    for raw, new in zip(p, adjusted, strict=True):
        assert raw - 1e-12 <= new <= min(1.0, raw * len(p)) + 1e-12
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@given(probabilities, st.randoms())
def test_holm_does_not_depend_on_the_order(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    assert [holm(p)[i] for i in order] == holm([p[i] for i in order])
