import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from medwvae.errors import ConfigError
from medwvae.losses import LOSSES
from medwvae.nets.detail_prior import DetailPrior, draw_laplace, laplace_divergence, laplace_log_density
from medwvae.nets.latent import gaussian_log_density
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.operators import Measurement
from medwvae.wavelets import dwt

SHAPES = {2: (21, 30), 3: (9, 16, 12)}


def model(objective="elbo", *, seed=0, **choices):
    torch.manual_seed(seed)
    settings_: dict[str, Any] = {"widths": (4, 6), "blocks": 1, "prior_width": 8, "prior_blocks": 1} | choices
    return WaveletLatentVAE(objective=objective, **settings_)


def shaken(network, spread=0.05):
    """Return the network with weights that are no longer the silent ones of the start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return network


def image(shape, batch=2, seed=3):
    return torch.rand((batch, 1, *shape), generator=torch.Generator().manual_seed(seed))


@given(
    rate=st.sampled_from([1, 2, 4, 8, 16]),
    dims=st.sampled_from([2, 3]),
    sizes=st.tuples(*[st.integers(5, 19)] * 3),
    refine=st.sampled_from(["none", "convolution", "wavelet"]),
)
@settings(deadline=None, max_examples=25)
def test_a_latent_has_one_value_for_every_rate_pixels(rate, dims, sizes, refine):
    network = model(rate=rate, dims=dims, refine=refine)
    shape = sizes[:dims]
    x = image(shape)
    padded = [-(-n // 4) * 4 for n in shape]
    assert network.latent_values(shape) * rate == math.prod(padded)
    assert network.reconstruct(x).shape == x.shape
    z = network.draw(3, shape, torch.Generator().manual_seed(0))
    assert [part.shape[1:] for part in z] == [part.shape[1:] for part in network.encode(x).mean]


def test_an_unknown_family_is_refused_at_once():
    with pytest.raises(ValueError, match="nonsense"):
        model(wavelet="nonsense")


def test_a_rate_that_needs_more_levels_is_refused():
    with pytest.raises(ConfigError, match="levels"):
        model(rate=64, widths=(4, 4))


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior4.4"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_untrained_encoder_is_the_transform_and_full_rate_loses_nothing(wavelet, dims):
    network = model(dims=dims, wavelet=wavelet, refine="wavelet")
    x = image((16, 24, 8)[:dims])
    expected = dwt(x, 2, dims, wavelet=wavelet)
    mean = network.encode(x).mean
    assert torch.allclose(mean[0], expected.approximation, atol=1e-5)
    for part, details in zip(mean[1:], expected.details, strict=True):
        assert torch.allclose(part, details.flatten(1, 2), atol=1e-5)
    assert torch.allclose(network.reconstruct(x), x, atol=1e-5)


def test_what_is_not_kept_is_zero_without_a_refinement():
    network = model(rate=4, refine="none")
    x = image((16, 24))
    kept = dwt(network.reconstruct(x), 2)
    assert torch.allclose(kept.details[1], torch.zeros(()), atol=1e-6)
    assert torch.allclose(kept.details[0], dwt(x, 2).details[0], atol=1e-5)


@given(mean=st.floats(-3, 3), deviation=st.floats(0.01, 3), location=st.floats(-3, 3), scale=st.floats(0.05, 3))
@settings(deadline=None, max_examples=20)
def test_the_divergence_is_that_of_monte_carlo(mean, deviation, location, scale):
    m, s, mu, b = (torch.tensor(v, dtype=torch.float64) for v in (mean, deviation, location, scale))
    x = m + s * torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms = gaussian_log_density(x, m, s) - laplace_log_density(x, mu, b)
    error = float(terms.std()) / math.sqrt(len(x))
    assert float(laplace_divergence(m, s, mu, b)) == pytest.approx(float(terms.mean()), abs=5 * error + 1e-9)
    assert float(laplace_divergence(m, s, mu, b)) >= 0


def test_laplace_draws_have_their_mean_and_spread():
    mean, scale = torch.full((200_000,), 2.0), torch.full((200_000,), 0.5)
    x = draw_laplace(mean, scale, torch.Generator().manual_seed(0), 1.0)
    assert float(x.mean()) == pytest.approx(2.0, abs=0.01)
    assert float((x - 2).abs().mean()) == pytest.approx(0.5, abs=0.01)  # b, the mean absolute deviation
    assert torch.equal(draw_laplace(mean, scale, torch.Generator().manual_seed(0), 0.0), mean)


@pytest.mark.parametrize("rate", [1, 4, 8, 16])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_bound_is_the_mean_of_the_log_weights(rate, dims):
    network = shaken(model(rate=rate, dims=dims, classes=2, initial_noise=0.3)).eval()
    x, label = image((8, 12, 8)[:dims]), torch.tensor([0, 1])
    generator = torch.Generator().manual_seed(0)
    often, labels = x.repeat(300, *[1] * (dims + 1)), label.repeat(300)
    with torch.no_grad():
        bounds = network.bound(often, labels, generator)
        closed = -(bounds.distortion + bounds.rate).reshape(300, 2)
        weights = network.log_weight(often, labels, generator).reshape(300, 2)
    error = (closed.var(0) / 300 + weights.var(0) / 300).sqrt()
    assert bool(((closed.mean(0) - weights.mean(0)).abs() < 5 * error).all())
    importance = torch.logsumexp(weights, 0) - math.log(300)
    assert bool((importance > closed.mean(0)).all())  # Burda, Grosse and Salakhutdinov 2016


def test_draws_follow_the_generator_and_the_temperature():
    network = shaken(model(rate=4)).eval()
    with torch.no_grad():
        first, again, other = (network.sample(2, (21, 30), torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        cold = [network.sample(1, (21, 30), torch.Generator().manual_seed(s), temperature=0.0) for s in (0, 1)]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(*cold)


def test_a_label_changes_encoder_prior_and_decoder():
    network = shaken(model(classes=3, rate=4)).eval()
    x = image((16, 16), batch=1)
    zero, two = torch.tensor([0]), torch.tensor([2])
    z = network.encode(x, zero).mean
    with torch.no_grad():
        assert not torch.equal(z[0], network.encode(x, two).mean[0])
        assert not torch.equal(network.decode(z, (16, 16), zero), network.decode(z, (16, 16), two))
        assert float(network.log_prior(z, zero)) != float(network.log_prior(z, two))


def test_the_prior_reads_every_level_alike():
    """An image twice as large, each pixel doubled, has at level 2 what it had at level 1, in units of the transform."""
    prior = shaken(DetailPrior(1, 2, 2, width=8, blocks=1))
    torch.nn.init.zeros_(prior.embedding.weight)
    torch.nn.init.zeros_(prior.log_scale)
    x = image((8, 8))
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    fine, coarse = (dwt(x, 1).approximation, dwt(doubled, 2).approximation)
    for one, two in zip(prior(fine, 1), prior(coarse, 2), strict=True):
        assert torch.allclose(2 * one, two, rtol=1e-3, atol=1e-5)


def trained(network, steps, seed=0):
    """Train on smooth images with an edge; return the network."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    ramp = torch.linspace(0, 1, 16)
    for _ in range(steps):
        place = torch.rand((8, 1, 1, 1), generator=generator)
        x = (ramp[:, None] > place).float() * ramp + 0.05 * torch.randn((8, 1, 16, 16), generator=generator)
        estimate = network(Measurement(x), x)
        optimiser.zero_grad()
        estimate.loss.backward()
        optimiser.step()
    return network


def test_s_collapses_in_paper_mode_and_not_in_elbo_mode():
    """Nothing pays for small noise in the one; the entropy of q does in the other (docs/model.md)."""
    paper = trained(model("sparse", refine="none", noise="level", sparsity=1e-3), 150)
    elbo = trained(model("elbo", refine="none", noise="level"), 150)
    longer = trained(copy.deepcopy(paper), 150)
    s = {name: max(network.noise.by_subband().values()) for name, network in (("paper", paper), ("longer", longer))}
    assert s["longer"] < s["paper"] < 0.06  # from 0.1, and still falling
    assert min(elbo.noise.by_subband().values()) > 0.02


def test_fixed_noise_stays():
    network = trained(model("sparse", noise="fixed", initial_noise=0.1), 5)
    assert list(network.scales().values()) == pytest.approx([0.1] * 7)


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_sparsity_lowers_the_details(kind):
    x = image((16, 16))
    sizes = []
    for sparsity in (0.0, 1.0):
        network = trained(model("sparse", sparsity=sparsity, sparsity_kind=kind, refine="none"), 40)
        with torch.no_grad():
            sizes.append(float(torch.cat([part.abs().flatten() for part in network.encode(x).mean[1:]]).mean()))
    assert sizes[1] < sizes[0]


def test_noise_of_scale_s_adds_its_square_to_the_error():
    # Parseval: the transform is orthonormal, so s² per coefficient is s² per pixel.
    network = model("sparse", widths=(4, 4, 4), refine="none", initial_noise=0.3)
    x = image((128, 128), batch=4)
    torch.manual_seed(0)
    with torch.no_grad():
        error = (network(Measurement(x), x).image - x).square().mean()
        assert float(error) == pytest.approx(0.09, rel=0.02)
        # Three quarters of the coefficients are details of level 1, and so on.
        network.noise.log_s.copy_(torch.tensor([0.1, 0.4, 0.8]).log()[:, None].expand(3, 4))
        error = (network(Measurement(x), x).image - x).square().mean()
    assert float(error) == pytest.approx(0.75 * 0.01 + 0.75 / 4 * 0.16 + 0.64 / 16, rel=0.03)
    torch.testing.assert_close(network(Measurement(x)).image, x, rtol=0, atol=1e-5)  # an answer has no noise


def test_the_paper_s_penalties_are_the_means_of_absolute_details_and_of_torch_s_kl():
    network = model("sparse", sparsity=0.7, kl_weight=0.5, initial_noise=0.3)
    x = image((32, 24))
    own = dwt(x, 2)
    l1 = 0.7 * float(torch.cat([d.flatten() for d in own.details]).abs().mean())
    kl = 0.5 * float(kl_divergence(Normal(own.approximation, 0.3), Normal(0.0, 1.0)).mean())
    estimate = network(Measurement(x), x)
    assert {name: float(term) for name, term in estimate.terms.items()} == pytest.approx(
        {"sparsity": l1, "kl": kl}, rel=1e-4
    )
    assert float(estimate.penalty.detach()) == pytest.approx(l1 + kl, rel=1e-4)


def test_paper_mode_has_no_bound():
    with pytest.raises(ValueError, match="no density"):
        model("sparse").bound(image((8, 8)))


def test_the_square_error_is_the_same_in_the_wavelet_domain():
    network = shaken(model(rate=4))
    x = image((16, 24))
    with torch.no_grad():
        error = x - network.reconstruct(x)
    assert float(dwt(error, 2).pack().square().sum()) == pytest.approx(float(error.square().sum()), rel=1e-5)


@pytest.mark.parametrize("refine", ["none", "convolution", "wavelet"])
@pytest.mark.parametrize(
    ("objective", "choices"),
    [
        *(("elbo", {"rate": rate}) for rate in (1, 2, 4, 8, 16)),
        *(("sparse", {"rate": rate}) for rate in (1, 8, 16)),
        ("elbo", {"rate": 4, "select": "zone", "shape": (16, 16)}),
        ("elbo", {"rate": 16, "select": "zone", "shape": (16, 16)}),
        ("sparse", {"rate": 4, "select": "top_k"}),
    ],
)
def test_every_weight_that_trains_gets_a_gradient(objective, choices, refine):
    """Processes that train together wait for each of them."""
    network = shaken(model(objective, refine=refine, **choices)).train()
    x = image((16, 16))
    network.measure([x])
    estimate = network(Measurement(x), x)
    loss = (estimate.image - x).square().mean() + estimate.penalty if estimate.loss is None else estimate.loss
    loss.backward()
    silent = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not silent


def test_elbo_training_lowers_the_bound():
    x = image((16, 16), batch=8, seed=9) * 0.05 + torch.linspace(0, 1, 16)
    before = model(rate=4)
    with torch.no_grad():
        start = float((lambda b: b.distortion + b.rate)(before.bound(x)).mean())
    after = trained(before, 80)
    with torch.no_grad():
        assert float((lambda b: b.distortion + b.rate)(after.bound(x)).mean()) < start


@given(
    rate=st.sampled_from([3, 4, 16]),
    channels=st.sampled_from([1, 3]),
    dims=st.sampled_from([2, 3]),
    sizes=st.tuples(*[st.integers(5, 19)] * 3),
)
@settings(deadline=None, max_examples=20)
def test_top_k_keeps_the_largest_predictions_and_no_others(rate, channels, dims, sizes):
    network = shaken(model("sparse", rate=rate, channels=channels, dims=dims, select="top_k", refine="none"))
    full = shaken(model("sparse", rate=1, channels=channels, dims=dims, refine="none"))  # the same weights
    shape = sizes[:dims]
    x = torch.rand((2, channels, *shape), generator=torch.Generator().manual_seed(0))
    posterior = network.encode(x)
    values = torch.cat([part.flatten(1) for part in posterior.mean], 1)
    every = torch.cat([part.flatten(1) for part in full.encode(x).mean], 1)
    k = max(1, channels * math.prod(shape) // rate)
    assert network.latent_values(shape) == k
    assert (values != 0).sum(1).tolist() == [k, k]
    assert torch.equal(values[values != 0], every[values != 0])
    assert bool((every.masked_fill(values != 0, 0).abs().amax(1) <= every.abs().topk(k).values[:, -1]).all())
    z = torch.cat([part.flatten(1) for part in posterior.sample(torch.Generator().manual_seed(0))], 1)
    assert torch.equal(z != 0, values != 0)  # no noise where nothing is kept
    assert network.reconstruct(x).shape == x.shape


def test_gradients_reach_what_top_k_keeps_and_nothing_else():
    network = model("sparse", rate=8, select="top_k", refine="none")
    x = image((16, 16)).requires_grad_()  # untrained, the encoder is the transform: dx is W⁻¹ of the mask
    (gradient,) = torch.autograd.grad(torch.cat([part.flatten() for part in network.encode(x).mean]).sum(), x)
    found = dwt(gradient, 2).pack()
    kept = network.encode(x.detach()).mean
    assert int((found.abs() > 1e-4).sum()) == sum(int((part != 0).sum()) for part in kept) == 2 * 256 // 8
    x = x.detach()
    with torch.no_grad():
        before = float(torch.nn.functional.mse_loss(network.reconstruct(x), x))
    after = trained(network, 30)
    with torch.no_grad():
        assert float(torch.nn.functional.mse_loss(after.reconstruct(x), x)) < 2 * before


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
def test_the_square_error_trains_alike_in_both_domains(wavelet):
    """Parseval: an orthonormal transform leaves the square error as it is, and the gradient with it."""
    x, losses, gradients = image((16, 24)), [], []
    for domain in ("image", "wavelet"):
        network = shaken(model("sparse", rate=4, wavelet=wavelet, domain=domain))
        torch.manual_seed(0)
        loss = network(Measurement(x), x).loss
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, network.encoder.heads[1].weight)[0])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)
    other = shaken(model("sparse", rate=4, wavelet=wavelet, domain="wavelet", loss="l1"))
    torch.manual_seed(0)
    assert float(other(Measurement(x), x).loss.detach()) != pytest.approx(
        float(losses[0]), rel=0.01
    )  # of L1 there is no such law


def test_cross_entropy_is_least_at_the_truth_and_leaves_out_what_is_no_probability():
    bce = LOSSES["bce"]
    truth = image((8, 8))
    least = bce(truth, truth)
    assert bce(truth + 0.1, truth) > least < bce(truth - 0.1, truth)
    x = truth.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bce(x, truth), x)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    bright = truth.clone()
    bright[0, 0, :4] = 1.5
    wild = torch.where(bright > 1, torch.full_like(bright, -7.0), truth)
    torch.testing.assert_close(bce(wild, bright), bce(truth[bright <= 1], truth[bright <= 1]))
    assert float(bce(wild, torch.full_like(truth, 2.0))) == 0
    assert float(trained(model("sparse", loss="bce"), 3)(Measurement(truth), truth).loss.detach()) > 0


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"objective": "elbo", "select": "top_k"}, "select: top_k needs objective: sparse"),
        ({"objective": "sparse", "select": "top_k", "kl_weight": 0.1}, "without a KL"),
        ({"objective": "sparse", "select": "top_k", "sparsity_kind": "kl"}, "without a KL"),
        ({"objective": "sparse", "domain": "wavelet", "loss": "bce"}, "loss: bce needs domain: image"),
    ],
)
def test_choices_that_exclude_one_another_are_refused(choices, words):
    with pytest.raises(ConfigError, match=words):
        model(**choices)


def test_the_history_has_the_scales_of_what_is_latent():
    assert set(model(rate=4).scales()) == {"x", "aa2", "ad2", "da2", "dd2"}
    assert set(model(rate=8).scales()) == {"x", "aa2", "ad2"}
    assert set(model("sparse", rate=16).scales()) == {"aa2"}
