"""Controls that train nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.errors import ConfigError
from medwvae.nets.controls import KeptSubbands, LargestCoefficients
from medwvae.nets.rates import kept_subbands
from medwvae.operators import Measurement
from medwvae.wavelets import dwt


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_which_subbands_a_rate_keeps():
    assert kept_subbands(1) == (1, ("ad", "da", "dd"))
    assert kept_subbands(4) == (1, ())
    assert kept_subbands(16) == (2, ())
    assert kept_subbands(8) == (2, ("ad",))
    assert kept_subbands(8, extra=("dd",)) == (2, ("dd",))
    assert kept_subbands(8, 3) == (1, ())
    assert kept_subbands(4, 3) == (1, ("aad",))
    assert kept_subbands(16, 3) == (2, ("aad", "ada", "daa"))
    for wrong in ({"rate": 3}, {"rate": 0}, {"rate": 4, "extra": ("ad",)}, {"rate": 8, "extra": ("xx",)}):
        with pytest.raises(ConfigError):
            kept_subbands(**wrong)


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("rate", [4, 8, 16])
@pytest.mark.parametrize("control", [KeptSubbands, LargestCoefficients])
def test_rate_projection_and_energy(control, rate, dims, wavelet):
    options = {"levels": 2} if control is LargestCoefficients else {}
    model, x = control(rate=rate, dims=dims, channels=2, wavelet=wavelet, **options), images(2, 2, *(16, 32, 16)[:dims])
    assert model.latent_values(tuple(x.shape[2:])) * rate == x[0].numel()
    kept = model.reconstruct(x)
    torch.testing.assert_close(model.reconstruct(kept), kept, rtol=0, atol=1e-5)
    energy = kept.square().sum() + (x - kept).square().sum()  # orthogonal projection
    torch.testing.assert_close(energy, x.square().sum(), rtol=1e-4, atol=0)
    assert not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model(Measurement(x)).image, kept)


def test_what_is_kept_of_an_image_is_what_the_transform_says():
    x = images(1, 1, 16, 24)
    own, kept = dwt(x, 2).subbands(), dwt(KeptSubbands(rate=8).reconstruct(x), 2).subbands()
    for name, band in own.items():
        expected = band if name in ("aa2", "ad2") else torch.zeros_like(band)
        torch.testing.assert_close(kept[name], expected, rtol=0, atol=1e-5)


def test_the_largest_coefficients_of_each_image():
    x = images(3, 1, 16, 24)
    packed = dwt(x, 4).pack().flatten(1)
    model = LargestCoefficients(rate=8)
    kept = model.encode(x).mean[0].flatten(1)
    threshold = packed.abs().sort(dim=1, descending=True).values[:, 16 * 24 // 8 - 1 : 16 * 24 // 8]
    torch.testing.assert_close(kept, torch.where(packed.abs() >= threshold, packed, 0))
    assert model.position_bits((16, 24)) == pytest.approx(math.log2(math.comb(384, 48)), rel=1e-9)
    worse = KeptSubbands(rate=8).reconstruct(x)
    assert (model.reconstruct(x) - x).square().sum() < (worse - x).square().sum()


@settings(max_examples=10, deadline=None)
@given(st.integers(5, 23), st.integers(5, 23), st.sampled_from([KeptSubbands, LargestCoefficients]))
def test_any_image_size(height, width, control):
    x = images(1, 1, height, width)
    assert control(rate=8).reconstruct(x).shape == x.shape


def test_a_biorthogonal_wavelet_is_refused():
    with pytest.raises(ConfigError, match="orthogonal"):
        LargestCoefficients(rate=8, wavelet="bior4.4")
