"""What people do with a latent: of a study's trained model, or of any NIfTI volume's own wavelet coefficients."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths
from medwvae.config import Config
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic
from medwvae.progress import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from medwvae.data.loaders import Case
    from medwvae.nets.latent import LatentModel
    from medwvae.wavelets import Coefficients


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
    from medwvae.latents.sample import sample as draw
    from medwvae.latents.sample import write_volume

    _use(threads)
    folder = out or paths.latent_uses(config.root, model)
    built = _load_model(config, model)
    size = _numbers(shape, "--shape") if shape else _image_shape(config)
    with _said():
        seeds = config.seed if seed is None else seed
        number = _label(config, built, label)
        images = draw(built, count, size, seed=seeds, label=number, temperature=temperature).numpy()
    _write_arrays(folder / "samples.npz", images=images)
    if built.dims == 3:
        affine = _affine_like(_cases(config), size)
        for k, image in enumerate(images):
            write_volume(folder / f"sample_{k:03d}.nii.gz", _tensor(image), affine)
    figure = figures.grid(_display(images, config))
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
        examples = _examples(config, model.dims)
        ends = [_of_subject(examples, subject, k) for k, subject in enumerate((first, last))]
        with _said(), torch.no_grad():
            shared = ends[0].label if model.classes and ends[0].label == ends[1].label else None
            # Beside a model with classes, one without takes no notice of the label.
            asked = label if model.classes or len(models) == 1 else None
            own = labels_for(model, shared if asked is None and shared is not None else _label(config, model, asked), 1)
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
    figure = figures.walks({name: _display(row, config) for name, row in images.items()}, measured)
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
    method: str = "map",
    sweeps: int = 100,
    label: str | None = None,
    out: Path | None = None,
) -> Path:
    """Fill a block (or, with a 3D model, slices) that is taken out of the first test subjects' images, and score it.

    A model with classes is told `label`, or each image's own class.
    Writes imputed.npz, imputed.json (RMSE in the hole beside mean and biharmonic filling) and imputed.png.
    """
    import numpy as np
    import torch

    from medwvae.latents import figures
    from medwvae.latents.impute import impute as fill
    from medwvae.latents.impute import impute_by_gradient, mean_filled
    from medwvae.latents.sample import labels_for

    if method not in ("chain", "map"):
        raise InputError(f"--method is {method}, expected chain or map")
    _use(threads)
    folder = out or paths.latent_uses(config.root, model)
    built = _load_model(config, model)
    examples = _examples(config, built.dims)[:count]
    truth = torch.cat([example.image for example in examples])
    with _said():
        known = torch.stack([_known(example, hole, missing_slices, config.seed) for example in examples])[:, None]
        numbers = [example.label for example in examples if example.label is not None]
        if built.classes and label is None and len(numbers) == len(examples):
            own: Tensor | None = torch.tensor(numbers)
        else:
            own = labels_for(built, _label(config, built, label), len(examples))
        if method == "map" or built.has_density:
            answer = impute_by_gradient(built, truth, known, steps=sweeps, label=own)
        if method == "chain":
            start = answer.image if built.has_density else None
            answer = fill(
                built, truth, known, sweeps=sweeps, discard=sweeps // 2, seed=config.seed, label=own, start=start
            )
    rivals = {"mean": mean_filled(truth, known), model: answer.image}
    if built.dims == 2:
        rivals["biharmonic"] = _biharmonic(truth, known)
    errors = {
        name: float((image - truth)[~known.expand(truth.shape)].square().mean().sqrt())
        for name, image in rivals.items()
    }
    deviation = None if answer.deviation is None else answer.deviation.numpy()
    arrays = {"truth": truth.numpy(), "known": known.numpy(), "image": answer.image.numpy()}
    _write_arrays(folder / "imputed.npz", **arrays, **({} if deviation is None else {"deviation": deviation}))
    facts = {"subjects": [e.subject for e in examples], "method": method, "sweeps": sweeps, "rmse_in_hole": errors}
    _write_json(folder / "imputed.json", facts)
    given = np.where(known.numpy(), truth.numpy(), np.nan)
    columns = {"truth": truth.numpy(), "given": given, **{name: image.numpy() for name, image in rivals.items()}}
    figure = figures.imputed(
        {name: _display(values, config) for name, values in columns.items()},
        None if deviation is None else _display(deviation, config),
    )
    words = ", ".join(f"{name} {value:.4f}" for name, value in errors.items())
    figures.save(folder / "imputed.png", figure, f"Missing pixels filled in; RMSE in the hole: {words}")
    say(f"impute: RMSE in the hole: {words}")
    return folder


def edit(
    source: Path,
    out: Path,
    gains: Sequence[str],
    *,
    inside: Sequence[str] = (),
    mask: Path | None = None,
    protect: bool = False,
    wavelet: str = "db4",
    levels: str = "3",
    mode: Any = "symmetric",
    dims: int = 3,
    axis: int | None = None,
) -> None:
    """Write a NIfTI volume with its wavelet coefficients multiplied by gains, outside and inside a mask."""
    import numpy as np
    import torch

    from medwvae.data import nifti
    from medwvae.latents.edit import edit as scale_bands

    if not out.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{out} is no name of a NIfTI file; end it in .nii.gz")
    if out.resolve() == source.resolve():
        raise InputError("the edited volume would replace the one that it is made from; give another name")
    volume, affine = nifti.read(_present(source))
    inner = None if mask is None else _on_grid(mask, volume, affine)
    with _said():
        if inner is None and inside:
            raise ValueError("gains inside a mask need a mask: add --mask")
        across = _across(affine, axis) if dims == 2 else None
        edited = scale_bands(
            _tensor(_batch(volume, across).astype(np.float64)),
            _gains(gains),
            None if inner is None else torch.from_numpy(_batch(inner, across)),
            inside=_gains(inside) if inside else None,
            protect=protect,
            levels=_levels(levels),
            spatial_dims=_dims(dims),
            wavelet=wavelet,
            mode=mode,
        ).numpy()
    result = np.ascontiguousarray(_unbatch(edited, across).astype(np.float32))
    nifti.write(out, result, affine)
    difference = result.astype(np.float64) - volume
    for place, voxels in {"everywhere": None, "outside the mask": False, "inside the mask": True}.items():
        if (voxels is None) == (inner is None):
            part = difference if inner is None else difference[inner == voxels]
            kept = np.mean(part == 0)
            say(
                f"edit: changed {place} by {np.sqrt(np.mean(part**2)):.4g} (RMS); {kept:.1%} of its voxels are the same"
            )


def heatmap(
    source: Path,
    out: Path,
    *,
    wavelet: str = "db4",
    levels: str = "3",
    mode: Any = "symmetric",
    dims: int = 2,
    axis: int | None = None,
    index: int | None = None,
) -> None:
    """Write a figure of |coefficient| per level and orientation of one slice of a NIfTI volume."""
    import numpy as np

    from medwvae.data import nifti
    from medwvae.geometry import to_ras
    from medwvae.latents import figures
    from medwvae.latents.heatmap import heatmaps
    from medwvae.wavelets import dwt

    if out.suffix.lower() != ".png":
        raise InputError(f"{out} is no name of a PNG file; end it in .png")
    # In the closest RAS+, so that every volume is shown the same way up.
    volume, affine = to_ras(*nifti.read(_present(source)))
    across = _across(affine, axis)
    size = volume.shape[across]
    chosen = size // 2 if index is None else index
    if not 0 <= chosen < size:
        raise InputError(f"--index is {chosen}; the volume has slices 0 to {size - 1} along axis {across}")
    slices = np.ascontiguousarray(np.moveaxis(volume, across, 0).astype(np.float64))
    with _said():
        # In 3D the maps come from all slices, and one of them is shown.
        image = slices[None, None] if _dims(dims) == 3 else slices[None, None, chosen]
        coefficients: Coefficients = dwt(_tensor(image), _levels(levels), dims, wavelet, mode)
        maps = heatmaps(coefficients)
    shown = {
        level: {name: _turned((one[0, 0, chosen] if dims == 3 else one[0, 0]).numpy()) for name, one in bands.items()}
        for level, bands in maps.items()
    }
    figure = figures.heatmaps(_turned(slices[chosen] - slices.min()), shown)
    figures.save(out, figure, f"Magnitude of {wavelet} coefficients per level and orientation, slice {chosen}")
    say(f"heatmap: {len(maps)} levels, slice {chosen} along axis {across}")


def _load_model(config: Config, name: str) -> "LatentModel":
    """Return a trained model of the study, ready to use."""
    from medwvae.stages.generation import trained_model

    return trained_model(config, name)


def _cases(config: Config) -> "list[Case]":
    """Return the test subjects' prepared volumes, in the frame of the study's generative models; none of a set."""
    from medwvae import build
    from medwvae.generative.sources import Slices

    data = build.generative_data(config)
    return data.cases("test") if isinstance(data, Slices) else []


def _image_shape(config: Config) -> tuple[int, ...]:
    """Return the spatial shape of the study's images."""
    from medwvae import build

    return build.generative_data(config).shape[1:]


def _classes(config: Config) -> tuple[str, ...]:
    """Return the names of the classes that a label can name."""
    from medwvae import build

    return build.generative_data(config).classes


def _label(config: Config, model: "LatentModel", name: str | None) -> int | None:
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
    if name is None or name not in (classes := _classes(config)):
        have = ", ".join(_classes(config))
        raise ValueError(f"name one of the model's classes by --label: {have}" + (f"; got {name}" if name else ""))
    return classes.index(name)


@dataclass(frozen=True)
class _Example:
    """A test subject's image (1, C, *spatial): the middle slice, the volume, or a photograph."""

    subject: str
    image: "Tensor"
    places: "NDArray[np.bool_]"
    """Where a hole may have its centre, *spatial: in the head."""
    maximum: float
    label: int | None


def _examples(config: Config, dims: int) -> list[_Example]:
    """Return one image of every test subject: of the first volume, or the scored images of a set."""
    import numpy as np

    from medwvae import build

    if config.generative.data.kind == "slices":
        cases = _one_each(_cases(config))
        return [_of_case(case, dims, _classes(config)) for case in cases]
    images = build.generative_data(config).images("test", labelled=True)
    places = np.ones(images.values.shape[2:], bool)
    labels = [None] * len(images) if images.labels is None else images.labels.tolist()
    return [
        _Example(subject, images.values[k : k + 1], places, 1.0, labels[k]) for k, subject in enumerate(images.subjects)
    ]


def _of_case(case: "Case", dims: int, classes: Sequence[str]) -> _Example:
    head = case.prepared.head
    return _Example(
        case.subject,
        _image(case, dims),
        head if dims == 3 else head[_middle(case)],
        case.prepared.maximum,
        classes.index(case.contrast) if case.contrast in classes else None,
    )


def _use(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@contextmanager
def _said() -> Iterator[None]:
    """Turn what the rooms below say about their arguments into an error of the user's."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def _of_subject(examples: Sequence[_Example], subject: str | None, place: int) -> _Example:
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


def _one_each(cases: "Sequence[Case]") -> "list[Case]":
    first = {case.subject: case for case in reversed(cases)}
    return [first[subject] for subject in sorted(first)]


def _middle(case: "Case") -> int:
    tissue = case.prepared.tissue_slices()
    return int(tissue[len(tissue) // 2])


def _image(case: "Case", dims: int) -> "Tensor":
    """Return the middle slice (1, 1, H, W), or the whole volume (1, 1, S, H, W)."""
    slices = case.slices()
    return slices[:, 0][None, None] if dims == 3 else slices[_middle(case)][None]


def _known(example: _Example, hole: int, missing: str | None, seed: int) -> "Tensor":
    """Return the known voxels of an image: slices are missing, or a block somewhere in the head."""
    import numpy as np

    from medwvae.latents.holes import block, missing_slices
    from medwvae.seeding import seed_for

    head = example.places
    if missing is not None:
        return missing_slices(head.shape, _numbers(missing, "--missing-slices"))
    fits = np.zeros_like(head)
    fits[tuple(slice(hole // 2, n - (hole - hole // 2) + 1) for n in head.shape)] = True
    places = np.argwhere(head & fits)
    if not len(places):
        raise ValueError(f"a hole of {hole} voxels does not fit into images of shape {head.shape}")
    centre = places[np.random.default_rng(seed_for(seed, "hole", example.subject)).integers(len(places))]
    return block(head.shape, [int(n) for n in centre], hole)


def _biharmonic(truth: "Tensor", known: "Tensor") -> "Tensor":
    """Fill each image (N, C, H, W) by the smoothest surface (Damelin and Hoang 2018), as scikit-image does."""
    import numpy as np
    from skimage.restoration import inpaint_biharmonic

    filled = [
        inpaint_biharmonic(np.where(k, x, 0).astype(np.float64), ~k, channel_axis=0)
        for x, k in zip(truth.numpy(), known[:, 0].numpy(), strict=True)
    ]
    return _tensor(np.stack(filled).astype(np.float32))


def _on_grid(path: Path, volume: "NDArray[np.float32]", affine: "NDArray[np.float64]") -> "NDArray[np.bool_]":
    """Read a mask; every voxel that is not zero lies inside."""
    import numpy as np

    from medwvae.data import nifti
    from medwvae.errors import Refusal

    try:
        mask, own = nifti.read(_present(path))
    except Refusal as error:
        raise Refusal(f"the mask: {error}") from error
    if mask.shape != volume.shape:
        shapes = ["x".join(map(str, array.shape)) for array in (mask, volume)]
        raise InputError(f"the mask has {shapes[0]} voxels, the volume {shapes[1]}: draw it on the volume's own grid")
    if not np.allclose(own, affine, atol=1e-3):
        raise InputError(
            "the mask has as many voxels as the volume, but they lie elsewhere in the patient (another affine): "
            "draw it on the volume's own grid, or resample it onto that"
        )
    return np.asarray(mask != 0)


def _present(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is no file")
    return path


def _across(affine: "NDArray[np.float64]", axis: int | None) -> int:
    """Return the axis across the slices: the given one, or that of the thickest voxels."""
    from medwvae.data.transforms import slice_axis
    from medwvae.geometry import spacing_of

    if axis is None:
        return slice_axis(spacing_of(affine), "acquired")
    if axis not in (0, 1, 2):
        raise InputError(f"--axis is {axis}, expected 0, 1 or 2")
    return axis


def _batch(volume: "NDArray[Any]", across: int | None) -> "NDArray[Any]":
    """Return a volume as a batch: one image (1, 1, X, Y, Z), or its slices (S, 1, H, W)."""
    import numpy as np

    return np.ascontiguousarray(volume[None, None] if across is None else np.moveaxis(volume, across, 0)[:, None])


def _unbatch(images: "NDArray[Any]", across: int | None) -> "NDArray[Any]":
    import numpy as np

    return images[0, 0] if across is None else np.moveaxis(images[:, 0], 0, across)


def _dims(dims: int) -> int:
    if dims not in (2, 3):
        raise ValueError(f"--dims is {dims}; 2 works slice by slice, 3 on the volume")
    return dims


def _gains(texts: Sequence[str]) -> dict[str, float]:
    """Read 'level1=0', 'ad2=1.5', 'details=0.5', ..."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"the gain {text!r} is not of the form NAME=FACTOR, as in level1=0") from None
    return found


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} is {text!r}; expected whole numbers with commas between") from None


def _levels(text: str) -> int | tuple[int, ...]:
    numbers = _numbers(text, "--levels")
    return numbers[0] if len(numbers) == 1 else numbers


def _affine_like(cases: "Sequence[Case]", shape: Sequence[int]) -> "NDArray[np.float64]":
    """Return the affine of a volume that is nobody's: the first test volume's voxel size, the origin in the middle."""
    import numpy as np

    from medwvae.geometry import spacing_of

    spacing = np.array(spacing_of(cases[0].prepared.affine))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return affine


def _display(images: "NDArray[Any]", config: Config) -> "NDArray[Any]":
    """Return images (N, C, *spatial) for display: slices turned, the middle one of volumes; colours last."""
    if images.shape[1] == 3:
        return images.transpose(0, 2, 3, 1)
    images = images[:, 0]
    if config.generative.data.kind != "slices":
        return images
    return _turned(images[:, images.shape[1] // 2] if images.ndim == 4 else images)


def _unit(config: Config) -> str:
    slices = config.generative.data.kind == "slices"
    return "air 0, the reference intensity of the head 1" if slices else "black 0, white 1"


def _turned(images: "NDArray[Any]") -> "NDArray[Any]":
    """Turn slices (..., H, W) of a RAS+ volume for display."""
    return images.swapaxes(-1, -2)[..., ::-1, ::-1]


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
