import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.operators import (
    FourierSampling,
    Measurement,
    as_complex,
    cartesian_mask,
    from_kspace,
    magnitude,
    remove_rician_bias,
    rician,
    rician_mean,
    sample_kspace,
    smooth_phase,
    to_kspace,
    truncation_mask,
    with_phase,
)

sides = st.integers(4, 17)
seeds = st.integers(0, 2**16)
channels = st.sampled_from([1, 2])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def image(channels, height, width, seed=0, batch=2):
    return torch.randn(batch, channels, height, width, generator=generator(seed), dtype=torch.float32)


def a_mask(channels, height, width, seed):
    """Real images have symmetric masks, complex ones a mask for each image."""
    if channels == 1:
        return truncation_mask((height, width), 2)
    return torch.rand(2, 1, 1, width, generator=generator(seed)) < 0.5


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(channels=channels, height=sides, width=sides, seed=seeds)
def test_the_fourier_transform_is_unitary_and_inverted(channels, height, width, seed):
    x = image(channels, height, width, seed)
    kspace = to_kspace(x)
    assert kspace.shape == (2, 1, height, width)
    close(kspace.abs().square().sum(), x.square().sum())
    close(from_kspace(kspace, channels), x)


@settings(max_examples=30, deadline=None)
@given(channels=channels, height=sides, width=sides, seed=seeds)
def test_sampling_and_zero_filling_are_adjoint(channels, height, width, seed):
    x = image(channels, height, width, seed)
    mask = a_mask(channels, height, width, seed)
    y = as_complex(image(2, height, width, seed + 1)) * mask
    sampled = sample_kspace(x, mask)
    # Re⟨Ax, y⟩ = ⟨x, Aᴴy⟩, in the real inner product of images.
    close(torch.sum(sampled.kspace * y.conj()).real, torch.sum(x * from_kspace(y, channels)))
    close(sampled.start, from_kspace(to_kspace(x) * mask, channels))


@settings(max_examples=40, deadline=None)
@given(channels=channels, height=sides, width=sides, seed=seeds)
def test_projection_is_idempotent_exact_on_known_samples_and_moves_no_other(channels, height, width, seed):
    truth, guess = image(channels, height, width, seed), image(channels, height, width, seed + 1)
    mask = a_mask(channels, height, width, seed)
    measurement = sample_kspace(truth, mask)
    projected = measurement.project(guess)
    assert projected.shape == guess.shape
    close(measurement.project(projected), projected)
    close(to_kspace(projected) * mask, measurement.kspace)
    close(to_kspace(projected) * ~mask, to_kspace(guess) * ~mask)
    close(measurement.project(truth), truth)
    close(measurement.project(torch.zeros_like(truth)), measurement.start)


@settings(max_examples=20, deadline=None)
@given(channels=channels, height=sides, width=sides, seed=seeds)
def test_projection_never_moves_away_from_the_truth(channels, height, width, seed):
    truth, guess = image(channels, height, width, seed), image(channels, height, width, seed + 1)
    measurement = sample_kspace(truth, a_mask(channels, height, width, seed))
    assert (measurement.project(guess) - truth).norm() <= (guess - truth).norm() * (1 + 1e-5)


def test_projection_is_the_identity_for_denoising():
    x = image(1, 8, 8)
    assert Measurement(x, sigma=torch.full((1, 1, 1, 1), 0.1)).project(x) is x


@settings(max_examples=40, deadline=None)
@given(
    channels=channels,
    height=sides,
    width=sides,
    seed=seeds,
    axes=st.sampled_from([(), (-1,), (-2,), (-2, -1)]),
)
def test_a_flipped_measurement_measures_the_flipped_image(channels, height, width, seed, axes):
    truth, guess = image(channels, height, width, seed), image(channels, height, width, seed + 1)
    measurement = sample_kspace(truth, a_mask(channels, height, width, seed))
    flipped = measurement.flip(axes)
    assert flipped.mask is not None
    again = sample_kspace(truth.flip(axes) if axes else truth, flipped.mask)
    close(flipped.kspace, again.kspace)
    close(flipped.start, again.start)
    back = flipped.project(guess.flip(axes)).flip(axes) if axes else flipped.project(guess)
    close(back, measurement.project(guess))


def test_flip_without_kspace_flips_the_start_only():
    measurement = Measurement(image(1, 6, 7), sigma=torch.full((1, 1, 1, 1), 0.1))
    flipped = measurement.flip((-1,))
    assert torch.equal(flipped.start, measurement.start.flip(-1))
    assert flipped.sigma is measurement.sigma


def test_taking_some_images_takes_their_samples():
    truth = image(2, 8, 9, batch=5)
    masks = torch.rand(5, 1, 1, 9, generator=generator(1)) < 0.5
    for mask in (masks, masks[:1]):
        some = sample_kspace(truth, mask)[1:4]
        direct = sample_kspace(truth[1:4], mask[1:4] if len(mask) == 5 else mask)
        torch.testing.assert_close((some.start, some.kspace, some.mask), (direct.start, direct.kspace, direct.mask))


def test_the_noise_level_is_one_more_channel():
    start = image(1, 6, 7, batch=3)
    sigma = torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1, 1)
    conditioned = Measurement(start, sigma=sigma).conditioned(1)
    assert torch.equal(conditioned[:, :1], start)
    assert torch.equal(conditioned[:, 1:], sigma.expand(3, 1, 6, 7))
    assert Measurement(start).conditioned(0) is start


@settings(max_examples=60, deadline=None)
@given(height=st.integers(2, 130), width=st.integers(2, 130), factor=st.sampled_from([2, 3, 4]))
def test_truncation_is_a_symmetric_block_of_about_the_size_asked_for(height, width, factor):
    mask = truncation_mask((height, width), factor)
    assert mask.shape == (1, 1, height, width)
    assert torch.equal(mask, mask.flip(-2, -1).roll((1, 1), (-2, -1)))
    block = mask[0, 0]
    rows, columns = int(block.any(1).sum()), int(block.any(0).sum())
    assert int(block.sum()) == rows * columns
    for kept, size in ((rows, height), (columns, width)):
        # Exactly the largest symmetric (hence odd) block that fits in the low resolution.
        low = -(-size // factor)
        assert kept == low - (low % 2 == 0)
    half = block[0, : width // 2 + 1].int()
    assert half[0] and (half.diff() <= 0).all()  # no gap from frequency zero outwards


def test_truncation_keeps_the_mean_and_smooths():
    x = image(1, 20, 21).abs()
    start = sample_kspace(x, truncation_mask((20, 21), 2)).start
    close(start.mean((-2, -1)), x.mean((-2, -1)))
    assert start.var() < x.var()


@pytest.mark.parametrize("pattern", ["random", "equispaced"])
@pytest.mark.parametrize(("acceleration", "centre"), [(4, 0.08), (8, 0.04)])
@pytest.mark.parametrize("width", [120, 121, 320])
def test_cartesian_masks_accelerate_as_told_on_average_and_keep_the_centre(pattern, acceleration, centre, width):
    masks = [cartesian_mask(width, acceleration, centre, pattern, generator(seed)) for seed in range(300)]
    assert masks[0].shape == (1, 1, 1, width)
    assert masks[0].dtype == torch.bool
    counts = np.array([int(mask.sum()) for mask in masks])
    # 4 standard errors of the mean for the random pattern; the comb rounds to whole columns.
    tolerance = 4 * counts.std() / np.sqrt(len(counts)) + 0.03 * width / acceleration * (pattern == "equispaced")
    assert abs(counts.mean() - width / acceleration) <= tolerance
    low = round(width * centre)
    always = torch.stack(masks).all(0)[0, 0, 0]
    assert int(always.sum()) == low
    distance = torch.fft.fftfreq(width, 1 / width).abs()
    assert always[distance < low / 2 - 0.25].all()
    assert not always[distance > low / 2 + 0.25].any()
    assert not torch.equal(masks[0], masks[1]) or not torch.equal(masks[0], masks[2])


def test_the_same_seed_gives_the_same_mask():
    for pattern in ("random", "equispaced"):
        one, two = (cartesian_mask(64, 4, 0.08, pattern, generator(5)) for _ in range(2))
        assert torch.equal(one, two)


@settings(max_examples=20, deadline=None)
@given(height=sides, width=sides, seed=seeds)
def test_a_phase_leaves_the_magnitude(height, width, seed):
    x = image(1, height, width, seed).abs()
    phase = smooth_phase((height, width), generator(seed))
    assert phase.shape == (height, width)
    twisted = with_phase(x, phase)
    close(magnitude(twisted), x)
    assert magnitude(x) is x
    # angle of x e^{iφ} is φ, wherever there is any signal
    turned = as_complex(twisted) * torch.polar(torch.ones_like(phase), -phase)
    close(turned.real, x)


def test_the_magnitude_has_a_gradient_everywhere():
    image = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-1.0, 0.0]]).reshape(3, 2, 1, 1).requires_grad_()
    modulus = magnitude(image)
    close(modulus.flatten(), torch.tensor([5.0, 0.0, 1.0]))
    close(magnitude(image.detach()), modulus.detach())
    (slope,) = torch.autograd.grad(modulus.sum(), image)
    close(slope.flatten(1), torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]]))


def test_the_phase_is_smooth():
    phase = smooth_phase((64, 64), generator(0))
    step = 2 / 63
    # Second differences of a second-order polynomial with coefficients up to π: at most 2π·step² along an axis.
    assert phase.diff(n=2, dim=0).abs().max() <= 2 * torch.pi * step**2 + 1e-5
    assert phase.std() > 0.1


@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0, 3.0, 10.0])
def test_rician_mean_agrees_with_simulated_noise(signal):
    samples = rician(torch.full((1, 1, 500, 400), signal), 1.0, generator(7)).double().numpy()
    assert abs(samples.mean() - rician_mean(np.array(signal), 1.0)) < 5 * samples.std() / np.sqrt(samples.size)


def test_rician_noise_without_signal_is_rayleigh_and_a_noise_level_per_image_is_kept():
    sigma = torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1)
    noise = rician(torch.zeros(2, 1, 200, 200), sigma, generator(1))
    assert (noise >= 0).all()
    mean = noise.mean((1, 2, 3))
    np.testing.assert_allclose(mean, sigma.flatten() * np.sqrt(np.pi / 2), rtol=0.02)


@settings(max_examples=30, deadline=None)
@given(sigma=st.floats(0.01, 10), seed=seeds)
def test_removing_the_bias_inverts_the_mean(sigma, seed):
    signal = sigma * np.random.default_rng(seed).uniform(0.2, 40, 200)
    back = remove_rician_bias(rician_mean(signal, sigma), sigma)
    np.testing.assert_allclose(back, signal, rtol=2e-3, atol=2e-3 * sigma)


def test_below_the_noise_floor_there_is_no_signal():
    mean = np.array([0.0, 0.5, 1.2], np.float32)
    signal = remove_rician_bias(mean, 1.0)
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, 0)


@settings(max_examples=10)
@given(shape=st.lists(st.integers(2, 7), min_size=2, max_size=3), seed=seeds)
def test_sampling_is_numpys_transform_under_the_mask(shape, seed):
    x = torch.randn(2, 2, *shape, generator=generator(seed), dtype=torch.float64)
    mask = torch.rand(2, 1, *shape, generator=generator(seed)) < 0.5
    found = FourierSampling(mask, 2, dims=len(shape)).forward(x)
    axes = tuple(range(-len(shape), 0))
    expected = np.fft.fftn(as_complex(x).numpy(), axes=axes, norm="ortho") * mask.numpy()
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
