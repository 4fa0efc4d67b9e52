"""Training that reads no clean image: nothing of what is held out or of the truth reaches network or score."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae import build, checkpoint, paths, stages, train
from medwvae.config import Config
from medwvae.config_io import load
from medwvae.data.loaders import SliceSampler
from medwvae.degradation import Denoise, Mixture, Neighbourhoods, Recon
from medwvae.errors import ConfigError
from medwvae.nets.dncnn import DnCNN
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement, NoiseLaw, rician_mean
from medwvae.report import figures
from medwvae.self_supervision import (
    HELD,
    SPACING,
    SSDU,
    Noise2Self,
    answer_without_own,
    blended,
    expected,
    held_loss,
    held_ratio,
    mean_of_neighbours,
    split,
    unbiased,
)
from tests.cases import case
from tests.test_restoration_tasks import study
from tests.test_train import SETTINGS

SIZES = st.integers(6, 21)
RECONS: dict[str, Any] = {
    "columns": Recon(3, 0.15, "random", 0.5),
    "disc": Recon(4, 0.2, "poisson-disc", 0.5),
    "coils": Recon(3, 0.15, "equispaced", 0.5, coils=3),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(height=24, width=20, batch=3, seed=0):
    return torch.rand(batch, 1, height, width, generator=generator(seed)) + 0.1


@dataclass(frozen=True)
class Poisoned:
    """A degradation whose truth is no number: whoever reads it is found out."""

    degrade: Any

    def __call__(self, image, maximum, generator, run):
        simulated = self.degrade(image, maximum, generator, run)
        return replace(simulated, truth=torch.full_like(simulated.truth, math.nan))


@dataclass(frozen=True)
class Disturbed:
    """A denoising measurement that is changed at the pixels of a mask."""

    degrade: Any
    where: Any
    by: float
    protocol: ClassVar[str] = "none"

    def __call__(self, image, maximum, generator, run):
        simulated = self.degrade(image, maximum, generator, run)
        noisy = simulated.measurement.start + self.by * self.where
        return replace(simulated, measurement=replace(simulated.measurement, start=noisy))


def measured(degrade, image, seed=0):
    return degrade(image, torch.ones(len(image)), generator(seed), 1)


# --- Noise2Self ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.integers(0, 99))
def test_the_input_does_not_depend_on_the_pixels_that_are_held_out(height, width, seed):
    image = images(height, width)
    plain = measured(Noise2Self(Denoise(0.1)), image, seed)
    held = plain.held.operator.mask
    other = measured(Noise2Self(Disturbed(Denoise(0.1), held, 5.0)), image, seed)
    assert torch.equal(held, other.held.operator.mask)
    torch.testing.assert_close(other.measurement.start, plain.measurement.start)
    assert torch.equal(plain.measurement.start[~held], plain.truth[~held])
    assert not torch.equal(other.held.data, plain.held.data) or not held.any()
    assert held.flatten(1).sum(1).max() <= -(-height // SPACING) * -(-width // SPACING)


def test_every_pixel_is_held_out_at_some_time():
    seen = sum(measured(Noise2Self(Denoise(0.1)), images(9, 7), seed).held.operator.mask.int() for seed in range(80))
    assert (seen.sum(0) > 0).all()


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES)
def test_the_mean_of_neighbours_leaves_the_pixel_out(height, width):
    torch.testing.assert_close(mean_of_neighbours(torch.ones(1, 1, height, width)), torch.ones(1, 1, height, width))
    single = torch.zeros(1, 1, height, width)
    single[..., height // 2, width // 2] = 1
    assert mean_of_neighbours(single)[..., height // 2, width // 2] == 0


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, st.integers(0, 99))
def test_the_answer_to_a_pixel_does_not_read_it(height, width, seed):
    model = WaveletVAE(widths=(4, 4), blocks=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(parameter.numel())))
    image = images(height, width, batch=1)
    y, x = seed % height, seed % width
    other = image.clone()
    other[..., y, x] += 3
    one, two = (answer_without_own(model.restore, Measurement(start)) for start in (image, other))
    torch.testing.assert_close(two[..., y, x], one[..., y, x])
    assert not torch.equal(one, two)


@pytest.mark.parametrize("law", ["gaussian", "poisson", "rician"])
def test_the_mixture_is_better_than_either(law: NoiseLaw):
    # Of a smooth ramp, which neighbours tell, and of structure, which they do not.
    texture: Any = torch.rand(48, 48, generator=generator()) > 0.5
    image: Any = torch.linspace(0.2, 1, 48).expand(48, 48) + 0.4 * texture
    image = image[None, None] * (torch.arange(48) >= 24) + 0.6 * (torch.arange(48) < 24)
    measurement = measured_by(Denoise(0.15, law), image)
    plain = unbiased(expected(answer_without_own(lambda m: m.start, measurement), measurement), measurement)
    mixed = blended(lambda m: m.start)(measurement)
    errors = [float((x - image).square().mean()) for x in (mixed, measurement.start, plain)]
    assert errors[0] < 0.95 * min(errors[1:])
    assert (mixed >= 0).all()


def measured_by(degrade, image):
    return degrade(image, torch.ones(1), generator(1), None).measurement


@pytest.mark.parametrize("law", ["gaussian", "poisson", "rician"])
def test_the_clean_image_has_the_least_expected_loss(law: NoiseLaw):
    # Also of Rician noise, whose mean is not the clean image.
    image = torch.full((1, 1, 160, 160), 0.25)
    held = measured(Noise2Self(Denoise(0.2, law)), image).held
    losses = {shift: float(held_loss(image + shift, held)) for shift in (-0.06, 0.0, 0.06)}
    assert min(losses, key=lambda shift: losses[shift]) == 0.0


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 20), st.floats(0.05, 2))
def test_the_expected_magnitude_is_that_of_the_noise_laws(signal, sigma):
    image = torch.full((1, 1, 1, 1), signal, dtype=torch.float64, requires_grad=True)
    held: Any = type("Held", (), {"sigma": torch.tensor(sigma, dtype=torch.float64), "law": "rician"})
    own = expected(image, held)
    assert own.item() == pytest.approx(float(rician_mean(image.detach().numpy(), sigma).item()), rel=1e-5)
    own.sum().backward()
    assert image.grad is not None and image.grad.isfinite().all()


# --- SSDU ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(RECONS))
@settings(max_examples=12, deadline=None)
@given(st.integers(14, 25), st.integers(14, 25), st.integers(0, 99))
def test_samples_are_split_and_the_centre_stays(name, height, width, seed):
    image = images(height, width)
    whole = measured(RECONS[name], image, seed).measurement
    simulated = measured(SSDU(RECONS[name]), image, seed)
    seen, held = simulated.measurement, simulated.held
    sampled = whole.mask.expand_as(held.mask)
    assert not (seen.mask & held.mask).any()
    assert torch.equal(seen.mask | held.mask, sampled)
    assert held.mask.any()
    torch.testing.assert_close(seen.data + held.data, whole.data)
    assert torch.equal(simulated.truth, whole.start)
    # The phase estimate reads nothing that is held out.
    assert torch.equal(seen.operator.phasor, whole.operator.phasor)
    low = round(width * RECONS[name].centre) // 2
    assert not held.mask[..., :1, :low].any()
    # The clean image has no loss; the start of the part has some.
    clean = measured(RECONS[name], image, seed).truth
    assert float(held_loss(clean, held)) < 1e-4 < float(held_loss(seen.start, held))
    assert held_ratio(clean, held) > 1e6


def test_both_parts_of_noisy_samples_have_their_noise():
    simulated = measured(SSDU(Recon(3, 0.15, "random", 0.5, noise=0.05)), images(20, 22))
    for part in (simulated.measurement, simulated.held):
        torch.testing.assert_close(part.noise.flatten(), torch.full((len(part.noise),), 0.05))
    clean = measured(Recon(3, 0.15, "random", 0.5), images(20, 22)).truth
    assert (
        1e-3 < float(held_loss(clean, simulated.held)) < float(held_loss(simulated.measurement.start, simulated.held))
    )


@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES, st.integers(0, 4))
def test_the_share_that_is_held_out(height, width, rows):
    sampled = torch.rand(2, 1, height, width, generator=generator()) < 0.5
    held = split(sampled, (rows, 2), generator(1))
    inside = (torch.fft.fftfreq(height, 1 / height).abs() <= rows / 2)[:, None]
    free = sampled & ~(inside & (torch.fft.fftfreq(width, 1 / width).abs() <= 1))
    for own, allowed in zip(held, free, strict=True):
        assert int(own.sum()) == round(HELD * int(allowed.sum()))
        assert not (own & ~allowed).any()


# --- training --------------------------------------------------------------------------------------------------------


def run(tmp_path, degrade, make, neighbours=0, **changes):
    cases = [case("a"), case("b", shape=(7, 22, 25), seed=1)]
    sampler = SliceSampler(cases, (24, 16), neighbours=neighbours)
    held = train.Validation([case("c", seed=2)], degrade, 3, seed=1)
    chosen = train.Settings(**{**vars(SETTINGS), "steps": 6, **changes})
    return train.train(make, sampler, degrade, held, chosen, tmp_path)


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("mode", ["noise2self", "ssdu"])
def test_a_poisoned_truth_changes_nothing(tmp_path, mode, neighbours):
    def degrade(poison):
        inner: Any = Denoise(0.1) if mode == "noise2self" else Recon(3, 0.15, "random", 0.5)
        if poison and mode == "noise2self":
            inner = Poisoned(inner)
        inner = Neighbourhoods(inner, neighbours) if neighbours else inner
        return (Noise2Self if mode == "noise2self" else SSDU)(inner)

    weights = []
    for poison in (False, True):
        options: Any = {"channels": 1 if mode == "noise2self" else 2, "conditions": 1, "neighbours": neighbours}
        make = partial(WaveletVAE, widths=(6, 8), blocks=1, **options)
        measure = degrade(poison)
        if poison and mode == "ssdu":
            measure = _poisoned_recon(measure)
        best, progress, _ = run(tmp_path / str(poison), measure, make, neighbours)
        weights.append(best)
        last = progress.history[-1]
        assert math.isfinite(last["loss"]) and math.isfinite(last["val_held"]) and "val_psnr" not in last
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name])


class _PoisonedRecon(Recon):
    def __call__(self, image, maximum, generator, run):
        return Poisoned(super().__call__)(image, maximum, generator, run)


def _poisoned_recon(measure):
    poisoned = _PoisonedRecon(3, 0.15, "random", 0.5)
    inner = measure.degrade
    return SSDU(replace(inner, degrade=poisoned) if isinstance(inner, Neighbourhoods) else poisoned)


def test_a_network_learns_to_denoise_from_noisy_images_alone(tmp_path):
    degrade = Denoise(0.15)
    best, _, _ = run(
        tmp_path, Noise2Self(degrade), lambda: DnCNN(conditions=1, depth=5, width=16), steps=120, learning_rate=4e-3
    )
    model = DnCNN(conditions=1, depth=5, width=16)
    model.load_state_dict(best)
    one = case("d", seed=4)
    simulated = degrade(one.slices(), one.maximum(), generator(3), None)
    restored = blended(model.eval().restore)(simulated.measurement)
    head = torch.from_numpy(one.prepared.head)[:, None]
    before, after = (
        float((x - simulated.truth)[head].square().mean()) for x in (simulated.measurement.start, restored)
    )
    assert after < 0.75 * before


# --- configuration ---------------------------------------------------------------------------------------------------


def test_the_configuration_wraps_every_setting_and_its_neighbours():
    noise = {"s3": {"sigma": 0.03}, "s9": {"sigma": 0.09}}
    config = load(
        overrides={
            "tasks": {"enabled": ["denoise"], "denoise.settings": noise},
            "train": {"supervision": "noise2self", "loss": "mse"},
            "networks.neighbours": 1,
        }
    )
    assert build.training_degradation(config, "denoise") == Mixture(
        (Noise2Self(Neighbourhoods(Denoise(0.03), 1)), Noise2Self(Neighbourhoods(Denoise(0.09), 1)))
    )
    config = load(overrides={"tasks.enabled": ["recon"], "train.supervision": "ssdu"})
    assert build.training_degradation(config, "recon") == SSDU(Recon(4, 0.08, "random", 1.0))
    assert build.degradation(config, "recon") == Recon(4, 0.08, "random", 1.0)  # restoration sees all samples


@pytest.mark.parametrize(
    ("tasks", "train_", "networks", "words"),
    [
        (["denoise", "recon"], {"supervision": "noise2self", "loss": "mse"}, {}, "noise2self is for denoise alone"),
        (["superres"], {"supervision": "ssdu"}, {}, r"ssdu is for recon alone \(it splits sampled k-space\)"),
        (["denoise"], {"supervision": "noise2self"}, {}, "needs the loss mse"),
        (["recon"], {"supervision": "ssdu"}, {"dims": 3}, "networks on slices"),
    ],
)
def test_combinations_without_sense_are_refused(tasks, train_, networks, words):
    with pytest.raises(ConfigError, match=words):
        load(overrides={"tasks.enabled": tasks, "train": train_, "networks": networks})


def test_intervals_need_clean_images():
    ssdu = {"tasks.enabled": ["recon"], "train.supervision": "ssdu"}
    with pytest.raises(ConfigError, match=r"restore\.uncertainty\.level: intervals are calibrated on clean images"):
        load(overrides=ssdu | {"restore.uncertainty.level": 0.9})


@pytest.mark.parametrize(
    ("task", "options", "how"),
    [
        ("denoise", {"crop": [24, 16]}, {"supervision": "noise2self", "loss": "mse"}),
        ("recon", {"centre": 0.15}, {"supervision": "ssdu"}),
    ],
)
def test_from_training_to_scores(tmp_path, monkeypatch, task, options, how):
    plain = study(tmp_path, task, options).model_dump(mode="json")
    plain["train"] |= how
    plain["networks"] |= {"enabled": ["wavelet_vae", "dncnn"], "dncnn": {"depth": 3, "width": 4}}
    config = Config.model_validate(plain)
    seen = []

    def watched(answer, measurement):
        seen.append(task)
        return answer(measurement)

    monkeypatch.setattr("medwvae.self_supervision.answer_without_own", watched)
    for network in config.networks.enabled:
        stages.train(config, task, network, 1)
        stages.restore(config, task, network, 1)
        history = pd.read_csv(paths.history(config.root, task, network))
        assert history["val_held"].notna().any() and "val_psnr" not in history
    assert len(seen) == (2 if task == "denoise" else 0)  # one test volume, two networks
    stages.restore(config, task, "input", 1)
    meta = checkpoint.load(paths.model(config.root, task, "dncnn"))["meta"]
    model = build.network(config, task, "dncnn")
    assert meta["parameters"] == sum(p.numel() for p in model.parameters())
    curves = figures.training_curves("Denoising", {"dncnn": history})
    assert curves is not None and "validation ratio of held-out data to error" in curves
