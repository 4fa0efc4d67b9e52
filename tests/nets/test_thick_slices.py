"""Levels per axis: where slices are thick, the finest levels split in plane only."""

from typing import Any

import pytest
import torch
from torch import nn

from medwvae.errors import ConfigError
from medwvae.inference.footprint import measure
from medwvae.nets.noise_scale import NoiseScale, axes_of_levels
from medwvae.nets.restoring_encoder import RestoringEncoder, StridedStem
from medwvae.nets.wavelet_encoder import CoefficientEncoder
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.wavelets import analyse, dwt, idwt
from tests.cases import encoder_of


def restoring(**options):
    torch.manual_seed(0)
    return WaveletVAE(dims=3, widths=(4, 5, 6), blocks=1, **options)


@pytest.mark.parametrize("encoder", [CoefficientEncoder, RestoringEncoder])
@pytest.mark.parametrize("own", [1, 2, 3])
def test_the_untrained_encoder_is_the_transform_with_levels_per_axis(own, encoder):
    x = torch.randn(2, 1, 8, 16, 8)
    found = encoder(1, (4, 5, 6), 1, dims=3, slice_levels=own)(x)
    if encoder is RestoringEncoder:
        found, _ = found
    expected = dwt(x, (own, 3, 3), 3)
    assert found.axes == expected.axes
    assert found.shapes == expected.shapes
    for one, two in zip(found.details, expected.details, strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(idwt(found), x)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)])
def test_a_convolution_of_stride_two_reads_the_subbands_of_haar(axes):
    x, mixing = torch.randn(2, 3, 4, 6, 8), torch.randn(5, 2 ** len(axes), 3)
    stem: Any = StridedStem(3, own=1, above=3, conditions=0, width=5, axes=axes)
    low, high = analyse(x, 3, "haar", axes=axes)
    bands = torch.cat((low[:, None], high), dim=1)  # (B, bands, C, *coarse)
    with torch.no_grad():
        stem.own.weight.zero_()
        stem.own.bias.zero_()
        # A unit impulse at each place of a block, through the transform, gives the kernel.
        impulses = torch.eye(2 ** len(axes)).reshape(-1, 1, *(2 if axis in axes else 1 for axis in range(3)))
        low1, high1 = analyse(impulses, 3, "haar", axes=axes)
        haar = torch.cat((low1[:, None], high1), dim=1).flatten(1)  # (place, band)
        kernel = torch.einsum("obc,pb->ocp", mixing, haar)
        stem.above.weight.copy_(kernel.reshape(stem.above.weight.shape))
        found = stem(torch.zeros(2, 1, *low.shape[2:]), x, None)
    torch.testing.assert_close(found, torch.einsum("obc,nbc...->no...", mixing, bands))


def test_as_many_levels_as_in_plane_change_nothing():
    plain, same = restoring(), restoring(slice_levels=3)
    measurement = Measurement(torch.rand(1, 1, 16, 16, 16))
    assert {name: p.shape for name, p in plain.named_parameters()} == {n: p.shape for n, p in same.named_parameters()}
    assert torch.equal(plain(measurement).image, same(measurement).image)


def test_thick_slices_train():
    torch.manual_seed(0)
    model = WaveletVAE(dims=3, widths=(4, 5, 6), blocks=1, slice_levels=1).train()
    assert model.alignment() == (2, 8, 8)
    truth = torch.rand(2, 1, 3, 17, 12)
    estimate = model(Measurement(truth), truth)
    assert estimate.image.shape == truth.shape
    ((estimate.image - truth).square().mean() + estimate.penalty).backward()
    # The head starts silent: what is behind it has no gradient yet.
    assert encoder_of(model).head.weight.grad.any()
    names = set(model.scales())
    assert {"aaa3", "ddd3", "daa3", "add2", "aad1", "ada1", "add1"} <= names
    assert not {"daa1", "ddd1", "ddd2"} & names


def test_a_step_across_the_slices_moves_the_answer():
    model = restoring(slice_levels=1).eval()
    nn.init.normal_(encoder_of(model).head.weight, std=0.1)

    def answer(x):
        with torch.no_grad():
            return model(Measurement(x)).image

    x = torch.rand(1, 1, 64, 24, 24)
    moved = torch.cat((x[:, :, 2:], x[:, :, :2]), 2)
    reach = measure(answer, model.alignment()).reach
    assert reach[0] is not None
    assert reach[1] is not None
    assert reach[1] == reach[2]
    assert reach[0] < reach[1]
    middle = slice(reach[0] + 2, 62 - reach[0])
    torch.testing.assert_close(answer(moved)[:, :, middle], answer(x)[:, :, middle.start + 2 : middle.stop + 2])


@pytest.mark.parametrize(("levels", "dims", "own"), [(3, 3, 0), (3, 3, 4), (3, 2, 1)])
def test_levels_that_cannot_be(levels, dims, own):
    with pytest.raises(ConfigError, match="slice_levels is 1 to the number of levels"):
        axes_of_levels(levels, dims, own)


def test_scales_of_a_level_fit_its_details():
    noise = NoiseScale("subband", 2, 3, 0.1, slice_levels=1)
    assert noise("d", 1).shape == (1, 3, 1, 1, 1, 1)
    assert noise("d", 2).shape == (1, 7, 1, 1, 1, 1)
