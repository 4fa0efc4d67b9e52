"""The study of generative models: each trained, its prior after it, scored; references; the table."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths, provenance
from medwvae.config import Config, slice_for
from medwvae.config_generative import GenerativeModel
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic, sha256_of
from medwvae.progress import say
from medwvae.stages.plan import image_set_files
from medwvae.stages.training import Job, fit, state_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from medwvae.generative.images import Images
    from medwvae.generative.scoring import Scored, Settings
    from medwvae.nets.latent import LatentModel

REFERENCES = "references"
"""Stands in the place of a model's id for lossless codecs and training images."""


def train_generative(config: Config, model: str, threads: int) -> None:
    """Train one generative model, from its last checkpoint if there is one; validation PSNR chooses the weights."""
    one = _named(config, model)
    system = config.generative.systems[one.system]
    if not system.trained:
        raise ConfigError(f"{one.system} is a control: nothing in it is trained")
    _buildable(config)
    import torch

    from medwvae import build
    from medwvae.degradation import Clean

    torch.set_num_threads(max(1, threads // config.train.devices))
    data = build.generative_data(config)
    conditional: bool = getattr(system, "conditional", False)

    def built() -> "LatentModel":
        untrained = build.latent_model(config, one.system, one.rate)
        untrained.measure(_training_batches(config))
        return untrained

    fit(
        config,
        Job(
            title=f"train {one.id}",
            build=built,
            sampler=data.sampler(),
            degrade=Clean(),
            validation=data.validation(config.train.validation_slices, config.seed, conditional=conditional),
            settings=build.generative_training(config, one),
            digest=_digest(config, "train_generative", one),
            weights=paths.generative_model(config.root, one.id),
            history=paths.generative_history(config.root, one.id),
            meta={
                "task": "generative",
                "network": one.id,
                "config": json.dumps(slice_for(config, "train_generative", None, one.id)),
            },
        ),
    )


def train_prior(config: Config, model: str, threads: int) -> None:
    """Train the prior on a trained model's latent, from its last checkpoint if there is one."""
    one = _named(config, model)
    system = config.generative.systems[one.system]
    if not getattr(system, "prior", False):
        raise ConfigError(
            f"{one.system} has no prior to train; say `prior: true` under generative.systems.{one.system}"
        )
    import torch

    from medwvae import build
    from medwvae.degradation import Clean
    from medwvae.generative.reconstruction import batches
    from medwvae.seeding import seed_for

    torch.set_num_threads(max(1, threads // config.train.devices))
    data = build.generative_data(config)
    conditional: bool = getattr(system, "conditional", False)
    images = data.images("train", labelled=conditional)
    settings = build.prior_training(config, one)

    def built() -> Any:
        diffusion = build.prior(config, _autoencoder(config, one)).diffusion
        generator = torch.Generator().manual_seed(seed_for(settings.seed, "measure"))
        diffusion.measure(batches(images.values, images.labels, config.generative.fidelity.batch), generator)
        diffusion.latent.requires_grad_(False)
        return diffusion

    fit(
        config,
        Job(
            title=f"train prior {one.id}",
            build=built,
            sampler=data.sampler(),
            degrade=Clean(),
            validation=data.validation(config.train.validation_slices, config.seed, conditional=conditional),
            settings=settings,
            digest=_digest(config, "train_prior", one, paths.generative_model(config.root, one.id)),
            weights=paths.generative_prior(config.root, one.id),
            history=paths.generative_prior_history(config.root, one.id),
            meta={
                "task": "prior",
                "network": one.id,
                "config": json.dumps(slice_for(config, "train_prior", None, one.id)),
            },
            measure="PSNR of half denoised latents",
        ),
    )


def score_generative(config: Config, model: str, threads: int = 1) -> None:
    """Score one generative model on the test subjects' slices or volumes, or on the test images of a set."""
    one = _named(config, model)
    import torch

    from medwvae.generative.scoring import score_model
    from medwvae.precision import device_for

    torch.set_num_threads(threads)
    system = config.generative.systems[one.system]
    train, test = _train_and_test(config, labelled=getattr(system, "conditional", False))
    built = trained_model(config, one.id).to(device_for(config.train.accelerator))
    found = score_model(built, test, train, _settings(config, train))
    found.facts |= _training_facts(config, one)
    names = {"system": one.system, "kind": system.kind, "rate": one.rate, "seed": one.seed}
    _write(config, one.id, {one.id: found}, {one.id: names})
    say(f"score {one.id}: {len(test)} images of {len(set(test.subjects))} test subjects")


def generative_references(config: Config, threads: int = 1) -> None:
    """Score what the models are held against: lossless codecs, and training images in the place of samples."""
    import torch

    from medwvae import build
    from medwvae.generative.scoring import score_references

    torch.set_num_threads(threads)
    train, test = _train_and_test(config, labelled=False)
    settings = _settings(config, train)
    found = score_references(test, train, settings)
    kinds = {name: "reference" if name == "training_images" else "codec" for name in found}
    conditions = {
        "data": config.generative.data.kind,
        "channels": test.values.shape[1],
        "size": list(test.shape),
        "spacing": [round(mm, 3) for mm in getattr(build.generative_data(config), "spacing", ())],
        "test_images": len(test),
        "test_subjects": len(set(test.subjects)),
        "training_images": len(train),
        "training_subjects": len(set(train.subjects)),
        "quantisation_top": max(train.maxima.values()),
        "quantisation_levels": settings.quantisation.levels,
        "quantisation_step": settings.quantisation.step,
        "draws": settings.draws,
        "budget": config.generative.budget,
        "features": settings.features.name,
    }
    names = {name: {"system": name, "kind": kind, "rate": None, "seed": None} for name, kind in kinds.items()}
    _write(config, REFERENCES, found, names, conditions)


def generative_report(config: Config) -> None:
    """Write generative.csv and generative.json, and print the table."""
    root = config.root
    models = [*config.generative.models(), REFERENCES]
    for model in models:
        if not paths.generative_scores(root, model).is_file():
            stage = "generative-references" if model == REFERENCES else f"score-generative --model {model}"
            raise InputError(f"{paths.generative_scores(root, model)} is missing; run `medwvae {stage}` first")
    import pandas as pd
    from rich.console import Console

    from medwvae.evaluate import write_table
    from medwvae.generative import table

    tables = [pd.read_csv(paths.generative_scores(root, model), dtype={"subject": str}) for model in models]
    scores = pd.concat([part.dropna(axis=1, how="all") for part in tables], ignore_index=True)
    scores = scores.reindex(columns=table.COLUMNS)
    read = {model: json.loads(paths.generative_facts(root, model).read_text(encoding="utf-8")) for model in models}
    facts = {name: facts for model in models for name, facts in read[model]["models"].items()}
    for entry in facts.values():
        entry["trained"] = entry["rate"] is not None and config.generative.systems[entry["system"]].trained
    rows = table.summary(scores, facts)
    summary = {"run": config.run, "conditions": read[REFERENCES]["conditions"], "rows": rows, "models": facts}
    write_table(paths.generative_table(root), scores)
    _write_json(paths.generative_summary(root), summary)
    Console().print(table.render_text_table(rows))


def trained_model(config: Config, model: str) -> "LatentModel":
    """Return a generative model of the study by its id, trained and with its prior, on the CPU, ready to use.

    Raises
    ------
    ConfigError
        If the study has no such model.
    InputError
        If it has not been trained yet.
    """
    from medwvae import build

    one = _named(config, model)
    built = _autoencoder(config, one)
    if getattr(config.generative.systems[one.system], "prior", False):
        path = paths.generative_prior(config.root, one.id)
        with_prior = build.prior(config, built)
        with_prior.diffusion.load_state_dict(_weights(path, f"train-prior --model {one.id}"))
        built = with_prior
    return built.eval()


def _autoencoder(config: Config, model: GenerativeModel) -> "LatentModel":
    """Return a trained model without the prior that was fitted to its latent."""
    from medwvae import build

    built = build.latent_model(config, model.system, model.rate)
    if config.generative.systems[model.system].trained:
        path = paths.generative_model(config.root, model.id)
        built.load_state_dict(_weights(path, f"train-generative --model {model.id}"))
    else:
        built.measure(_training_batches(config))
    return built.eval()


def _buildable(config: Config) -> None:
    """Build every model of the study, and its prior, so that what cannot be is refused before anything trains.

    Seconds, in every training job. One job for all of them, before the trainings, would start those anew whenever it
    runs, and with `ancient` around its file Snakemake 9.27 leaves out what hangs on them.
    """
    from medwvae import build

    seen = set()
    for model in config.generative.models().values():
        if (model.system, model.rate) in seen:
            continue
        seen.add((model.system, model.rate))
        untrained = build.latent_model(config, model.system, model.rate)
        if getattr(config.generative.systems[model.system], "prior", False):
            build.prior(config, untrained)


def _training_batches(config: Config) -> "Iterator[Tensor]":
    """Yield the training images, (B, C, *spatial); they are read when the first is asked for."""
    from medwvae import build
    from medwvae.generative.reconstruction import batches

    images = build.generative_data(config).images("train", labelled=False)
    for values, _ in batches(images.values, None, config.generative.fidelity.batch):
        yield values


def _weights(path: Path, stage: str) -> Any:
    from medwvae import checkpoint

    if not path.is_file():
        raise InputError(f"{path} is missing; run `medwvae {stage}` first")
    return checkpoint.load(path)["weights"]


def _named(config: Config, model: str) -> GenerativeModel:
    models = config.generative.models()
    if model not in models:
        have = ", ".join(models) or "none; name some under generative.systems, or add -c FILE of a study that does"
        raise ConfigError(f"the study has no generative model {model!r}; have: {have}")
    return models[model]


def _train_and_test(config: Config, *, labelled: bool) -> "tuple[Images, Images]":
    """Return the training images to compare with and the test images that are scored.

    Raises
    ------
    InputError
        If there are too few of them to compare distributions, and more could be scored.
    """
    from medwvae import build
    from medwvae.generative.scoring import LEAST

    data = build.generative_data(config)
    train, test = data.images("train", labelled=False), data.images("test", labelled=labelled)
    if min(len(test), len(train)) < LEAST and test.dims == 2:  # volumes do without: they are as many as they are
        raise InputError(
            f"{len(train)} training and {len(test)} test images; comparing distributions takes {LEAST} of each: "
            "raise generative.fidelity.slices, or add subjects (images)"
        )
    return train, test


def _digest(config: Config, stage: str, model: GenerativeModel, *files: Path) -> str:
    code = provenance.stage_code(stage, config.generative.systems[model.system].module)
    settings = slice_for(config, stage, None, model.id)
    if config.generative.data.of_cohort:
        return state_digest(config, settings, code, *files)
    return provenance.digest_of([settings, code, image_set_files(config), *map(sha256_of, files)])


def _settings(config: Config, train: "Images") -> "Settings":
    from medwvae.fidelity.features import features_named
    from medwvae.generative.likelihood import Quantisation
    from medwvae.generative.scoring import Settings

    c, top, dims = config.generative, max(train.maxima.values()), train.dims
    return Settings(
        features=features_named(
            c.fidelity.features, Path(c.fidelity.weights) if c.fidelity.weights else None, dims=dims
        ),
        quantisation=Quantisation.of(c.fidelity.bits, top),
        draws=c.fidelity.draws,
        shown=c.samples,
        importance_draws=c.fidelity.importance_draws,
        importance_images=c.fidelity.importance_images,
        batch=c.fidelity.batch,
        seed=config.seed,
    )


def _training_facts(config: Config, model: GenerativeModel) -> dict[str, Any]:
    """Return what the checkpoints know of a model's training and of its prior's."""
    from medwvae import checkpoint

    system = config.generative.systems[model.system]
    if not system.trained:
        return {"parameters": 0, "encoder_parameters": 0}
    meta = checkpoint.load(paths.generative_model(config.root, model.id))["meta"]
    known = {name: meta[name] for name in ("training_seconds", "images_per_s", "steps", "precision")}
    if getattr(system, "prior", False):
        prior = checkpoint.load(paths.generative_prior(config.root, model.id))["meta"]
        known |= {"prior_seconds": prior["training_seconds"], "prior_steps": prior["steps"]}
    return known | {"best_validation_psnr": meta["best"]}


def _write(
    config: Config,
    place: str,
    found: "dict[str, Scored]",
    names: dict[str, dict[str, Any]],
    conditions: dict[str, Any] | None = None,
) -> None:
    """Write scores, facts and pictures into the folder of a model (or of the references)."""
    import numpy as np
    import pandas as pd

    from medwvae.evaluate import write_table
    from medwvae.generative.reconstruction import table

    root = config.root
    tables = [table(one.scores, {"run": config.run, **names[m], "model": m}) for m, one in found.items() if one.scores]
    pictures = {name: array for one in found.values() for name, array in one.pictures.items()}
    path = paths.generative_pictures(root, place)
    with atomic(path) as temporary, temporary.open("wb") as handle:
        small: dict[str, Any] = {name: array.astype(np.float16) for name, array in pictures.items()}
        np.savez(handle, **small)
    facts = {
        "models": {
            m: names[m] | {name: _plain(value) for name, value in one.facts.items()} for m, one in found.items()
        },
        "conditions": conditions or {},
    }
    _write_json(paths.generative_facts(root, place), facts)
    write_table(paths.generative_scores(root, place), pd.concat(tables, ignore_index=True))


def _plain(value: Any) -> Any:
    """Return a value for JSON: a number that is not finite becomes None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, value: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
