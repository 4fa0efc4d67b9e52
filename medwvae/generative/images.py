"""The images of the study: slices that show the head, all in one frame, and which of them are scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.data.loaders import Case

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Images:
    """Images of one part of the cohort, N of them.

    Attributes
    ----------
    values : Tensor
        (N, 1, H, W), network units: air 0, the reference intensity of the head 1.
    head : Tensor
        Head mask, bool, (N, 1, H, W).
    volumes, subjects : tuple of str
        Whose each image is.
    maxima : dict
        Largest value of each volume: the data range of its PSNR and SSIM.
    """

    values: Tensor
    head: Tensor
    volumes: tuple[str, ...]
    subjects: tuple[str, ...]
    maxima: dict[str, float]

    def __len__(self) -> int:
        return len(self.values)

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


def framed(cases: Sequence[Case], size: tuple[int, int]) -> list[Case]:
    """Return the cases with every slice in one frame; they no longer lie on their volumes' grids."""
    return [
        replace(
            case,
            prepared=replace(
                case.prepared, image=fitted(case.prepared.image, size), head=fitted(case.prepared.head, size)
            ),
        )
        for case in cases
    ]


def gathered(cases: Sequence[Case], per_volume: int | None = None) -> Images:
    """Return the slices of framed cases that show the head: all, or at most so many per volume, evenly spread."""
    values, heads, volumes, subjects = [], [], [], []
    for case in cases:
        chosen = case.prepared.tissue_slices()
        if per_volume is not None and per_volume < len(chosen):  # midpoints of equal stretches
            chosen = chosen[((np.arange(per_volume) + 0.5) / per_volume * len(chosen)).astype(int)]
        values.append(torch.from_numpy(case.prepared.image[chosen]))
        heads.append(torch.from_numpy(case.prepared.head[chosen]))
        volumes += [case.volume] * len(chosen)
        subjects += [case.subject] * len(chosen)
    maxima = {case.volume: case.prepared.maximum for case in cases}
    return Images(torch.cat(values)[:, None], torch.cat(heads)[:, None], tuple(volumes), tuple(subjects), maxima)
