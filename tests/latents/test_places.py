import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.latents.places import places, reach, regions, support
from medwvae.wavelets import MODES, dwt, idwt
from medwvae.wavelets.filters import filter_bank

WAVELETS = ("haar", "db2", "db4", "bior4.4")
wavelets, modes = st.sampled_from(WAVELETS), st.sampled_from(MODES)


def test_reach_of_haar_is_half_a_block():
    assert [reach("haar", level) for level in (1, 2, 3)] == [1, 2, 4]


@pytest.mark.parametrize("wavelet", [*WAVELETS, "sym8", "coif2", "bior2.2", "db10"])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_reach_lies_between_half_and_whole_of_the_footprint(wavelet, level):
    length = (2**level - 1) * (filter_bank(wavelet).length - 1) + 1
    assert reach(wavelet, level) < length
    # bior filters are padded with zeros in the bank, which reach nowhere.
    assert reach(wavelet, level) >= 0.35 * (length - 1)


def test_reach_refuses_what_is_no_level_or_wavelet():
    with pytest.raises(ValueError, match="from 1"):
        reach("haar", 0)
    with pytest.raises(ValueError, match="no discrete wavelet"):
        reach("morl", 1)


@settings(max_examples=40, deadline=None)
@given(wavelets, modes, st.integers(1, 3), st.integers(5, 70))
def test_no_coefficient_reaches_farther_than_its_reach(wavelet, mode, level, size):
    """But at the borders of `boundary`, whose filters are others there."""
    axis = places(dwt(torch.zeros(1, 1, size), level, 1, wavelet, mode), level)[0]
    far = reach(wavelet, level)
    whole = axis.footprint.sum(0) == axis.footprint.sum(0).max()
    for letter in "ad":
        distance = np.abs(axis.voxels(letter) - np.arange(size)[:, None])
        if axis.wraps:
            distance = np.minimum(distance, size - distance)
        reached = np.where(axis.footprint, distance, 0)[:, whole].max(0)
        if mode == "boundary":
            reached = reached[[len(reached) // 2]] if size > 8 * 2**level * filter_bank(wavelet).length else []
        elif axis.wraps and 2 * far >= size:
            reached = []  # once around the circle
        assert (np.asarray(reached) <= far).all()


@settings(max_examples=30, deadline=None)
@given(wavelets, modes, st.integers(1, 2), st.tuples(st.integers(3, 17), st.integers(3, 17)), st.integers(0, 10**6))
def test_the_support_holds_every_voxel_that_changes(wavelet, mode, level, shape, seed):
    rng = np.random.default_rng(seed)
    layout = dwt(torch.zeros(1, 1, *shape, dtype=torch.float64), level, 2, wavelet, mode)
    j = int(rng.integers(1, level + 1))
    size = layout.level(j)["dd"].shape[2:]
    chosen = torch.from_numpy(rng.random(size) < 0.1)[None, None]
    values = layout.map(lambda _, own, b: torch.where(chosen, torch.randn(b.shape).to(b), 0) if own == j else b)
    values = values if j == level else values.replace(layout.approximation, values.details)
    changed = idwt(values) != 0
    assert not (changed & ~support(layout, j, chosen)).any()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_nearest_haar_coefficient_is_that_of_the_block(level):
    axis = places(dwt(torch.zeros(1, 1, 32), level, 1), level)[0]
    assert axis.nearest("a").tolist() == axis.nearest("d").tolist() == [n // 2**level for n in range(32)]


def test_axes_with_fewer_levels_stay_on_their_grid():
    layout = dwt(torch.zeros(1, 1, 16, 16, 5), (2, 2, 1), 3)
    across = places(layout, 1)[2]
    assert not across.footprint[~np.eye(5, dtype=bool)].any()
    assert [len(along.nearest("a")) for along in places(layout, 2)] == [16, 16, 5]


@settings(max_examples=30, deadline=None)
@given(wavelets, modes, st.integers(0, 10**6))
def test_a_coefficient_belongs_to_one_side_at_most(wavelet, mode, seed):
    mask = torch.from_numpy(np.random.default_rng(seed).random((12, 15)) < 0.5)[None, None]
    layout = dwt(torch.zeros(1, 1, 12, 15), 2, 2, wavelet, mode)
    for level in (1, 2):
        found = regions(layout, level, mask)
        assert set(found) == {"aa", "ad", "da", "dd"}
        for inside, outside in found.values():
            assert not (inside & outside).any()
