"""Settings of a task: one training on all of them, each restored and scored by itself."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medwvae import build, checkpoint, paths, stages
from medwvae.config import Config, slice_for
from medwvae.config_io import load
from medwvae.degradation import Denoise, Inpaint, Mixture, Recon, SparseView, Superres
from medwvae.errors import ConfigError, InputError
from medwvae.inference.restorers import mirrored
from medwvae.names import NETWORKS, TASKS, task_of
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import CONDITIONS, Measurement
from medwvae.stages.training import trained
from medwvae.train import Validation
from tests.cases import case
from tests.test_degradation import DEGRADATIONS, WITHOUT_DATA, images, measured
from tests.test_restoration_tasks import study

NOISE = {"s3": {"sigma": 0.03}, "s5": {}, "s9": {"sigma": 0.09, "noise": "gaussian"}}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_settings(**tasks: Any) -> Config:
    return load(overrides={"tasks": {name: {"settings": settings} for name, settings in tasks.items()}})


# --- the configuration -----------------------------------------------------------------------------------------------


def test_a_task_without_settings_is_its_only_problem():
    config = load(overrides={"tasks.enabled": list(TASKS)})
    assert [problem.id for problem in config.problems()] == list(TASKS)
    for problem in config.problems():
        assert problem.section == getattr(config.tasks, problem.task)
        assert config.problem(problem.id) == problem


def test_noise_of_k_space_is_simulated_and_named():
    config = load(overrides={"tasks.recon.noise": 0.02})
    told: Any = build.degradation(config, "recon")
    assert told.noise == 0.02 and replace(told, noise=0.0) == build.degradation(Config(), "recon")
    assert build.setting(config, "recon").endswith("centre 0.08, noise 2 % of maximum")


def test_a_study_may_name_the_protocol_that_scores_and_measures_nothing_anew():
    overrides = {"tasks.enabled": list(TASKS), "tasks.ct": {"settings": {"v30": {"views": 30}}}}
    plain = load(overrides=overrides)
    chosen = load(overrides=overrides | {"evaluate.protocols": {"ct": "lodopab", "recon": "calgary"}})
    found = {problem.id: build.protocol(chosen, problem.id) for problem in chosen.problems()}
    assert (found["ct-v30"], found["recon"], found["denoise"]) == ("lodopab", "calgary", "brainweb-rician")
    assert build.protocol(plain, "ct-v30") == "sparse-view" and build.protocol(plain, "recon") == "fastmri"
    for stage in ("train", "restore"):
        assert slice_for(plain, stage, "ct-v30", "unet") == slice_for(chosen, stage, "ct-v30", "unet")
    assert slice_for(plain, "evaluate") != slice_for(chosen, "evaluate")


def test_settings_take_the_place_of_their_task_in_order_with_their_own_fields():
    config = with_settings(denoise=NOISE)
    assert [problem.id for problem in config.problems()] == [
        *("superres", "denoise-s3", "denoise-s5", "denoise-s9", "recon")
    ]
    sections: Any = [problem.section for problem in config.problems_of("denoise")]
    assert [section.sigma for section in sections] == [0.03, 0.05, 0.09]
    assert [section.noise for section in sections] == ["rician", "rician", "gaussian"]
    assert [build.degradation(config, f"denoise-{name}") for name in NOISE] == [
        *(Denoise(0.03), Denoise(0.05), Denoise(0.09, "gaussian"))
    ]
    assert build.setting(config, "denoise-s9") == "Gaussian sigma 9 % of maximum"
    assert stages.methods_of(config, "denoise-s3") == stages.methods_of(Config(), "denoise")


@given(st.sampled_from(TASKS), st.from_regex(r"[a-z0-9]+", fullmatch=True))
def test_the_id_leads_back_to_the_task(task, name):
    config = with_settings(**{task: {name: {}}})
    (problem,) = config.problems_of(task)
    assert problem.id == f"{task}-{name}"
    assert task_of(problem.id) == problem.task == task
    assert config.problem(problem.id).section == getattr(Config().tasks, task)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"denoise": {"s3": {"sigmaa": 0.1}}}, r"unknown key `tasks.denoise.settings.s3.sigmaa`; did you mean `sigma`"),
        ({"denoise": {"s3": {"sigma": 2}}}, r"tasks.denoise.settings.s3.sigma: Input should be less than 1"),
        ({"denoise": {"S-3": {}}}, r"tasks.denoise.settings.S-3: String should match pattern"),
        ({"denoise": {"s3": 0.03}}, r"tasks.denoise.settings.s3: Input should be a valid dictionary"),
        ({"ct": {"v30": {"crop": [64, 64]}}}, r"tasks.ct.settings.v30.crop: all settings share one training"),
        ({"ct": {"v30": {"settings": {}}}}, r"tasks.ct.settings.v30.settings: all settings share one training"),
        ({"recon": {"x8": {"acceleration": 13}}}, r"tasks.recon.settings.x8: centre 0.08 alone exceeds the 1/13"),
        (
            {"superres": {"tp": {"protocol": "through-plane"}}},
            r"tasks.superres.settings.tp.protocol: through-plane needs slices across S",
        ),
        (
            {"inpaint": {"gaps": {"kind": "slices"}}},
            r"tasks.inpaint.settings.gaps.kind: slices needs slices across S",
        ),
    ],
)
def test_mistakes_are_answered_where_they_stand(settings, words):
    with pytest.raises(ConfigError, match=words):
        with_settings(**settings)


def test_a_setting_is_judged_over_the_task_s_own_fields():
    with pytest.raises(ConfigError, match=r"centre 0\.08 alone"):
        with_settings(recon={"x16": {"acceleration": 16}})
    config = load(overrides={"tasks.recon": {"centre": 0.04, "settings": {"x16": {"acceleration": 16}}}})
    assert build.degradation(config, "recon-x16") == Recon(16, 0.04, "random", 1.0)


def test_names_that_are_no_problem():
    config = with_settings(denoise=NOISE)
    with pytest.raises(ConfigError, match=r"no setting 'denoise'; have: denoise-s3, denoise-s5, denoise-s9"):
        stages.restore(config, "denoise", "tv", 1)
    with pytest.raises(ConfigError, match=r"no setting 'recon-x4'; have: recon"):
        stages.evaluate(config, "recon-x4", 1)
    with pytest.raises(ConfigError, match=r"no task 'denoising-s3'; have: superres"):
        stages.evaluate(config, "denoising-s3", 1)
    with pytest.raises(ConfigError, match=r"'denoise-s3': the settings of a task share one training, that of denoise"):
        stages.train(config, "denoise-s3", "unet", 1)


# --- what makes stages run again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tv", *NETWORKS])
def test_a_setting_reaches_the_training_and_its_own_restoration_only(method):
    before = with_settings(denoise=NOISE)
    after = with_settings(denoise=NOISE | {"s3": {"sigma": 0.02}})
    more = with_settings(denoise=NOISE | {"s20": {"sigma": 0.2}})

    def changed(config, stage, problem):
        return slice_for(before, stage, problem, method) != slice_for(config, stage, problem, method)

    assert changed(after, "restore", "denoise-s3")
    assert changed(after, "train", "denoise") and changed(more, "train", "denoise")
    for config in (after, more):
        assert not changed(config, "restore", "denoise-s5") and not changed(config, "restore", "denoise-s9")
        assert not changed(config, "train", "recon") and not changed(config, "restore", "superres")
    assert slice_for(before, "report") == slice_for(after, "report") != slice_for(more, "report")


def test_what_no_setting_leaves_as_it_is_is_not_read():
    fixed = {"s3": {"sigma": 0.03}, "s9": {"sigma": 0.09}}
    one, two = (load(overrides={"tasks.denoise": {"sigma": s, "settings": fixed}}) for s in (0.05, 0.2))
    assert slice_for(one, "train", "denoise", "unet") == slice_for(two, "train", "denoise", "unet")
    with pytest.raises(ConfigError, match="no setting 'denoise'"):
        slice_for(one, "restore", "denoise", "unet")


# --- what is measured ------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_a_mixture_follows_from_the_generator(seed, count):
    mixture = Mixture(tuple(Denoise(0.1 * (n + 1)) for n in range(count)))
    image, maximum = images(), torch.ones(3)

    def draws(source, number):
        return [mixture(image, maximum, source, 1).measurement for _ in range(number)]

    source = generator(seed)
    whole = draws(generator(seed), 6)
    first, state = draws(source, 2), source.get_state()
    resumed = draws(torch.Generator().set_state(state), 4)
    for one, two in zip(whole, first + resumed, strict=True):
        assert torch.equal(one.start, two.start) and torch.equal(one.sigma, two.sigma)


def test_every_setting_of_a_mixture_is_drawn_and_equally_often():
    mixture: Any = Mixture((Denoise(0.1), Denoise(0.2), Denoise(0.3)))
    source, image = generator(), torch.ones(1, 1, 2, 2)
    sigmas = [round(float(mixture(image, torch.ones(1), source, 1).measurement.sigma), 3) for _ in range(600)]
    assert {sigma: sigmas.count(sigma) for sigma in (0.1, 0.2, 0.3)} == pytest.approx(
        {0.1: 200, 0.2: 200, 0.3: 200}, abs=45
    )


def test_networks_are_trained_on_the_mixture_and_a_single_setting_as_before():
    config = with_settings(denoise=NOISE, ct={"v30": {"views": 30}})
    mixture: Any = build.training_degradation(config, "denoise")
    assert mixture == Mixture((Denoise(0.03), Denoise(0.05), Denoise(0.09, "gaussian")))
    assert build.training_degradation(config, "ct") == SparseView(30)
    assert build.training_degradation(config, "inpaint") == Inpaint()


@pytest.mark.parametrize("slices", [1, 4, 9])
def test_validation_gives_every_setting_its_turn(slices):
    cases = [case(name, seed=seed) for seed, name in enumerate("abc")]
    mixture = Mixture((Denoise(0.1), Denoise(0.2), Denoise(0.3)))
    one, two = (Validation(cases, mixture, slices, seed=1) for _ in range(2))
    count = dict.fromkeys((1, 2, 3), 0)
    for (subject, simulated, head, maximum), (_, again, _, _) in zip(one.items, two.items, strict=True):
        measurement: Any = simulated.measurement
        count[round(10 * float(measurement.sigma) / maximum)] += len(head)
        assert torch.equal(measurement.start, again.measurement.start)
        assert subject in "abc"
    total = 3 * max(1, slices // 3)
    assert set(count.values()) == {total // 3}


def test_a_subject_meets_the_same_noise_whether_the_network_was_trained_for_one_setting_or_for_all():
    several, alone = with_settings(denoise=NOISE), Config()
    measurements = [
        build.acquisition(config, config.problem(name))(case()).measurement
        for config, name in ((several, "denoise-s5"), (alone, "denoise"))
    ]
    assert torch.equal(measurements[0].start, measurements[1].start)


# --- what networks are told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(DEGRADATIONS))
def test_conditions_are_the_noise_level_and_the_reduction(name):
    measurement = measured(name, images()).measurement
    conditions = measurement.conditions()
    assert conditions.shape[1:] == (2, 1, 1)
    assert len(conditions) in (1, 3)
    level = measurement.noise if measurement.sigma is None else measurement.sigma
    sigma = torch.zeros(1, 1, 1, 1) if level is None else level
    assert torch.equal(conditions[:, :1], sigma.expand(len(conditions), 1, 1, 1))
    reduction = 2.0 ** (10 * conditions[:, 1].flatten())
    if name in WITHOUT_DATA:
        assert set(reduction.tolist()) == {1.0}
    elif measurement.mask is not None:
        positions = measurement.mask.expand(-1, -1, *measurement.start.shape[2:]).flatten(1).float().sum(1)
        torch.testing.assert_close(reduction * positions, torch.full_like(positions, 24 * 20), rtol=1e-4, atol=0)
    else:
        assert measurement.data is not None
        assert float(reduction) == pytest.approx(24 * 20 / measurement.data[0, 0].numel(), rel=1e-4)
    for axes in mirrored(2)[1:]:
        torch.testing.assert_close(measurement.flip(axes).conditions(), conditions)
    some = measurement[1:3].conditions()
    torch.testing.assert_close(some, conditions[1:3] if len(conditions) == 3 else conditions)
    channels = measurement.conditioned(2)[:, -2:]
    torch.testing.assert_close(channels, conditions.expand(3, 2, *measurement.start.shape[2:]))


def test_an_untold_measurement_has_conditions_too():
    assert Measurement(images()).conditions().flatten().tolist() == [0, 0]
    assert Measurement(images()[:, :, None]).conditions().shape == (1, 2, 1, 1, 1)


def test_which_networks_are_told_what():
    config = load(overrides={"tasks": {"denoise.settings": NOISE, "ct.settings": {"a": {}, "b": {}}}})
    told = {"superres": 0, "denoise": 1, "recon": 2, "ct": 0, "inpaint": 0}
    for task in TASKS:
        for name in NETWORKS:
            assert build.network(Config(), task, name).conditions == told[task]
            assert build.network(config, task, name).conditions == (2 if task == "ct" else told[task])


def test_masks_of_one_acceleration_differ_and_networks_are_told():
    """Columns are drawn one by one (fastMRI), so their number is a matter of chance."""
    degrade = build.degradation(Config(), "recon")
    image = torch.rand(1, 1, 32, 120, generator=generator())
    reductions = {
        float(degrade(image, torch.ones(1), generator(seed), 1).measurement.conditions()[0, 1]) for seed in range(8)
    }
    assert len(reductions) > 3 and max(reductions) - min(reductions) > 0.02


@pytest.mark.parametrize("model", [WaveletVAE(conditions=2, widths=(4, 4), blocks=1), UNet(conditions=2)])
def test_networks_read_the_reduction(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    given_ = Superres(2)(images(1), torch.ones(1), generator(), 1).measurement
    told: Any = type("Told", (type(given_.operator),), {"reduction": lambda *_: torch.tensor([9.0])})
    other = replace(given_, operator=told(given_.mask, 1))
    assert (model.eval()(given_).image - model(other).image).abs().max() > 1e-4


def test_weights_that_learned_to_read_conditions_on_another_scale_are_refused(tmp_path):
    reductions = {"x4": {}, "x8": {"acceleration": 8}}
    tasks = {"recon.settings": reductions, "denoise.settings": NOISE}
    config = load(overrides={"results": str(tmp_path)} | {f"tasks.{name}": value for name, value in tasks.items()})

    def kept(task: Any, told: dict[str, Any]) -> dict[str, Any]:
        weights = build.network(config, task, "unet").state_dict()
        checkpoint.save(paths.model(config.root, task, "unet"), {"weights": weights, "meta": {"task": task} | told})
        return trained(config, task, "unet")[1]

    for task in ("recon", "denoise", "superres"):  # of two conditions, of the noise level alone, and of none
        assert kept(task, {"conditions": list(CONDITIONS)})["task"] == task
        for told in ({}, {"conditions": ["sigma", "log2(reduction)"]}):
            if task == "recon":
                with pytest.raises(InputError, match=r"model\.pt: the network learned to read .* train again"):
                    kept(task, told)
            else:
                assert kept(task, told)["task"] == task


# --- from training to scores -----------------------------------------------------------------------------------------


def test_one_training_serves_two_settings(tmp_path):
    options = {"settings": {"v12": {"views": 12}, "v6": {"views": 6}}}
    config = study(tmp_path, "ct", options)
    for network in config.networks.enabled:
        stages.train(config, "ct", network, 1)
    psnr = {}
    for problem in ("ct-v12", "ct-v6"):
        methods = stages.methods_of(config, problem)
        for method in methods:
            stages.restore(config, problem, method, 1)
        stages.evaluate(config, problem, 1)
        scores = pd.read_csv(paths.scores(config.root, problem))
        assert set(scores["task"]) == {problem}
        assert set(scores["method"]) == set(methods)
        assert scores["setting"].unique().tolist() == [f"{problem[4:]} views, parallel beam"]
        chosen = scores[(scores["region"] == "head") & (scores["metric"] == "psnr")]
        psnr[problem] = chosen.set_index("method")["value"]
    assert (psnr["ct-v12"] > psnr["ct-v6"])[["input", "sirt"]].all()
    assert sorted(path.name for path in (config.root / "models" / "ct").iterdir()) == ["unet", "wavelet_vae"]
    assert not paths.scores(config.root, "ct").exists()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dims", [2, 3])
def test_networks_on_slices_have_their_channels_last_unless_they_normalise_instances(name, dims):
    model = build.network(load(overrides={"networks.dims": dims}), "superres", name)
    kernels = [weight for weight in model.parameters() if weight.ndim == 4 and min(weight.shape[1:]) > 1]
    last = [weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels]
    normalised = any(isinstance(part, torch.nn.InstanceNorm2d) for part in model.modules())
    assert bool(kernels) == (dims == 2) and set(last) <= {not normalised}
