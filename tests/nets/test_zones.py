"""Latents that keep a zone: which values it holds, and that nothing else is latent."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.errors import ConfigError, InputError
from medwvae.nets.controls import KeptSubbands, KeptZone
from medwvae.nets.conv_latent import ConvLatent
from medwvae.nets.latent import LatentModel
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.nets.zones import Zone
from medwvae.wavelets import dwt

NAMES = ("elbo", "sparse", "conv", "control")
SHAPE = (24, 40)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def heads(*shape, count=6, seed=0):
    """Noise within the middle of the frame, air around it."""
    x = torch.zeros(count, 1, *shape)
    middle: Any = (..., *(slice(n // 4, n - n // 4) for n in shape))
    x[middle] = torch.rand((count, 1, *(n - 2 * (n // 4) for n in shape)), generator=generator(seed))
    return x


def build(name: Any, rate: int = 8, shape: tuple[int, ...] = SHAPE) -> LatentModel:
    torch.manual_seed(0)
    dims = len(shape)
    if name == "conv":
        latent = 2 * 4**dims // rate
        model: LatentModel = ConvLatent(widths=(4, 8), blocks=1, latent=latent, zone=2, shape=shape, dims=dims)
    elif name == "control":
        model = KeptZone(rate=rate, shape=shape, levels=2, wavelet="db2", dims=dims)
    else:
        choices: dict[str, Any] = {"widths": (4, 6), "blocks": 1, "prior_width": 8, "prior_blocks": 1, "wavelet": "db2"}
        model = WaveletLatentVAE(objective=name, rate=rate, select="zone", shape=shape, dims=dims, **choices)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator(1)))
    model.measure([heads(*shape, count=3), heads(*shape, count=2, seed=1)])
    return model


@pytest.mark.parametrize("shape", [SHAPE, (8, 16, 8)])
@pytest.mark.parametrize("rate", [4, 8, 16])
@pytest.mark.parametrize("name", NAMES)
def test_exactly_one_value_for_every_rate_pixels_is_latent(name, rate, shape):
    model, x = build(name, rate, shape), heads(*shape, seed=2)
    posterior = model.encode(x)
    assert posterior.inside is not None
    masks = [mask.expand_as(mean[:1]) for mask, mean in zip(posterior.inside, posterior.mean, strict=True)]
    assert sum(int(mask.sum()) for mask in masks) == model.latent_values(shape) == math.prod(shape) // rate
    parts = [posterior.mean, posterior.sample(generator())]
    if model.has_density:
        parts.append(model.draw(len(x), shape, generator()))
    for z in parts:
        assert not any((part * ~mask).any() for part, mask in zip(z, masks, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_outside_is_neither_decoded_nor_counted(name):
    model, x = build(name), heads(*SHAPE, seed=2)
    posterior = model.encode(x)
    assert posterior.inside is not None
    z = posterior.sample(generator())
    other = tuple(
        part + ~mask * torch.randn(part.shape, generator=generator(5))
        for part, mask in zip(z, posterior.inside, strict=True)
    )
    assert not all(torch.equal(a, b) for a, b in zip(z, other, strict=True))
    if name != "control":  # a plain inverse transform, of what its own encoder gave
        assert torch.equal(model.decode(z, SHAPE), model.decode(other, SHAPE))
    if model.has_density:
        assert torch.equal(posterior.log_density(z), posterior.log_density(other))
        assert torch.equal(model.log_prior(z), model.log_prior(other))


@pytest.mark.parametrize("name", ["elbo", "conv"])
def test_the_closed_form_rate_is_the_mean_over_draws(name):
    model, x = build(name), heads(*SHAPE, count=2, seed=2)
    often = x.repeat(400, *[1] * len(SHAPE), 1)
    with torch.no_grad():
        posterior = model.encode(often)
        z = posterior.sample(generator())
        estimates = (posterior.log_density(z) - model.log_prior(z)).reshape(400, 2)
        closed = model.bound(often, generator=generator(1)).rate.reshape(400, 2).mean(0)
    error = estimates.std(0) / math.sqrt(400)
    assert bool(((estimates.mean(0) - closed).abs() < 5 * error).all())


@given(
    rate=st.sampled_from([2, 3, 4, 8]),
    wavelet=st.sampled_from(["haar", "db3"]),
    sizes=st.tuples(*[st.integers(3, 6)] * 2),
)
@settings(deadline=None, max_examples=20)
def test_the_control_keeps_the_best_coefficients_of_the_training_images(rate, wavelet, sizes):
    """No other choice of as many coefficients, the same for every image, has a smaller square error on them."""
    shape = tuple(8 * n for n in sizes)
    x = heads(*shape)
    model = KeptZone(rate=rate, shape=shape, levels=2, wavelet=wavelet)
    model.measure([x])
    energy = dwt(x, 2, 2, wavelet).pack().square().sum(0).flatten().sort(descending=True).values
    error = (x - model.reconstruct(x)).square().sum()
    torch.testing.assert_close(error, energy[model.latent_values(shape) :].sum(), rtol=1e-3, atol=1e-4)
    if rate in (4, 8):
        assert error <= (x - KeptSubbands(rate=rate, wavelet=wavelet).reconstruct(x)).square().sum() + 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_zone_travels_with_the_weights(name):
    model, x = build(name), heads(*SHAPE, seed=2)
    other = build(name)
    other.measure([heads(*SHAPE).flip(-1).roll(5, dims=-1)])
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.reconstruct(x), other.reconstruct(x))


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_the_penalty_of_paper_mode_is_a_mean_over_the_zone(kind):
    model = WaveletLatentVAE(
        objective="sparse", rate=8, select="zone", shape=SHAPE, widths=(4, 6), sparsity=1.0, sparsity_kind=kind
    )
    model.measure([heads(*SHAPE)])
    posterior = model.encode(heads(*SHAPE, count=2))
    assert posterior.inside is not None
    parts = zip(posterior.mean[1:], posterior.scale[1:], posterior.inside[1:], strict=True)
    costs = [
        (m.abs() if kind == "l1" else 0.5 * (m**2 + s**2 - 1) - s.log().expand_as(m))[inside.expand_as(m)]
        for m, s, inside in parts
    ]
    expected = torch.cat(costs).mean()
    torch.testing.assert_close(model._sparse_terms(posterior)["sparsity"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [32, 64])
def test_a_zone_of_the_approximation_alone(rate):
    choices: dict[str, Any] = {"widths": (4, 6), "blocks": 1, "prior_width": 8, "prior_blocks": 1}
    model = WaveletLatentVAE(objective="elbo", rate=rate, select="zone", shape=(32, 32), **choices)
    model.measure([heads(32, 32)])
    (mean,), (inside,) = model.encode(heads(32, 32)).mean, model.encode(heads(32, 32)).inside or ()
    assert int(inside.sum()) == 1024 // rate and mean.shape[2:] == inside.shape[2:]
    assert model.sample(2, (32, 32), generator()).shape == (2, 1, 32, 32)


def test_free_bits_are_those_of_the_zone():
    model = build("conv")
    model.free_nats = 3.0
    rate = model.bound(heads(*SHAPE), free=True).rate
    assert bool((rate >= 3.0 * model.latent_values(SHAPE) - 1e-2).all())
    model.free_nats = 100.0
    torch.testing.assert_close(
        model.bound(heads(*SHAPE), free=True).rate, torch.full((6,), 100.0 * model.latent_values(SHAPE))
    )


@pytest.mark.parametrize("name", NAMES)
def test_another_shape_is_refused(name):
    with pytest.raises(InputError, match="zone of images of"):
        build(name).encode(heads(32, 40))


def test_what_is_no_zone_is_refused():
    with pytest.raises(ConfigError, match="one shape"):
        WaveletLatentVAE(objective="elbo", rate=8, select="zone")
    with pytest.raises(ConfigError, match="positions"):
        ConvLatent(zone=2)
    with pytest.raises(ConfigError, match="positions"):
        ConvLatent(zone=7, shape=(16, 16))
    with pytest.raises(ConfigError, match="17 places"):
        Zone((4, 4), (1, 4, 4), 17)
    with pytest.raises(InputError, match="no image"):
        Zone((4, 4), (1, 4, 4), 3).measure([])
