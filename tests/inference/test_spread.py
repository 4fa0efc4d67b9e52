"""Spread over whole volumes: the same in tiles and batches, and from the same seed."""

import math

import pytest
import torch

from medwvae.degradation import Inpaint
from medwvae.inference.restorers import mirrored, restore_volume, restore_volume_with_spread
from medwvae.nets.wavelet_vae import WaveletVAE
from tests.cases import case
from tests.inference.test_restorers import DEGRADATIONS, count, measured

__all__ = ["count"]
SHAPE = (37, 18, 14)


def unsure(task, dims, neighbours=0):
    torch.manual_seed(0)
    model = WaveletVAE(
        dims=dims, channels=2 if task == "recon" else 1, conditions=int(task == "denoise"),
        widths=(4,), blocks=1, neighbours=neighbours, noise="coefficient", initial_noise=math.exp(-2),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return model


@pytest.mark.parametrize("task", list(DEGRADATIONS))
@pytest.mark.parametrize(("dims", "neighbours"), [(2, 0), (2, 1), (3, 0)])
def test_tiles_and_batches_are_as_sure_as_the_whole(count, task, dims, neighbours):
    model, measurement = unsure(task, dims, neighbours), measured(task, SHAPE)
    flips = mirrored(dims)[:2]
    whole = restore_volume_with_spread(model, measurement, flips, draws=4, seed=5)
    torch.testing.assert_close(whole[0], restore_volume(model, measurement, flips), rtol=0, atol=1e-5)
    assert whole[1].shape == whole[0].shape and float(whole[1].mean()) > 1e-2
    calls = count(24 * 18 * 14)
    parts = restore_volume_with_spread(model, measurement, flips, draws=4, seed=5, slices=4)
    assert len(calls) > 1
    for found, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_seed_decides_the_draws_and_nothing_else(dims):
    model, measurement = unsure("superres", dims), measured("superres", SHAPE)
    one, again, other = (restore_volume_with_spread(model, measurement, draws=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one[1], again[1])
    assert torch.equal(one[0], other[0])
    assert (one[1] - other[1]).abs().mean() > 1e-3


def test_a_network_on_volumes_that_reads_the_mask_restores():
    one = case(shape=SHAPE)
    measurement = Inpaint()(one.slices(), one.maximum(), torch.Generator().manual_seed(0), None).measurement
    model = WaveletVAE(dims=3, widths=(4, 4), blocks=1, mask=True).eval()
    answer, spread = restore_volume_with_spread(model, measurement, draws=2, seed=0)
    assert measurement.known is not None and spread.shape == answer.shape == measurement.start.shape
    known = measurement.known > 0
    torch.testing.assert_close(answer[known], measurement.start[known])


def test_known_pixels_of_a_volume_have_no_spread():
    one = case(shape=SHAPE)
    measurement = Inpaint()(one.slices(), one.maximum(), torch.Generator().manual_seed(0), None).measurement
    _, spread = restore_volume_with_spread(unsure("inpaint", 3), measurement, mirrored(3)[:2], draws=2, seed=0)
    assert measurement.mask is not None
    known = measurement.mask.expand_as(spread)
    assert not spread[known].any() and (spread[~known] > 0).all()
