import itertools

import numpy as np
import ptwt
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import analyse, dwt, idwt, subband_names, synthesise


def image(*spatial, seed=0, batch=2, channels=3, dtype=torch.float64):
    return torch.randn(batch, channels, *spatial, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inner(a, b):
    """Inner product of two transforms."""
    pairs = zip((a.approximation, *a.details), (b.approximation, *b.details), strict=True)
    return sum(torch.sum(x * y) for x, y in pairs)


shapes = st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.integers(1, 13)] * n))


@settings(max_examples=60, deadline=None)
@given(shape=shapes, levels=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_the_inverse_is_exact_for_any_shape_and_level(shape, levels, seed):
    x = image(*shape, seed=seed)
    back = idwt(dwt(x, levels, len(shape)))
    assert back.shape == x.shape
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**16))
def test_one_level_equals_pywavelets_band_for_band(shape, seed):
    x = image(*shape, seed=seed)
    axes = tuple(range(-len(shape), 0))
    expected = pywt.dwtn(x.numpy(), "haar", mode="symmetric", axes=axes)
    bands = analyse(x, len(shape))
    assert set(subband_names(len(shape))) == set(expected)
    for name, band in zip(subband_names(len(shape)), bands.unbind(1), strict=True):
        np.testing.assert_allclose(band, expected[name], atol=1e-12)


@pytest.mark.parametrize("shape", [(21,), (16, 13), (9, 8, 10)])
def test_several_levels_equal_pywavelets(shape):
    x = image(*shape)
    approximation, *details = pywt.wavedecn(
        x.numpy(), "haar", mode="symmetric", level=3, axes=tuple(range(-len(shape), 0))
    )
    subbands = dwt(x, 3, len(shape)).subbands()
    np.testing.assert_allclose(subbands["a" * len(shape) + "3"], approximation, atol=1e-12)
    for level, bands in zip((3, 2, 1), details, strict=True):
        for name, band in bands.items():
            np.testing.assert_allclose(subbands[f"{name}{level}"], band, atol=1e-12)
    assert len(subbands) == 1 + 3 * (2 ** len(shape) - 1)


def test_1d_equals_ptwt():
    x = image(16)
    approximation, *details = ptwt.wavedec(x, "haar", mode="symmetric", level=2)
    ours = dwt(x, 2, 1)
    torch.testing.assert_close(ours.approximation, approximation)
    for mine, theirs in zip(ours.details, details, strict=True):
        torch.testing.assert_close(mine[:, 0], theirs)


def test_2d_equals_ptwt():
    # ptwt names horizontal, vertical, diagonal details: da, ad, dd.
    x = image(16, 12)
    approximation, *details = ptwt.wavedec2(x, "haar", mode="symmetric", level=2)
    subbands = dwt(x, 2).subbands()
    torch.testing.assert_close(subbands["aa2"], approximation)
    for level, bands in zip((2, 1), details, strict=True):
        for name, band in zip(("da", "ad", "dd"), bands, strict=True):
            torch.testing.assert_close(subbands[f"{name}{level}"], band)


def test_3d_equals_ptwt():
    x = image(8, 12, 4)
    approximation, *details = ptwt.wavedec3(x, "haar", mode="symmetric", level=2)
    subbands = dwt(x, 2, 3).subbands()
    torch.testing.assert_close(subbands["aaa2"], approximation)
    for level, bands in zip((2, 1), details, strict=True):
        for name, band in bands.items():
            torch.testing.assert_close(subbands[f"{name}{level}"], band)


def test_names_say_which_axis_is_high_pass():
    rows = torch.tensor([1.0, -1.0]).repeat(4)[:, None].expand(8, 8)[None, None]
    for x, active in ((rows, "da1"), (rows.mT, "ad1")):
        energy = {name: float(band.square().sum()) for name, band in dwt(x, 1).subbands().items()}
        assert energy.pop(active) == pytest.approx(64)
        assert sum(energy.values()) == pytest.approx(0)


@settings(max_examples=40, deadline=None)
@given(
    halves=st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.integers(1, 3)] * n)),
    levels=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
def test_even_shapes_keep_the_energy_and_the_adjoint_is_the_inverse(halves, levels, seed):
    shape = tuple(size * 2**levels for size in halves)
    x, other = image(*shape, seed=seed), image(*shape, seed=seed + 1)
    forward, arbitrary = (
        dwt(x, levels, len(shape)),
        dwt(other, levels, len(shape)).map(lambda _, level, band: level * band),
    )
    torch.testing.assert_close(inner(forward, forward), x.square().sum())
    torch.testing.assert_close(inner(forward, arbitrary), torch.sum(x * idwt(arbitrary)))


@pytest.mark.parametrize("axis", [0, 1])
def test_the_last_detail_along_an_odd_axis_is_zero(axis):
    bands = dict(zip(subband_names(2), analyse(image(7, 9)).unbind(1), strict=True))
    for name in ("da", "dd") if axis == 0 else ("ad", "dd"):
        assert not bands[name].select(axis - 2, -1).any()


@settings(max_examples=20, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**16))
def test_the_transform_is_linear(shape, seed):
    x, y = image(*shape, seed=seed), image(*shape, seed=seed + 1)
    together = analyse(2 * x - 3 * y, len(shape))
    torch.testing.assert_close(together, 2 * analyse(x, len(shape)) - 3 * analyse(y, len(shape)))


@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 2, 3)])
def test_gradients(shape):
    x = image(*shape, batch=1, channels=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dwt(x, 2, len(shape)).details, (x,))
    bands = analyse(x.detach(), len(shape)).requires_grad_()
    assert torch.autograd.gradcheck(lambda bands: synthesise(bands, shape), (bands,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_is_kept(dtype):
    x = image(11, 14, dtype=dtype)
    coefficients = dwt(x, 3)
    assert {coefficients.approximation.dtype, *(band.dtype for band in coefficients.details)} == {dtype}
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(idwt(coefficients), x, rtol=0, atol=tolerance)


def test_map_tells_band_and_level_coarse_to_fine():
    coefficients = dwt(image(8, 8), 3)
    seen = []

    def note(name, level, band):
        seen.append((name, level))
        return torch.zeros_like(band) if name == "d" else band

    smooth = coefficients.map(note)
    assert seen == [("d", 3), ("d", 2), ("d", 1), ("a", 3)]
    # Without details each block has one value: the mean of the image over the block.
    x = idwt(coefficients)
    torch.testing.assert_close(idwt(smooth), x.mean((2, 3), keepdim=True).expand_as(x))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_subband_names_put_the_approximation_first(n):
    names = subband_names(n)
    assert names[0] == "a" * n
    assert set(names) == {"".join(letters) for letters in itertools.product("ad", repeat=n)}
    assert dwt(image(*[4] * n), 1, n).names == names[1:]


def test_wrong_levels_axes_and_bands_are_refused():
    with pytest.raises(ValueError, match="levels"):
        dwt(image(4, 4), 0)
    with pytest.raises(ValueError, match="axes"):
        dwt(image(4, 4), 1, 3)
    with pytest.raises(ValueError, match="expected"):
        synthesise(torch.zeros(1, 3, 1, 4, 4))
