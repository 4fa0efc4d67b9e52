"""Edit and heatmap of a trained Wavelet-VAE's own latent, of any NIfTI volume like those of its study."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae.config import Config
from medwvae.errors import InputError
from medwvae.progress import say
from medwvae.stages.arguments import said

if TYPE_CHECKING:
    from medwvae.data.loaders import Case
    from medwvae.generative.sources import OfCohort
    from medwvae.nets.latent import LatentModel


def edit_latent(
    config: Config,
    model: str,
    source: Path,
    out: Path,
    gains: Sequence[str],
    threads: int = 1,
    *,
    inside: Sequence[str] = (),
    mask: Path | None = None,
    protect: bool = False,
    label: str | None = None,
) -> None:
    """Write what a model makes of a NIfTI volume when the coefficients of its latent are multiplied by gains.

    The volume is prepared as those of the study are. A model of slices answers on the volume's grid, in RAS+ order; one
    of volumes on its own, smaller grid. The units are those of the volume.
    """
    import numpy as np
    import torch

    from medwvae.data import nifti
    from medwvae.geometry import to_ras
    from medwvae.latents.coefficients import edit_latent as edit
    from medwvae.latents.coefficients import wavelet_vae
    from medwvae.latents.sample import labels_for
    from medwvae.stages.coefficients import gains_in, named_output, on_grid
    from medwvae.stages.latents import class_number, of_study

    torch.set_num_threads(threads)
    named_output(source, out)
    with said():
        built, images = of_study(config, model)
        wavelet_vae(built)
        if mask is None and (inside or protect):
            raise ValueError("gains inside a mask, and its protection, need a mask: add --mask")
    cohort, case = _opened(config, images, source)
    x = _images(cohort.fitted(case), built)
    where = None
    if mask is not None:
        volume, affine = nifti.read(source)
        inner, _ = to_ras(on_grid(mask, volume, affine), affine)
        fitted = torch.from_numpy(np.ascontiguousarray(cohort.fitted_mask(case, np.asarray(inner, bool))))
        if inner.any() and not fitted.any():
            raise InputError(
                "nothing of the mask is left on the model's grid: it lies outside, or fills no more than half of any "
                "voxel there; widen it, or edit the plain transform (without --model)"
            )
        where = fitted[None, None] if built.dims == 3 else fitted[:, None]
    answers = []
    with said():
        one = labels_for(built, class_number(config, built, label), 1)
        batch = config.generative.fidelity.batch
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            answers.append(
                edit(
                    built,
                    part,
                    gains_in(gains),
                    None if where is None else where[start : start + batch],
                    inside=gains_in(inside) if inside else None,
                    protect=protect,
                    label=None if one is None else one.expand(len(part)),
                )
            )
    answer = torch.cat(answers)
    found = answer[0, 0] if built.dims == 3 else answer[:, 0]
    result, grid = cohort.returned(case, found.numpy())
    nifti.write(out, np.ascontiguousarray(result.astype(np.float32)), grid)
    difference = float((answer - x).square().mean().sqrt())
    say(f"edit: the answer of {model} differs by {difference:.4g} (RMS, network units), by its coding and the edit")


def heatmap_latent(
    config: Config,
    model: str,
    source: Path,
    out: Path,
    threads: int = 1,
    *,
    index: int | None = None,
    label: str | None = None,
) -> None:
    """Write a figure of |coefficient| per level and orientation of what a model's latent holds of a NIfTI volume.

    Of a model of slices, one slice is shown, by default through the middle of the head.
    """
    import torch

    from medwvae.anatomy import middle
    from medwvae.latents import figures
    from medwvae.latents.coefficients import latent_maps, wavelet_vae
    from medwvae.latents.examples import for_display
    from medwvae.latents.sample import labels_for
    from medwvae.stages.coefficients import named_figure
    from medwvae.stages.latents import class_number, of_study

    torch.set_num_threads(threads)
    named_figure(out)
    with said():
        built, images = of_study(config, model)
        wavelet_vae(built)
    cohort, case = _opened(config, images, source)
    own = cohort.fitted(case)
    x = _images(own, built)
    where = "the middle slices"
    if built.dims == 3 and index is not None:
        raise InputError("--index is of slices; of a model of volumes the middle ones along each axis are shown")
    if built.dims == 2:
        size = len(x)
        chosen = middle(own.prepared.head.sum((1, 2)), own.prepared.axis) if index is None else index
        if not 0 <= chosen < size:
            raise InputError(
                f"--index is {chosen}; the volume has slices 0 to {size - 1} along axis {case.prepared.axis}"
            )
        x, where = x[chosen : chosen + 1], f"slice {chosen}"
    with said():
        maps = latent_maps(built, x, labels_for(built, class_number(config, built, label), 1))
        if not maps:
            raise ValueError(f"the latent of {model} holds no details, only the approximation")
    shown = {
        level: {name: for_display(one.numpy(), slices=True)[0] for name, one in bands.items()}
        for level, bands in maps.items()
    }
    figure = figures.heatmaps(for_display(x.numpy(), slices=True)[0], shown)
    figures.save(out, figure, f"Magnitude of what the latent of {model} holds per level and orientation, {where}")
    say(f"heatmap: {len(maps)} levels of the latent of {model}, {where}")


def _opened(config: Config, images: Any, source: Path) -> "tuple[OfCohort, Case]":
    """Return a volume prepared as the study's are, and what brings it to the size of the model's images."""
    from medwvae.data.loaders import Case
    from medwvae.data.transforms import prepare
    from medwvae.generative.sources import OfCohort
    from medwvae.stages.coefficients import present

    if not isinstance(images, OfCohort):
        raise InputError("a volume is no image of this study, which has photographs; name a model of slices or volumes")
    c = config.preprocess
    modality = config.ingest.default_modality
    prepared = prepare(present(source), modality=modality, plane=c.plane, percentile=c.percentile)
    return images, Case("volume", "subject", "unknown", prepared)


def _images(case: "Case", model: "LatentModel") -> Any:
    """Return a fitted case as a batch: (1, 1, X, Y, Z), or its slices (S, 1, H, W)."""
    slices = case.slices()
    return slices[:, 0][None, None] if model.dims == 3 else slices
