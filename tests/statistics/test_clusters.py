"""Several sessions of one subject: the subject stays the unit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.statistics import mean_interval, per_subject


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=3, max_size=8), st.integers(0, 2**16))
def test_sessions_are_averaged_within_subjects_first(sessions, seed):
    rng = np.random.default_rng(seed)
    subjects = [f"s{k}" for k, n in enumerate(sessions) for _ in range(n)]
    values = rng.normal(size=len(subjects))
    expected = pd.Series(values).groupby(subjects).mean().to_numpy()
    np.testing.assert_allclose(per_subject(values, subjects), expected)
    assert mean_interval(values, subjects=subjects) == mean_interval(per_subject(values, subjects))
    order = rng.permutation(len(subjects))
    shuffled = mean_interval(values[order], subjects=[subjects[k] for k in order])
    assert shuffled.mean == pytest.approx(mean_interval(values, subjects=subjects).mean)


def test_more_sessions_of_the_same_people_do_not_narrow_the_interval():
    people = np.random.default_rng(0).normal(size=12)
    once = mean_interval(people)
    names = [f"s{k:02d}" for k in range(12)]
    often = mean_interval(np.repeat(people, 5), subjects=np.repeat(names, 5).tolist())
    assert (often.low, often.high, often.n) == pytest.approx((once.low, once.high, 12))
    naive = mean_interval(np.repeat(people, 5))
    assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_every_value_needs_its_subject():
    with pytest.raises(ValueError, match="needs its subject"):
        mean_interval([1.0, 2.0, 3.0], subjects=["a", "b"])
