"""Effect sizes, the one-sided test, Holm and power against SciPy and statsmodels."""

import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from medwvae.statistics import holm, paired, subjects_needed, worse

pairs = st.lists(st.integers(-9, 9), min_size=3, max_size=12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_holm_is_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@settings(max_examples=30, deadline=None)
@given(pairs)
def test_rank_biserial_by_its_definition(values):
    d = np.array(values, float)
    left = d[d != 0]
    ranks = stats.rankdata(np.abs(left))
    expected = (ranks[left > 0].sum() - ranks[left < 0].sum()) / ranks.sum() if left.size else 0.0
    found = paired(d, np.zeros(d.size))
    assert found.rank_biserial == pytest.approx(expected)
    assert -1 <= found.rank_biserial <= 1
    assert paired(np.zeros(d.size), d).rank_biserial == pytest.approx(-expected)


def test_dz_and_its_limits():
    d = np.random.default_rng(0).normal(0.5, 1.0, 15)
    found = paired(d, np.zeros(15))
    assert found.dz == pytest.approx(stats.ttest_1samp(d, 0).statistic / math.sqrt(15))
    assert paired([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).dz == math.inf
    assert paired([1.0, 2.0], [1.0, 2.0]).dz == 0 and paired([1.0, 2.0], [1.0, 2.0]).needed is None
    assert math.isnan(paired([2.0], [1.0]).dz)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 3.0))
def test_subjects_needed_are_statsmodels_over_the_efficiency(dz):
    test = TTestPower()
    of_t = 2 + bisect_left(range(2, 10_000), 0.8, key=lambda n: test.power(dz, n, 0.05))
    assert test.power(dz, of_t, 0.05) >= 0.8 and (of_t == 2 or test.power(dz, of_t - 1, 0.05) < 0.8)
    assert subjects_needed(dz) == subjects_needed(-dz) == max(6, math.ceil(of_t * math.pi / 3))


def test_subjects_needed_at_the_limits():
    assert subjects_needed(0.0) is None and subjects_needed(1e-4) is None and subjects_needed(math.nan) is None
    assert subjects_needed(math.inf) == subjects_needed(50.0) == 6
    assert subjects_needed(math.inf, alpha=0.01) == 8


def test_that_many_subjects_find_the_difference_four_times_in_five():
    rng, dz = np.random.default_rng(0), 0.8
    n = subjects_needed(dz)
    assert n is not None
    p = stats.wilcoxon(rng.normal(dz, 1.0, (3000, n)), axis=1, method="approx").pvalue
    assert 0.77 <= np.mean(p < 0.05) <= 0.86


def test_worse_is_scipys_one_sided_wilcoxon_of_the_shifted_difference():
    rng = np.random.default_rng(1)
    a, b = rng.normal(-0.3, 1, 12), rng.normal(0, 1, 12)
    found = worse(a, b, margin=0.1)
    assert found.p == stats.wilcoxon(a - b + 0.1, alternative="less").pvalue
    assert found.mean == pytest.approx((a - b).mean()) and found.p_smallest == 2.0**-12
    assert worse(np.zeros(4), np.ones(4)).p == pytest.approx(2.0**-4)
    assert worse([1.0, 2.0], [1.0, 2.0]).p == 1.0
    with pytest.raises(ValueError, match="margin"):
        worse(a, b, margin=-1.0)


def test_a_loss_of_just_the_margin_is_found_as_often_as_chance_allows():
    rng = np.random.default_rng(2)
    found = [worse(d, np.zeros(20), margin=0.1).p < 0.05 for d in rng.normal(-0.1, 0.2, (400, 20))]
    assert 0.02 <= np.mean(found) <= 0.085
