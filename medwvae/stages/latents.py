"""What people do with the latent of a study's trained model: sample, interpolate, impute; the figures of the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths
from medwvae.config import Config
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic
from medwvae.progress import say
from medwvae.stages.arguments import numbers, said

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from medwvae.generative.sources import Source
    from medwvae.latents.examples import Example
    from medwvae.nets.latent import LatentModel


def sample(
    config: Config,
    model: str,
    threads: int,
    *,
    count: int,
    shape: str | None = None,
    temperature: float = 1.0,
    label: str | None = None,
    seed: int | None = None,
    out: Path | None = None,
) -> Path:
    """Write images from a model's prior: samples.npz and samples.png; of a 3D model, NIfTI volumes too.

    A model with classes needs the name of one, `label`.
    """
    import numpy as np

    from medwvae.latents import figures
    from medwvae.latents.examples import for_display
    from medwvae.latents.sample import sample as draw
    from medwvae.latents.sample import write_volume

    _use(threads)
    folder = out or paths.latent_uses(config.root, model)
    built = _load_model(config, model)
    if not built.can_draw:
        raise InputError(f"{model} has no prior to draw from; train one: `prior: true` under generative.systems")
    size = numbers(shape, "--size") if shape else _source(config).shape[1:]
    with said():
        seeds = config.seed if seed is None else seed
        number = class_number(config, built, label)
        images = draw(built, count, size, seed=seeds, label=number, temperature=temperature).numpy()
    _write_arrays(folder / "samples.npz", images=images)
    if built.dims == 3:
        affine = _affine_like(_source(config), size)
        for k, image in enumerate(images):
            write_volume(folder / f"sample_{k:03d}.nii.gz", _tensor(image), affine)
    figure = figures.grid(for_display(images, slices=_of_heads(config)))
    of = f" of the class {label}" if label else ""
    figures.save(folder / "samples.png", figure, f"{count} samples of {model}{of}, temperature {temperature:g}")
    say(f"sample: {count} images of shape {'x'.join(map(str, images.shape[2:]))} in {folder}")
    # The largest values tell a collapsed or diverged prior at a glance.
    say(f"sample: values {np.min(images):.3g} to {np.max(images):.3g} ({_unit(config)})")
    return folder


def interpolate(
    config: Config,
    models: Sequence[str],
    threads: int,
    *,
    first: str | None = None,
    last: str | None = None,
    steps: int = 9,
    kind: str = "spherical",
    label: str | None = None,
    out: Path | None = None,
) -> Path:
    """Walk between the middle slices of two test subjects through each model's latent, and measure the walks.

    Of a set of images, between two test images. A model with classes walks in the class `label`, or in the images' own
    if they share it. Writes walk.npz (the images by model), walk.json (the measures) and walk.png.
    """
    import torch

    from medwvae.latents import figures
    from medwvae.latents.examples import examples, for_display
    from medwvae.latents.interpolate import WalkKind, smoothness, walk
    from medwvae.latents.sample import labels_for

    way: WalkKind = "linear" if kind == "linear" else "spherical"
    if kind != way:
        raise InputError(f"--kind is {kind}, expected linear or spherical")
    _use(threads)
    folder = out or paths.latent_uses(config.root, "-".join(models))
    images, measured = {}, {}
    for name in models:
        model = _load_model(config, name)
        found = examples(_source(config))
        ends = [_of_subject(found, subject, k) for k, subject in enumerate((first, last))]
        with said(), torch.no_grad():
            shared = ends[0].label if model.classes and ends[0].label == ends[1].label else None
            # Beside a model with classes, one without takes no notice of the label.
            asked = label if model.classes or len(models) == 1 else None
            own = labels_for(
                model, shared if asked is None and shared is not None else class_number(config, model, asked), 1
            )
            walked = walk(model, ends[0].image, ends[1].image, steps=steps, kind=way, label=own)
            top = max(end.maximum for end in ends)
            measured[name] = smoothness(model, walked, data_range=top, label=own)
        images[name] = walked.numpy()
    _write_arrays(folder / "walk.npz", **images)
    facts = {
        name: one.summary() | {"rmse": one.rmse.tolist(), "residual": one.residual.tolist()}
        for name, one in measured.items()
    }
    _write_json(folder / "walk.json", {"subjects": [end.subject for end in ends], "kind": kind, "models": facts})
    figure = figures.walks({name: for_display(row, slices=_of_heads(config)) for name, row in images.items()}, measured)
    figures.save(folder / "walk.png", figure, f"{kind} walk between two subjects by {', '.join(models)}")
    for name, one in measured.items():
        say(f"interpolate {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in one.summary().items()))
    return folder


def impute(
    config: Config,
    model: str,
    threads: int,
    *,
    count: int = 4,
    hole: int = 24,
    missing_slices: str | None = None,
    axis: int = 2,
    method: str = "map",
    sweeps: int = 100,
    label: str | None = None,
    out: Path | None = None,
) -> Path:
    """Fill a block (or, with a 3D model, slices) that is taken out of the first test subjects' images, and score it.

    A model with classes is told `label`, or each image's own class.
    Writes imputed.npz, imputed.json (RMSE in the hole beside mean and biharmonic filling) and imputed.png.
    """
    if method not in ("chain", "map"):
        raise InputError(f"--method is {method}, expected chain or map")
    import torch

    from medwvae.latents import figures
    from medwvae.latents.examples import examples, for_display, labels_of
    from medwvae.latents.fillings import Method, filled
    from medwvae.latents.holes import block_within
    from medwvae.latents.holes import missing_slices as without
    from medwvae.latents.sample import labels_for
    from medwvae.seeding import seed_for

    way: Method = "chain" if method == "chain" else "map"
    _use(threads)
    folder = out or paths.latent_uses(config.root, model)
    built = _load_model(config, model)
    every = examples(_source(config))
    if count > len(every):
        say(f"{len(every)} test subjects, not {count}: all of them")
    chosen = every[:count]
    truth = torch.cat([example.image for example in chosen])
    with said():
        if missing_slices is None:
            holes = [block_within(e.places, hole, seed_for(config.seed, "hole", e.subject)) for e in chosen]
        else:
            holes = [without(e.places.shape, numbers(missing_slices, "--missing-slices"), axis) for e in chosen]
        known = torch.stack(holes)[:, None]
        if built.classes and label is None and all(example.label is not None for example in chosen):
            own = labels_of(built, chosen)
        else:
            own = labels_for(built, class_number(config, built, label), len(chosen))
        found = filled(built, model, truth, known, method=way, sweeps=sweeps, seed=config.seed, label=own)
    answer, deviation = found.images[model], found.deviation
    arrays = {"truth": truth, "known": known, "image": answer} | ({} if deviation is None else {"deviation": deviation})
    _write_arrays(folder / "imputed.npz", **{name: array.numpy() for name, array in arrays.items()})
    subjects = [example.subject for example in chosen]
    facts = {"subjects": subjects, "method": method, "sweeps": sweeps, "rmse_in_hole": found.rmse}
    _write_json(folder / "imputed.json", facts)
    shown = {"truth": truth, "given": torch.where(known, truth, torch.nan), **found.images}
    shown["beside"] = (answer - truth).abs() if deviation is None else deviation
    turned = {name: for_display(images.numpy(), slices=_of_heads(config)) for name, images in shown.items()}
    beside = turned.pop("beside")
    figure = figures.imputed(turned, beside, "|error|" if deviation is None else "standard deviation")
    words = ", ".join(f"{name} {value:.4f}" for name, value in found.rmse.items())
    figures.save(folder / "imputed.png", figure, f"Missing pixels filled in; RMSE in the hole: {words}")
    say(f"impute: RMSE in the hole: {words}")
    return folder


def generative_uses(config: Config, model: str, threads: int = 1) -> None:
    """Write the report's figures of what is done with a model's latent, and their numbers.

    A walk, an edit, heatmaps and imputations, of test images; the walk stands beside that of the conventional model of
    the study, `generative.rival_of(model)`, if there is one.
    """
    from medwvae.latents import figures
    from medwvae.latents.examples import examples
    from medwvae.latents.uses import Setting, uses

    _use(threads)
    models = {model: _load_model(config, model)}
    root, rival = config.root, config.generative.rival_of(model)
    if rival:
        models[rival] = _load_model(config, rival)
    found = examples(_source(config))
    facts: dict[str, Any] = {"model": model, "beside": rival}
    with said():
        for name, use in uses(Setting(models, found, slices=_of_heads(config), seed=config.seed)):
            figures.save(paths.generative_use(root, model, name), use.figure, use.alt)
            facts[name] = use.facts | {"alt": use.alt}
            say(f"uses of {model}: {name}")
    _write_json(paths.generative_uses(root, model), facts)


def _load_model(config: Config, name: str) -> "LatentModel":
    """Return a trained model of the study, ready to use."""
    from medwvae.stages.generation import trained_model

    return trained_model(config, name)


def _source(config: Config) -> "Source":
    """Return where the study's images come from."""
    from medwvae import build

    return build.generative_data(config)


def of_study(config: Config, name: str) -> "tuple[LatentModel, Source]":
    """Return a trained model of the study and where its images come from."""
    return _load_model(config, name), _source(config)


def _of_heads(config: Config) -> bool:
    return config.generative.data.of_cohort


def class_number(config: Config, model: "LatentModel", name: str | None) -> int | None:
    """Return the number of a class by its name.

    Raises
    ------
    ValueError
        If the model has no classes, not this one, or has them and none is named.
    """
    if not model.classes:
        if name is not None:
            raise ValueError(f"the model has no classes, so there is no class {name}; `conditional: true` trains one")
        return None
    classes = _source(config).classes
    if name is None or name not in classes:
        have = ", ".join(classes)
        raise ValueError(f"name one of the model's classes by --label: {have}" + (f"; got {name}" if name else ""))
    return classes.index(name)


def _use(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _of_subject(examples: "Sequence[Example]", subject: str | None, place: int) -> "Example":
    """Return the image of a subject, or of the subject in this place of the list."""
    if subject is None:
        if place >= len(examples):
            raise InputError(f"a walk needs {place + 1} test subjects, the study has {len(examples)}")
        return examples[place]
    found = [example for example in examples if example.subject == subject]
    if not found:
        have = [example.subject for example in examples]
        more = f" and {len(have) - 20} more" if len(have) > 20 else ""
        raise ConfigError(f"no test subject {subject!r}; have: {', '.join(have[:20])}{more}")
    return found[0]


def _affine_like(source: "Source", shape: Sequence[int]) -> "NDArray[np.float64]":
    """Return the affine of a volume that is nobody's: the voxel size of the study's grid, the origin in the middle."""
    import numpy as np

    from medwvae.generative.sources import Volumes

    if not isinstance(source, Volumes):
        raise InputError("volumes are drawn of a study of volumes: `generative.data: {kind: volumes}`")
    spacing = np.array(source.spacing)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return affine


def _unit(config: Config) -> str:
    return "air 0, the reference intensity of the head 1" if _of_heads(config) else "black 0, white 1"


def _tensor(array: "NDArray[Any]") -> "Tensor":
    import torch

    return torch.from_numpy(array)


def _write_arrays(path: Path, **arrays: "NDArray[Any]") -> None:
    import numpy as np

    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type, unused-ignore]


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
