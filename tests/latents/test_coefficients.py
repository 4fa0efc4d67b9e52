"""The latent of a Wavelet-VAE as coefficients: what is read, edited and decoded is the model's own z."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.latents.coefficients import decoded, edit_latent, latent_maps, posterior_coefficients
from medwvae.nets.diffusion_prior import DiffusionPrior
from medwvae.nets.wavelet_latent import Selection, WaveletLatentVAE
from tests.latents.models import Waves


def model(dims=2, rate=4, shape=None, **options):
    torch.manual_seed(0)
    select: Selection = "subbands" if shape is None else "zone"
    widths: dict[str, Any] = {"widths": (4, 4), "blocks": 1, "prior_width": 4, "prior_blocks": 1}
    found = WaveletLatentVAE(objective="elbo", dims=dims, rate=rate, select=select, shape=shape, **widths | options)
    if shape is not None:
        found.measure([torch.rand(3, 1, *shape)])
    for part in found.parameters():  # a decoder that does something
        torch.nn.init.normal_(part, 0, 0.1)
    return found.eval()


def image(shape, batch=2):
    return torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(1))


SHAPES = st.one_of(st.tuples(*[st.integers(5, 12)] * 2), st.tuples(*[st.integers(5, 8)] * 3))


@settings(max_examples=12, deadline=None)
@given(SHAPES, st.sampled_from(["haar", "db2"]), st.booleans(), st.booleans())
def test_gain_1_is_the_reconstruction_to_the_last_bit(shape, wavelet, zone, masked):
    one = model(len(shape), 2 ** len(shape), shape if zone else None, wavelet=wavelet)
    x = image(shape)
    with torch.no_grad():
        expected = one.reconstruct(x)
    mask = x > 0.5 if masked else None
    assert torch.equal(edit_latent(one, x, {"details": 1.0}, mask), expected)
    assert torch.equal(edit_latent(one, x, {}), expected)
    assert torch.equal(decoded(one, posterior_coefficients(one, x), shape), expected)
    z = one.encode(x).mean
    for part, again in zip(z, one.latent(one.coefficients(z)), strict=True):
        assert torch.equal(part, again)


def test_gains_act_on_the_posterior_mean_where_the_mask_says():
    one, x = model(), image((11, 9))
    z = one.encode(x).mean
    half = tuple(part if k == 0 else 0.5 * part for k, part in enumerate(z))
    with torch.no_grad():
        expected = one.decode(half, (11, 9))
    nowhere, everywhere = torch.zeros(11, 9, dtype=torch.bool), torch.ones(11, 9, dtype=torch.bool)
    torch.testing.assert_close(edit_latent(one, x, {"details": 0.5}), expected)
    torch.testing.assert_close(edit_latent(one, x, {"details": 0.5}, nowhere), expected)
    right = nowhere.clone()
    right[:, 5:] = True
    with torch.no_grad():
        plain = one.reconstruct(x)
    assert (edit_latent(one, x, {"details": 0.5}, right) - plain).abs().amax((0, 1, 2))[0] > 0
    torch.testing.assert_close(edit_latent(one, x, {}, everywhere, inside={"details": 0.5}), expected)
    assert torch.equal(edit_latent(one, x, {"details": 0.5}, everywhere), plain)


def test_a_prior_that_was_fitted_to_the_latent_is_no_obstacle():
    one, x = model(), image((8, 8))
    with_prior = DiffusionPrior(one, parts=None, widths=(32,), steps=5)
    assert torch.equal(edit_latent(with_prior, x, {"details": 0}), edit_latent(one, x, {"details": 0}))


def test_maps_are_of_what_the_latent_holds():
    maps = latent_maps(model(dims=3, rate=16), image((9, 8, 10)))
    assert {level: len(bands) for level, bands in maps.items()} == {2: 3}
    assert all(one.shape == (2, 1, 9, 8, 10) for bands in maps.values() for one in bands.values())
    assert latent_maps(model(rate=16), image((8, 8))) == {}


def test_what_the_latent_does_not_hold_is_said():
    with pytest.raises(ValueError, match=r"holds nothing of level1; it holds aa2, ad2, da2, dd2"):
        edit_latent(model(), image((8, 8)), {"level1": 0})
    with pytest.raises(ValueError, match="'dd7'; have: details"):
        edit_latent(model(), image((8, 8)), {"dd7": 0})
    with pytest.raises(ValueError, match="no set of wavelet coefficients"):
        posterior_coefficients(Waves(), image((8, 8)))
