"""Networks of a finished run on another cohort: nothing is trained, everything else is as ever."""

from pathlib import Path

import pandas as pd
import pytest

from medwvae import paths, stages
from medwvae.config import Config, slice_for
from medwvae.config_io import load, to_yaml
from medwvae.data import loaders, nifti, splits
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic
from medwvae.names import NETWORKS
from medwvae.stages.reporting import _trained_elsewhere, _weights
from medwvae.stages.training import study_of_networks, trained
from tests.cases import case
from tests.test_restoration_tasks import study

CONFIGS = Path(__file__).parents[1] / "configs"
OPTIONS = {"crop": [24, 16], "settings": {"s5": {}, "s9": {"sigma": 0.09}}}


@pytest.fixture
def finished(tmp_path):
    """Return a run with trained networks, and the configuration of another that takes them, with its own cohort."""
    config = study(tmp_path / "first", "denoise", OPTIONS)
    stages.write_config(config)
    for network in config.networks.enabled:
        stages.train(config, "denoise", network, 1)
    # It says nothing of its networks: widths, features and settings are those of the other run.
    other = load(
        overrides={
            "results": str(tmp_path / "second"), "preprocess.plane": "coronal",
            "split": {"train": 0, "val": 0.5, "test": 0.5},
            "tasks": {"enabled": ["denoise"], "denoise": {"noise": "gaussian"}},
            "networks": {"enabled": ["wavelet_vae", "unet"], "from_run": str(config.root)},
            "classical": {"enabled": ["tv"], "tuning_subjects": 1, "tuning_slices": 1},
            "restore.uncertainty.level": 0.9,
        }
    )  # fmt: skip
    volumes = [case(name, shape=(12, 24, 20), seed=seed) for seed, name in enumerate("cd", start=2)]
    rows = [(v.volume, v.subject, "flair", part) for v, part in zip(volumes, ("val", "test"), strict=True)]
    loaders.write_index(paths.prepared_index(other.root), rows)
    for volume in volumes:
        volume.prepared.save(paths.prepared(other.root) / f"{volume.volume}.npz")
    return config, other


def test_networks_restore_another_cohort_as_they_were_trained(finished):
    config, other = finished
    assert stages.networks_trained(other) == [] != stages.networks_trained(config)
    model, meta = trained(other, "denoise", "wavelet_vae")
    same, _ = trained(config, "denoise", "wavelet_vae")
    assert str(model) == str(same) and meta["network"] == "wavelet_vae"
    assert stages.weights_of(other, "denoise", "unet") == [paths.model(config.root, "denoise", "unet")]
    for method in stages.methods_of(other, "denoise"):
        stages.restore(other, "denoise", method, 1)
    stages.evaluate(other, "denoise", 1)
    scores = pd.read_csv(paths.scores(other.root, "denoise"))
    assert set(scores["method"]) == {"input", "tv", "wavelet_vae", "unet"}
    assert set(scores["subject"]) == {"d"}  # c is of both cohorts here: it tunes, and calibrates the intervals
    assert "coverage_90" in set(scores["metric"])
    assert not (other.root / "models").exists()


def test_the_same_volume_comes_out_the_same_by_either_run(finished):
    config, other = finished
    same = Config.model_validate(
        config.model_dump(mode="json") | {"run": "again", "networks": other.networks.model_dump(mode="json")}
    )
    for of in (config, same):
        if of is same:
            rows = [("c", "c", "t1w", "test")]
            loaders.write_index(paths.prepared_index(same.root), rows)
            case("c", shape=(12, 24, 20), seed=2).prepared.save(paths.prepared(same.root) / "c.npz")
        stages.restore(of, "denoise-s9", "wavelet_vae", 1)
    ours, theirs = (
        nifti.read(paths.volume(paths.restored(of.root, "denoise-s9", "wavelet_vae"), "c"))[0] for of in (config, same)
    )
    assert (ours == theirs).all()


def test_the_report_says_where_they_were_trained(finished):
    config, other = finished
    assert _trained_elsewhere(config) == ""
    words = _trained_elsewhere(other)
    assert "another run, on 1 subject (T1w); nothing was trained on the images of this report" in words
    named = {name: path for study in finished for name, path in _weights(study, "wavelet_vae").items()}
    assert all(path.is_file() for path in named.values())
    assert set(named) == {f"models/denoise/wavelet_vae/model.pt{of}" for of in ("", " (of the run that trained it)")}


def test_what_cannot_be_taken_over(finished, tmp_path):
    config, other = finished
    with pytest.raises(ConfigError, match=r"networks\.from_run: .*nothing to train"):
        stages.train(other, "denoise", "unet", 1)
    stages.write_config(other)
    third = Config.model_validate(
        other.model_dump(mode="json")
        | {"networks": other.networks.model_dump(mode="json") | {"from_run": str(other.root)}}
    )
    with pytest.raises(ConfigError, match="that run trained nothing"):
        study_of_networks(third)
    with pytest.raises(InputError, match="no such checkpoint"):
        trained(other, "recon", "wavelet_vae")
    changed = config.model_dump(mode="json")
    changed["networks"]["unet"]["features"] = [8] * 6
    with atomic(paths.config(config.root)) as temporary:
        temporary.write_text(to_yaml(Config.model_validate(changed)))
    with pytest.raises(InputError, match=r"model\.pt: these weights are not of the network"):
        trained(other, "denoise", "unet")
    paths.config(config.root).unlink()
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        trained(other, "denoise", "unet")


# --- the configuration -----------------------------------------------------------------------------------------------


def test_without_training_no_subject_need_be_in_that_part():
    own = {"split": {"train": 0, "val": 0.5, "test": 0.5}}
    with pytest.raises(ConfigError, match=r"split\.train: 0 leaves nothing to train on"):
        load(overrides=own)
    config = load(overrides=own | {"networks.from_run": "elsewhere"})
    fractions = (config.split.train, config.split.val, config.split.test)
    assert sorted(splits.split(["a", "b"], fractions=fractions, seed=1).values()) == ["test", "val"]
    with pytest.raises(InputError, match=r"at least 2 subjects \(one each to validate and test\), but there are 1"):
        splits.split(["a"], fractions=fractions, seed=1)


def test_the_other_run_is_a_path_of_the_users_and_is_read_by_the_restorations_alone():
    before, after = Config(), load(overrides={"networks.from_run": "results/first"})
    assert after.own_paths == {"networks.from_run": "results/first"}
    for network in NETWORKS:
        assert slice_for(before, "train", "denoise", network) == slice_for(after, "train", "denoise", network)
        assert slice_for(before, "restore", "denoise", network) != slice_for(after, "restore", "denoise", network)
    assert slice_for(before, "restore", "denoise", "tv") == slice_for(after, "restore", "denoise", "tv")


def test_no_generative_model_is_trained_or_shown_where_networks_are_another_runs():
    system = {"prior": {"kind": "wavelet", "objective": "elbo", "select": "subbands"}}
    config = load(overrides={"generative.systems": system, "generative.rates": [1]})
    assert list(stages.generative_models(config)) == ["prior-r1-s1"]
    assert stages.generative_models(load(overrides={"networks.from_run": "results/first"})) == {}
    # Zero-shot restoration takes that run's prior, whose name this run's configuration must know.
    both = {"networks.from_run": "results/first", "generative.systems": system, "generative.rates": [1]}
    assert stages.generative_models(load(overrides=both | {"restore.zero_shot": "prior-r1-s1"})) == {}


@pytest.mark.parametrize("name", ["openms", "ct"])
def test_the_transfers_are_overlays_on_the_benchmark(name):
    benchmark = load([CONFIGS / "benchmark.yaml"])
    transfer = load([CONFIGS / "benchmark.yaml", CONFIGS / f"transfer_{name}.yaml"])
    assert transfer.networks.from_run == str(benchmark.root)
    assert {p.id for p in transfer.problems()} <= {p.id for p in benchmark.problems()}
    assert set(transfer.networks.enabled) <= set(benchmark.networks.enabled)
