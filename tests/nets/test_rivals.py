"""The conventional VAEs, behind the interface of every model with a latent."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from medwvae import train
from medwvae.data.loaders import SliceSampler
from medwvae.degradation import Clean
from medwvae.errors import ConfigError, InputError
from medwvae.nets.autoencoder_kl import AutoencoderKL
from medwvae.nets.conv_latent import ConvLatent
from medwvae.nets.dense_vae import DenseVAE
from medwvae.nets.latent import LatentModel
from medwvae.nets.normal_prior import channels_for_rate
from medwvae.operators import Measurement
from tests.cases import case
from tests.test_train import SETTINGS

NAMES = ("dense", "dense conv", "conv", "conv stem", "kl")
CONVOLUTIONAL = NAMES[2:]
SHAPES = {2: (16, 12), 3: (8, 4, 8)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def build(name, dims=2, shape=None, latent=2, **options):
    torch.manual_seed(0)
    shape = shape or SHAPES[dims]
    if name == "dense":
        return DenseVAE(shape=shape, latent=latent, hidden=(24,), dims=dims, **options)
    if name == "dense conv":
        return DenseVAE(
            shape=shape, latent=latent, hidden=(), widths=(6, 8), features=3, embedding=3, dims=dims, **options
        )
    if name == "conv":
        return ConvLatent(widths=(4, 6, 8), blocks=1, latent=latent, dims=dims, embedding=3, **options)
    if name == "conv stem":
        return ConvLatent(widths=(6, 8), blocks=1, latent=latent, dims=dims, embedding=3, **options)
    return AutoencoderKL(widths=(4, 4, 8), groups=2, latent=latent, dims=dims, embedding=3, **options)


# --- shapes and rates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_goes_through_and_back(name, dims):
    model, x = build(name, dims, channels=2), images(3, 2, *SHAPES[dims])
    posterior = model.encode(x)
    assert posterior.mean[0].shape[1:] == model.latent_shape(SHAPES[dims])
    assert LatentModel.latent_values(model, SHAPES[dims]) == model.latent_values(SHAPES[dims])
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(4, SHAPES[dims], generator()).shape == (4, 2, *SHAPES[dims])


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@settings(max_examples=6, deadline=None)
@given(st.integers(4, 23), st.integers(4, 23))
def test_any_image_size(name, height, width):
    model, x = build(name), images(1, 1, height, width)
    bound = model.bound(x)
    assert bound.image.shape == x.shape
    assert bound.image.isfinite().all() and bound.rate.isfinite().all()
    assert model.encode(x).mean[0].shape[1:] == model.latent_shape((height, width))


@pytest.mark.parametrize("rate", [4, 8, 16])
@pytest.mark.parametrize(("name", "dims"), [(name, dims) for name in CONVOLUTIONAL for dims in (2, 3)])
def test_the_latent_holds_exactly_the_rate(name, dims, rate):
    model = build(name, dims, latent=channels_for_rate(rate, 2, dims))
    shape = (24, 16, 8)[:dims]
    assert model.latent_values(shape) * rate == math.prod(shape)


def test_rates_that_no_channels_hold():
    with pytest.raises(ConfigError, match="change downsamplings"):
        channels_for_rate(8, 1)
    assert channels_for_rate(8, 2, channels=3) == 6


def test_a_dense_model_serves_one_shape():
    model = build("dense")
    for call in (
        lambda: model.encode(images(1, 1, 16, 16)),
        lambda: model.sample(1, (8, 8), generator()),
        lambda: model.latent_values((12, 16)),
        lambda: model.decode((torch.zeros(1, 2),), (12, 16)),
    ):
        with pytest.raises(InputError, match="one image shape"):
            call()
    with pytest.raises(ConfigError):
        DenseVAE(shape=(8, 8, 8), latent=2)


def test_what_cannot_be_built():
    with pytest.raises(ConfigError, match="downsamplings"):
        ConvLatent(widths=(4, 4, 4), downsamplings=1)
    with pytest.raises(ConfigError, match="multiples"):
        AutoencoderKL(widths=(16, 20))


# --- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_is_that_of_torch_and_of_monte_carlo(name):
    model, x = build(name), images(2, 1, *SHAPES[2])
    with torch.no_grad():
        posterior = model.encode(x)
        (terms,) = model.divergence(posterior, posterior.mean)
        own = Normal(posterior.mean[0], posterior.scale[0])
        torch.testing.assert_close(terms, kl_divergence(own, Normal(0.0, 1.0)), rtol=1e-4, atol=1e-5)
        g = generator()
        draws = torch.stack(
            [posterior.log_density(z) - model.log_prior(z) for z in (posterior.sample(g) for _ in range(800))]
        )
    error = 5 * draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - terms.flatten(1).sum(1)).abs() < error + 1e-3).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("name", ["dense", "conv"])
def test_the_bound_is_the_mean_weight_and_importance_weighting_tightens_it(name, likelihood):
    model, x, g = build(name, likelihood=likelihood), images(2, 1, *SHAPES[2]), generator()
    often = x.repeat(512, 1, 1, 1)
    with torch.no_grad():
        weights = model.log_weight(often, generator=g).reshape(512, 2)
        bounds = ((b := model.bound(often, generator=g)).distortion + b.rate).reshape(512, 2)
    error = (weights.var(0) / 512 + bounds.var(0) / 512).sqrt()
    assert ((weights.mean(0) + bounds.mean(0)).abs() < 5 * error + 1e-3).all()
    nested = [weights.reshape(-1, k, 2).logsumexp(1).sub(math.log(k)).mean(0) for k in (1, 4, 16, 64, 512)]
    for looser, tighter in itertools.pairwise(nested):
        assert (tighter >= looser - 1e-4).all()  # groups are nested, so Jensen's inequality holds without an error


@pytest.mark.parametrize("name", NAMES)
def test_a_bernoulli_mean_is_a_probability(name):
    model = build(name, likelihood="bernoulli")
    image = model.sample(2, SHAPES[2], generator(), temperature=5.0)
    assert (image >= 0).all() and (image <= 1).all()


def test_temperature_and_seed_rule_the_draw():
    model = build("conv")
    one, two = (model.draw(3, (16, 12), generator(1), temperature=t)[0] for t in (1.0, 0.5))
    torch.testing.assert_close(one, 2 * two)
    assert not torch.equal(one, model.draw(3, (16, 12), generator(2))[0])


@pytest.mark.parametrize("name", NAMES)
def test_bound_in_half_precision_autocast_stays_float32(name):
    model, x = build(name), images(2, 1, *SHAPES[2])
    with torch.autocast("cpu", torch.bfloat16):
        posterior, bound = model.encode(x), model.bound(x)
    assert {posterior.mean[0].dtype, posterior.scale[0].dtype, bound.image.dtype} == {torch.float32}
    assert {bound.rate.dtype, bound.distortion.dtype} == {torch.float32}


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_labels_change_what_is_encoded_and_decoded(name, dims):
    model, x = build(name, dims, classes=3), images(2, 1, *SHAPES[dims])
    zero, one = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    assert not torch.allclose(model.encode(x, zero).mean[0], model.encode(x, one).mean[0])
    z = model.encode(x, zero).mean
    assert not torch.allclose(model.decode(z, SHAPES[dims], zero), model.decode(z, SHAPES[dims], one))
    with pytest.raises(InputError, match="label"):
        model.encode(x)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss(name, tmp_path):
    cases = [case("a"), case("b", shape=(7, 22, 25), seed=1)]
    held = train.Validation([case("c", shape=(9, 16, 12), seed=2)], Clean(), 2, seed=1)
    settings = train.Settings(**{**vars(SETTINGS), "steps": 40, "batch": 4, "learning_rate": 1e-2})
    shape = (16, 12)
    best, progress, _ = train.train(
        lambda: build(name, shape=shape), SliceSampler(cases, shape), Clean(), held, settings, tmp_path
    )
    losses = [row["loss"] for row in progress.history]
    assert sum(losses[-5:]) / 5 < losses[0] - 0.3
    assert {"distortion", "rate", "s/x"} <= set(progress.history[-1])
    model = build(name, shape=shape)
    model.load_state_dict(best)
    assert model.restore(Measurement(images(1, 1, *shape))).shape == (1, 1, *shape)
