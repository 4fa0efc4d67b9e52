"""The study of generative models on photographs and digits, and models that know classes, in process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medwvae import build, paths, stages
from medwvae.config_io import load
from medwvae.data import manifest
from medwvae.data.loaders import Case, write_index
from medwvae.errors import ConfigError, InputError
from medwvae.stages import generation
from tests.cases import case
from tests.data.image_files import cifar_folder, mnist_folder, photo_folder

PAPER = Path(__file__).parents[1] / "configs" / "paper"
SMALL: dict[str, Any] = {
    "train": {"batch": 2, "validations": 1, "validation_slices": 4, "precision": "32-true"},
    "generative": {
        "data": {"size": 16},
        "budget": "2 steps",
        "seeds": 1,
        "samples": 4,
        "fidelity": {"images": 6, "draws": 6, "importance_draws": 2, "importance_images": 2, "batch": 4},
    },
}
TINY: dict[str, Any] = {"widths": [4, 4], "blocks": 0, "refine": "none", "prior_width": 4, "prior_blocks": 0}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(kind, folder):
    """Write a few files of a set."""
    {
        "cifar10": lambda: cifar_folder(folder, 4),
        "celeba_hq": lambda: photo_folder(folder, 80),
        "mnist": lambda: mnist_folder(folder, 12),
    }[kind]()
    return folder


def study(tmp_path, kind, *changes):
    """A study of the paper, its systems as they are, everything else small."""
    place = [f"results={tmp_path / 'results'}", f"generative.data.path={tmp_path / kind}"]
    overlay = tmp_path / "small.yaml"
    overlay.write_text(json.dumps(SMALL))
    return load([PAPER / f"{kind}.yaml", overlay], [*place, *changes])


@pytest.mark.parametrize("kind", ["cifar10", "celeba_hq", "mnist"])
def test_an_experiment_of_the_paper_runs_from_files_to_the_page(tmp_path, kind):
    made(kind, tmp_path / kind)
    config = study(tmp_path, kind)
    models = config.generative.models()
    systems = {model.system for model in models.values()}
    for model in models:
        stages.train_generative(config, model, 1)
        stages.score_generative(config, model)
    stages.generative_references(config)
    stages.generative_report(config)
    stages.report(config)
    scores = pd.read_csv(paths.generative_table(config.root))
    assert set(scores["system"]) == {*systems, "jpeg2000", "jpegls", "png"}
    assert set(scores["region"]) == {"whole"}
    assert scores["subject"].str.fullmatch(r"test-\d{6}").all() and scores["subject"].nunique() <= 6
    summary = json.loads(paths.generative_summary(config.root).read_text())
    channels = 1 if kind == "mnist" else 3
    assert summary["conditions"]["channels"] == channels and summary["conditions"]["quantisation_top"] == 1.0
    for model, entry in summary["models"].items():
        if model in models:
            assert entry["latent_values"] * models[model].rate == channels * 16 * 16
    with np.load(paths.generative_pictures(config.root, next(iter(models)))) as pictures:
        assert pictures["truths"].shape == (4, 16, 16) + (3,) * (channels == 3)
    page = paths.report(config.root).read_text()
    assert 'id="generative"' in page and "in the head" not in page and 'id="cohort"' not in page
    assert not paths.manifest(config.root).exists() and not paths.prepared_index(config.root).exists()


def of_systems(tmp_path, kind, systems, prior=None, **data):
    """A study of a set with these systems alone."""
    return load(
        overrides=SMALL
        | {"results": str(tmp_path / "results"), "tasks": {"enabled": []}}
        | {
            "generative": SMALL["generative"]
            | {"data": {"kind": kind, "path": str(tmp_path / kind), "size": 16} | data, "rates": [4]}
            | {"systems": systems, "prior": prior or {}}
        }
    )


EVERY: dict[str, dict[str, Any]] = {
    "dense": {"kind": "dense_vae", "hidden": [8], "conditional": True},
    "conv": {"kind": "conv_vae", "widths": [4, 4], "blocks": 0, "conditional": True},
    "kl": {"kind": "autoencoder_kl", "widths": [8, 8], "conditional": True},
    "elbo": {"kind": "wavelet", "conditional": True, **TINY},
    "paper": {"kind": "wavelet", "objective": "sparse", "select": "top_k", "conditional": True, **TINY},
    "coarse": {"kind": "ll_only"},
    "largest": {"kind": "top_k", "levels": 2},
}


@pytest.mark.parametrize("kind", ["cifar10", "celeba_hq"])
def test_in_colour_every_system_has_a_value_for_so_many_values(tmp_path, kind):
    made(kind, tmp_path / kind)
    config = of_systems(tmp_path, kind, {n: s | ({} if kind == "cifar10" else {"conditional": False})
                                         if "conditional" in s else s for n, s in EVERY.items()})  # fmt: skip
    for system in EVERY:
        model = build.latent_model(config, system, 4)
        assert model.channels == 3 and model.latent_values((16, 16)) == 3 * 16 * 16 // 4
        assert model.classes == (10 if kind == "cifar10" and "conditional" in EVERY[system] else 0)


def test_a_third_of_the_values_is_a_rate_in_colour_only(tmp_path):
    made("mnist", tmp_path / "mnist")
    made("cifar10", tmp_path / "cifar10")
    systems = {"dense": EVERY["dense"] | {"rates": [3]}}
    assert build.latent_model(of_systems(tmp_path, "cifar10", systems), "dense", 3).latent_values((16, 16)) == 256
    with pytest.raises(ConfigError, match="16 x 16 have 256 values, so no whole number of latent values at rate 3"):
        of_systems(tmp_path, "mnist", systems)
    native = of_systems(tmp_path, "mnist", systems, size=None)  # 28 x 28, as the files say
    with pytest.raises(ConfigError, match="261 latent values for 28 x 28 pixels, but rate 3 needs 261"):
        build.latent_model(native, "dense", 3)


def test_classes_are_trained_scored_drawn_and_named(tmp_path):
    made("mnist", tmp_path / "mnist")
    prior = {"kind": "diffusion", "budget": "2 steps", "widths": [32], "steps": 2}
    config = of_systems(tmp_path, "mnist", {"elbo": EVERY["elbo"] | {"prior": True}}, prior)
    model = "elbo-r4-s1"
    stages.train_generative(config, model, 1)
    stages.train_prior(config, model, 1)
    stages.score_generative(config, model)
    facts = json.loads(paths.generative_facts(config.root, model).read_text())["models"][model]
    assert facts["sample_frechet"] is not None and facts["bits_importance_weighted"] > 0
    with pytest.raises(InputError, match="--label: 0, 1, 2"):
        stages.sample(config, model, 1, count=2)
    drawn = [np.load(stages.sample(config, model, 1, count=2, label=name) / "samples.npz")["images"] for name in "37"]
    assert drawn[0].shape == (2, 1, 16, 16) and not np.array_equal(*drawn)
    stages.impute(config, model, 1, count=2, hole=4, sweeps=4)
    stages.interpolate(config, [model], 1, steps=3, label="3")


def test_pictures_of_a_latent_s_uses_are_in_colour(tmp_path):
    made("celeba_hq", tmp_path / "celeba_hq")
    config = of_systems(tmp_path, "celeba_hq", {"elbo": EVERY["elbo"] | {"conditional": False}})
    model = "elbo-r4-s1"
    stages.train_generative(config, model, 1)
    for folder, name, arrays in (
        (stages.sample(config, model, 1, count=4), "samples", {"images": (4, 3, 16, 16)}),
        (stages.interpolate(config, [model], 1, steps=3), "walk", {model: (3, 3, 16, 16)}),
        (stages.impute(config, model, 1, count=2, hole=5, sweeps=4), "imputed", {"image": (2, 3, 16, 16)}),
    ):
        with np.load(folder / f"{name}.npz") as found:
            assert {key: found[key].shape for key in arrays} == arrays
        with Image.open(folder / f"{name}.png") as picture:
            red, green, blue = np.asarray(picture.convert("RGB")).astype(int).transpose(2, 0, 1)
        assert (abs(red - green) + abs(green - blue) > 30).mean() > 0.05
    with pytest.raises(ConfigError, match="conditional: the images need several classes, have none"):
        build.latent_model(of_systems(tmp_path, "celeba_hq", {"elbo": EVERY["elbo"]}), "elbo", 4)


def test_other_files_are_another_state(tmp_path):
    made("mnist", tmp_path / "mnist")
    config = of_systems(tmp_path, "mnist", {"elbo": EVERY["elbo"]})
    one = config.generative.models()["elbo-r4-s1"]
    before = generation._digest(config, "train_generative", one)
    assert generation._digest(config, "train_generative", one) == before
    file = tmp_path / "mnist" / "train-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes() + b"0")
    assert generation._digest(config, "train_generative", one) != before
    file.unlink()
    with pytest.raises(InputError, match="no train-labels"):
        stages.image_set_files(config)


def with_contrasts(folder, contrasts):
    """Write a study of slices with one volume for each contrast and part."""
    config = load(
        overrides=SMALL
        | {"results": str(folder), "tasks": {"enabled": []}}
        | {
            "generative": SMALL["generative"]
            | {"data": {"size": [24, 16]}, "rates": [4], "systems": {"elbo": EVERY["elbo"]}}
        }
    )
    rows = []
    for seed, part in enumerate(("train", "val", "test")):
        for contrast in contrasts:
            one = case(f"{part}{contrast}", shape=(9, 20, 18), seed=seed, subject=part)
            one = Case(one.volume, one.subject, contrast, one.prepared)
            one.prepared.save(paths.prepared(config.root) / f"{one.volume}.npz")
            rows.append((one.volume, one.subject, one.contrast, part))
    write_index(paths.prepared_index(config.root), rows)
    manifest.write(paths.manifest(config.root), [])
    return config


def test_contrasts_are_the_classes_of_slices(tmp_path):
    config = with_contrasts(tmp_path / "two", ("t2w", "t1w"))
    data = build.generative_data(config)
    assert data.classes == ("t1w", "t2w")
    test = data.images("test", labelled=True)
    assert test.labels is not None
    assert [data.classes[label] for label in test.labels] == [volume.removeprefix("test") for volume in test.volumes]
    stages.train_generative(config, "elbo-r4-s1", 1)
    stages.score_generative(config, "elbo-r4-s1")
    folder = stages.sample(config, "elbo-r4-s1", 1, count=1, label="t2w")
    assert (folder / "samples.png").is_file()
    stages.impute(config, "elbo-r4-s1", 1, count=1, hole=4, sweeps=4)
    index = paths.prepared_index(config.root)
    index.write_text(index.read_text().replace("testt2w,test,t2w", "testt2w,test,flair"))
    assert data.images("test", labelled=False).labels is None
    with pytest.raises(InputError, match="volume testt2w has the contrast flair, but training knows t1w, t2w"):
        data.images("test", labelled=True)
    with pytest.raises(ConfigError, match=r"elbo.conditional: the images need several classes, have one only, t1w"):
        stages.train_generative(with_contrasts(tmp_path / "one", ("t1w",)), "elbo-r4-s1", 1)
