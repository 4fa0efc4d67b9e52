import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medwvae import checkpoint, train
from medwvae.data.loaders import SliceSampler, contrasts_of
from medwvae.degradation import Clean, Denoise, Mixture, Simulated
from medwvae.errors import InputError, TrainingError
from medwvae.metrics import psnr
from medwvae.nets.conv_vae import ConvVAE
from medwvae.nets.restorer import Estimate
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.nets.wavelet_vae import WaveletVAE
from tests.cases import case

SETTINGS = train.Settings(
    seconds=None, steps=24, batch=2, learning_rate=5e-3, weight_decay=1e-3, warmup=0.1, clip=1.0, ema=0.9,
    validations=4, patience=0, loss="l1", checkpoint_seconds=1e-9, seed=3,
)  # fmt: skip
CPU = torch.device("cpu")
TIMING = ("seconds", "images_per_s", "voxels_per_s")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def denoiser():
    return WaveletVAE(conditions=1, widths=(6, 8), blocks=1)


def generative():
    return WaveletLatentVAE(objective="elbo", widths=(6, 8), blocks=1, prior_width=4, prior_blocks=1)


def conventional():
    return ConvVAE(conditions=1, widths=(6, 8), latent=4, blocks=1)


def run(state_dir: Path, build=denoiser, degrade=None, validation=None, report=None, **changes):
    if degrade is None:
        degrade = Clean() if build is generative else Denoise(0.1)
    cases = [case("a"), case("b", shape=(7, 22, 25), seed=1)]
    sampler = SliceSampler(cases, (16, 12))
    if validation is None:
        validation = train.Validation([case("c", seed=2)], degrade, 3, seed=1)
    settings = dataclasses.replace(SETTINGS, **changes)
    return train.train(build, sampler, degrade, validation, settings, state_dir, report or (lambda *_: None))


def plain(progress):
    """Return the history without what a clock says."""
    return [{name: value for name, value in row.items() if name not in TIMING} for row in progress.history]


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(steps):
    seen = []

    def report(fraction, figures):
        seen.append(fraction)
        if len(seen) > steps:
            raise StoppedError

    return report


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [denoiser, generative, conventional], ids=lambda build: build.__name__)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path, monkeypatch, build):
    monkeypatch.setattr(train, "RECORDS", 5)  # so that the checkpoint falls between two rows of the history
    expected, progress, _ = run(tmp_path / "whole", build)
    torch.manual_seed(99)  # whatever happened in the process before does not matter
    for steps in (7, 6):
        with pytest.raises(StoppedError):
            run(tmp_path / "parts", build, report=stop_after(steps))
    weights, resumed, _ = run(tmp_path / "parts", build)
    assert resumed.step == progress.step == 24
    assert_same(weights, expected)
    assert plain(resumed) == plain(progress)
    whole, parts = (checkpoint.load(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert_same(parts["model"], whole["model"])
    assert_same(parts["averaged"], whole["averaged"])


def test_a_mixture_of_settings_resumes_to_the_bit_too(tmp_path):
    mixture = Mixture((Denoise(0.03), Denoise(0.1), Denoise(0.2)))
    expected, progress, _ = run(tmp_path / "whole", degrade=mixture)
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", degrade=mixture, report=stop_after(13))
    weights, resumed, _ = run(tmp_path / "parts", degrade=mixture)
    assert_same(weights, expected)
    assert plain(resumed) == plain(progress)


def test_a_finished_training_is_not_repeated(tmp_path):
    weights, progress, _ = run(tmp_path)
    again, same, _ = run(tmp_path, report=stop_after(0))  # which would raise at the first step
    assert_same(again, weights)
    assert plain(same) == plain(progress)


def test_the_seed_decides_everything(tmp_path):
    one, history, _ = run(tmp_path / "1")
    two, same, _ = run(tmp_path / "2")
    other, _, _ = run(tmp_path / "3", seed=4)
    assert_same(one, two)
    assert plain(history) == plain(same)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_training_learns(tmp_path):
    def build():
        return WaveletVAE(conditions=1, widths=(16, 16), blocks=1)

    _, progress, precision = run(tmp_path, build, steps=100, batch=8, loss="mse", checkpoint_seconds=9)
    scores = [row["val_psnr"] for row in progress.history if "val_psnr" in row]
    assert len(scores) == 4
    assert progress.best == max(scores)
    first = train.Validation([case("c", seed=2)], Denoise(0.1), 3, seed=1)(denoiser().eval(), CPU)
    assert progress.best > first + 0.7
    assert precision == "32-true"


def test_the_best_weights_come_back_not_the_last(tmp_path):
    scores = iter([5.0, 9.0, 7.0, 6.0])
    kept = []

    def validation(model, device):
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    weights, progress, _ = run(tmp_path, validation=validation)
    assert (progress.best, progress.stale) == (9.0, 2)
    assert_same(weights, kept[1])


@pytest.mark.parametrize(("patience", "validations"), [(0, 12), (1, 2), (3, 4)])
def test_early_stopping(tmp_path, patience, validations):
    count = []

    def validation(model, device):
        count.append(model)
        return 20.0

    _, progress, _ = run(tmp_path, validation=validation, validations=12, patience=patience)
    assert len(count) == validations
    assert progress.done
    assert progress.step == 2 * validations


def test_a_budget_in_seconds_is_kept(tmp_path):
    _, progress, _ = run(tmp_path, steps=None, seconds=0.3)
    assert progress.done
    assert 0.3 <= progress.seconds < 2
    assert progress.history[-1]["step"] == progress.step


# --- a loss that is not finite ---------------------------------------------------------------------------------------


def poisoned(step):
    """Denoising whose measurement is not finite at a step of the training (validation shares one draw a volume)."""
    clean, calls = Denoise(0.1), []

    def degrade(image, maximum, generator, run):
        simulated = clean(image, maximum, generator, run)
        calls.append(run)
        if calls.count(1) == step:
            simulated.measurement.start[0, 0, 0, 0] = math.nan
        return simulated

    return degrade


def test_a_loss_that_is_not_finite_stops_and_the_last_good_state_stays(tmp_path):
    with pytest.raises(TrainingError, match=r"became nan at step 9; lower train\.learning_rate") as error:
        run(tmp_path, degrade=poisoned(10))
    assert str(tmp_path / "last.ckpt") in str(error.value)
    state = checkpoint.load(tmp_path / "last.ckpt")
    assert state["progress"]["step"] == 9
    assert all(value.isfinite().all() for value in state["model"].values())
    expected, _, _ = run(tmp_path / "whole")
    weights, _, _ = run(tmp_path)  # with a cure the training goes on from there
    assert_same(weights, expected)


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path):
    class Root(WaveletVAE):
        """Finite answer, infinite slope: the square root at zero."""

        def forward(self, measurement, truth=None):
            estimate = super().forward(measurement, truth)
            if truth is None:
                return estimate
            flat = torch.stack([parameter.square().sum() for parameter in self.parameters()]).sum() * 0
            return Estimate(estimate.image, estimate.penalty + flat.sqrt(), estimate.terms)

    with pytest.raises(TrainingError, match="gradient"):
        run(tmp_path, lambda: Root(conditions=1, widths=(4, 4), blocks=0))
    assert not (tmp_path / "last.ckpt").exists()


def test_the_first_step_may_fail_too(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint was written yet"):
        run(tmp_path, degrade=poisoned(1))


# --- the parts -------------------------------------------------------------------------------------------------------


@given(st.floats(1e-6, 1), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_to_zero(peak, warmup, one, two):
    early, late = sorted((one, two))
    rates = [train.learning_rate_at(fraction, peak, warmup) for fraction in (early, late)]
    assert all(0 <= rate <= peak * (1 + 1e-9) for rate in rates)
    if late < warmup:
        assert rates[0] <= rates[1]
    if early >= warmup:
        assert rates[0] >= rates[1]
    assert train.learning_rate_at(warmup, peak, warmup) == pytest.approx(peak)
    assert train.learning_rate_at(1, peak, warmup) == pytest.approx(0, abs=1e-9 * peak)
    assert train.learning_rate_at(2, peak, warmup) == pytest.approx(0, abs=1e-9 * peak)


@given(st.floats(0, 0.9999), st.integers(0, 10**6))
def test_the_memory_of_the_average_grows_to_its_decay(decay, count):
    def share(steps):  # of the newest weights
        mean, new = (nn.Linear(1, 1) for _ in range(2))
        for layer, value in ((mean, 0.0), (new, 1.0)):
            layer.requires_grad_(False).weight.fill_(value)
        train._follow(mean, new, decay, steps)
        return float(mean.weight)

    expected = max(1 - decay, 9 / (10 + count)) if count else 1.0
    assert share(count) == pytest.approx(expected, abs=1e-6)
    assert share(count + 1) <= share(count) + 1e-7


def test_averaged_weights_forget_where_they_began():
    layer = nn.Linear(1, 1, bias=False)
    averaged = nn.Linear(1, 1, bias=False)
    for step in range(51):
        with torch.no_grad():
            layer.weight.fill_(1.0 if step else 100.0)
        train._follow(averaged, layer, 0.999, step)
    (weight,) = averaged.parameters()
    assert abs(float(weight.detach()) - 1) < 0.01  # a plain average over 0.999 would still hold 95 %


def test_buffers_are_those_of_the_newest_step():
    averaged, module = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    module(torch.arange(6.0).reshape(3, 2))
    train._follow(averaged, module, 0.9, 5)
    for mean, value in zip(averaged.buffers(), module.buffers(), strict=True):
        assert torch.equal(mean, value)


def test_another_precision_does_not_go_on(tmp_path):
    run(tmp_path)
    state = checkpoint.load(tmp_path / "last.ckpt")
    checkpoint.save(tmp_path / "last.ckpt", state | {"precision": "16-mixed"})
    with pytest.raises(TrainingError, match="is of a training in 16-mixed, but on this machine"):
        run(tmp_path)


def test_weights_of_another_network_do_not_go_on(tmp_path):
    run(tmp_path)
    state = checkpoint.load(tmp_path / "last.ckpt")
    checkpoint.save(tmp_path / "last.ckpt", state | {"model": {}})
    with pytest.raises(
        TrainingError, match=r"last\.ckpt is of a network that this version builds otherwise; delete it"
    ):
        run(tmp_path)


def test_the_history_is_a_table_with_holes(tmp_path):
    path = tmp_path / "history.csv"
    train.write_history(path, [{"step": 1.0, "loss": 0.123456789}, {"step": 2.0, "loss": 0.1, "val_psnr": 30.5}])
    table = pd.read_csv(path)
    assert list(table) == ["step", "loss", "val_psnr"]
    assert table["loss"].tolist() == [0.12345679, 0.1]
    assert math.isnan(table["val_psnr"][0])
    assert table["val_psnr"][1] == 30.5


def test_rows_of_the_history(tmp_path):
    _, progress, _ = run(tmp_path)
    assert [row["step"] for row in progress.history] == list(range(1, 25))
    assert progress.history[-1]["lr"] < SETTINGS.learning_rate / 20
    assert {"loss", "scale", "s/aa2", "s/dd1", "seconds", "images_per_s"} <= progress.history[0].keys()


def test_a_rows_loss_is_the_mean_over_its_steps(tmp_path, monkeypatch):
    _, every, _ = run(tmp_path / "every")
    monkeypatch.setattr(train, "RECORDS", 4)
    _, few, _ = run(tmp_path / "few")
    losses = np.array([row["loss"] for row in every.history]).reshape(4, 6).mean(1)
    assert [row["step"] for row in few.history] == [6, 12, 18, 24]
    np.testing.assert_allclose([row["loss"] for row in few.history], losses, rtol=1e-6)


# --- slices ----------------------------------------------------------------------------------------------------------


def numbered(name, shape):
    """Return a case whose voxels say where they are."""
    prepared = case(name, shape).prepared
    image = np.ravel_multi_index(np.indices(shape), shape).astype(np.float32) + 1
    return dataclasses.replace(case(name, shape), prepared=dataclasses.replace(prepared, image=image))


def test_crops_lie_inside_tissue_slices():
    shape = (40, 24, 20)
    chosen = numbered("a", shape)
    tissue = set(chosen.prepared.tissue_slices().tolist())
    assert 0 < len(tissue) < shape[0]
    images, maxima, _ = SliceSampler([chosen], (16, 12)).draw(200, torch.Generator().manual_seed(0))
    assert images.shape == (200, 1, 16, 12)
    assert torch.equal(maxima, torch.full((200,), float(np.prod(shape))))
    slices, rows, columns = np.unravel_index(images[:, 0].numpy().astype(int) - 1, shape)
    assert set(slices.ravel().tolist()) == tissue  # all of them are drawn, and no other
    assert np.ptp(slices, axis=(1, 2)).max() == 0
    for index, axis, size in ((rows, 1, 24), (columns, 2, 20)):
        steps = np.diff(index, axis=axis)
        assert set(np.unique(steps)) == {-1, 1}  # mirrored by chance
        assert np.ptp(steps, axis=(1, 2)).max() == 0
        assert (index.min(), index.max()) == (0, size - 1)  # every place is reached


def test_neighbours_are_drawn_with_a_slice_and_repeated_at_the_ends():
    shape = (5, 16, 12)
    chosen = numbered("a", shape)
    prepared = dataclasses.replace(chosen.prepared, head=np.ones(shape, bool))  # tissue to the ends
    sampler = SliceSampler([dataclasses.replace(chosen, prepared=prepared)], (8, 8), neighbours=2)
    images, *_ = sampler.draw(100, torch.Generator().manual_seed(0))
    slices, rows, columns = np.unravel_index(images.numpy().astype(int) - 1, shape)
    middles = slices[:, 2, 0, 0]
    assert set(middles.tolist()) == set(range(5))
    for place, offset in enumerate(range(-2, 3)):
        assert (slices[:, place] == np.clip(middles + offset, 0, 4)[:, None, None]).all()
        assert (rows[:, place] == rows[:, 2]).all()
        assert (columns[:, place] == columns[:, 2]).all()


def test_small_slices_are_padded_with_zeros_around():
    chosen = numbered("a", (9, 10, 13))
    images, *_ = SliceSampler([chosen], (16, 16)).draw(20, torch.Generator().manual_seed(0))
    for image in images[:, 0]:
        rows, columns = image.nonzero(as_tuple=True)
        assert (int(rows.max() - rows.min()), int(columns.max() - columns.min())) == (9, 12)
        assert int((image > 0).sum()) == 130
        assert abs(int(rows.min()) - (15 - int(rows.max()))) <= 1


def test_whole_slices_are_padded_to_the_largest_and_to_a_multiple():
    sampler = SliceSampler([numbered("a", (9, 10, 13)), numbered("b", (9, 12, 9))], None, multiple=8)
    images, maxima, _ = sampler.draw(30, torch.Generator().manual_seed(0))
    assert images.shape == (30, 1, 16, 16)
    assert set(maxima.tolist()) == {9 * 10 * 13, 9 * 12 * 9}
    assert all(int((image > 0).sum()) in (130, 108) for image in images)


def test_the_generator_decides_the_slices():
    sampler = SliceSampler([case("a"), case("b", seed=1)], (16, 12))
    one, two, other = (sampler.draw(8, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def of_contrasts(*contrasts):
    return [dataclasses.replace(case(name, seed=seed), contrast=name) for seed, name in enumerate(contrasts)]


def test_slices_of_several_contrasts_are_labelled_in_the_order_of_the_vocabulary():
    cases = of_contrasts("flair", "t1w", "ct")
    sampler = SliceSampler(cases, (16, 12))
    assert sampler.classes == contrasts_of(cases) == ("t1w", "flair", "ct")
    drawn = sampler.draw(60, torch.Generator().manual_seed(0))
    assert drawn.labels is not None
    assert drawn.labels.dtype == torch.int64
    by_class = [float(next(c for c in cases if c.contrast == name).maximum()) for name in sampler.classes]
    assert torch.equal(drawn.maxima, torch.tensor(by_class)[drawn.labels])
    assert set(drawn.labels.tolist()) == {0, 1, 2}
    assert SliceSampler(cases[:1], (16, 12)).draw(2, torch.Generator()).labels is None


def test_labels_do_not_change_what_is_drawn():
    one = [case("a"), case("b", seed=1)]
    two = [dataclasses.replace(one[0], contrast="t2w"), one[1]]
    draws = [SliceSampler(cases, (16, 12)).draw(9, torch.Generator().manual_seed(4)) for cases in (one, two)]
    assert torch.equal(draws[0].images, draws[1].images)


def test_the_loop_and_the_validation_hand_labels_on(tmp_path):
    seen: dict[bool, set[int]] = {True: set(), False: set()}

    class Reads(WaveletVAE):
        def forward(self, measurement, truth=None):
            assert measurement.label is not None
            assert measurement.label.shape == (len(measurement.start),)
            seen[self.training] |= set(measurement.label.tolist())
            return super().forward(measurement, truth)

    sampler = SliceSampler(of_contrasts("t2w", "t1w"), (16, 12))
    validation = train.Validation(of_contrasts("t2w"), Clean(), 3, seed=1, classes=sampler.classes)
    train.train(
        lambda: Reads(widths=(4, 4), blocks=0),
        sampler,
        Clean(),
        validation,
        SETTINGS,
        tmp_path,
    )
    assert seen == {True: {0, 1}, False: {1}}
    plain_one = train.Validation(of_contrasts("t2w"), Clean(), 3, seed=1)
    assert plain_one.items[0][1].measurement.label is None


def test_a_contrast_that_training_does_not_know_cannot_validate():
    with pytest.raises(InputError, match="has the contrast flair, but training knows t1w, t2w; leave it out"):
        train.Validation(of_contrasts("flair"), Clean(), 3, seed=1, classes=("t1w", "t2w"))


# --- validation ------------------------------------------------------------------------------------------------------


def test_validation_is_the_mean_over_subjects_of_the_psnr_inside_the_head():
    volumes = [case("a1", subject="a"), case("a2", seed=5, subject="a"), case("b", seed=6)]
    validation = train.Validation(volumes, Denoise(0.1), 9, seed=1)
    score = validation(lambda measurement: Estimate(measurement.start, torch.zeros(())), CPU)
    own = [
        psnr(s.measurement.start.numpy(), s.truth.numpy(), data_range=maximum, mask=head.numpy())
        for _, s, head, maximum in validation.items
    ]
    assert [len(item[1].truth) for item in validation.items] == [3, 3, 3]
    assert score == pytest.approx(((own[0] + own[1]) / 2 + own[2]) / 2, rel=1e-5)


def test_validation_is_the_same_each_time_and_for_each_order():
    volumes = [case("a"), case("b", seed=6)]
    one, two = (train.Validation(order, Denoise(0.1), 6, seed=1) for order in (volumes, volumes[::-1]))
    for left, right in zip(one.items, two.items[::-1], strict=True):
        assert torch.equal(left[1].measurement.start, right[1].measurement.start)
    model = denoiser().eval()
    assert one(model, CPU) == one(model, CPU) == pytest.approx(two(model, CPU), rel=1e-6)
    other = train.Validation(volumes, Denoise(0.1), 6, seed=2)
    assert not torch.equal(one.items[0][1].measurement.start, other.items[0][1].measurement.start)
    assert isinstance(one.items[0][1], Simulated)


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "code"])
def test_a_damaged_checkpoint_is_an_input_error(tmp_path, damage):
    path = tmp_path / "last.ckpt"
    if damage == "text":
        path.write_text("no checkpoint")
    elif damage == "cut":
        checkpoint.save(path, {"weights": torch.ones(1000)})
        path.write_bytes(path.read_bytes()[:-900])
    elif damage == "code":
        path.write_bytes(pickle.dumps(case))
    words = "there is no such checkpoint" if damage == "missing" else "delete this file and train again"
    with pytest.raises(InputError, match=f"last.ckpt: .*{words}"):
        checkpoint.load(path)


def test_a_checkpoint_reads_back(tmp_path):
    state = {"weights": {"a": torch.arange(3)}, "progress": {"best": -math.inf, "history": [{"loss": 0.5}]}}
    checkpoint.save(tmp_path / "new" / "last.ckpt", state)
    back = checkpoint.load(tmp_path / "new" / "last.ckpt")
    assert torch.equal(back["weights"]["a"], torch.arange(3))
    assert back["progress"] == state["progress"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.ckpt"]
