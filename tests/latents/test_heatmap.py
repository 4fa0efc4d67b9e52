import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.latents.heatmap import heatmaps
from medwvae.wavelets import MODES, dwt


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(("haar", "db2", "db4", "bior4.4")),
    st.sampled_from(MODES),
    st.integers(1, 3),
    st.tuples(st.integers(9, 40), st.integers(9, 40)),
)
def test_maps_have_the_images_shape_and_one_as_their_largest_value(wavelet, mode, levels, shape):
    image = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    maps = heatmaps(dwt(image, levels, 2, wavelet, mode))
    assert list(maps) == list(range(levels, 0, -1))
    for bands in maps.values():
        assert set(bands) == {"ad", "da", "dd"}
        stacked = torch.stack(list(bands.values()))
        assert stacked.shape[1:] == image.shape
        assert stacked.min() >= 0
        assert (stacked.amax((0, 2, 3, 4)) <= 1).all()


@pytest.mark.parametrize("mode", ["periodization", "symmetric", "zero"])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "db10", "bior4.4"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_dot_is_hot_where_it_is(wavelet, mode, level):
    image = torch.zeros(1, 1, 128, 128)
    image[..., 60, 77] = 1
    hot = heatmaps(dwt(image, 3, 2, wavelet, mode))[level]
    for name in ("ad", "da", "dd"):
        weight = hot[name][0, 0] ** 2
        rows, columns = (torch.arange(128.0) * weight.sum(axis) / weight.sum() for axis in (1, 0))
        assert abs(rows.sum() - 60) <= 1.5 * 2**level
        assert abs(columns.sum() - 77) <= 1.5 * 2**level


def test_levels_are_normalised_apart_and_air_stays_cold():
    image = torch.randn(1, 1, 16, 16, 8)
    coefficients = dwt(image, 2, 3)
    raw, scaled = heatmaps(coefficients, normalise=False, approximation=True), heatmaps(coefficients)
    assert set(raw[2]) == {"aaa", *scaled[2]}
    largest = max(float(band.abs().max()) for band in coefficients.level(1).values())
    torch.testing.assert_close(scaled[1]["dad"] * largest, raw[1]["dad"])
    assert not heatmaps(dwt(torch.zeros(1, 1, 8, 8), 1))[1]["dd"].any()
