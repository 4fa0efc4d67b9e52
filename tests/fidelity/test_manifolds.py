import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.fidelity.manifolds import overlap
from tests.fidelity.cases import noise


def test_on_a_line_it_is_counted_by_hand():
    real = torch.tensor([[0.0], [1], [2], [10]])  # with k = 1 the balls reach 1, 1, 1 and 8
    samples = torch.tensor([[-0.5], [3.5], [30], [31]])  # and 4, 4, 1 and 1
    found = overlap(real, samples, neighbours=1)
    assert found.precision == 2 / 4  # −0.5 in the ball of 0; 3.5 in that of 10
    assert found.recall == 3 / 4  # 0, 1, 2 within 4 of −0.5; 10 is 6.5 from 3.5
    assert found.density == 2 / 4
    assert found.coverage == 2 / 4


@settings(max_examples=25, deadline=None)
@given(count=st.integers(5, 40), size=st.integers(1, 6), k=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_equal_sets_overlap_and_far_ones_do_not(count, size, k, seed):
    x = noise(count, size, seed=seed)
    same = overlap(x, x, neighbours=k)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx((k + 1) / k)
    far = overlap(x, x + 1e3, neighbours=k)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_one_mode_of_two_is_precise_but_recalls_half():
    far = torch.tensor([100.0, 0, 0])
    real = torch.cat([noise(60, 3), noise(60, 3, seed=1) + far])
    lost, blurred = overlap(real, noise(120, 3, seed=2)), overlap(real, 10 * noise(120, 3, seed=2))
    assert lost.precision > 0.8
    assert lost.recall <= 0.5
    assert lost.coverage <= 0.5
    assert blurred.precision < 0.2


def test_samples_of_the_real_distribution_have_density_one():
    found = overlap(noise(400, 2), noise(400, 2, seed=1))
    assert found.density == pytest.approx(1, abs=0.15)
    assert found.coverage > 0.85  # 1 − 2^−k = 0.875 for k = 3 and equal numbers


def test_sets_too_small_or_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="neighbours"):
        overlap(noise(3, 2), noise(9, 2))
    with pytest.raises(ValueError, match=r"\(N, F\)"):
        overlap(noise(9, 2), noise(9, 3))
