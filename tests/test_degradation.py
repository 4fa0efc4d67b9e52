"""What each task measures: seeded, its own start, consistent with its operator, scored by a protocol that exists."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.degradation import (
    BicubicSuperres,
    Denoise,
    Inpaint,
    Recon,
    SparseView,
    Superres,
    TaskDegradation,
    ThickSlices,
)
from medwvae.operators import magnitude, sample_kspace
from medwvae.operators.measurement import EXPECTED_ERROR
from medwvae.protocols import PROTOCOLS

SHAPE = (24, 20)
DEGRADATIONS: dict[str, TaskDegradation] = {
    "ixi-td": Superres(2),
    "ixi-bd x3": BicubicSuperres(3),
    "ixi-bd x4": BicubicSuperres(4),
    "thick rect": ThickSlices(3),
    "thick gaussian": ThickSlices(2, "gaussian", 2.5, axis=-2),
    "rician": Denoise(0.1),
    "gaussian": Denoise(0.1, "gaussian"),
    "poisson": Denoise(0.1, "poisson"),
    "recon": Recon(3, 0.15, "random", 0.5),
    "recon partial": Recon(2, 0.2, "equispaced", 0.5, partial=0.7),
    "recon disc": Recon(4, 0.2, "poisson-disc", 0.5),
    "recon coils": Recon(4, 0.15, "random", 0.5, coils=4),
    "recon noise": Recon(3, 0.15, "random", 0.5, noise=0.05),
    "recon coils noise": Recon(3, 0.2, "random", 0.5, coils=4, noise=0.05),
    "sparse view": SparseView(12),
    "fan": SparseView(12, beam="fan"),
    "limited": SparseView(12, arc=100.0),
    "low dose": SparseView(12, photons=1e4),
    "blocks": Inpaint(),
    "streaks": Inpaint("streaks", streaks=3),
    "slices": Inpaint("slices", adjacent=2),
}
WITHOUT_DATA = {"rician", "gaussian", "poisson"}
every = pytest.mark.parametrize("name", list(DEGRADATIONS))


def images(batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.rand(batch, 1, 6, 5, generator=generator), SHAPE, mode="bilinear")
    return smooth * 1.2


def measured(name, image, seed=0, run=1, maximum=None):
    generator = torch.Generator().manual_seed(seed)
    return DEGRADATIONS[name](image, image.amax((1, 2, 3)) if maximum is None else maximum, generator, run)


@every
def test_it_is_repeatable_and_names_a_protocol(name):
    image = images()
    one, two, three = (measured(name, image, seed) for seed in (1, 1, 2))
    assert torch.equal(one.measurement.start, two.measurement.start)
    drawn = name not in {"ixi-td", "ixi-bd x3", "ixi-bd x4", "sparse view", "fan", "limited"}
    assert torch.equal(one.measurement.start, three.measurement.start) != (drawn and "thick" not in name)
    assert DEGRADATIONS[name].protocol in PROTOCOLS
    torch.testing.assert_close(magnitude(one.truth), image)
    assert one.measurement.start.dtype == torch.float32
    assert one.measurement.start.shape == one.truth.shape


@every
def test_the_truth_agrees_with_the_measurement(name):
    simulated = measured(name, images())
    measurement = simulated.measurement
    if name in WITHOUT_DATA:
        assert measurement.operator is None
        assert measurement.project(simulated.truth) is simulated.truth
        return
    operator, data = measurement.operator, measurement.data
    error = float((operator.forward(simulated.truth) - data).abs().max() / data.abs().max())
    noisy = name in {"low dose", "recon noise", "recon coils noise"}
    assert error < (0.2 if noisy else 1e-5)
    if not noisy:
        torch.testing.assert_close(measurement.project(simulated.truth), simulated.truth, rtol=1e-4, atol=1e-4)
    if operator.exact and measurement.noise is None:
        known = operator.forward(measurement.project(torch.zeros_like(simulated.truth)))
        assert float((known - data).abs().max()) <= 1e-5 * float(data.abs().max())


@every
def test_a_part_of_the_batch_and_a_mirrored_one(name):
    simulated = measured(name, images())
    some = simulated.measurement[1:3]
    guess = images(2, seed=5).expand_as(some.start)
    whole = torch.cat((guess[:1], guess))
    torch.testing.assert_close(some.project(guess), simulated.measurement.project(whole)[1:3], rtol=1e-4, atol=1e-4)
    mirrored = some.flip((-1,))
    torch.testing.assert_close(mirrored.start, some.start.flip(-1))
    torch.testing.assert_close(mirrored.project(guess.flip(-1)).flip(-1), some.project(guess), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["recon", "recon partial", "recon disc", "recon coils", "blocks", "streaks"])
def test_a_volume_is_one_acquisition_and_training_draws_one_a_slice(name):
    image = images()
    together, alone = (measured(name, image, run=run).measurement for run in (None, 1))
    assert len(together.mask) == 1
    assert len(alone.mask) == len(image)
    assert not torch.equal(alone.mask[0], alone.mask[1])


@settings(max_examples=20)
@given(sigma=st.floats(0.02, 0.3), maximum=st.floats(0.5, 4), law=st.sampled_from(["rician", "gaussian", "poisson"]))
def test_the_noise_level_is_that_at_the_maximum(sigma, maximum, law):
    flat = torch.full((1, 1, 100, 100), maximum)
    generator = torch.Generator().manual_seed(0)
    simulated = Denoise(sigma, law)(flat, torch.tensor([maximum]), generator, None)
    measurement: Any = simulated.measurement
    assert measurement.law == law
    assert float(measurement.sigma) == pytest.approx(sigma * maximum, rel=1e-5)
    assert float(measurement.start.std()) == pytest.approx(sigma * maximum, rel=0.06)
    assert (measurement.maximum is not None) == (law == "poisson")


@pytest.mark.parametrize("coils", [1, 4])
def test_samples_have_noise_of_the_level_that_is_told(coils):
    image = images(40)
    clean, noisy = Recon(2, 0.2, "random", 0.5, coils), Recon(2, 0.2, "random", 0.5, coils, noise=0.05)
    maxima = torch.linspace(0.5, 4, 40)
    exact: Any
    given_: Any
    exact, given_ = (one(image, maxima, torch.Generator().manual_seed(3), None).measurement for one in (clean, noisy))
    assert torch.equal(exact.mask, given_.mask) and exact.noise is None
    torch.testing.assert_close(given_.noise.flatten(), 0.05 * maxima)
    sampled = exact.mask.expand(exact.data.shape)
    errors = torch.view_as_real((given_.data - exact.data) / given_.noise)
    assert not given_.data[~sampled].any()
    assert float(errors[sampled].std()) == pytest.approx(1, abs=0.03)
    assert float(errors[sampled].mean()) == pytest.approx(0, abs=0.03)
    torch.testing.assert_close(given_.operator.adjoint(given_.data), given_.start)
    assert torch.equal(given_.conditions()[:, :1].expand_as(given_.noise), given_.noise)
    assert torch.equal(given_[3:5].noise, given_.noise[3:5])


@pytest.mark.parametrize("name", ["recon noise", "recon coils noise"])
@pytest.mark.parametrize("level", [1e-4, 0.01, 0.3])
def test_noisy_samples_are_agreed_with_as_far_as_they_are_trusted(name, level):
    exact = replace(measured(name, images()).measurement, noise=None)
    noise = level * torch.tensor([1.0, 2.0, 0.5]).reshape(-1, 1, 1, 1)
    guess = torch.randn(exact.start.shape, generator=torch.Generator().manual_seed(1))
    noisy = replace(exact, noise=noise)
    answer, operator, data = noisy.project(guess), exact.operator, exact.data
    assert operator is not None and data is not None
    # The gradient of ‖A x − y‖² / σ² + ‖x − guess‖² / τ², times σ².
    slope = operator.gradient(answer, data) + (noise / EXPECTED_ERROR).square() * (answer - guess)
    few_steps = level == 1e-4 and "coils" in name  # ill-conditioned, and conjugate gradients take eight
    allowed = 0.02 if few_steps else 1e-3
    assert float(slope.abs().max()) < allowed * float(operator.gradient(guess, data).abs().max())
    nearer = float((answer - exact.project(guess)).norm() / (guess - exact.project(guess)).norm())
    assert nearer < (0.05 if few_steps else 1e-3) if level == 1e-4 else 0.05 < nearer < 1
    # What is known of the image's error takes the place of the usual one; exact samples do not ask.
    torch.testing.assert_close(noisy.project(guess, 0.3), noisy.proximal(guess, (noise / 0.3).square()))
    assert torch.equal(exact.project(guess, 0.3), exact.project(guess))
    # The mean of answers is an answer; where samples are exact it is put on them again.
    assert noisy.averaged(answer) is answer
    torch.testing.assert_close(exact.averaged(guess), exact.project(guess))


def test_noise_needs_something_to_draw_it_by():
    with pytest.raises(ValueError, match="noise needs a generator"):
        sample_kspace(images(), torch.ones(1, 1, *SHAPE, dtype=torch.bool), noise=torch.ones(1, 1, 1, 1))


def test_more_coils_and_fewer_columns_change_what_is_seen():
    image = images()
    eight: Any = measured("recon coils", image).measurement
    assert eight.data.shape == (3, 4, *SHAPE)
    partial: Any = measured("recon partial", image).measurement
    columns = partial.mask[0, 0, 0]
    frequencies = np.fft.fftfreq(SHAPE[1], 1 / SHAPE[1])
    assert frequencies[columns.numpy()].min() >= -(0.2 * SHAPE[1]) - 1


def test_lost_pixels_are_lost_from_the_start():
    simulated = measured("blocks", images() + 0.1)
    assert not simulated.measurement.start[~simulated.measurement.mask].any()
    assert float((~simulated.measurement.mask).float().mean()) >= 0.2


def test_missing_slices_are_lost_whole_and_never_the_first_or_the_last():
    simulated = measured("slices", images())
    known = simulated.measurement.mask
    assert known is not None
    for columns in known[:, 0]:
        assert (columns == columns[:1]).all()
        assert int((~columns[0]).sum()) == round(0.2 * SHAPE[1]) and columns[0, 0] and columns[0, -1]
