"""Laws of the first guess of lost pixels."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.inference.restorers import footprint_of
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.noise_scale import axes_of_levels
from medwvae.nets.push_pull import push_pull
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Masking, Measurement


@st.composite
def holes(draw):
    """Return images, which voxels are known, and the axes of levels: 2D and 3D, thick slices too."""
    dims, levels = draw(st.sampled_from([2, 3])), draw(st.integers(1, 3))
    axes = axes_of_levels(levels, dims, draw(st.integers(1, levels)) if dims == 3 else None)
    halvings = [sum(axis in own for own in axes) for axis in range(dims)]
    shape = [draw(st.integers(1, 3)) << own for own in halvings]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    x = torch.rand(2, 3, *shape, generator=generator) + 0.1
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    return x, (torch.rand(2, 1, *shape, generator=generator) < share).float(), axes


@given(holes())
@settings(deadline=None)
def test_known_voxels_stay_and_lost_ones_are_not_read(drawn):
    x, known, axes = drawn
    found = push_pull(x, known, axes)
    inside = known.bool().expand_as(x)
    assert torch.equal(found[inside], x[inside])
    torch.testing.assert_close(push_pull(x * known - 7 * (1 - known), known, axes), found)
    if not known.any():
        assert not found.any()


@given(holes(), st.floats(-3, 3))
@settings(deadline=None)
def test_it_is_linear_and_moves_with_mirrors(drawn, factor):
    x, known, axes = drawn
    found = push_pull(x, known, axes)
    other = x.square()
    both = push_pull(factor * x + other, known, axes)
    torch.testing.assert_close(both, factor * found + push_pull(other, known, axes), atol=1e-4, rtol=1e-4)
    for axis in range(2, x.ndim):
        torch.testing.assert_close(push_pull(x.flip(axis), known.flip(axis), axes).flip(axis), found)


@given(holes())
@settings(deadline=None)
def test_a_guess_lies_between_what_is_known(drawn):
    x, known, axes = drawn
    known[..., :1] = 1  # of every row something: wider than 3 coarse cells it is not
    found = push_pull(x, known, axes)
    ones = push_pull(torch.ones_like(x), known, axes)
    torch.testing.assert_close(ones, torch.ones_like(x))
    inside = x.masked_fill(~known.bool(), torch.nan).flatten(2)
    least, most = inside.nan_to_num(9).amin(2), inside.nan_to_num(-9).amax(2)
    assert (found.flatten(2).amin(2) >= least - 1e-5).all() and (found.flatten(2).amax(2) <= most + 1e-5).all()


def test_a_smooth_image_is_guessed_well():
    y, x = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 2, 64), indexing="ij")
    image = (1 + 0.3 * torch.sin(y) * torch.cos(x))[None, None]
    known = torch.ones_like(image)
    known[..., 20:34, 17:40] = 0
    error = (push_pull(image, known, axes_of_levels(4, 2, None)) - image).abs()
    assert error.max() < 0.05 and error[known == 0].mean() < 0.012  # of 1 in holes with zeros


@pytest.mark.parametrize(("dims", "neighbours"), [(2, 0), (2, 1), (3, 0)])
def test_an_untrained_network_answers_with_the_guess(dims, neighbours):
    shape = (11, 13, 10)[-dims:]
    network = WaveletVAE(dims=dims, widths=(4, 4), neighbours=neighbours, mask=True).eval()
    x = torch.rand(1, 1, *shape)
    mask = torch.rand(1, 1, *shape) < 0.6
    beside = torch.rand(1, 2 * neighbours, *shape) * mask if neighbours else None
    given = Measurement(x * mask, Masking(mask, dims), x * mask, neighbours=beside)
    answer = network(given).image
    torch.testing.assert_close(answer[mask], x[mask])
    axes = axes_of_levels(2, dims, None)
    lost, known = (pad_to_multiple(part.float(), 4, dims) for part in (x * mask, mask))
    torch.testing.assert_close(answer, crop_to(push_pull(lost, known, axes), shape))
    read: Any = []
    network.encoders[0].register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    network(given)
    if beside is not None:
        padded = pad_to_multiple(beside, 4, dims)
        torch.testing.assert_close(read[0][:, 1:-1], push_pull(padded, known, axes))


@pytest.mark.parametrize("width", [20, 70, 120])
def test_holes_of_many_coarse_cells_are_filled(width):
    known = torch.ones(1, 1, 256, 256)
    known[..., 60 : 60 + width, 40 : 40 + width] = 0
    torch.testing.assert_close(push_pull(known, known, axes_of_levels(3, 2, None)), torch.ones_like(known))


def test_a_shift_by_the_coarsest_cell_moves_the_guess():
    x = torch.rand(1, 2, 64, 64)
    known = torch.ones(1, 1, 64, 64)
    known[..., 24:34, 21:40] = 0
    axes = axes_of_levels(3, 2, None)
    moved = push_pull(x.roll((8, 16), (2, 3)), known.roll((8, 16), (2, 3)), axes)
    lost = known.roll((8, 16), (2, 3)).expand_as(x) == 0
    torch.testing.assert_close(moved[lost], push_pull(x, known, axes).roll((8, 16), (2, 3))[lost])


def test_tiles_learn_how_far_the_guess_reaches():
    network = WaveletVAE(dims=3, widths=(4, 4), blocks=1, mask=True).eval()
    plain = WaveletVAE(dims=3, widths=(4, 4), blocks=1).eval()
    lost = Measurement(torch.zeros(3, 1, 8, 8), Masking(torch.ones(1, 1, 8, 8, dtype=torch.bool)))
    reach, other = (footprint_of(one, lost).reach for one in (network, plain))
    assert all(a is not None and b is not None and a > b for a, b in zip(reach, other, strict=True))
