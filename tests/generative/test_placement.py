"""Whole heads in one grid: means of whole voxels, in their place in the patient."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medwvae.anatomy import three_slices
from medwvae.generative.images import whole
from medwvae.generative.placement import Placement, placed
from medwvae.geometry import affine_at
from tests.cases import case, ellipsoid

SIDES = st.tuples(*[st.integers(1, 12)] * 3)
BLOCKS = st.tuples(*[st.integers(1, 3)] * 3)


@given(SIDES, SIDES, BLOCKS)
def test_a_block_is_the_mean_of_its_voxels_where_they_lie(shape, size, block):
    volume = np.random.default_rng(0).random(shape)
    grid = Placement.about(np.ones(shape, bool), size, block)
    small = grid.image(volume)
    assert small.shape == size
    padded = np.pad(volume, 40)
    for voxel in [(0, 0, 0), tuple(n - 1 for n in size), tuple(n // 2 for n in size)]:
        box = tuple(
            slice(40 + s + v * b, 40 + s + (v + 1) * b) for s, v, b in zip(grid.start, voxel, block, strict=True)
        )
        np.testing.assert_allclose(small[voxel], padded[box].mean(), atol=1e-6)
        assert grid.mask(np.ones(shape, bool))[voxel] == (np.pad(np.ones(shape), 40)[box].mean() >= 0.5)


@given(SIDES, SIDES, BLOCKS)
def test_the_affine_of_the_grid_says_where_its_voxels_lie(shape, size, block):
    affine = np.array([[0.0, -2, 0.1, 5], [1.5, 0, 0, -7], [0, 0.2, 3, 11], [0, 0, 0, 1]])
    coordinates = np.moveaxis(
        affine_at(affine, np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)).reshape(*shape, 3), -1, 0
    )
    grid = Placement.about(np.ones(shape, bool), size, block)
    within = grid.image(np.ones(shape)) == 1  # blocks that lie in the volume as a whole
    where = affine_at(grid.affine(affine), np.moveaxis(np.indices(size), 0, -1).reshape(-1, 3)).reshape(*size, 3)
    for axis, values in enumerate(coordinates):
        np.testing.assert_allclose(grid.image(values)[within], where[..., axis][within], rtol=1e-4, atol=1e-4)


def test_the_head_stands_in_the_middle_and_the_axes_are_those_of_the_patient():
    for axis in range(3):
        one = case(shape=(20, 28, 24), axis=axis)
        moved = np.zeros((40, 28, 24), bool)
        moved[15:35] = one.prepared.head
        image = np.zeros(moved.shape, np.float32)
        image[15:35] = one.prepared.image
        own = placed(replace(one, prepared=replace(one.prepared, image=image, head=moved)), (14, 14, 14), (2, 2, 2))
        assert own.prepared.axis == 0
        expected = placed(one, (14, 14, 14), (2, 2, 2)).prepared
        assert np.array_equal(own.prepared.head, expected.head)  # wherever it lay
        sides = [np.flatnonzero(own.prepared.head.any(tuple(a for a in range(3) if a != k))) for k in range(3)]
        lengths = np.moveaxis(np.empty((20, 28, 24)), 0, axis).shape
        for side in sides:
            assert abs(side[0] + side[-1] - 13) <= 1
        assert np.argsort([len(side) for side in sides]).tolist() == np.argsort(lengths).tolist()


def test_a_volume_without_a_head_is_taken_from_its_middle():
    assert Placement.about(np.zeros((8, 9, 10), bool), (4, 3, 2), (1, 1, 1)).start == (2, 3, 4)


def test_volumes_are_images_of_three_axes():
    images = whole([placed(case(name, subject="s"), (12, 16, 12), (2, 2, 1)) for name in "ab"], ("t1w", "t2w"))
    assert images.values.shape == (2, 1, 12, 16, 12) and images.dims == 3 and images.shape == (12, 16, 12)
    assert images.labels is not None and images.labels.tolist() == [0, 0]
    assert images.maxima["a"] == float(images.values[0].max())


def test_three_slices_are_those_of_the_middle():
    volume = ellipsoid((8, 10, 6)).astype(float) + np.arange(6)
    shown = three_slices(volume[None])
    assert shown.shape == (1, 8 + 8 + 10, 10)
    assert np.array_equal(shown[0, :8], volume[:, :, 3])  # axial
    assert np.array_equal(shown[0, 8:16, 2:8], volume[:, 5])  # coronal
    assert np.array_equal(shown[0, 16:, 2:8], volume[4])  # sagittal
    assert not shown[0, 8:, :2].any() and not shown[0, 8:, 8:].any()
