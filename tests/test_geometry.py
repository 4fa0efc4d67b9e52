import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medwvae import geometry
from medwvae.errors import Refusal

spacings = st.tuples(*[st.floats(0.2, 8.0)] * 3)
seeds = st.integers(0, 2**31)


def affine_of(seed, spacing):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=rng).as_matrix() * rng.choice([-1, 1], 3) * spacing
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def test_lps_to_ras_is_its_own_inverse():
    assert np.array_equal(geometry.LPS_TO_RAS @ geometry.LPS_TO_RAS, np.eye(4))
    assert np.array_equal(geometry.LPS_TO_RAS @ [10, 20, 30, 1], [-10, -20, 30, 1])


@given(seeds, spacings)
def test_spacing_survives_any_rotation(seed, spacing):
    assert np.allclose(geometry.spacing_of(affine_of(seed, spacing)), spacing)


@settings(deadline=None)
@given(seeds, spacings, st.tuples(*[st.integers(1, 6)] * 3))
def test_to_ras_keeps_every_value_at_its_place(seed, spacing, shape):
    """The law of canonicalisation: value and millimetre stay together, and the result points right, anterior, up."""
    affine = affine_of(seed, spacing)
    volume = np.arange(np.prod(shape)).reshape(shape)
    turned, turned_affine = geometry.to_ras(volume, affine)
    assert geometry.codes_of(turned_affine) == ("R", "A", "S")
    places = np.stack([*np.indices(turned.shape).reshape(3, -1), np.ones(turned.size)])
    back = np.rint(np.linalg.solve(affine, turned_affine @ places)[:3]).astype(int)
    assert np.array_equal(volume[tuple(back)], turned.ravel())
    assert np.allclose(affine @ [*back[:, -1], 1], turned_affine @ places[:, -1], atol=1e-6)
    again, again_affine = geometry.to_ras(turned, turned_affine)
    assert np.array_equal(again, turned)
    assert np.allclose(again_affine, turned_affine)


@given(seeds, spacings)
def test_an_affine_of_a_scanner_is_not_singular_and_has_no_shear(seed, spacing):
    affine = affine_of(seed, spacing)
    assert not geometry.is_singular(affine)
    assert geometry.shear_of(affine) < 1e-9


@pytest.mark.parametrize("column", [[0, 0, 0], [1, 0, 0], [np.nan, 0, 1]])
def test_a_singular_affine_is_named(column):
    affine = np.eye(4)
    affine[:3, 2] = column
    assert geometry.is_singular(affine)
    with pytest.raises(ValueError, match="singular"):
        geometry.to_ras(np.zeros((2, 2, 2)), affine)


def test_shear_is_the_cosine_between_axes():
    affine = np.eye(4)
    affine[:3, 2] = [0, np.sin(np.deg2rad(10)), np.cos(np.deg2rad(10))]
    assert geometry.shear_of(affine) == pytest.approx(np.sin(np.deg2rad(10)))


@settings(deadline=None)
@given(seeds, spacings, st.tuples(*[st.integers(2, 6)] * 3), st.sampled_from([None, 45.0]))
def test_onto_grid_undoes_to_ras(seed, spacing, shape, angle):
    """Also halfway between two orientations, and with the rounding of a NIfTI header (float32)."""
    affine = affine_of(seed, spacing)
    if angle:
        affine[:3, :3] = Rotation.from_euler("z", angle, degrees=True).as_matrix() * spacing
    volume = np.arange(np.prod(shape)).reshape(shape)
    turned, turned_affine = geometry.to_ras(volume, affine)
    stored = turned_affine.astype(np.float32).astype(float)
    assert np.array_equal(geometry.onto_grid(turned, stored, shape, affine), volume)
    for other in ((*shape[1:], 7), (*shape[:2], shape[2] + 1)):
        with pytest.raises(Refusal, match="voxels"):
            geometry.onto_grid(turned, stored, other, affine)


@settings(deadline=None)
@given(seeds, spacings, st.integers(0, 2))
def test_onto_grid_refuses_another_place(seed, spacing, axis):
    affine = affine_of(seed, spacing)
    volume = np.zeros((3, 4, 5))
    moved = affine.copy()
    moved[axis, 3] += 0.002
    with pytest.raises(Refusal, match=r"0\.002 mm away"):
        geometry.onto_grid(volume, moved, volume.shape, affine)
    flipped = affine @ np.diag([1 if k == axis else -1 for k in range(3)] + [1])  # the same axes, beyond the volume
    with pytest.raises(Refusal, match="mm away"):
        geometry.onto_grid(volume, flipped, volume.shape, affine)
