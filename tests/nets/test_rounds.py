"""Rounds of the restoring Wavelet-VAE: what each reads of the one before."""

import pytest
import torch
from torch import nn

from medwvae.degradation import Inpaint, Neighbourhoods, Recon, Superres
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.wavelets import idwt
from tests.nets.test_nets import disturbed, images


def model_of(*, rounds=3, shared=False, fine=4, dims=2, channels=1):
    torch.manual_seed(0)
    return WaveletVAE(
        channels=channels, widths=(4, 6), blocks=1, rounds=rounds, shared=shared, fine=fine, dims=dims, noise="subband"
    )


def carries(model):
    return [encoder.carry for encoder in model.encoders]


@pytest.mark.parametrize("fine", [0, 4])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_rounds_that_carry_nothing_are_encoders_in_turn(fine, dims, shared):
    model = disturbed(model_of(fine=fine, dims=dims, shared=shared))
    for carry in carries(model):
        for parameter in [] if carry is None else carry.parameters():
            nn.init.zeros_(parameter)
    shape = [17, 14, 9][:dims]
    start = image = images(2, 1, *shape)
    for k in range(3):  # without data nothing contradicts an answer
        encoder = model.encoders[0 if shared else k]
        padded = pad_to_multiple(image, model.alignment(), dims)
        read = padded if encoder.carry is None else torch.cat((padded, torch.zeros_like(padded)), dim=1)
        coefficients, _ = encoder(read)
        image = crop_to(idwt(coefficients), tuple(shape))
    torch.testing.assert_close(model(Measurement(start)).image, image)


@pytest.mark.parametrize("fine", [0, 4])
def test_every_feature_of_a_round_reaches_the_next(fine):
    """Also where the image does not: the second round sees what the first knew and did not say."""
    model = disturbed(model_of(rounds=2, fine=fine))
    first, second = model.encoders
    x = images(1, 1, 16, 12)
    _, features = first(x)
    assert len(features) == (3 if fine else 2)
    x = torch.cat((x, torch.zeros_like(x)), dim=1)
    plain, _ = second(x, None, features)
    for place in range(len(features)):
        moved = [feature + (place == k) for k, feature in enumerate(features)]
        other, _ = second(x, None, moved)
        assert not torch.equal(other.approximation, plain.approximation), place


@pytest.mark.parametrize("shared", [False, True])
def test_only_rounds_with_one_before_read_features_and_all_weights_learn(shared):
    model = disturbed(model_of(shared=shared, channels=2))
    assert [carry is None for carry in carries(model)] == ([False] if shared else [True, False, False])
    assert carries(model_of(rounds=1, shared=shared)) == [None]
    simulated = Recon(3, 0.15, "random", 0.5)(images(2, 1, 20, 18), torch.ones(2), torch.Generator().manual_seed(0), 1)
    estimate = model(simulated.measurement, simulated.truth)
    ((estimate.image - simulated.truth).square().mean() + estimate.penalty).backward()
    for name, parameter in model.named_parameters():  # one without a gradient stops data-parallel training
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["neighbours", "lost pixels"])
def test_a_round_reads_where_the_data_contradict_the_one_before_and_its_features(kind):
    torch.manual_seed(0)
    options = {"neighbours": 1, "mask": kind == "lost pixels"}
    model = disturbed(WaveletVAE(widths=(4, 6), blocks=1, rounds=3, fine=4, **options))
    degrade = Neighbourhoods(Inpaint() if model.mask else Superres(2), 1)
    given = degrade(images(1, 3, 21, 18), torch.ones(1), torch.Generator().manual_seed(0), 1).measurement
    read, answered = [], []
    for encoder in model.encoders:
        encoder.register_forward_pre_hook(lambda module, inputs: read.append(inputs))
        encoder.register_forward_hook(lambda module, inputs, output: answered.append(output))
    model(given)
    assert len(read) == len(answered) == 3
    beside = 2 + model.mask
    for k in (1, 2):
        coefficients, features = answered[k - 1]
        decoded = crop_to(idwt(coefficients), tuple(given.start.shape[2:]))
        agreed = given.project(decoded)
        assert (agreed - decoded).abs().max() > 1e-3
        image, others, change = read[k][0].split([1, beside, 1], dim=1)
        torch.testing.assert_close(image, pad_to_multiple(agreed, model.alignment(), 2))
        torch.testing.assert_close(change, pad_to_multiple(agreed - decoded, model.alignment(), 2))
        assert torch.equal(others, read[0][0][:, 1:])
        assert all(torch.equal(one, two) for one, two in zip(read[k][2], features, strict=True))


def test_rounds_of_thick_slices_in_half_precision():
    torch.manual_seed(0)
    model = disturbed(WaveletVAE(dims=3, widths=(4, 6), blocks=1, rounds=2, fine=4, slice_levels=1))
    given = Measurement(images(1, 1, 5, 13, 18))
    exact = model(given).image
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(given).image, exact, rtol=0, atol=0.03)
