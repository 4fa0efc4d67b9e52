"""The container: names, order, and what is done to all subbands at once."""

import itertools

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.wavelets import DWT, IDWT, dwt, idwt, subband_names
from tests.wavelets.cases import image, like, modes, pywt_wavedecn, seeds, shapes_and_levels, tensors

some = st.sampled_from(["haar", "db2", "bior4.4"])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_subband_names_put_the_approximation_first(n):
    names = subband_names(n)
    assert names[0] == "a" * n
    assert set(names) == {"".join(letters) for letters in itertools.product("ad", repeat=n)}
    found = dwt(image(*[4] * n), 2, n)
    assert found.names(1) == found.names(2) == found.names() == names[1:]


def test_names_say_which_axis_is_high_pass():
    rows = torch.tensor([1.0, -1.0]).repeat(4)[:, None].expand(8, 8)[None, None]
    for x, active in ((rows, "da1"), (rows.mT, "ad1")):
        energies = {name: float(band.square().sum()) for name, band in dwt(x, 1).subbands().items()}
        assert energies.pop(active) == pytest.approx(64)
        assert sum(energies.values()) == pytest.approx(0)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_last_haar_detail_along_an_odd_axis_is_zero(axis):
    bands = dwt(image(7, 9), 1).level(1)
    for name in ("da", "dd") if axis == 0 else ("ad", "dd"):
        assert not bands[name].select(axis - 2, -1).any()


def test_levels_and_iteration_run_from_coarse_to_fine():
    coefficients = dwt(image(21, 14), 3, wavelet="db2", mode="symmetric")
    assert (coefficients.levels, coefficients.spatial_dims) == (3, 2)
    assert coefficients.shapes[-1] == (21, 14)
    seen = list(coefficients)
    assert [level for level, _ in seen] == [3, 2, 1]
    named = {"aa3": coefficients.approximation}
    for (level, bands), details in zip(seen, coefficients.details, strict=True):
        assert list(bands) == list(coefficients.level(level)) == ["ad", "da", "dd"]
        for k, (name, band) in enumerate(bands.items()):
            assert torch.equal(band, details[:, k])
            assert torch.equal(band, coefficients.level(level)[name])
            named[f"{name}{level}"] = band
    subbands = coefficients.subbands()
    assert list(subbands) == list(named)
    assert all(torch.equal(subbands[name], band) for name, band in named.items())


def test_map_visits_every_subband_once():
    coefficients = dwt(image(16, 12), 2, wavelet="db2")
    before = coefficients.subbands()
    seen = []

    def note(name, level, band):
        assert torch.equal(band, before[f"{name}{level}"])
        seen.append(f"{name}{level}")
        return band * len(seen)

    after = coefficients.map(note).subbands()
    assert sorted(seen) == sorted(before)
    for place, name in enumerate(seen, 1):
        assert torch.equal(after[name], place * before[name])


def test_map_stacked_visits_every_level_and_can_smooth():
    coefficients = dwt(image(8, 8), 3)
    seen = []

    def note(kind, level, band):
        seen.append((kind, level, band.ndim))
        return torch.zeros_like(band) if kind == "d" else band

    smooth = coefficients.map_stacked(note)
    assert seen == [("d", 3, 5), ("d", 2, 5), ("d", 1, 5), ("a", 3, 4)]
    # Without details each block has one value: the mean of the image over the block.
    x = idwt(coefficients)
    torch.testing.assert_close(idwt(smooth), x.mean((2, 3), keepdim=True).expand_as(x))


def test_norms():
    x = image(16, 8, 24)
    coefficients = dwt(x, 2, 3, "db2")
    norms = coefficients.norms()
    assert list(norms) == list(coefficients.subbands())
    assert {norm.shape for norm in norms.values()} == {(2, 3)}
    total = torch.stack([norm.square() for norm in norms.values()]).sum(0)
    torch.testing.assert_close(total, x.square().sum((2, 3, 4)), rtol=1e-10, atol=0)
    sums = coefficients.norms(1)
    for name, band in coefficients.subbands().items():
        torch.testing.assert_close(sums[name], band.abs().sum((2, 3, 4)))


@pytest.mark.parametrize("shape", [(24,), (16, 24), (8, 16, 12)])
@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_pack_is_pywavelets_array(wavelet, shape):
    x, n = image(*shape), len(shape)
    packed = dwt(x, 2, n, wavelet).pack()
    expected, _ = pywt.coeffs_to_array(pywt_wavedecn(x, wavelet, "periodization", 2), axes=tuple(range(2, 2 + n)))
    assert packed.shape == x.shape
    np.testing.assert_allclose(packed, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shape", "levels"), [((16, 24), (2, 1)), ((16, 8, 4), (3, 2, 1)), ((8, 6, 5), (2, 1, 0))])
def test_packed_levels_per_axis_fill_the_images_shape(shape, levels):
    assert dwt(image(*shape), levels, len(shape), "db2").pack().shape[2:] == shape


@settings(max_examples=60, deadline=None)
@given(case=shapes_and_levels(14, 3), wavelet=some, mode=modes, seed=seeds)
def test_unpacking_undoes_packing(case, wavelet, mode, seed):
    shape, levels = case
    layout = dwt(image(*shape), levels, len(shape), wavelet, mode)
    coefficients = like(layout, seed)
    packed = coefficients.pack()
    # Nothing overlaps, nothing is lost: the rest of the packed tensor is zero.
    assert int(packed.count_nonzero()) == sum(band.numel() for band in tensors(coefficients))
    back = layout.unpack(packed)
    for mine, theirs in zip(tensors(back), tensors(coefficients), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(ValueError, match="pack into"):
        layout.unpack(packed[..., :-1])


def test_packed_gradients_reach_the_image():
    x = image(9, 10).requires_grad_()
    (gradient,) = torch.autograd.grad(dwt(x, 2).pack().square().sum(), x)
    (expected,) = torch.autograd.grad(sum(band.square().sum() for band in tensors(dwt(x, 2))), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("levels", [2, (1, 2)])
def test_the_modules_are_the_functions(levels):
    x = image(11, 14)
    forward, backward = DWT(levels, 2, "bior2.2", "reflect"), IDWT()
    found, expected = forward(x), dwt(x, levels, 2, "bior2.2", "reflect")
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)
    assert (found.shapes, found.axes) == (expected.shapes, expected.axes)
    assert torch.equal(backward(found), idwt(expected))
    assert not [*forward.parameters(), *backward.parameters()]
    assert not forward.state_dict()
    assert repr(forward) == f"DWT({levels}, 2, 'bior2.2', 'reflect')"
    assert repr(backward) == "IDWT()"
