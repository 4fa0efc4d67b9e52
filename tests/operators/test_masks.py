"""What is measured: Poisson discs, partial Fourier, lost blocks, slices and streaks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from medwvae.operators import (
    block_mask,
    missing_slices_mask,
    partial_fourier_mask,
    poisson_disc_mask,
    streak_mask,
)
from tests.operators.cases import generator

seeds = st.integers(0, 999)


@pytest.mark.parametrize("acceleration", [4, 8])
@pytest.mark.parametrize("shape", [(64, 60), (45, 80)])
def test_a_poisson_disc_measures_its_share_and_its_centre(acceleration, shape):
    mask = poisson_disc_mask(shape, acceleration, (6, 8), generator(0))
    assert mask.shape == (1, 1, *shape)
    assert mask.dtype == torch.bool
    assert abs(int(mask.sum()) * acceleration / (shape[0] * shape[1]) - 1) <= 0.05
    centred = torch.fft.fftshift(mask[0, 0]).numpy()
    top, left = shape[0] // 2 - 3, shape[1] // 2 - 4
    assert centred[top : top + 6, left : left + 8].all()
    assert mask[0, 0, 0, 0]
    assert torch.equal(mask, poisson_disc_mask(shape, acceleration, (6, 8), generator(0)))
    assert not torch.equal(mask, poisson_disc_mask(shape, acceleration, (6, 8), generator(1)))


def test_samples_of_a_poisson_disc_keep_their_distance_and_thin_out():
    mask = torch.fft.fftshift(poisson_disc_mask((96, 96), 8, (0, 0), generator(3))[0, 0]).numpy()
    places = np.argwhere(mask)
    nearest = cKDTree(places).query(places, k=2)[0][:, 1]
    radius = np.hypot(*(places - 48).T) / 48
    assert nearest[radius > 0.7].mean() > 1.5 * nearest[radius < 0.3].mean()
    # Uniform random positions of the same number would have close pairs; there are none.
    assert nearest[radius > 0.7].min() >= 2


def test_a_calibration_block_that_is_too_large():
    with pytest.raises(ValueError, match="exceeds the 1/8"):
        poisson_disc_mask((20, 20), 8, (10, 10), generator(0))


@settings(max_examples=40)
@given(size=st.integers(4, 90), fraction=st.floats(0.51, 1))
def test_partial_fourier_keeps_one_half_and_the_lowest_of_the_other(size, fraction):
    mask = partial_fourier_mask(size, fraction)
    frequency = torch.fft.fftfreq(size, 1 / size).round()
    assert int(mask.sum()) == round(size * fraction)
    assert mask[(frequency >= 0) & (frequency < (size + 1) // 2 - 0)].all() or round(size * fraction) < (size + 1) // 2
    kept = frequency[mask].sort().values
    assert (kept.diff() == 1).all()
    assert kept[-1] == (size - 1) // 2


@pytest.mark.parametrize("fraction", [0.5, 0.2, 1.1])
def test_partial_fourier_needs_more_than_half(fraction):
    with pytest.raises(ValueError, match="more than half"):
        partial_fourier_mask(10, fraction)


@settings(max_examples=20)
@given(lost=st.floats(0, 0.6), height=st.integers(8, 40), width=st.integers(8, 40), seed=seeds)
def test_blocks_lose_what_was_asked_for_and_at_most_one_block_more(lost, height, width, seed):
    mask = block_mask((height, width), lost, (0.05, 0.2), generator(seed))
    gone = float((~mask).float().mean())
    assert lost <= gone + 1e-6
    assert gone <= lost + (0.2 + 1 / height) * (0.2 + 1 / width)
    assert block_mask((4, height, width), lost, (0.3, 0.5), generator(seed)).shape == (1, 1, 4, height, width)


@settings(max_examples=30)
@given(slices=st.integers(3, 60), seed=seeds, run=st.integers(1, 4), data=st.data())
def test_so_many_slices_are_missing_and_never_the_ends(slices, seed, run, data):
    lost = data.draw(st.integers(0, slices - 2))
    mask = missing_slices_mask(slices, lost, generator(seed), run)
    assert int((~mask).sum()) == lost
    assert mask[0]
    assert mask[-1]


def test_masks_that_make_no_sense():
    with pytest.raises(ValueError, match="lost fraction"):
        block_mask((8, 8), 1.0, (0.1, 0.2), generator(0))
    with pytest.raises(ValueError, match="cannot be missing"):
        missing_slices_mask(5, 4, generator(0))


@settings(max_examples=10)
@given(seed=seeds)
def test_streaks_run_from_two_inserts_to_the_border(seed):
    mask = streak_mask((64, 80), generator(seed))[0, 0]
    gone = float((~mask).float().mean())
    assert 0.03 < gone < 0.6
    border = torch.cat((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    assert (~border).sum() >= 16
