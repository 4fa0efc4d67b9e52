"""Draws and spread of the restoration Wavelet-VAE: what is known has none, and the scales bend no answer."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from medwvae import train
from medwvae.degradation import Inpaint
from medwvae.inference.restorers import mirrored
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement, magnitude, to_kspace
from medwvae.optimisers import is_matrix
from tests.cases import encoder_of
from tests.nets.test_nets import disturbed, measured

FLIPS = mirrored(2)

SILENT = -60.0


def model_for(task, *, s=None, seed=0, **options):
    torch.manual_seed(seed)
    own: dict[str, Any] = {"channels": 2 if task == "recon" else 1, "conditions": int(task == "denoise")}
    own |= {"widths": (4, 6), "blocks": 1, "noise": "coefficient"} | options
    model: Any = disturbed(WaveletVAE(**own).eval())
    if s is not None:
        with torch.no_grad():
            model.noise.log_s.fill_(s)
    return model


def white(model, start, seed=0):
    """Return noise for the draws of a model, a field of its own for each."""
    shape = [math.ceil(size / step) * step for size, step in zip(start.shape[2:], model.alignment(), strict=True)]

    def noise(draw):
        return torch.randn(*start.shape[:2], *shape, generator=torch.Generator().manual_seed(1000 * seed + draw))

    return noise


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_scales_neither_start_nor_bend_the_restoration(rounds):
    measurement, truth = measured("superres")
    models = []
    for noise in ("subband", "coefficient"):
        torch.manual_seed(3)
        models.append(WaveletVAE(widths=(4, 6), blocks=1, rounds=rounds, noise=noise))
    plain, local = models
    plain_weights, local_weights = dict(plain.named_parameters()), dict(local.named_parameters())
    assert all(torch.equal(one, local_weights[name]) for name, one in plain_weights.items())
    for model in models:
        for name, weight in sorted(model.named_parameters()):
            if "scale" not in name:
                weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
        estimate = model(measurement, truth)
        (F.l1_loss(estimate.image, truth) + 1000 * estimate.penalty).backward()
    new = set(local_weights) - set(plain_weights)
    assert new and all(f"encoders.{rounds - 1}.scale_heads" in name for name in new)
    for name in new:  # the last layer is silent at the start, so the one below it has yet to wait
        moved = local_weights[name].grad
        assert moved is not None and bool(moved.any()) == (".2." in name)
    for name, one in plain_weights.items():
        torch.testing.assert_close(local_weights[name].grad, one.grad, msg=name)


def test_the_likelihood_finds_where_the_residual_is_large():
    """Left half of the image exact, right half noisy: the features know, and the scales learn it."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = WaveletVAE(widths=(4,), blocks=0, noise="coefficient", scale_weight=1.0)
    side = torch.zeros(8, 1, 16, 16)
    side[..., 8:] = 1
    optimiser = torch.optim.Adam([*model.log_scales(), *encoder_of(model).scale_heads.parameters()], 0.05)
    for _ in range(150):
        noise = torch.randn(side.shape, generator=generator) * (0.01 + 0.2 * side)
        optimiser.zero_grad()
        model(Measurement(side), side + noise).penalty.backward()
        optimiser.step()
    variance = model.eval().posterior(Measurement(side[:1])).variance()
    assert variance is not None
    left, right = variance[..., :6].sqrt().mean(), variance[..., 10:].sqrt().mean()
    assert left < 0.05
    assert float(right) == pytest.approx(0.21, rel=0.15)


def test_the_scales_follow_what_is_known_of_the_whole_measurement():
    """Some measurements are ten times worse than others, and only a condition, as small as they are, says which."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = WaveletVAE(widths=(4, 4), blocks=0, conditions=1, noise="coefficient", scale_weight=1.0)
    start, sigma = torch.zeros(8, 1, 16, 16), torch.tensor([0.02, 0.2]).repeat(4).reshape(-1, 1, 1, 1)
    optimiser = torch.optim.Adam(
        [{"params": model.log_scales(), "lr": 0.05}, {"params": model.scale_predictors(), "lr": 0.005}]
    )
    for _ in range(300):
        noise = sigma * torch.randn(start.shape, generator=generator)
        optimiser.zero_grad()
        model(Measurement(start, sigma=sigma), noise).penalty.backward()
        optimiser.step()
    variance = model.eval().posterior(Measurement(start[:2], sigma=sigma[:2])).variance()
    assert variance is not None
    good, bad = variance.sqrt().mean(dim=(1, 2, 3)).tolist()
    assert good == pytest.approx(0.02, rel=0.15)
    assert bad == pytest.approx(0.2, rel=0.15)


def test_width_ranks_with_error_where_errors_go_with_detail():
    """A texture of either sign, strong here and weak there, and an error of a third of it."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = WaveletVAE(widths=(4, 4), blocks=0, noise="coefficient", scale_weight=1.0)
    coarse = torch.rand(8, 1, 6, 6, generator=generator).square()
    strength = F.interpolate(coarse, size=(48, 48), mode="bilinear", align_corners=False)
    texture = strength * torch.randn(strength.shape, generator=generator)
    optimiser = torch.optim.Adam([*model.log_scales(), *model.scale_predictors()], 0.01)
    for _ in range(100):
        error = strength / 3 * torch.randn(strength.shape, generator=generator)
        optimiser.zero_grad()
        model(Measurement(texture[:6]), texture[:6] + error[:6]).penalty.backward()
        optimiser.step()
    variance = model.eval().posterior(Measurement(texture[6:])).variance()
    assert variance is not None
    assert stats.spearmanr(variance.flatten(), error[6:].abs().flatten()).statistic > 0.25


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_the_heads_of_scales_step_by_adamw(optimiser):
    settings: Any = SimpleNamespace(optimiser=optimiser, weight_decay=0.0, matrix_rate=1.0)
    model = model_for("recon", dims=3, widths=(16, 16))
    heads = {id(p) for p in model.scale_predictors()}
    assert any(is_matrix(p) for p in model.scale_predictors())
    groups = train._groups(model, settings)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, model.parameters()))
    orthogonal = [p for group in groups if group.get("orthogonal") for p in group["params"]]
    assert bool(orthogonal) == (optimiser == "muon")
    assert not any(id(p) in heads for p in orthogonal)


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["denoise", "superres", "recon"])
def test_without_a_scale_there_is_no_spread(task):
    measurement, _ = measured(task)
    model = model_for(task, s=SILENT)
    noise = white(model, measurement.start)
    answer, spread = model.restore_with_spread(measurement, ((),), 3, noise)
    torch.testing.assert_close(answer, model.restore(measurement))
    assert not spread.any()
    # Mirrored copies that differ are unsure together.
    answer, spread = model.restore_with_spread(measurement, FLIPS, 4, noise)
    torch.testing.assert_close(answer, model.restore(measurement, FLIPS))
    assert spread.mean() > 1e-3


@pytest.mark.parametrize("task", ["denoise", "superres", "recon"])
def test_draws_lie_around_the_answer_as_their_noise_does(task):
    """Data consistency is affine, so twice the noise is twice the deviation, of which the data see nothing."""
    measurement, _ = measured(task)
    model = model_for(task, s=-1.0)
    noise = white(model, measurement.start)(0)
    posterior = model.posterior(measurement)
    once, twice = (posterior.draw(factor * noise) - posterior.answer for factor in (1, 2))
    assert once.abs().max() > 0.1
    torch.testing.assert_close(twice, 2 * once, rtol=1e-4, atol=1e-5)
    draw = posterior.answer + once
    torch.testing.assert_close(measurement.project(draw), draw, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "size"), [(2, (17, 22)), (3, (5, 10, 9))])
def test_the_spread_of_draws_is_the_one_in_closed_form(dims, size):
    model = model_for("superres", s=math.log(0.2), dims=dims)
    measurement = Measurement(torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)))
    posterior = model.posterior(measurement)
    variance = posterior.variance()
    assert variance is not None
    noise = white(model, measurement.start)
    draws = torch.stack([posterior.draw(noise(k)) for k in range(600)])
    assert ((draws.mean(0) - posterior.answer).abs() < 5 * (variance / 600).sqrt()).all()
    ratio = draws.var(0) / variance
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)
    assert float(ratio.std()) < 1.5 * math.sqrt(2 / 600)
    _, spread = model.restore_with_spread(measurement, ((),), 1, noise)
    torch.testing.assert_close(spread, variance.sqrt())


@pytest.mark.parametrize("task", ["superres", "recon"])
def test_draws_agree_with_the_data(task):
    measurement, _ = measured(task)
    model = model_for(task, s=math.log(0.1))
    posterior = model.posterior(measurement)
    assert posterior.variance() is None
    drawn = posterior.draw(white(model, measurement.start)(0))
    assert (magnitude(drawn) - magnitude(posterior.answer)).abs().mean() > 1e-2
    kspace = to_kspace(drawn, measurement.phasor)
    assert measurement.mask is not None and measurement.kspace is not None
    known = measurement.mask.expand_as(kspace)
    torch.testing.assert_close(kspace[known], measurement.kspace[known], rtol=0, atol=1e-5)


def test_known_pixels_have_no_spread():
    image = torch.rand(2, 1, 17, 22, generator=torch.Generator().manual_seed(0))
    measurement = Inpaint()(image, torch.ones(2), torch.Generator().manual_seed(0), 1).measurement
    model = model_for("inpaint", s=math.log(0.1))
    _, spread = model.restore_with_spread(measurement, FLIPS, 8, white(model, measurement.start))
    assert measurement.mask is not None
    known = measurement.mask.expand_as(spread)
    assert known.any() and not spread[known].any()
    assert (spread[~known] > 1e-3).all()


def test_a_network_without_scales_says_nothing():
    assert not UNet(features=(4, 4, 4, 4, 4, 4)).uncertain
    assert WaveletVAE(widths=(4,), blocks=0).uncertain
