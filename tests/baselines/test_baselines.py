from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import shepp_logan_phantom
from skimage.restoration import denoise_wavelet
from skimage.transform import resize

from medwvae.baselines import Classical, classical, denoise, recon
from medwvae.baselines.superres import lanczos_matrix, low_resolution, spline_matrix
from medwvae.baselines.tuning import Case, tune
from medwvae.degradation import Inpaint, Recon, SparseView
from medwvae.metrics import psnr
from medwvae.names import CLASSICAL, EXTRAS, TASKS
from medwvae.operators import (
    Measurement,
    cartesian_mask,
    magnitude,
    rician,
    sample_kspace,
    smooth_phase,
    to_kspace,
    truncation_mask,
    with_phase,
)

SLICES, HEIGHT, WIDTH = 3, 45, 60
CENTRE = 7
METHODS = [classical(task)[name] for task in TASKS for name in CLASSICAL[task]]


def name_of(method):
    return f"{method.task}-{method.name}"


def generator(seed):
    return torch.Generator().manual_seed(seed)


def truth(seed=0):
    """Head-like slices (S, 1, H, W) with some smooth variation, in [0, 1.2], and the head."""
    phantom = resize(shepp_logan_phantom(), (HEIGHT, WIDTH), anti_aliasing=True)
    shade = 1 + 0.2 * np.sin(np.arange(SLICES) + seed)[:, None, None] * np.linspace(-1, 1, WIDTH)
    volume = torch.from_numpy(phantom * shade).float()[:, None]
    return volume, (volume[:, 0] > 0.02).numpy()


def measurement(task, image, seed=0, turn=0.0):
    if task == "superres":
        return sample_kspace(image, truncation_mask((HEIGHT, WIDTH), 2))
    if task == "denoise":
        level = torch.full((1, 1, 1, 1), 0.05)
        return Measurement(rician(image, level, generator(seed)), sigma=level)
    if task in ("ct", "inpaint"):
        degrade = SparseView(24) if task == "ct" else Inpaint()
        return degrade(image, image.amax().reshape(1), generator(seed), None).measurement
    masks = [cartesian_mask(WIDTH, 3, CENTRE / WIDTH, "random", generator(seed + i)) for i in range(SLICES)]
    phase = turn + smooth_phase((HEIGHT, WIDTH), generator(seed), 0.5)
    return sample_kspace(with_phase(image, phase), torch.cat(masks), CENTRE)


def run(method, given, params=None):
    return method.run(given, **(params or method.grid[len(method.grid) // 2]))


def quality(image, reference, head):
    return psnr(image[:, 0].numpy(), reference[:, 0].numpy(), data_range=1.2, mask=head)


def test_the_vocabulary_names_every_method():
    assert {task: tuple(classical(task)) for task in TASKS} == {task: CLASSICAL[task] + EXTRAS[task] for task in TASKS}


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_every_method_returns_a_finite_magnitude_and_is_repeatable(method):
    image, _ = truth()
    given = measurement(method.task, image)
    before = given.start.clone()
    restored = run(method, given)
    assert restored.shape == (SLICES, 1, HEIGHT, WIDTH)
    assert restored.dtype == torch.float32
    assert restored.isfinite().all()
    assert (restored >= 0).all()
    assert torch.equal(restored, run(method, given))
    assert torch.equal(given.start, before)


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_every_method_is_equivariant_to_the_unit(method):
    # Powers of two are exact in floating point; k-space and noise level scale with the image.
    image, _ = truth()
    one = measurement(method.task, image)
    four = replace(
        one,
        start=4 * one.start,
        data=None if one.data is None else 4 * one.data,
        sigma=None if one.sigma is None else 4 * one.sigma,
    )
    torch.testing.assert_close(run(method, four), 4 * run(method, one), rtol=1e-3, atol=1e-3)


RELATIVE = {f"{task}-cs_wavelet" for task in ("recon", "superres", "inpaint")}
RELATIVE |= {f"{task}-tv" for task in ("recon", "superres", "inpaint", "ct")}
"""Their weights refer to the volume's maximum."""


@pytest.mark.parametrize("method", [m for m in METHODS if name_of(m) not in RELATIVE], ids=name_of)
def test_slices_are_restored_one_by_one(method):
    given = measurement(method.task, truth()[0])
    torch.testing.assert_close(run(method, given)[1:2], run(method, given[1:2]), rtol=1e-4, atol=1e-5)


GAINS = {
    "ct-sirt": 1,
    "ct-tv": 4,
    "inpaint-cs_wavelet": 3,
    "inpaint-tv": 3,
    "inpaint-biharmonic": 3,
    "denoise-bilateral": 2,
    "recon-tv": 4,
    "denoise-nlm": 2,
    "denoise-tv": 2,
    "denoise-bayes_shrink": 2,
    "recon-cs_wavelet": 4,
    "superres-cs_wavelet": 0.5,
    "superres-tv": 0.5,
}


@pytest.mark.parametrize("method", [m for m in METHODS if name_of(m) in GAINS], ids=name_of)
def test_tuned_methods_beat_their_input_clearly(method):
    image, head = truth()
    given = measurement(method.task, image)
    case = Case("one", given, image, head)
    restored = run(method, given, tune(method, [case], every=1).params)
    assert quality(restored, image, head) > quality(magnitude(given.start), image, head) + GAINS[name_of(method)]


def test_more_lobes_come_closer_to_the_zero_filled_image():
    # Zero filling is sinc interpolation, the limit of both families.
    given = measurement("superres", truth()[0])
    for method in (classical("superres")["lanczos"], classical("superres")["spline"]):
        distances = [float((run(method, given, params) - given.start.clamp(min=0)).norm()) for params in method.grid]
        assert distances == sorted(distances, reverse=True)


@settings(max_examples=40, deadline=None)
@given(low=st.integers(9, 21), extra=st.integers(0, 25), lobes=st.integers(2, 4), order=st.integers(1, 5))
def test_interpolation_keeps_constants_and_is_the_identity_on_the_same_grid(low, extra, lobes, order):
    for matrix in (partial(spline_matrix, order=order), partial(lanczos_matrix, lobes=lobes)):
        np.testing.assert_allclose(matrix(low + extra, low).sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(matrix(low, low), np.eye(low), atol=1e-6)
        # An exact multiple: every k-th row is a low-resolution sample, and a cyclic shift of the input a shift of k.
        tripled = matrix(3 * low, low)
        np.testing.assert_allclose(tripled[::3], np.eye(low), atol=1e-6)
        np.testing.assert_allclose(np.roll(tripled, (3, 1), (0, 1)), tripled, atol=1e-6)


def test_the_low_resolution_image_samples_the_zero_filled_one():
    # 45 = 3·15: with 15 rows kept every third row of the high-resolution grid is a sample.
    image = truth()[0][..., :45]
    given = sample_kspace(image, truncation_mask((45, 45), 3))
    low = low_resolution(given)
    assert low.shape == (SLICES, 1, 15, 15)
    torch.testing.assert_close(low, given.start[..., ::3, ::3], rtol=1e-4, atol=1e-5)


def test_a_band_limited_wave_is_interpolated_in_place():
    # Wrong alignment by a fraction of a sample would show as a phase shift.
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    wave = (1 + 0.5 * torch.cos(2 * torch.pi * (2 * y / HEIGHT + 3 * x / WIDTH) + 0.3))[None, None]
    given = sample_kspace(wave, truncation_mask((HEIGHT, WIDTH), 2))
    for name, params in (("spline", {"order": 5}), ("lanczos", {"lobes": 8})):
        restored = classical("superres")[name].run(given, **params)
        torch.testing.assert_close(restored, wave, rtol=0, atol=3e-3)


@pytest.mark.parametrize("task", ["recon", "superres"])
def test_compressed_sensing_agrees_with_the_known_samples(task):
    # The magnitude loses the phase, so compare before: a real image whose phase is nought.
    image, _ = truth()
    mask = truncation_mask((HEIGHT, WIDTH), 2) if task == "superres" else torch.ones(1, 1, 1, WIDTH, dtype=torch.bool)
    given = sample_kspace(image if task == "superres" else with_phase(image, torch.zeros(())), mask)
    restored = recon.cs_wavelet(given, weight=3e-4, iterations=20)
    if task == "recon":
        torch.testing.assert_close(restored, image, rtol=0, atol=1e-5)
    else:
        error = (to_kspace(restored) - to_kspace(image)).abs() * mask
        assert error.norm() < 0.02 * to_kspace(image).norm()


@pytest.mark.parametrize("name", ["tv", "cs_wavelet"])
@pytest.mark.parametrize("sigma", [0.02, 0.08])
def test_noisy_samples_are_weighed_and_not_believed(name, sigma):
    image, head = truth()
    noisy = Recon(2, 0.2, "random", 0.3, noise=sigma)(image, torch.ones(SLICES), generator(0), None).measurement
    method = classical("recon")[name]
    params: dict[bool, dict[str, float]] = {}
    found: dict[bool, torch.Tensor] = {}
    for seen in (noisy, replace(noisy, noise=None)):
        told = seen.noise is not None
        params[told] = tune(method, [Case("one", seen, image, head)], every=1).params
        assert params[told] in (method.noisy if told else method.grid)
        found[told] = run(method, seen, params[told])
    weights = sorted({one["weight"] for one in method.noisy})
    assert weights[0] < params[True]["weight"] < weights[-1]
    assert quality(found[True], image, head) > quality(found[False], image, head) + (0.5 if sigma == 0.02 else 2)
    assert noisy.data is not None and noisy.noise is not None
    four = replace(noisy, start=4 * noisy.start, data=4 * noisy.data, noise=4 * noisy.noise)
    torch.testing.assert_close(run(method, four, params[True]), 4 * found[True], rtol=1e-3, atol=1e-3)


def test_the_low_frequency_phase_is_the_phase_of_a_smooth_image():
    image, head = truth()
    phase = smooth_phase((HEIGHT, WIDTH), generator(3), waves=0.3)
    mask = cartesian_mask(WIDTH, 4, 0.2, "random", generator(0))
    phasor = sample_kspace(with_phase(image, phase), mask, round(0.2 * WIDTH)).phasor
    assert phasor is not None
    difference = (phasor[:, 0] * torch.polar(torch.ones_like(phase), -phase)).angle().abs()
    assert difference[torch.from_numpy(head)].median() < 0.1


def test_removing_the_phase_pays(monkeypatch):
    image, head = truth()
    given = measurement("recon", image)
    with_it = quality(recon.cs_wavelet(given, weight=6e-4, iterations=40), image, head)
    assert given.mask is not None
    given = sample_kspace(with_phase(image, smooth_phase((HEIGHT, WIDTH), generator(0), 0.5)), given.mask)
    monkeypatch.setattr(torch.Tensor, "clamp", lambda x, **_: x)  # nor is the real part positive then
    without = quality(recon.cs_wavelet(given, weight=6e-4, iterations=40), image, head)
    assert with_it > without + 2


def test_a_global_phase_changes_nothing():
    given = measurement("recon", truth()[0])
    turned = measurement("recon", truth()[0], turn=1.0)
    params = {"weight": 6e-4, "iterations": 40}
    expected = recon.cs_wavelet(given, **params)
    torch.testing.assert_close(recon.cs_wavelet(turned, **params), expected, rtol=0, atol=1e-3)


def test_bayes_shrink_equals_scikit_image_without_shifts():
    rng = np.random.default_rng(0)
    image = truth()[0][0, 0].numpy()[:40, :56] * 20 + rng.standard_normal((40, 56)).astype(np.float32)
    ours = denoise._shrink(image[None], 1, 1.0)[0]
    theirs = denoise_wavelet(image, sigma=1.0, wavelet="haar", wavelet_levels=3, mode="soft", rescale_sigma=False)
    assert pywt.dwtn_max_level(image.shape, "haar") >= 3
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("name", sorted(CLASSICAL["denoise"]))
def test_denoising_leaves_no_rician_bias_in_a_flat_image(name):
    flat = torch.full((2, 1, 48, 64), 2.0)
    level = torch.tensor([1.0, 0.7]).reshape(2, 1, 1, 1)
    given = Measurement(rician(flat, level, generator(0)), sigma=level)
    method = classical("denoise")[name]
    strongest = max(method.grid, key=lambda params: tuple(params.values()))
    restored = run(method, given, strongest)
    assert (given.start.mean((1, 2, 3)) - 2 > 0.1).all()  # the bias is there
    torch.testing.assert_close(restored.mean((1, 2, 3)), torch.full((2,), 2.0), rtol=0, atol=0.06)


@pytest.mark.parametrize("name", sorted(CLASSICAL["denoise"]))
def test_denoising_without_a_noise_level_is_refused(name):
    image, _ = truth()
    for level in (None, torch.zeros(1, 1, 1, 1)):
        with pytest.raises(ValueError, match="noise level"):
            run(classical("denoise")[name], Measurement(image, sigma=level))


def test_grids_are_small():
    assert all(len(method.grid) <= 15 and len(method.noisy) <= 24 for method in METHODS)
    assert {method.name for method in METHODS if not method.tuned} == {"zero_filled", "biharmonic"}


def shift(given, offset):
    return given.start + offset


def test_tuning_finds_the_best_mean_over_subjects():
    # A method that adds an offset; the truth is the start plus 0.3 for one subject and plus 0.5 for the other.
    start = torch.rand(8, 1, 6, 6, generator=generator(0))
    head = np.zeros((8, 6, 6), bool)
    head[1:7, 2:5, 2:5] = True
    cases = []
    for offset in (0.3, 0.5):
        wanted = start + offset
        wanted[~torch.from_numpy(head)[:, None]] = 0  # outside the head nothing counts
        cases.append(Case(str(offset), Measurement(start), wanted, head))
    offsets = (0.1, 0.31, 0.4, 0.6)
    method = Classical("shift", "denoise", shift, tuple({"offset": offset} for offset in offsets))
    seen = []

    def watched(given, offset):
        seen.append(len(given.start))
        return shift(given, offset)

    tuning = tune(Classical("shift", "denoise", watched, method.grid), cases, every=2)
    assert [trial.params for trial in tuning.table] == list(method.grid)
    assert set(seen) == {3}  # slices 1, 3, 5 of the six that meet the head
    assert len(seen) == len(offsets) * len(cases)
    for trial in tuning.table:
        ranges = [float(case.truth.max()) for case in cases]
        errors = [abs(trial.params["offset"] - wanted) for wanted in (0.3, 0.5)]
        expected = np.mean([20 * np.log10(r / e) for r, e in zip(ranges, errors, strict=True)])
        assert trial.psnr == pytest.approx(expected, abs=1e-3)
    assert tuning.params == max(tuning.table, key=lambda trial: trial.psnr).params
    assert tuning.seconds == pytest.approx(sum(trial.seconds for trial in tuning.table))
    assert tuning.seconds > 0


def test_tuning_needs_a_subject_with_a_head():
    method = classical("recon")["zero_filled"]
    with pytest.raises(ValueError, match="no validation subject"):
        tune(method, [])
    image, head = truth()
    with pytest.raises(ValueError, match="empty head"):
        tune(method, [Case("one", measurement("recon", image), image, np.zeros_like(head))])
