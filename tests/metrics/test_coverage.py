import numpy as np
import pytest
from scipy import stats

from medwvae.metrics.coverage import interval_metrics
from tests.cases import head_like

FACTORS = {level: float(stats.norm.ppf(0.5 + level / 2)) for level in (0.5, 0.9, 0.95)}


def unsure(seed=0, honest=True):
    ref, head = head_like((12, 40, 36))
    rng = np.random.default_rng(seed)
    spread = (0.02 + 0.1 * rng.random(ref.shape)).astype(np.float32)
    error = rng.normal(size=ref.shape) * (spread if honest else 0.07)
    return (ref + error).astype(np.float32), ref, spread, head


def test_honest_intervals_hold_what_they_promise_everywhere():
    x, ref, spread, head = unsure()
    found = interval_metrics(x, ref, spread, mask=head, factors=FACTORS)
    for level in FACTORS:
        assert found[f"coverage_{100 * level:g}"] == pytest.approx(level, abs=0.02)
    for name in ("narrow", "wide", "dark", "bright", "flat", "edges"):
        assert found[f"coverage_{name}"] == pytest.approx(0.9, abs=0.03)
    expected = 2 * FACTORS[0.9] * spread[head].mean() / ref.max()
    assert found["interval_width"] == pytest.approx(expected, rel=1e-5)
    assert 0.3 < found["width_error_rank"] < 0.6


def test_thirds_show_what_the_mean_hides():
    x, ref, spread, head = unsure(honest=False)
    found = interval_metrics(x, ref, spread, mask=head, factors=FACTORS)
    assert found["coverage_narrow"] < 0.7 < 0.95 < found["coverage_wide"]
    assert abs(found["width_error_rank"]) < 0.05


def test_known_voxels_do_not_count():
    x, ref, spread, head = unsure()
    known = np.zeros_like(head)
    known[:, ::2] = True
    part = interval_metrics(np.where(known, ref, x), ref, np.where(known, 0, spread), mask=head, factors=FACTORS)
    assert part == interval_metrics(x, ref, spread, mask=head & ~known, factors=FACTORS)
    assert interval_metrics(ref, ref, 0 * spread, mask=head, factors=FACTORS) == {}


def test_a_constant_width_has_no_rank():
    x, ref, spread, head = unsure()
    found = interval_metrics(x, ref, np.full_like(spread, 0.1), mask=head, factors=FACTORS)
    assert "width_error_rank" not in found
