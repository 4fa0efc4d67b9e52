from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from medwvae import build
from medwvae.config_io import load
from medwvae.degradation import Denoise, Inpaint, Recon, Superres
from medwvae.inference.restorers import mirrored
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.conv_vae import ConvVAE
from medwvae.nets.dncnn import DnCNN
from medwvae.nets.noise_scale import NoiseScale
from medwvae.nets.unet import UNet
from medwvae.nets.unrolled_unet import UnrolledUNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement, to_kspace
from medwvae.volumetric import as_volumes, volumetric
from medwvae.wavelets import dwt, idwt

FLIPS = mirrored(2)

SMALL: dict[str, Any] = {"widths": (6, 8, 8), "blocks": 1}
SIZES = st.integers(8, 23)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def network(name, *, channels=1, conditions=0, **options):
    if name == "wavelet_vae":
        model: Any = WaveletVAE(channels=channels, conditions=conditions, **(SMALL | options))
    elif name == "conv_vae":
        model = ConvVAE(channels=channels, conditions=conditions, **(SMALL | options))
    elif name == "dncnn":
        torch.manual_seed(0)  # of few channels without skips some draws leave next to nothing
        model = DnCNN(channels=channels, conditions=conditions, depth=4, width=8)
    elif name == "unrolled_unet":
        rounds = options.get("rounds", 2)
        model = UnrolledUNet(channels=channels, conditions=conditions, features=(4, 4, 4, 4, 4, 4), rounds=rounds)
    else:
        model = UNet(channels=channels, conditions=conditions, features=(4, 4, 4, 4, 4, 4))
    return model.eval()


def disturbed(model):
    """Return the network with all weights moved, so that no zero-initialised head hides an error."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator(parameter.numel()))
    return model


def measured(task, height=19, width=22, batch=3, seed=0):
    """A degraded batch of a task and its truth."""
    degrade: Any = {"superres": Superres(2), "denoise": Denoise(0.1), "recon": Recon(3, 0.15, "random", 0.5)}[task]
    image = images(batch, 1, height, width, seed=seed)
    simulated = degrade(image, torch.ones(batch), generator(seed), 1)
    return simulated.measurement, simulated.truth


def fitting(name, task, **options):
    return network(name, channels=2 if task == "recon" else 1, conditions=1 if task == "denoise" else 0, **options)


NAMES = ("wavelet_vae", "conv_vae", "unet", "dncnn", "unrolled_unet")
TASKS = ("superres", "denoise", "recon")


# --- the untrained network -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.sampled_from([0, 4]))
def test_the_untrained_wavelet_vae_is_the_identity(height, width, channels, rounds, fine):
    model = network("wavelet_vae", channels=channels, rounds=rounds, fine=fine)
    start = images(2, channels, height, width)
    torch.testing.assert_close(model(Measurement(start)).image, start, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", ["superres", "recon"])
def test_with_known_samples_it_is_the_start_which_agrees_with_them(task):
    measurement, _ = measured(task)
    image = fitting("wavelet_vae", task).restore(measurement, FLIPS)
    torch.testing.assert_close(image, measurement.project(measurement.start), rtol=0, atol=1e-5)
    torch.testing.assert_close(image, measurement.start, rtol=0, atol=1e-5)


@settings(max_examples=5, deadline=None)
@given(*[st.integers(8, 11)] * 3)
def test_one_class_serves_three_dimensions(depth, height, width):
    volume = images(1, 1, depth, height, width)
    model = WaveletVAE(dims=3, widths=(4, 4), blocks=1, fine=2).eval()
    torch.testing.assert_close(model(Measurement(volume)).image, volume, rtol=0, atol=1e-5)
    assert disturbed(model)(Measurement(volume)).image.shape == volume.shape
    assert len(model.scales()) == 2 * 7 + 1


# --- which pixels are known ------------------------------------------------------------------------------------------


def known(measurement):
    assert measurement.known is not None
    return measurement.known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_lost_pixel_and_a_dark_one_are_told_apart_by_the_mask(name, dims):
    config = load(overrides=[f"networks.dims={dims}"])
    model: Any = disturbed(build.network(config, "inpaint", name).eval())
    assert model.mask and not build.network(config, "superres", name).mask
    degrade = Inpaint() if dims == 2 else volumetric(Inpaint())
    given = degrade(torch.zeros(1, 1, *[16] * dims), torch.ones(1), generator(), None).measurement
    everything = degrade(torch.zeros(1, 1, *[16] * dims), torch.ones(1), generator(1), None).measurement
    assert torch.equal(given.start, everything.start) and not torch.equal(known(given), known(everything))
    assert not torch.equal(model(given).image, model(everything).image)


def test_of_slices_and_of_their_volume_the_same_pixels_are_known():
    slices = Inpaint()(images(5, 1, 12, 14), torch.ones(1), generator(), 1).measurement
    volume = as_volumes([slices])
    assert torch.equal(known(volume)[0, 0], known(slices)[:, 0])
    assert torch.equal(known(volume.flip((-3, -1))), known(volume).flip((-3, -1)))
    assert measured("superres")[0].known is None


# --- any size, exact data consistency, mirrors -----------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_any_size_comes_back_as_it_was(name, task):
    model = disturbed(fitting(name, task))
    for height, width in ((17, 16), (18, 24), (33, 21)):
        measurement, truth = measured(task, height, width)
        estimate = model(measurement, truth)
        assert estimate.image.shape == truth.shape
        assert estimate.image.isfinite().all()
        assert estimate.penalty.shape == ()
        assert model.restore(measurement, FLIPS).shape == truth.shape


@pytest.mark.parametrize("flips", [((),), FLIPS], ids=["plain", "ensemble"])
@pytest.mark.parametrize("task", ["superres", "recon"])
@pytest.mark.parametrize("name", NAMES)
def test_known_samples_are_kept_exactly(name, task, flips):
    measurement, truth = measured(task)
    image = disturbed(fitting(name, task)).restore(measurement, flips)
    kspace = to_kspace(image, measurement.phasor)
    assert measurement.mask is not None
    known = measurement.mask.expand_as(kspace)
    assert (image - measurement.start).abs().max() > 1e-3
    torch.testing.assert_close(kspace[known], measurement.kspace[known], rtol=0, atol=1e-5)
    # Where every sample is kept, the truth is what is nearest to it.
    torch.testing.assert_close(measurement.project(truth), truth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("axes", FLIPS[1:])
@pytest.mark.parametrize("size", [(18, 22), (19, 23)], ids=["even", "odd"])
@pytest.mark.parametrize("task", TASKS)
def test_a_mirrored_measurement_is_the_measurement_of_the_mirrored_image(task, size, axes):
    measurement, truth = measured(task, *size)
    other = measurement.flip(axes)
    torch.testing.assert_close(other.project(truth.flip(axes)), truth.flip(axes), rtol=0, atol=1e-5)
    back = other.flip(axes)
    torch.testing.assert_close(back.start, measurement.start)
    if measurement.mask is not None:
        assert torch.equal(back.mask, measurement.mask)
        torch.testing.assert_close(back.kspace, measurement.kspace, rtol=0, atol=1e-5)
        assert int(other.mask.sum()) == int(measurement.mask.sum())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_the_self_ensemble_commutes_with_mirrors(name, task):
    measurement, _ = measured(task, 17, 22)
    model = disturbed(fitting(name, task))
    expected = model.restore(measurement, FLIPS)
    alone = model.restore(measurement)
    for axes in FLIPS[1:]:
        torch.testing.assert_close(model.restore(measurement.flip(axes), FLIPS).flip(axes), expected, rtol=0, atol=1e-4)
        assert (model.restore(measurement.flip(axes)).flip(axes) - alone).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_read_the_noise_level(name):
    model, start = disturbed(network(name, conditions=1)), images(2, 1, 20, 24)
    quiet, loud = (model(Measurement(start, sigma=torch.full((1, 1, 1, 1), s))).image for s in (0.01, 0.5))
    assert (quiet - loud).abs().max() > 1e-3


# --- the noise scale -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "free"), [("fixed", 0), ("global", 1), ("level", 3), ("subband", 3 * 3 + 1)])
def test_how_many_noise_scales_are_learned(kind, free):
    model = WaveletVAE(noise=kind, **SMALL)
    start = images(2, 1, 24, 16)
    estimate = model(Measurement(start), images(2, 1, 24, 16, seed=1))
    log_s = model.noise.log_s
    assert log_s.requires_grad == (kind != "fixed")
    if free:
        estimate.penalty.backward()
    assert (0 if log_s.grad is None else int((log_s.grad != 0).sum())) == free
    assert list(model.scales().values()) == pytest.approx([0.1] * 10)
    assert list(model.scales())[:2] == ["aa3", "ad3"]


def residual_rms(model, measurement, truth):
    residual = dwt(pad_to_multiple(truth - model(measurement).image, 2**model.levels, 2), model.levels)
    return {name: float(band.detach().square().mean().sqrt()) for name, band in residual.subbands().items()}


def fitted_scales(kind, measurement, truth):
    """Return the network after minimising its scale term alone."""
    model = WaveletVAE(noise=kind, scale_weight=1.0, **SMALL)
    optimiser = torch.optim.LBFGS([model.noise.log_s], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        penalty = model(measurement, truth).penalty
        penalty.backward()
        return penalty

    optimiser.step(closure)
    return model


def test_the_likelihood_finds_the_root_mean_square_of_every_residual_subband():
    start = images(2, 1, 48, 40)
    measurement, truth = Measurement(start), start + 0.2 * torch.randn(start.shape, generator=generator(5))
    model = fitted_scales("subband", measurement, truth)
    expected = residual_rms(model, measurement, truth)
    assert model.scales() == pytest.approx(expected, rel=5e-3)
    pooled = fitted_scales("global", measurement, truth).scales()
    # Parseval: the pooled scale is the RMS of the error image.
    assert list(pooled.values()) == pytest.approx([float((truth - start).square().mean().sqrt())] * 10, rel=1e-3)


def test_fitting_the_scale_does_not_bend_the_restoration():
    model = WaveletVAE(**SMALL)
    model(Measurement(images(1, 1, 16, 16)), images(1, 1, 16, 16, seed=1)).penalty.backward()
    others = [p.grad for name, p in model.named_parameters() if name != "noise.log_s"]
    assert all(grad is None or not grad.any() for grad in others)


def test_restoration_draws_no_noise_even_in_training():
    model = WaveletVAE(initial_noise=0.5, **SMALL).train()
    start = images(2, 1, 16, 16)
    torch.testing.assert_close(model(Measurement(start)).image, start, rtol=0, atol=1e-5)


# --- coefficients ----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES, st.sampled_from([1, 2]))
def test_coefficients_of_an_answer(height, width, channels):
    model = disturbed(network("wavelet_vae", channels=channels))
    given = Measurement(images(2, channels, height, width))
    coefficients = model.posterior(given).coefficients
    coarsest = (-(-height // 8), -(-width // 8))
    assert coefficients.levels == 3
    assert coefficients.approximation.shape == (2, channels, *coarsest)
    assert coefficients.details[0].shape == (2, 3, channels, *coarsest)
    assert coefficients.details[2].shape == (2, 3, channels, 4 * coarsest[0], 4 * coarsest[1])
    torch.testing.assert_close(crop_to(idwt(coefficients), (height, width)), model(given).image)


def test_the_error_of_the_coefficients_is_the_error_of_the_image():
    model = disturbed(network("wavelet_vae"))
    x = images(2, 1, 32, 24)
    coefficients = model.posterior(Measurement(x)).coefficients
    answer, own = coefficients.subbands(), dwt(x, 3).subbands()
    wavelet_domain = sum(float((answer[name] - own[name]).square().sum()) for name in own)
    image_domain = float((idwt(coefficients) - x).square().sum())
    assert image_domain > 1e-3
    assert wavelet_domain == pytest.approx(image_domain, rel=1e-4)


# --- penalties -------------------------------------------------------------------------------------------------------


def test_kl_of_the_conventional_vae_is_that_of_torch():
    model = disturbed(ConvVAE(beta=0.3, latent=5, **SMALL))
    x = images(2, 1, 18, 21)
    with torch.no_grad():
        mean, log_variance = model.encoder(pad_to_multiple(x, 4, 2)).chunk(2, dim=1)
    assert mean.shape == (2, 5, 5, 6)
    divergence = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    assert float(model(Measurement(x), x).penalty.detach()) == pytest.approx(0.3 * float(divergence.mean()), rel=1e-4)


def test_the_conventional_vae_samples_in_training_only():
    model, given = disturbed(ConvVAE(**SMALL)), Measurement(images(1, 1, 16, 16))
    torch.manual_seed(0)
    model.train()
    assert not torch.equal(model(given).image, model(given).image)
    model.eval()
    assert torch.equal(model(given).image, model(given).image)


@pytest.mark.parametrize(("degrade", "agrees"), [(Superres(2), False), (Inpaint(), True)])
def test_the_conventional_vae_trains_on_its_whole_answer_but_where_pixels_are_known(degrade, agrees):
    truth = images(1, 1, 16, 16)
    given = degrade(truth, torch.ones(1), torch.Generator().manual_seed(0), None).measurement
    model = disturbed(ConvVAE(**SMALL)).eval()
    for answer, expected in ((model(given).image, True), (model(given, truth).image, agrees)):
        assert torch.allclose(given.project(answer), answer, atol=1e-5) == expected


def test_a_kind_of_noise_scale_that_is_none():
    with pytest.raises(KeyError):
        NoiseScale("pixel", 3, 2, 0.1)  # type: ignore[arg-type]
