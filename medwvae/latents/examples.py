"""One image of every test subject, as what is done with a latent takes it; how images of a study are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.anatomy import middle, three_slices
from medwvae.data.loaders import Case
from medwvae.generative.sources import OfCohort, Source
from medwvae.nets.latent import LatentModel


@dataclass(frozen=True)
class Example:
    """A test subject's image: a slice through the middle of its first volume, that volume, or a photograph.

    Attributes
    ----------
    subject : str
        By the study's own name.
    image : Tensor
        (1, C, *spatial), network units.
    places : array (*spatial), bool
        Where a hole may have its centre: in the head; of a photograph anywhere.
    maximum : float
        Largest value of the volume: the range of its SSIM.
    label : int or None
        Its class, if it has one of the study's.
    """

    subject: str
    image: Tensor
    places: NDArray[np.bool_]
    maximum: float
    label: int | None


def examples(source: Source) -> list[Example]:
    """Return one image of every test subject, of a set of images the scored ones."""
    if isinstance(source, OfCohort):
        first = {case.subject: case for case in reversed(source.cases("test"))}
        return [_of_case(first[subject], len(source.size), source.classes) for subject in sorted(first)]
    images = source.images("test", labelled=True)
    places = np.ones(images.values.shape[2:], bool)
    labels = [None] * len(images) if images.labels is None else images.labels.tolist()
    return [
        Example(subject, images.values[k : k + 1], places, 1.0, labels[k]) for k, subject in enumerate(images.subjects)
    ]


def labels_of(model: LatentModel, several: Sequence[Example]) -> Tensor | None:
    """Return the classes of images, int64 (B,), for a model that has classes; None for one without.

    Raises
    ------
    ValueError
        If the model has classes and an image none of them.
    """
    if not model.classes:
        return None
    numbers = [example.label for example in several if example.label is not None]
    if len(numbers) < len(several):
        raise ValueError("an image has none of the model's classes")
    return torch.tensor(numbers, device=model.log_sigma.device)


def for_display(images: NDArray[Any], *, slices: bool) -> NDArray[Any]:
    """Return images (N, C, *spatial) for display: slices turned, of volumes the three middle ones; colours last.

    Parameters
    ----------
    slices : bool
        Of RAS+ volumes, shown in radiological display; photographs are upright as they are.
    """
    if images.shape[1] == 3:
        return images.transpose(0, 2, 3, 1)
    images = images[:, 0]
    if not slices:
        return images
    return turned(three_slices(images) if images.ndim == 4 else images)


def turned(images: NDArray[Any]) -> NDArray[Any]:
    """Turn slices (..., H, W) of a RAS+ volume for display: second axis upwards, first to the left."""
    return images.swapaxes(-1, -2)[..., ::-1, ::-1]


def _of_case(case: Case, dims: int, classes: Sequence[str]) -> Example:
    slices, head = case.slices(), case.prepared.head
    shown = middle(head.sum((1, 2)), case.prepared.axis)
    return Example(
        case.subject,
        slices[:, 0][None, None] if dims == 3 else slices[shown][None],
        head if dims == 3 else head[shown],
        case.prepared.maximum,
        classes.index(case.contrast) if case.contrast in classes else None,
    )
