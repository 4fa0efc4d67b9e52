"""Laws of tiles: weights that sum to one, cores on the grid, halos that cover what a network sees."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medwvae.inference.footprint import Footprint
from medwvae.inference.tiles import Plan, plan, spans

axis = st.tuples(st.integers(1, 60), st.sampled_from((1, 2, 4, 8)), st.integers(1, 9), st.integers(0, 20))


@given(axis, st.integers(0, 20))
def test_weights_along_an_axis_sum_to_one(drawn, ramp):
    size, step, parts, halo = drawn
    found = spans(size, step, parts, halo, ramp)
    padded = math.ceil(size / step) * step
    total = np.zeros(padded)
    for span in found:
        np.testing.assert_allclose(total[slice(*span.keep)], span.earlier, atol=1e-12)
        total[slice(*span.keep)] += span.weight
    np.testing.assert_allclose(total, 1, atol=1e-12)
    for span in found:
        assert 0 <= span.read[0] <= span.keep[0] < span.keep[1] <= span.read[1] <= padded
        assert span.read[0] % step == span.read[1] % step == 0
    if not ramp:
        assert [span.keep[1] for span in found[:-1]] == [span.keep[0] for span in found[1:]]


@given(st.tuples(axis, axis), st.integers(0, 6))
def test_shares_blend_by_the_weights(drawn, ramp):
    along = [spans(size, step, parts, halo, ramp) for size, step, parts, halo in drawn]
    made = Plan((0, 0), tuple(along), False)
    padded = tuple(spans_[-1].read[1] for spans_ in along)
    tiles = list(made.tiles())
    assert len(tiles) == made.count
    # Blend numbers of the tiles one after another: the same as their weighted mean.
    blended, mean = np.full(padded, np.nan), np.zeros(padded)
    for number, tile in enumerate(tiles):
        weight = np.multiply.outer(*(span.weight for span in tile.spans))
        mean[tile.keep] += weight * number
        share = tile.share()
        if share is None:
            blended[tile.keep] = number
        else:
            old = blended[tile.keep]
            blended[tile.keep] = np.where(share == 1, number, old + share * (number - old))
    np.testing.assert_allclose(blended, mean, atol=1e-4 * len(tiles))


shapes = st.tuples(*[st.integers(1, 70)] * 3)
steps = st.tuples(*[st.sampled_from((1, 2, 4, 8))] * 3)
reaches = st.tuples(*[st.none() | st.integers(0, 24)] * 3)


@given(shapes, steps, reaches, st.integers(1, 40_000), st.tuples(*[st.booleans()] * 3))
def test_a_plan_covers_the_volume_within_its_voxels(shape, step, reach, voxels, divisible):
    found = plan(shape, Footprint(step, reach), voxels, divisible=divisible)
    if found is None:
        smallest = [s if cut else size for s, size, cut in zip(step, shape, divisible, strict=True)]
        assert voxels < math.prod(
            min(3 * s, n + s) if c else s for s, n, c in zip(smallest, shape, divisible, strict=True)
        )
        return
    assert max(tile.voxels for tile in found.tiles()) == found.largest <= voxels
    assert sum(tile.voxels for tile in found.tiles()) == found.read
    for own, size, s, r, cut in zip(found.axes, shape, step, reach, divisible, strict=True):
        assert len(own) == 1 or cut
        assert own[-1].keep[1] >= size
        assert own[-1].keep[1] == (math.ceil(size / s) * s if cut else size)
        if found.exact and len(own) > 1:
            assert r is not None
            for span in own:
                assert span.read[0] == 0 or span.keep[0] - span.read[0] >= r
                assert span.read[1] == own[-1].read[1] or span.read[1] - span.keep[1] >= r
                assert (span.weight == 1).all()


def test_more_memory_never_costs_more_work():
    footprint = Footprint((8, 8, 8), (20, 20, 20))
    plans = [plan((96, 120, 70), footprint, voxels) for voxels in (200_000, 400_000, 1e6, 1e9)]
    work = [found.read for found in plans if found and found.exact]
    assert len(work) == 4
    assert work == sorted(work, reverse=True)
    assert work[-1] == 96 * 120 * 72


def test_slices_of_a_step_are_at_most_so_many():
    found = plan(
        (50, 20, 20), Footprint((1, 8, 8), (0, 4, 4)), 1e9, divisible=(True, False, False), largest=(24, None, None)
    )
    assert found is not None
    assert [span.keep for span in found.axes[0]] == [(0, 16), (16, 33), (33, 50)]
    assert found.exact


def test_without_a_bound_tiles_are_blended_and_it_is_known():
    found = plan((64, 64), Footprint((16, 16), (None, None)), 64 * 48)
    assert found is not None
    assert not found.exact
    assert any((span.weight < 1).any() for own in found.axes for span in own)
    whole = plan((64, 64), Footprint((16, 16), (None, None)), 64 * 64)
    assert whole is not None
    assert whole.exact
    assert whole.count == 1


@pytest.mark.parametrize("ramp", [0, 3])
def test_the_last_axis_runs_fastest(ramp):
    tiles = list(Plan((16, 16), (spans(16, 4, 2, 4, ramp), spans(16, 4, 3, 4, ramp)), False).tiles())
    starts = [(tile.keep[0].start, tile.keep[1].start) for tile in tiles]
    assert starts == sorted(starts)
    assert len(set(starts)) == 6
