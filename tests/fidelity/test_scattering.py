"""Laws of the scattering transform (Mallat 2012) on noise, edges and constants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.fidelity import ScatteringFeatures
from medwvae.fidelity.scattering import Scattering, filter_bank
from tests.fidelity.cases import blobs, noise

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 2**16)


def smooth_bump(size=64):
    grid = torch.arange(size, dtype=torch.float64) - size / 2
    window = torch.exp(-((grid[:, None] ** 2 + grid[None] ** 2) / (2 * 6.0**2)))
    return (window * (1 + noise(size, size)))[None, None]


@pytest.mark.parametrize(("scales", "orientations"), [(1, 1), (2, 3), (3, 4), (4, 8)])
def test_littlewood_paley_sum_is_at_most_one_and_the_bank_covers_the_plane(scales, orientations):
    bank = filter_bank((64, 48), scales, orientations)
    power = np.sum([wave**2 for wave in bank.waves.values()], axis=0)
    total = bank.low**2 + (power + np.roll(power[::-1, ::-1], 1, (0, 1))) / 2
    assert total.max() <= 1 + 1e-12
    assert bank.low[0, 0] == pytest.approx(1)
    assert all(abs(wave[0, 0]) < 1e-12 for wave in bank.waves.values())
    if orientations >= 4:
        assert total.min() > 0.1


def test_a_filter_is_the_sampled_morlet_wavelet_up_to_a_factor():
    size, j, turn, orientations = 64, 1, 1, 4
    wave = np.fft.ifft2(filter_bank((size, size), 3, orientations).waves[j, turn])
    grid = np.fft.fftfreq(size, 1 / size)
    angle, sigma, frequency = math.pi * turn / orientations, 0.8 * 2**j, 0.75 * math.pi / 2**j
    along = grid[:, None] * math.cos(angle) + grid[None] * math.sin(angle)
    aside = grid[None] * math.cos(angle) - grid[:, None] * math.sin(angle)
    envelope = np.exp(-(along**2 + (aside * min(1, 4 / orientations)) ** 2) / (2 * sigma**2))
    gabor = envelope * np.exp(1j * frequency * along)
    morlet = gabor - gabor.sum() / envelope.sum() * envelope
    np.testing.assert_allclose(wave / wave[0, 0], morlet / morlet[0, 0], atol=1e-10)


def test_maps_are_those_of_plain_convolutions_without_subsampling():
    scattering = Scattering(2, 3)
    x = noise(1, 1, 16, 12)
    maps = dict(zip(scattering.paths(), scattering.maps(x), strict=True))
    padded = np.pad(x[0, 0].numpy(), ((4, 4), (4, 4)), "symmetric")
    bank = filter_bank(padded.shape, 2, 3)

    def through(image, spectrum):
        return np.fft.ifft2(np.fft.fft2(image) * spectrum)

    first = through(np.abs(through(padded, bank.waves[0, 1])), bank.low).real
    second = np.abs(through(np.abs(through(padded, bank.waves[0, 1])), bank.waves[1, 2]))
    np.testing.assert_allclose(maps[()][0, 0], through(padded, bank.low).real[4:-4, 4:-4], atol=1e-12)
    np.testing.assert_allclose(maps[((0, 1),)][0, 0], first[4:-4, 4:-4], atol=1e-12)
    expected = through(second, bank.low).real[4:-4, 4:-4]
    np.testing.assert_allclose(maps[((0, 1), (1, 2))][0, 0], expected, atol=1e-12)


def test_subsampling_coarse_scales_hardly_changes_them():
    scattering, whole = Scattering(4, 4), Scattering(4, 4)
    setattr(whole, "_stride", lambda j: 1)  # noqa: B010 -- mypy forbids replacing a method
    x = noise(1, 1, 40, 56)
    for path, a, b in zip(scattering.paths(), scattering.maps(x), whole.maps(x), strict=True):
        stride = 1 if not path else 2 ** max(path[-1][0] - 1, 0)
        torch.testing.assert_close(a, b[..., ::stride, ::stride], rtol=0, atol=0.02 * float(b.abs().max()))


@settings(max_examples=15, deadline=None)
@given(shape=sizes, seed=seeds)
def test_energy_is_not_expanded(shape, seed):
    # An image surrounded by zeros, so that mirroring at the border adds none.
    x = torch.nn.functional.pad(noise(1, 1, *shape, seed=seed), (20, 20, 20, 20))
    scattering = Scattering(3, 4)
    energy = 0.0
    for path, values in zip(scattering.paths(), scattering.maps(x), strict=True):
        stride = 1 if not path else 2 ** max(path[-1][0] - 1, 0)
        energy += float(values.square().sum()) * stride**2
    assert 0 < energy <= float(x.square().sum()) * (1 + 1e-3)


@settings(max_examples=15, deadline=None)
@given(shape=sizes, value=st.floats(-10, 10), channels=st.integers(1, 3))
def test_a_constant_image_has_no_edges(shape, value, channels):
    x = torch.full((2, channels, *shape), value, dtype=torch.float64)
    scattering = Scattering(3, 4)
    lowest, *others = scattering.maps(x)
    torch.testing.assert_close(lowest, x, rtol=0, atol=1e-9)
    assert max(float(values.abs().max()) for values in others) < 1e-9


def test_a_quarter_turn_permutes_the_orientations():
    scattering = Scattering(3, 4)
    x = noise(1, 1, 32, 32)
    maps, turned = (
        dict(zip(scattering.paths(), scattering.maps(y), strict=True)) for y in (x, torch.rot90(x, 1, (2, 3)))
    )
    for path, values in maps.items():  # a turned image of even size is sampled half a stride off
        other = turned[tuple((j, (turn + 2) % 4) for j, turn in path)]
        assert float(other.mean()) == pytest.approx(float(values.mean()), rel=0.03, abs=1e-3)
        if not path or path[-1][0] < 2:  # before any subsampling exactly, voxel by voxel
            torch.testing.assert_close(other, torch.rot90(values, 1, (2, 3)), rtol=0, atol=1e-10)


def test_stripes_answer_along_their_own_angle_and_at_their_own_scale():
    scattering = Scattering(3, 4)
    x = torch.cos(0.75 * math.pi / 2 * torch.arange(64.0))[None, None, :, None].expand(1, 1, 64, 64)
    found = {p: float(v.mean()) for p, v in zip(scattering.paths(), scattering.maps(x), strict=True) if len(p) == 1}
    assert max(found, key=lambda path: found[path]) == ((1, 0),)


@settings(max_examples=4, deadline=None)
@given(shift=st.tuples(st.integers(-8, 8), st.integers(-8, 8)))
def test_global_averages_hardly_change_when_the_content_moves(shift):
    features = ScatteringFeatures(3, 4, grid=1)
    x = torch.nn.functional.pad(smooth_bump(), (32, 32, 32, 32))
    still, moved = features(x)[0], features(torch.roll(x, shift, (2, 3)))[0]
    other = features(torch.nn.functional.pad(smooth_bump().flip(2).square(), (32, 32, 32, 32)))[0]
    assert float((still - moved).norm()) < 0.02 * float((still - other).norm())


def test_the_grid_sees_where_the_content_is():
    local, everywhere = ScatteringFeatures(3, 4, grid=4), ScatteringFeatures(3, 4, grid=1)
    x = torch.nn.functional.pad(smooth_bump(), (32, 32, 32, 32))
    moved = torch.roll(x, (20, 0), (2, 3))
    changes = [float((f(x) - f(moved)).norm() / f(x).norm()) for f in (local, everywhere)]
    assert changes[0] > 20 * changes[1]


@settings(max_examples=15, deadline=None)
@given(shape=sizes, channels=st.integers(1, 3), batch=st.integers(1, 3), seed=seeds)
def test_any_size_and_one_image_does_not_see_another(shape, channels, batch, seed):
    features = ScatteringFeatures(3, 3, grid=2)
    x = noise(batch, channels, *shape, seed=seed)
    found = features(x)
    assert found.shape == (batch, channels * ((1 + 9) * 4 + 9 * 3))
    assert found.isfinite().all()
    torch.testing.assert_close(found[-1:], features(x[-1:]), rtol=0, atol=1e-9)


def test_float32_is_near_float64_and_half_precision_is_computed_in_float32():
    features = ScatteringFeatures()
    x = blobs(2)
    torch.testing.assert_close(features(x).double(), features(x.double()), rtol=0, atol=1e-3)
    assert features(x.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(features(x), ScatteringFeatures()(x))


def test_what_cannot_be_scattered_is_refused():
    features = ScatteringFeatures()
    with pytest.raises(ValueError, match="3D"):
        features(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(TypeError, match="floating"):
        features(torch.zeros(1, 1, 8, 8, dtype=torch.int16))
    with pytest.raises(ValueError, match="scales"):
        Scattering(0, 4)
    with pytest.raises(ValueError, match="floor"):
        ScatteringFeatures(floor=0)
    assert "J=4 L=4" in features.name
