"""Fewer pixels, thicker slices: against MATLAB's formula, PyTorch's antialiased bicubic and direct integration."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch.nn import functional as F

from medwvae.operators import bicubic, through_plane
from medwvae.operators.resampling import bicubic_matrix, slice_matrix
from tests.operators.cases import real


def imresize(signal, factor):
    """MATLAB's imresize(x, 1/factor, 'bicubic') of one row, written out as its `contributions` describes it."""
    size = len(signal)
    out = int(np.ceil(size / factor))
    scale, width = 1 / factor, 4 * factor
    result = []
    for x in range(1, out + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = int(np.floor(u - width / 2))
        total, weights = 0.0, 0.0
        for index in range(left, left + int(np.ceil(width)) + 2):
            a = abs(scale * (u - index))
            if a <= 1:
                w = 1.5 * a**3 - 2.5 * a**2 + 1
            elif a <= 2:
                w = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
            else:
                continue
            auxiliary = [*range(1, size + 1), *range(size, 0, -1)]
            total += scale * w * signal[auxiliary[(index - 1) % len(auxiliary)] - 1]
            weights += scale * w
        result.append(total / weights)
    return np.array(result)


@settings(max_examples=40)
@given(size=st.integers(4, 60), factor=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99))
def test_bicubic_is_matlabs_imresize(size, factor, seed):
    signal = np.random.default_rng(seed).random(size)
    np.testing.assert_allclose(bicubic_matrix(size, factor) @ signal, imresize(signal, factor), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_pytorchs_antialiased_one_away_from_the_border(factor):
    x = real((1, 1, 48, 60), 0)
    small = bicubic((48, 60), factor).forward(x)
    theirs = F.interpolate(x, small.shape[-2:], mode="bicubic", antialias=True)
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(small[inner], theirs[inner], rtol=0, atol=1e-6)


@settings(max_examples=20)
@given(size=st.integers(4, 40), factor=st.integers(2, 4))
def test_a_constant_stays_constant(size, factor):
    for matrix in (bicubic_matrix(size, factor), slice_matrix(size, factor, "rect"), slice_matrix(size, 2, "gaussian")):
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)


def test_thick_slices_of_a_rectangular_profile_are_means():
    volume = real((1, 1, 5, 6, 12), 1)
    thick = through_plane(12, 3, dims=3).forward(volume)
    torch.testing.assert_close(thick, volume.unflatten(-1, (4, 3)).mean(-1))


@pytest.mark.parametrize("thickness", [1.5, 3.0, 4.2])
def test_a_gaussian_profile_is_integrated_over_thin_slices(thickness):
    matrix = slice_matrix(20, 4, "gaussian", thickness)
    sigma = thickness / (2 * np.sqrt(2 * np.log(2)))
    centre = 2 * 4 + 1.5
    weights = [quad(lambda z: np.exp(-((z - centre) ** 2) / (2 * sigma**2)), i - 0.5, i + 0.5)[0] for i in range(20)]
    np.testing.assert_allclose(matrix[2], np.array(weights) / sum(weights), atol=1e-8)
    # Full width at half maximum.
    profile = np.exp(-((thickness / 2) ** 2) / (2 * sigma**2))
    assert profile == pytest.approx(0.5)


def test_a_gap_between_slices_is_not_seen():
    matrix = slice_matrix(12, 4, "rect", 2.0)
    assert ((matrix > 0).sum(0) == np.tile([0, 1, 1, 0], 3)).all()


def test_a_slice_without_thickness():
    with pytest.raises(ValueError, match="positive thickness"):
        slice_matrix(12, 4, "rect", 0.0)


@settings(max_examples=20)
@given(
    height=st.integers(16, 60),
    width=st.integers(16, 60),
    factor=st.sampled_from([2, 3, 4]),
    seed=st.integers(0, 99),
)
def test_the_small_image_is_met_to_one_part_in_a_hundred_thousand(height, width, factor, seed):
    truth, guess = real((1, 1, height, width), seed, torch.float32).abs(), real((1, 1, height, width), seed + 1)
    for operator in (bicubic((height, width), factor), through_plane(width, factor, "gaussian")):
        small = operator.forward(truth)
        projected = operator.project(guess.float(), small)
        assert float((operator.forward(projected) - small).abs().max()) <= 1e-5 * float(small.max())
        again = operator.forward(operator.pseudo_inverse(small))
        assert float((again - small).abs().max()) <= 1e-5 * float(small.max())
