"""The diffusion prior over a latent, and the packing of its parts."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae import train
from medwvae.data.loaders import SliceSampler
from medwvae.degradation import Clean
from medwvae.errors import ConfigError, InputError
from medwvae.nets.blocks import crop_to, depth_to_space, space_to_depth
from medwvae.nets.controls import KeptSubbands
from medwvae.nets.conv_latent import ConvLatent
from medwvae.nets.dense_vae import DenseVAE
from medwvae.nets.latent import latent_shapes
from medwvae.nets.latent_diffusion import LatentDiffusion
from medwvae.nets.latent_packing import Packing
from medwvae.operators import Measurement
from tests.cases import case
from tests.test_train import SETTINGS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def autoencoder(dims=2, **options):
    torch.manual_seed(0)
    return ConvLatent(widths=(4, 6), blocks=1, latent=2, dims=dims, **options)


def diffusion(latent=None, **options):
    latent = latent or autoencoder()
    torch.manual_seed(1)
    small: dict[str, Any] = {"widths": (8, 8), "groups": 4, "head": 4, "timesteps": 20, "steps": 5} | options
    return LatentDiffusion(latent, **small)


def measured(latent=None, shape=(20, 12), **options):
    model = diffusion(latent, **options)
    batches = [(images(4, 1, *shape, seed=seed), torch.zeros(4, dtype=torch.int64)) for seed in range(2)]
    model.measure(batches, generator())
    with torch.no_grad():  # MONAI's last layer starts at zero
        for parameter in model.unet.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator(parameter.numel()))
    return model


# --- packing ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.data())
def test_packing_and_back_changes_nothing(dims, data):
    grid = data.draw(st.tuples(*[st.integers(1, 5)] * dims))
    finer = data.draw(st.lists(st.tuples(*[st.integers(1, 4)] * dims), max_size=2))
    short = data.draw(st.sampled_from([0, 1]))
    shapes = [(2, *grid)]
    shapes += [(3, *(max(g * f - short, g) for g, f in zip(grid, factors, strict=True))) for factors in finer]
    z = tuple(images(2, *shape, seed=k) for k, shape in enumerate(shapes))
    packing = Packing(tuple(shapes))
    packed = packing.pack(z)
    assert packed.shape == (2, packing.channels, *grid)
    assert all(torch.equal(one, two) for one, two in zip(packing.unpack(packed), z, strict=True))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_space_to_depth_is_a_permutation_within_blocks(factors):
    x = images(2, 3, *(2 * f for f in factors))
    deep = space_to_depth(x, tuple(factors))
    assert torch.equal(depth_to_space(deep, tuple(factors)), x)
    first = crop_to(deep, (1,) * len(factors)).reshape(2, 3, *factors)
    assert torch.equal(first, crop_to(x, tuple(factors)))


def test_a_flat_latent_has_no_grid():
    with pytest.raises(InputError, match="flat"):
        diffusion(DenseVAE(shape=(8, 8), latent=4, hidden=()))


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_a_draw_follows_its_seed_on_any_grid(dims):
    shape = (20, 12, 12)[:dims]
    model = measured(autoencoder(dims), shape)
    shapes = latent_shapes(model.latent, (13, 18, 9)[:dims])  # grids of odd size
    one, again, other = (model.draw(2, shapes, generator(seed))[0] for seed in (1, 1, 2))
    assert one.shape == (2, *shapes[0])
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 1e-3
    assert model.sample(2, (13, 18, 9)[:dims], generator()).shape == (2, 1, *(13, 18, 9)[:dims])


def test_steps_end_at_no_noise():
    """With a U-Net that knows the truth, DDIM arrives at it, in the latent's own units."""
    model = measured()
    shapes = latent_shapes(model.latent, (20, 12))
    truth = images(1, 2, 5, 3)

    def oracle(z, time, label):
        alpha = model.noising.alphas_cumprod[time].reshape(-1, 1, 1, 1)
        padded = torch.nn.functional.pad(truth, (0, 1, 0, 1))
        return (alpha.sqrt() * z - padded) / (1 - alpha).sqrt()

    model._predict = oracle
    (z,) = model.draw(1, shapes, generator())
    torch.testing.assert_close(z, truth * model.deviation + model.mean, rtol=1e-3, atol=1e-3)


def test_labels_change_the_draw_and_are_required():
    model = measured(classes=2)
    shapes = latent_shapes(model.latent, (20, 12))
    zero, one = (model.draw(2, shapes, generator(), torch.full((2,), k))[0] for k in (0, 1))
    assert (zero - one).abs().max() > 1e-4
    with pytest.raises(InputError, match="label"):
        model.draw(2, shapes, generator())


def test_the_coarsest_part_alone():
    latent = KeptSubbands(rate=8)
    model = measured(latent, (24, 16), parts=1)
    z = model.draw(2, latent_shapes(latent, (24, 16)), generator())
    assert [part.shape for part in z] == [(2, 1, 6, 4)]
    with pytest.raises(InputError, match="parts"):
        model.sample(2, (24, 16), generator())
    assert measured(latent, (24, 16)).sample(2, (24, 16), generator()).shape == (2, 1, 24, 16)


def test_statistics_are_those_of_the_latents():
    latent = KeptSubbands(rate=8)
    model = measured(latent, (24, 16))
    x = torch.cat([images(4, 1, 24, 16, seed=seed) for seed in range(2)])
    z = torch.cat(latent.encode(x).mean, dim=1)
    torch.testing.assert_close(model.mean, z.mean((0, 2, 3), keepdim=True))
    torch.testing.assert_close(model.deviation, z.std((0, 2, 3), keepdim=True, correction=0))


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="steps"):
        diffusion(steps=21)
    with pytest.raises(ConfigError, match="multiples"):
        diffusion(widths=(6, 8))
    with pytest.raises(ConfigError, match="parts"):
        diffusion(parts=2)
    with pytest.raises(InputError, match="measure"):
        diffusion()(Measurement(images(1, 1, 16, 16)))
    with pytest.raises(InputError, match="no image"):
        diffusion().measure([], generator())


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["v_prediction", "epsilon"])
def test_training_lowers_the_loss_and_leaves_the_autoencoder_alone(tmp_path, target):
    cases = [case("a"), case("b", shape=(7, 22, 25), seed=1)]
    latent = KeptSubbands(rate=16)

    def build():
        model = diffusion(latent, target=target, widths=(16, 16))
        model.measure([(SliceSampler(cases, (16, 12)).draw(256, generator())[0], None)], generator())
        return model

    held = train.Validation([case("c", seed=2)], Clean(), 2, seed=1)
    changed = train.Settings(**{**vars(SETTINGS), "steps": 80, "batch": 8, "learning_rate": 3e-3})
    sampler = SliceSampler(cases, (16, 12))
    best, progress, _ = train.train(build, sampler, Clean(), held, changed, tmp_path)
    assert target in progress.history[-1]
    assert torch.equal(best["latent.log_sigma"], latent.log_sigma)
    model = diffusion(latent, target=target, widths=(16, 16))
    model.load_state_dict(best)  # statistics come back with the weights
    assert model.measured
    x, losses = sampler.draw(256, generator(5))[0], []
    for network in (build(), model):
        torch.manual_seed(2)  # the same times and noise for both
        with torch.no_grad():
            losses.append(float(network(Measurement(x), x).penalty))
    untrained, trained = losses
    assert untrained == pytest.approx(1, abs=0.1)  # its answer is 0, and what it should predict has variance 1
    assert trained < 0.9 * untrained
    assert model.sample(1, (16, 12), generator()).isfinite().all()


def test_the_frozen_model_stays_in_evaluation():
    model = diffusion().train()
    assert model.training and not model.latent.training
    assert not any(p.requires_grad for p in model.latent.parameters())
