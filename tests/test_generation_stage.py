"""The stages of the generative study, in process, on prepared volumes of a few voxels."""

import json
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medwvae import build, checkpoint, paths, stages
from medwvae.config import Config
from medwvae.config_io import load
from medwvae.data import manifest
from medwvae.data.loaders import write_index
from medwvae.errors import ConfigError, InputError
from medwvae.names import LATENT_USES
from medwvae.report.generative import generative_section
from medwvae.stages import training
from medwvae.stages.reporting import _generative_inputs
from tests.cases import case

STUDY = {
    "run": "tiny",
    "tasks": {"enabled": []},
    "train": {"batch": 2, "validations": 2, "validation_slices": 2, "precision": "32-true", "checkpoint_seconds": 1e-9},
    "generative": {
        "data": {"size": [24, 16]},
        "budget": "6 steps",
        "rates": [4],
        "samples": 4,
        "fidelity": {"slices": 3, "draws": 6, "importance_draws": 4, "importance_images": 2, "batch": 4},
        "systems": {
            "elbo": {"kind": "wavelet", "widths": [4, 4, 4], "blocks": 1, "prior_width": 4, "prior_blocks": 1},
            "plain": {"kind": "ll_only"},
        },
    },
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tmp_path):
    return prepared(tmp_path)


def prepared(folder, parts=("train", "train", "val", "test", "test"), **changes) -> Config:
    """Write the prepared volumes of a study of five subjects, slices 20 x 18 in frames of 24 x 16."""
    study = load(overrides=STUDY | {"results": str(folder)} | changes)
    rows = []
    for k, part in enumerate(parts):
        one = case(f"v{k}", shape=(9, 20, 18), seed=k, subject=f"s{k}")
        one.prepared.save(paths.prepared(study.root) / f"v{k}.npz")
        rows.append((one.volume, one.subject, one.contrast, part))
    write_index(paths.prepared_index(study.root), rows)
    manifest.write(paths.manifest(study.root), [])
    return study


def weights(config, model="elbo-r4-s1"):
    return checkpoint.load(paths.generative_model(config.root, model))["weights"]


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_happened(config, tmp_path, monkeypatch):
    whole = prepared(tmp_path / "whole")
    stages.train_generative(whole, "elbo-r4-s1", 1)

    class Killed(Exception):  # noqa: N818
        pass

    @contextmanager
    def dying_bar(title):
        class Dying:
            left = 4

            def update(self, fraction, **figures):
                self.left -= 1
                if not self.left:
                    raise Killed

        yield Dying()

    with monkeypatch.context() as patched:
        patched.setattr(training, "bar", dying_bar)
        with pytest.raises(Killed):
            stages.train_generative(config, "elbo-r4-s1", 1)
    assert not paths.generative_model(config.root, "elbo-r4-s1").exists()
    stages.train_generative(config, "elbo-r4-s1", 1)
    assert_same(weights(config), weights(whole))
    history = pd.read_csv(paths.generative_history(config.root, "elbo-r4-s1"))
    assert history["step"].iloc[-1] == 6 and "s/x" in history and history["val_psnr"].notna().sum() == 2


def test_seeds_give_other_trainings_and_the_same_again(tmp_path):
    config = prepared(tmp_path, **{"generative.seeds": 2})
    for model in ("elbo-r4-s1", "elbo-r4-s2"):
        stages.train_generative(config, model, 1)
    one, two = weights(config), weights(config, "elbo-r4-s2")
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_scores_and_the_table(config):
    stages.train_generative(config, "elbo-r4-s1", 1)
    for model in config.generative.models():
        stages.score_generative(config, model)
    stages.generative_references(config)
    stages.generative_report(config)
    scores = pd.read_csv(paths.generative_table(config.root))
    assert set(scores["system"]) == {"elbo", "plain", "jpeg2000", "jpegls", "png"}
    assert set(scores["subject"]) == {"s3", "s4"}  # the test part, and nobody else
    assert not scores.duplicated(["model", "subject", "region", "metric"]).any()
    assert scores["value"].notna().all()
    elbo = scores[scores["system"] == "elbo"]
    assert {"mse", "psnr", "ssim", "bits", "nats", "rate", "energy_high"} <= set(elbo["metric"])
    assert "bits" not in set(scores[scores["system"] == "plain"]["metric"])
    summary = json.loads(paths.generative_summary(config.root).read_text())
    assert [(row["system"], row["rate"]) for row in summary["rows"]][:2] == [("elbo", 4), ("plain", 4)]
    facts = summary["models"]["elbo-r4-s1"]
    assert facts["latent_values"] == 24 * 16 // 4 and facts["training_seconds"] > 0
    assert {"sample_frechet", "reconstruction_frechet", "bits_importance_weighted"} <= set(facts)
    assert facts["parameters"] > facts["encoder_parameters"] > 0
    assert summary["models"]["plain-r4-s1"]["parameters"] == 0
    assert summary["models"]["training_images"]["sample_frechet"] is not None
    with np.load(paths.generative_pictures(config.root, "elbo-r4-s1")) as pictures:
        assert pictures["samples"].shape == pictures["neighbours"].shape == (4, 24, 16)
        assert pictures["truths"].shape == pictures["reconstructions"].shape == (2, 24, 16)


VOLUMES = {
    "generative.data": {"kind": "volumes", "size": [16, 16, 16], "block": [1, 1, 1]},
    "generative.rates": [8],
    "generative.uses": "elbo-r8-s1",
    "generative.systems.conv": {"kind": "conv_vae", "widths": [4, 4], "blocks": 0},
}


def test_volumes_are_learned_scored_and_put_to_use(tmp_path):
    prior = {"kind": "diffusion", "budget": "2 steps", "widths": [32], "steps": 5}
    config = prepared(tmp_path, **VOLUMES | {"generative.prior": prior, "generative.systems.elbo.prior": True})
    model = "elbo-r8-s1"
    stages.train_generative(config, model, 1)
    stages.train_prior(config, model, 1)
    stages.train_generative(config, "conv-r8-s1", 1)
    for name in config.generative.models():
        stages.score_generative(config, name)
    stages.generative_references(config)
    stages.generative_report(config)
    stages.generative_uses(config, model)
    built = stages.trained_model(config, model)
    assert built.dims == 3 and built.sample(1, (16, 16, 16), torch.Generator()).shape == (1, 1, 16, 16, 16)
    scores = pd.read_csv(paths.generative_table(config.root))
    assert set(scores["system"]) == {"elbo", "conv", "plain", "jpeg2000", "jpegls", "png"}
    elbo = scores[scores["system"] == "elbo"]
    assert {"mse", "psnr", "ssim", "bits", "energy_ddd1", "energy_high"} <= set(elbo["metric"])
    summary = json.loads(paths.generative_summary(config.root).read_text())
    assert summary["conditions"]["size"] == [16, 16, 16] and summary["conditions"]["spacing"] == [1, 1, 1]
    assert "sample_frechet" not in summary["models"][model]  # of two test volumes
    assert summary["models"][model]["neighbour_ratio"] > 0
    with np.load(paths.generative_pictures(config.root, model)) as pictures:
        assert pictures["samples"].shape == (4, 3 * 16, 16)  # three slices of each
    inputs = _generative_inputs(config)
    words = generative_section(inputs)["conditions"]
    assert "whole volumes, 16 × 16 × 16 voxels of 1 × 1 × 1 mm" in words and "Fewer than 4 volumes" in words
    facts = json.loads(paths.generative_uses(config.root, model).read_text())
    assert facts["beside"] == "conv-r8-s1" and set(facts["imputed"]["holes"]) == {"block", "slices"}


def test_whole_volumes_are_drawn_and_trained_on_in_float32(tmp_path):
    config = prepared(tmp_path, **VOLUMES)
    model = config.generative.models()["elbo-r8-s1"]
    own = config.train.model_copy(update={"precision": "auto", "accelerator": "cpu"})
    auto = config.model_copy(update={"train": own})
    assert build.generative_training(auto, model).precision == build.prior_training(auto, model).precision == "32-true"
    source = build.generative_data(config)
    assert source.classes == ("t1w",) and source.shape == (1, 16, 16, 16)
    draw = source.sampler().draw(3, torch.Generator().manual_seed(0))
    assert draw.images.shape == (3, 1, 16, 16, 16)
    whole = source.images("train", labelled=True)
    for image in draw.images:  # whole volumes, mirrored left to right by chance
        assert any(torch.equal(image, x) or torch.equal(image.flip(1), x) for x in whole.values)


def test_one_test_subject_is_enough_to_put_a_latent_to_use(tmp_path):
    config = prepared(tmp_path, parts=["train", "train", "val", "val", "test"])
    model = "elbo-r4-s1"
    stages.train_generative(config, model, 1)
    stages.generative_uses(config, model)
    facts = json.loads(paths.generative_uses(config.root, model).read_text())
    assert facts["walk"]["skipped"] == "A walk needs two test subjects, and there are none: left out."
    assert all(paths.generative_use(config.root, model, use).is_file() for use in LATENT_USES)


def test_a_study_that_cannot_be_is_refused_before_anything_trains(tmp_path):
    config = prepared(tmp_path, **{"generative.systems.other": {"kind": "conv_vae", "downsamplings": 1, "rates": [8]}})
    with pytest.raises(ConfigError, match=r"systems.other at rate 8: 1 downsamplings in 2D cannot hold 1/8"):
        stages.train_generative(config, "elbo-r4-s1", 1)


def test_a_prior_of_the_latent_is_trained_after_it_and_drawn_from(tmp_path):
    prior = {"kind": "diffusion", "budget": "3 steps", "widths": [32], "steps": 5, "parts": 1}
    config = prepared(tmp_path, **{"generative.prior": prior, "generative.systems.elbo.prior": True})
    model = "elbo-r4-s1"
    stages.train_generative(config, model, 1)
    with pytest.raises(InputError, match=f"prior.pt is missing; run `medwvae train-prior --model {model}` first"):
        stages.trained_model(config, model)
    stages.train_prior(config, model, 1)
    found = stages.trained_model(config, model)
    draws = [found.sample(2, (24, 16), torch.Generator().manual_seed(k)) for k in (0, 0, 1)]
    assert draws[0].shape == (2, 1, 24, 16)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    plain = stages.trained_model(prepared(tmp_path), model)
    x = case("x", shape=(9, 24, 16)).slices()[3:5]
    assert torch.equal(found.reconstruct(x), plain.reconstruct(x))  # the autoencoder was left alone
    bounds = [m.bound(x, generator=torch.Generator().manual_seed(0)).rate for m in (found, plain)]
    torch.testing.assert_close(*bounds)
    assert found.can_draw and found.latent_values((24, 16)) == 96
    stages.score_generative(config, model)
    facts = json.loads(paths.generative_facts(config.root, model).read_text())["models"][model]
    assert facts["prior_parameters"] > 0 and facts["prior_seconds"] > 0 and facts["prior_steps"] == 3
    assert facts["parameters"] == sum(p.numel() for p in plain.parameters() if p.requires_grad)


def test_a_trained_model_is_read_back_by_its_id(config):
    stages.train_generative(config, "elbo-r4-s1", 1)
    model = stages.trained_model(config, "elbo-r4-s1")
    assert not model.training
    assert model.latent_values((24, 16)) == 96
    assert_same(model.state_dict(), weights(config))
    assert stages.trained_model(config, "plain-r4-s1").latent_values((24, 16)) == 96


def test_a_latent_is_put_to_use_for_the_report(config):
    model = "elbo-r4-s1"
    stages.train_generative(config, model, 1)
    stages.generative_uses(config, model)
    facts = json.loads(paths.generative_uses(config.root, model).read_text())
    assert facts["model"] == model and facts["beside"] is None
    assert facts["walk"]["subjects"] == ["s3", "s4"]  # test subjects, by the study's names
    for use in LATENT_USES:
        path = paths.generative_use(config.root, model, use)
        with Image.open(path) as picture:
            assert picture.info["Description"] == facts[use]["alt"] and min(picture.size) > 100
    assert {path.parent for path in (config.root / "generative" / model).rglob("*.png")} == {path.parent}


@pytest.mark.parametrize(
    ("stage", "model", "error", "words"),
    [
        (
            "train_generative",
            "elbo-r8-s1",
            ConfigError,
            "no generative model 'elbo-r8-s1'; have: elbo-r4-s1, plain-r4-s1",
        ),
        ("train_generative", "plain-r4-s1", ConfigError, "plain is a control: nothing in it is trained"),
        (
            "score_generative",
            "elbo-r4-s1",
            InputError,
            "model.pt is missing; run `medwvae train-generative --model elbo-r4-s1` first",
        ),
        ("train_prior", "elbo-r4-s1", ConfigError, "elbo has no prior to train"),
    ],
)
def test_what_cannot_be_done_is_said(config, stage, model, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(")):
        getattr(stages, stage)(config, model, 1)


def test_the_table_says_which_score_is_missing(config):
    with pytest.raises(InputError, match="run `medwvae score-generative --model elbo-r4-s1` first"):
        stages.generative_report(config)


def test_too_few_images_to_compare_are_said(tmp_path):
    config = prepared(tmp_path, **{"generative.fidelity.slices": 1})
    with pytest.raises(
        InputError, match=r"2 test images; comparing distributions takes 4 of each: raise generative\.fid"
    ):
        stages.generative_references(config)


def test_a_latent_of_another_size_is_an_error():
    config = load(overrides=STUDY | {"generative.data.size": [36, 16]})  # three levels pad 36 to 40
    with pytest.raises(ConfigError, match=r"systems.elbo: 160 latent values for 36 x 16 pixels, but rate 4 needs 144"):
        build.latent_model(config, "elbo", 4)
    for system, rate, words in (("elbo", 3, "no whole number of subbands"),):
        with pytest.raises(ConfigError, match=rf"generative.systems.{system} at rate {rate}: .*{words}"):
            build.latent_model(config, system, rate)
