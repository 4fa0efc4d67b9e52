"""What people do with a latent, done once for the report: a walk, an edit, heatmaps and imputations of test images."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from medwvae.latents import figures
from medwvae.latents.coefficients import posterior_coefficients, wavelet_vae
from medwvae.latents.edit import edit
from medwvae.latents.examples import Example, for_display, labels_of
from medwvae.latents.fillings import BIHARMONIC, MEAN, filled
from medwvae.latents.heatmap import heatmaps
from medwvae.latents.holes import block_within, missing_slices, scattered
from medwvae.latents.interpolate import smoothness, walk
from medwvae.latents.places import reach
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.latent import LatentModel
from medwvae.seeding import seed_for
from medwvae.wavelets import Coefficients, dwt

STEPS: Final = 7
"""Images on the walk, its ends included."""
WAVELET, LEVELS = "db4", 3
"""Transform of the edit, and of the heatmaps where the model has none of its own."""
MISSING: Final = 0.75
"""Share of the pixels that are missing, one by one."""
FILLED: Final = 2
"""Test subjects whose image is filled in."""
SWEEPS: Final = 150
_REGIONS: Final = {2: "disc", 3: "ball"}


@dataclass(frozen=True)
class Setting:
    """What all uses share.

    Attributes
    ----------
    models : mapping of str to LatentModel
        Trained, by name. The first is put to use; the others walk beside it.
    examples : sequence of Example
        Test images, one of each subject; a walk needs two.
    slices : bool
        Whether the images are volumes or slices of them, to be turned for display.
    seed : int
        Holes follow from it and the subject's name.
    """

    models: Mapping[str, LatentModel]
    examples: Sequence[Example]
    slices: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the model that is put to use."""
        return next(iter(self.models))

    @property
    def model(self) -> LatentModel:
        """The model that is put to use."""
        return self.models[self.name]

    def shown(self, images: Tensor) -> NDArray[Any]:
        """Return images (N, C, *spatial) for display."""
        return for_display(images.detach().cpu().numpy(), slices=self.slices)


@dataclass(frozen=True)
class Use:
    """One use.

    Attributes
    ----------
    figure : Figure
    alt : str
        What the figure shows, for who cannot see it.
    facts : dict
        Its numbers, ready for JSON.
    """

    figure: Figure
    alt: str
    facts: dict[str, Any]


def uses(setting: Setting) -> Iterator[tuple[str, Use]]:
    """Yield every use by its name in `names.LATENT_USES`; it follows from the setting alone.

    Raises
    ------
    ValueError
        If the images are too small for a walk's SSIM or the holes.
    """
    made: dict[str, Callable[[Setting], Use]] = {
        "walk": walked,
        "edit": smoothed,
        "heatmap": mapped,
        "imputed": imputed,
    }
    for name, make in made.items():
        yield name, make(setting)


def walked(setting: Setting) -> Use:
    """Walk from one test image to another through each model's latent; below, the cross-fade.

    Without two test subjects (of one class, where the model has classes) there is none, and the figure says so.
    """
    ends = _ends(setting)
    if ends is None:
        of = " of one class" if setting.model.classes else ""
        words = f"A walk needs two test subjects{of}, and there are none: left out."
        return Use(figures.said(words), words, {"skipped": words})
    first, last = (end.image for end in ends)
    images, measured = {}, {}
    for name, model in setting.models.items():
        label = labels_of(model, ends[:1])
        steps = walk(model, first, last, steps=STEPS, label=label)
        measured[name] = smoothness(model, steps, data_range=max(end.maximum for end in ends), label=label)
        images[name] = setting.shown(steps)
    t = torch.linspace(0, 1, STEPS).reshape(-1, *[1] * (first.ndim - 1))
    images["cross-fade of the two images"] = setting.shown((1 - t) * first + t * last)
    return Use(
        figures.walks(images, measured),
        f"Walk in {STEPS} steps between the images of two test subjects; rows: {', '.join(images)}. "
        "Below: distance from image to image, and from each image to its own reconstruction",
        {
            "subjects": [end.subject for end in ends],
            "steps": STEPS,
            "models": {name: _plain(one.summary()) for name, one in measured.items()},
        },
    )


def smoothed(setting: Setting) -> Use:
    """Take the finest level out of an image outside a region; no trained weight has a part in it."""
    example = setting.examples[0]
    far = reach(WAVELET, 1)
    mask = _region(example.places, far)
    x = example.image.double()
    after = edit(x, {"level1": 0.0}, torch.from_numpy(mask), levels=LEVELS, spatial_dims=mask.ndim, wavelet=WAVELET)
    change = (after - x)[0].numpy()
    deep = ndimage.minimum_filter(mask, 2 * far + 1, mode="constant", cval=True)
    inside, outside = (change[:, place] for place in (deep, ~mask))
    shown = setting.shown(torch.cat([x, after]))
    outline = for_display(mask[None, None], slices=setting.slices)[0]
    return Use(
        figures.edited(shown[0], shown[1], outline),
        f"Image of test subject {example.subject} before and after its finest {WAVELET} details were taken out outside "
        f"an outlined {_REGIONS[mask.ndim]}, and the difference" + (": none deep inside it" if inside.size else ""),
        {
            "region": _REGIONS[mask.ndim],
            "subject": example.subject,
            "wavelet": WAVELET,
            "reach": far,
            "voxels_deep_inside": inside.size,
            "changed_deep_inside": int(np.count_nonzero(inside)),
            "rms_change_outside": float(np.sqrt(np.mean(outside**2))),
        },
    )


def mapped(setting: Setting) -> Use:
    """Map the coefficients of an image, and of its place in the model's latent where that is wavelet coefficients."""
    example, model = setting.examples[0], setting.model
    found = _coefficients(model, example)
    levels, wavelet = (LEVELS, WAVELET) if found is None else (found.levels, found.wavelet)
    padded = pad_to_multiple(example.image, 2**levels, model.dims)
    own = dwt(padded, levels, model.dims, wavelet, "periodization")
    kept = {} if found is None else {band: values for band, values in found.subbands().items() if bool(values.any())}
    shape = tuple(example.image.shape[2:])
    maps: dict[int, dict[str, NDArray[Any]]] = {level: {} for level, _ in own}
    for words, coefficients in (("", own), ("latent ", found)):
        for level, bands in {} if coefficients is None else heatmaps(coefficients).items():
            for name, each in bands.items():
                if coefficients is own or f"{name}{level}" in kept:
                    one = crop_to(each.amax(1, keepdim=True), shape)
                    maps[level][f"{words}{name}"] = setting.shown(one)[0]
    energy = {level: sum(float(band.square().sum()) for band in bands.values()) for level, bands in own}
    total = sum(energy.values()) or 1.0
    said = "" if not kept else "; right: the same of what the model's latent holds"
    return Use(
        figures.heatmaps(setting.shown(example.image)[0], maps),
        f"Magnitude of the {wavelet} coefficients of an image of test subject {example.subject}: levels by row, "
        f"orientations by column{said}",
        {
            "subject": example.subject,
            "wavelet": wavelet,
            "dims": model.dims,
            "energy": {str(level): part / total for level, part in energy.items()},
            "kept": [band for band in kept if "d" in band],
            "correlation": {
                band: _correlation(values, own.subbands()[band]) for band, values in kept.items() if "d" in band
            },
        },
    )


def imputed(setting: Setting) -> Use:
    """Fill in a missing block and scattered missing pixels (of volumes: slices), beside fillings without anatomy."""
    model, name = setting.model, setting.name
    chosen = list(setting.examples[:FILLED])
    truth, label = torch.cat([example.image for example in chosen]), labels_of(model, chosen)
    rows: dict[str, list[NDArray[Any]]] = {}
    errors, holes, said = [], {}, []
    for kind, words, hole in _holes(truth.shape[2:]):
        known = torch.stack([hole(e, seed_for(setting.seed, "hole", e.subject)) for e in chosen])[:, None]
        found = filled(
            model,
            name,
            truth,
            known,
            method="map" if model.has_density else "chain",
            sweeps=SWEEPS,
            seed=setting.seed,
            label=label,
        )
        given = torch.where(known, truth, torch.nan)
        fillings = {"filled in": found.images[name]} | {k: v for k, v in found.images.items() if k == BIHARMONIC}
        for column, images in ({"truth": truth, "given": given} | fillings).items():
            rows.setdefault(column, []).append(setting.shown(images))
        errors.append(setting.shown((found.images[name] - truth).abs()))
        rivals = {k: v for k, v in found.rmse.items() if k != name}
        holes[kind] = {"what": words, "rmse": {"model": found.rmse[name], **rivals}}
        said.append(words)
    return Use(
        figures.imputed(
            {column: np.concatenate(parts) for column, parts in rows.items()}, np.concatenate(errors), "|error|"
        ),
        f"Images of {len(chosen)} test subjects with {' and '.join(said)} missing; by column: {', '.join(rows)}, "
        "absolute error of what was filled in",
        {
            "subjects": [example.subject for example in chosen],
            "method": "map" if model.has_density else "chain",
            "fillings": ["model", *(each for each in (BIHARMONIC, MEAN) if each in rivals)],
            "holes": holes,
        },
    )


def _ends(setting: Setting) -> list[Example] | None:
    """Return two test images, of a model with classes the first two of one class; None where there are none."""
    pairs = itertools.combinations(setting.examples, 2)
    return next((list(ends) for ends in pairs if not setting.model.classes or ends[0].label == ends[1].label), None)


def _region(places: NDArray[np.bool_], far: int) -> NDArray[np.bool_]:
    """Return a disc (a ball) about the middle of the head, a fifth of the shortest side in radius.

    Larger where the image has room, so that some of it lies farther than `far` voxels, along every axis, from its edge.
    """
    side = min(places.shape)
    radius = max(side / 5, min(math.sqrt(places.ndim) * (far + 2), 0.4 * side))
    centre = ndimage.center_of_mass(places)
    grids = np.meshgrid(*(np.arange(n) - c for n, c in zip(places.shape, centre, strict=True)), indexing="ij")
    return np.asarray(np.sum(np.square(grids), axis=0) <= radius**2)


def _holes(shape: Sequence[int]) -> list[tuple[str, str, Callable[[Example, int], Tensor]]]:
    """Return the kinds of holes by name and words, each as a function of an example and a seed."""
    size = max(1, min(shape) // 4)

    def block(example: Example, seed: int) -> Tensor:
        return block_within(example.places, size, seed)

    def pixels(example: Example, seed: int) -> Tensor:
        return scattered(shape, MISSING, seed)

    def slices(example: Example, seed: int) -> Tensor:
        return missing_slices(shape, [shape[2] // 2, shape[2] // 2 + 1])

    sides = " × ".join([str(size)] * len(shape))
    other = (
        ("slices", "two axial slices", slices)
        if len(shape) == 3
        else ("pixels", f"{100 * MISSING:.0f} % of the pixels", pixels)
    )
    return [("block", f"a block of {sides}", block), other]


def _coefficients(model: LatentModel, example: Example) -> Coefficients | None:
    """Return the posterior mean of an image as wavelet coefficients, or None of a latent that is something else."""
    try:
        inner = wavelet_vae(model)
    except ValueError:
        return None
    return posterior_coefficients(inner, example.image, labels_of(inner, [example]))


def _plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Return numbers for JSON: one that is not finite becomes None."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _correlation(one: Tensor, other: Tensor) -> float | None:
    """Return the correlation of a subband of the latent and the image's, where the latent has one."""
    held = one != 0  # a subband of which only a part is kept
    x, y = one[held].double(), other[held].double()
    if len(x) < 2 or float(x.std()) == 0 or float(y.std()) == 0:
        return None
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])
