import math

import numpy as np
import pytest
import torch

from medwvae.generative.images import Images
from medwvae.generative.likelihood import Quantisation, bits, bounds, defined, importance_bound
from medwvae.generative.reconstruction import Score, per_subject, reconstructed, score_reconstruction, table
from medwvae.generative.scoring import sizes
from tests.generative.models import Halves, exact_nats


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(volumes=("a", "a", "b", "c"), subjects=("s", "s", "s", "t"), size=(12, 14)):
    values = torch.rand((len(volumes), 1, *size), generator=generator())
    head = torch.zeros(len(volumes), 1, *size, dtype=torch.bool)
    head[..., 2:9, 3:11] = True
    return Images(values, head, tuple(volumes), tuple(subjects), dict.fromkeys(volumes, 2.0))


def value(rows, **where):
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def test_scores_of_a_subject_by_hand():
    test = images()
    answer = test.values.clone()
    answer[0] += 0.1  # volume a: one of two slices is off by .1 everywhere
    answer[2, 0, 0, 0] += 0.5  # volume b: one pixel outside the head
    scores = table(score_reconstruction(test, answer), {"model": "m"})
    # Subject s is the mean of the volumes a and b, not of three slices.
    assert value(scores, subject="s", region="head", metric="mse") == pytest.approx(0.01 / 2 / 2, rel=1e-5)
    whole = (0.01 / 2 + 0.25 / (12 * 14)) / 2
    assert value(scores, subject="s", region="whole", metric="mse") == pytest.approx(whole, rel=1e-5)
    assert value(scores, subject="t", region="whole", metric="psnr") == math.inf
    assert value(scores, subject="t", region="head", metric="ssim") == pytest.approx(1)
    # The range is the maximum of the volume, 2.
    only_a = Images(test.values[:2], test.head[:2], test.volumes[:2], test.subjects[:2], test.maxima)
    alone = table(score_reconstruction(only_a, answer[:2]), {"model": "m"})
    assert value(alone, region="head", metric="psnr") == pytest.approx(10 * math.log10(4 / 0.005), rel=1e-5)
    assert list(scores.columns) == ["model", *Score._fields]
    assert not scores.duplicated(["subject", "region", "metric"]).any()


def test_one_value_per_image_becomes_one_per_subject():
    rows = table(per_subject(images(), "bits", torch.tensor([1.0, 3.0, 6.0, 5.0]), "bit"), {})
    assert value(rows, subject="s") == 4.0  # (mean of 1 and 3, and 6) / 2
    assert value(rows, subject="t") == 5.0


def test_reconstructions_come_in_batches_of_any_size():
    model, x = Halves().eval(), images().values
    assert torch.equal(reconstructed(model, x, 3), reconstructed(model, x, 100))


def test_quantisation_spans_the_range_and_dequantised_images_stay_in_their_bins():
    q = Quantisation.of(8, 1.5)
    assert q.levels == 256 and q.step == pytest.approx(1.5 / 255)
    x = torch.linspace(-0.2, 1.9, 1000).reshape(1, 1, 10, 100)
    whole = q.integers(x)
    assert whole.dtype == np.uint8 and whole.min() == 0 and whole.max() == 255
    assert np.array_equal(q.integers(torch.from_numpy(whole).float() * q.step), whole)
    noisy = q.dequantised(x, generator())
    assert np.array_equal((noisy / q.step).round().numpy().clip(0, 255), whole)
    assert Quantisation.of(12, 1.0).integers(x).dtype == np.uint16


def test_the_bound_lies_above_the_truth_and_importance_weights_bring_it_down():
    model = Halves(deviation=0.2).eval()
    model.log_sigma.data.fill_(math.log(0.3))
    x = torch.rand((6, 1, 2, 2), generator=generator(1))
    exact = exact_nats(model, x)
    elbo = torch.stack([torch.stack(bounds(model, x, generator(k), 4)).sum(0) for k in range(300)]).mean(0)
    weighted = importance_bound(model, x, generator(2), 4096, 1000)
    assert (elbo > exact).all()
    assert (weighted < elbo).all()
    torch.testing.assert_close(weighted, exact, atol=0.1, rtol=0)


def test_bits_are_those_of_a_uniform_code():
    # A density that is uniform over the range costs log2(levels) bits a voxel.
    q, x = Quantisation.of(8, 1.0), torch.zeros(2, 1, 4, 4)
    nats = torch.full((2,), 16 * math.log(256 * q.step))
    torch.testing.assert_close(bits(nats, x, q), torch.full((2,), 8.0))


def test_a_density_is_needed_for_bits():
    assert defined(Halves())
    assert not defined(Halves(likelihood="bernoulli"))


def test_sizes_count_what_learns_and_what_the_posterior_needs():
    known = sizes(Halves(), (12, 14))
    assert known == {"latent_values": 6 * 7, "parameters": 5, "encoder_parameters": 1}
    frozen = Halves()
    frozen.gain.requires_grad_(False)
    assert sizes(frozen, (12, 14))["encoder_parameters"] == 0
