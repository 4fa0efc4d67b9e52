"""The images of the study, and which are scored: slices that show the head, whole volumes, or photographs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.data.image_sets import ImageSet
from medwvae.data.loaders import Case, class_of

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Images:
    """Images of one part of the cohort, or of a set of images, N of them.

    Attributes
    ----------
    values : Tensor
        (N, C, *spatial), network units: air 0, the reference intensity of the head 1; of photographs [0, 1].
    head : Tensor or None
        Head mask, bool, (N, 1, *spatial); None of photographs.
    volumes, subjects : tuple of str
        Whose each image is; a photograph is its own volume and subject.
    maxima : dict
        Largest value of each volume: the data range of its PSNR and SSIM.
    labels : Tensor or None
        Class of each image, int64, (N,).
    """

    values: Tensor
    head: Tensor | None
    volumes: tuple[str, ...]
    subjects: tuple[str, ...]
    maxima: dict[str, float]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dims(self) -> Literal[2, 3]:
        """Number of spatial axes."""
        return 3 if self.values.ndim == 5 else 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""
        return tuple(self.values.shape[2:])

    def of(self, volume: str) -> Tensor:
        """Return the indices of a volume's images."""
        return torch.tensor([k for k, name in enumerate(self.volumes) if name == volume])

    def subject_of(self, volume: str) -> str:
        """Return whose volume it is."""
        return self.subjects[self.volumes.index(volume)]


def fitted(slices: NDArray[T], size: tuple[int, int]) -> NDArray[T]:
    """Pad (S, H, W) with zeros, or cut it, about its middle to (S, *size)."""
    for axis, want in enumerate(size, start=1):
        missing = want - slices.shape[axis]
        if missing > 0:
            padding = [(0, 0)] * 3
            padding[axis] = (missing // 2, missing - missing // 2)
            slices = np.pad(slices, padding)
        elif missing < 0:
            slices = slices.take(range(-missing // 2, -missing // 2 + want), axis)
    return slices


def unfitted(slices: NDArray[T], onto: NDArray[T]) -> NDArray[T]:
    """Undo `fitted`: return `onto` (S, H, W) with the slices in their place; what the frame cut off stays as it is."""
    out, ours, theirs = onto.copy(), [slice(None)], [slice(None)]
    for have, want in zip(onto.shape[1:], slices.shape[1:], strict=True):
        before, cut = max(want - have, 0) // 2, -min(want - have, 0) // 2
        length = min(have, want)
        ours.append(slice(cut, cut + length))
        theirs.append(slice(before, before + length))
    out[tuple(ours)] = slices[tuple(theirs)]
    return out


def framed(case: Case, size: tuple[int, int]) -> Case:
    """Return a case with every slice in one frame; it no longer lies on its volume's grid."""
    p = case.prepared
    return replace(case, prepared=replace(p, image=fitted(p.image, size), head=fitted(p.head, size)))


def gathered(cases: Sequence[Case], per_volume: int | None = None, classes: Sequence[str] = ()) -> Images:
    """Return the slices of framed cases that show the head: all, or at most so many per volume, evenly spread.

    Raises
    ------
    InputError
        If `classes` (contrasts) are given and a volume has another one.
    """
    values, heads, volumes, subjects, labels = [], [], [], [], []
    for case in cases:
        chosen = case.prepared.tissue_slices()
        if per_volume is not None and per_volume < len(chosen):  # midpoints of equal stretches
            chosen = chosen[((np.arange(per_volume) + 0.5) / per_volume * len(chosen)).astype(int)]
        values.append(torch.from_numpy(case.prepared.image[chosen]))
        heads.append(torch.from_numpy(case.prepared.head[chosen]))
        volumes += [case.volume] * len(chosen)
        subjects += [case.subject] * len(chosen)
        if classes:
            labels += [class_of(case, classes)] * len(chosen)
    maxima = {case.volume: case.prepared.maximum for case in cases}
    known = torch.tensor(labels) if classes else None
    return Images(torch.cat(values)[:, None], torch.cat(heads)[:, None], tuple(volumes), tuple(subjects), maxima, known)


def whole(cases: Sequence[Case], classes: Sequence[str] = ()) -> Images:
    """Return placed cases, one image each.

    Raises
    ------
    InputError
        If `classes` (contrasts) are given and a volume has another one.
    """
    values, heads = (
        torch.from_numpy(np.stack([getattr(case.prepared, name) for case in cases]))[:, None]
        for name in ("image", "head")
    )
    return Images(
        values,
        heads,
        tuple(case.volume for case in cases),
        tuple(case.subject for case in cases),
        {case.volume: case.prepared.maximum for case in cases},
        torch.tensor([class_of(case, classes) for case in cases]) if classes else None,
    )


def of_set(images: ImageSet, most: int, seed: int) -> Images:
    """Return images of a set in [0, 1]: all, or so many by the seed; their names are their places in the part."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(images), generator=generator)[:most].sort().values
    values, labels = images.take(rows.numpy())
    names = tuple(f"{images.part}-{int(row):06d}" for row in rows)
    return Images(values, None, names, names, dict.fromkeys(names, 1.0), labels)
