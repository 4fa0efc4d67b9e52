"""Prepared volumes, and random training slices and patches from them."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medwvae.data.transforms import Prepared
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import CONTRASTS, Part

Mirror = Literal["both", "left-right", "none"]
TRIES = 1000
"""Draws of a voxel before a head counts as empty."""
INDEX_COLUMNS = ("volume", "subject", "contrast", "part")


@dataclass(frozen=True)
class Case:
    """One prepared volume and whose it is."""

    volume: str
    subject: str
    contrast: str
    prepared: Prepared

    def slices(self, neighbours: int = 0) -> Tensor:
        """All slices in network units between so many neighbours, (S, 2 neighbours + 1, H, W)."""
        image = torch.from_numpy(np.require(self.prepared.image, requirements="W"))  # a mapped one is read
        if not neighbours:
            return image[:, None]
        offsets = torch.arange(-neighbours, neighbours + 1)
        return image[(torch.arange(len(image))[:, None] + offsets).clamp(0, len(image) - 1)]

    def maximum(self) -> Tensor:
        """Volume maximum in network units, shape (1,)."""
        return torch.tensor([self.prepared.maximum])


def write_index(path: Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Write the list of prepared volumes."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(INDEX_COLUMNS)
        writer.writerows(sorted(rows))


def read_index(path: Path) -> list[dict[str, str]]:
    """Undo `write_index`.

    Raises
    ------
    InputError
        If the list is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            return list(csv.DictReader(handle))
    except OSError as error:
        raise InputError(f"{path}: cannot be read; run `medwvae preprocess` first") from error


def load_cases(index: Path, part: Part, *, mapped: bool = False) -> list[Case]:
    """Load the prepared volumes of one part; they lie in the folder named like the index, without suffix.

    With `mapped` their voxels stay on disk; see `Prepared.load`.

    Raises
    ------
    InputError
        If the part is empty.
    """
    rows = [row for row in read_index(index) if row["part"] == part]
    if not rows:
        raise InputError(f"{index}: no volume in the {part} part; add subjects or change `split`")
    return [
        Case(
            row["volume"],
            row["subject"],
            row["contrast"],
            Prepared.load(index.with_suffix("") / f"{row['volume']}.npz", mapped=mapped),
        )
        for row in rows
    ]


class Draw(NamedTuple):
    """Images to train on.

    Attributes
    ----------
    images : Tensor
        (B, C, H, W), or (B, C, S, H, W) of volumes, float32.
    maxima : Tensor
        Largest value of the volume of each image, (B,).
    labels : Tensor or None
        Class of each image, int64, (B,); None where there is nothing to tell apart.
    """

    images: Tensor
    maxima: Tensor
    labels: Tensor | None = None


Share = tuple[int, int]
"""One of several equal shares, as (rank, ranks)."""
ALL: Share = (0, 1)
Drawn = TypeVar("Drawn", int, Tensor)


def of_share(drawn: Drawn, count: int, share: Share) -> Drawn:
    """Return which of `count` things a share draws, by numbers drawn uniformly below `count`.

    All shares together draw each thing equally often, also where things cannot be dealt out evenly, or where there are
    fewer of them than shares: of a thing between two shares, each has its part.
    """
    rank, ranks = share
    return (rank * count + drawn) // ranks


class Sampler(Protocol):
    """What the training loop draws its images from."""

    def draw(self, batch: int, generator: torch.Generator, share: Share = ALL) -> Draw:
        """Return `batch` random images of a share of them all, that follow from the generator alone."""
        ...


def contrasts_of(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the contrasts that occur, in the order of `names.CONTRASTS`: the classes of slices."""
    return _ordered({case.contrast for case in cases})


def contrasts_in(index: Path, part: Part) -> tuple[str, ...]:
    """Return `contrasts_of` a part from the list of prepared volumes alone."""
    return _ordered({row["contrast"] for row in read_index(index) if row["part"] == part})


def _ordered(contrasts: set[str]) -> tuple[str, ...]:
    order: list[str] = [*CONTRASTS]
    return tuple(sorted(contrasts, key=order.index))


def class_of(case: Case, classes: Sequence[str]) -> int:
    """Return the index of a volume's contrast among the classes.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if case.contrast not in classes:
        raise InputError(
            f"volume {case.volume} has the contrast {case.contrast}, but training knows {', '.join(classes)}; "
            "leave it out with preprocess.contrasts, or split anew"
        )
    return classes.index(case.contrast)


class SliceSampler:
    """Random slices: a volume uniformly, a tissue slice of it uniformly, a crop, mirrored by chance.

    Parameters
    ----------
    cases : sequence of Case
        Training volumes; their arrays may be mapped from files.
    crop : (int, int) or None
        Size of the crop; slices smaller than it are padded with zeros. None: whole slices, padded to the largest.
    multiple : int
        Whole slices are padded to multiples of this.
    mirror : {"both", "left-right", "none"}
        In-plane axes that chance mirrors; "left-right" leaves a head upright (and a sagittal slice as it is).
    neighbours : int
        Slices on either side that a draw holds as well, the first and last of a volume repeated beyond its ends.

    Attributes
    ----------
    classes : tuple of str
        Contrasts of the volumes. Where there are several, draws are labelled with their index here.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        crop: tuple[int, int] | None,
        multiple: int = 1,
        mirror: Mirror = "both",
        neighbours: int = 0,
    ) -> None:
        self.offsets = torch.arange(-neighbours, neighbours + 1)
        self.images = [case.prepared.image for case in cases]
        self.tissue = [torch.from_numpy(case.prepared.tissue_slices()) for case in cases]
        self.maxima = torch.tensor([case.prepared.maximum for case in cases])
        self.classes = contrasts_of(cases)
        self.labels = torch.tensor([self.classes.index(case.contrast) for case in cases])
        # The first axis in plane runs from left to right, but for sagittal slices.
        upright: list[tuple[int, ...]] = [(-2,) if case.prepared.axis != 0 else () for case in cases]
        axes: dict[Mirror, list[tuple[int, ...]]] = {
            "both": [(-2, -1)] * len(cases),
            "left-right": upright,
            "none": [()] * len(cases),
        }
        self.axes = axes[mirror]
        largest = [max(image.shape[axis] for image in self.images) for axis in (1, 2)]
        self.crop = crop or (largest[0] + -largest[0] % multiple, largest[1] + -largest[1] % multiple)

    def draw(self, batch: int, generator: torch.Generator, share: Share = ALL) -> Draw:
        """Return slices (batch, 1 or 2 neighbours + 1, h, w) in network units, their volumes' maxima and contrasts."""

        def integer(high: int) -> int:
            return int(torch.randint(high, (), generator=generator))

        chosen = [of_share(integer(len(self.images)), len(self.images), share) for _ in range(batch)]
        slices = []
        for k in chosen:
            place = self.tissue[k][integer(len(self.tissue[k]))]
            places = (place + self.offsets).clamp(0, len(self.images[k]) - 1)
            section = self._cropped(torch.from_numpy(self.images[k][places.numpy()]), integer)  # a copy of these alone
            flips = [axis for axis in self.axes[k] if integer(2)]
            slices.append(section.flip(flips) if flips else section)
        labels = self.labels[chosen] if len(self.classes) > 1 else None
        return Draw(torch.stack(slices), self.maxima[chosen], labels)

    def _cropped(self, section: Tensor, integer: Callable[[int], int]) -> Tensor:
        missing = [max(want - have, 0) for want, have in zip(self.crop, section.shape[-2:], strict=True)]
        if any(missing):
            before = [amount // 2 for amount in missing]
            padding = (before[1], missing[1] - before[1], before[0], missing[0] - before[0])
            section = F.pad(section, padding)
        top = integer(section.shape[-2] - self.crop[0] + 1)
        left = integer(section.shape[-1] - self.crop[1] + 1)
        return section[..., top : top + self.crop[0], left : left + self.crop[1]]


class PatchSampler:
    """Random patches of volumes: a volume uniformly, a voxel of its head uniformly, the patch around it, mirrored.

    The voxel is drawn again until it lies in the head, which needs no list of the head's voxels (MONAI's
    `RandCropByPosNegLabel` keeps 8 bytes for each). At the border a patch moves inwards.

    Parameters
    ----------
    cases : sequence of Case
        Training volumes; their arrays may be mapped from files.
    patch : (int, int, int)
        Slices, rows and columns; volumes smaller than it are padded with zeros.
    mirror : {"both", "left-right", "none"}
        Axes that chance mirrors: all; from left to right; none.

    Attributes
    ----------
    classes : tuple of str
        As in `SliceSampler`.
    """

    def __init__(self, cases: Sequence[Case], patch: tuple[int, int, int], mirror: Mirror = "both") -> None:
        self.cases, self.patch = cases, patch
        self.maxima = torch.tensor([case.prepared.maximum for case in cases])
        self.classes = contrasts_of(cases)
        self.labels = torch.tensor([self.classes.index(case.contrast) for case in cases])
        # Slices across the axis from left to right run along it; otherwise it is the first in plane.
        upright: list[tuple[int, ...]] = [(1,) if case.prepared.axis != 0 else (0,) for case in cases]
        axes: dict[Mirror, list[tuple[int, ...]]] = {
            "both": [(0, 1, 2)] * len(cases),
            "left-right": upright,
            "none": [()] * len(cases),
        }
        self.axes = axes[mirror]

    def draw(self, batch: int, generator: torch.Generator, share: Share = ALL) -> Draw:
        """Return patches (batch, 1, *patch) in network units, the maxima of their volumes and their contrasts."""

        def integer(high: int) -> int:
            return int(torch.randint(high, (), generator=generator))

        chosen = [of_share(integer(len(self.cases)), len(self.cases), share) for _ in range(batch)]
        patches = []
        for k in chosen:
            piece = self._around(self.cases[k].prepared.image, self._voxel(k, integer))
            flips = [axis for axis in self.axes[k] if integer(2)]
            patches.append(piece.flip(flips) if flips else piece)
        labels = self.labels[chosen] if len(self.classes) > 1 else None
        return Draw(torch.stack(patches)[:, None], self.maxima[chosen], labels)

    def _voxel(self, k: int, integer: Callable[[int], int]) -> tuple[int, ...]:
        head = self.cases[k].prepared.head
        for _ in range(TRIES):
            voxel = tuple(integer(size) for size in head.shape)
            if head[voxel]:
                return voxel
        return voxel  # a head of next to nothing: anywhere

    def _around(self, image: NDArray[np.float32], voxel: tuple[int, ...]) -> Tensor:
        starts = [
            min(max(v - want // 2, 0), max(have - want, 0))
            for v, want, have in zip(voxel, self.patch, image.shape, strict=True)
        ]
        piece = image[tuple(slice(start, start + want) for start, want in zip(starts, self.patch, strict=True))]
        out = np.zeros(self.patch, np.float32)
        before = [(want - have) // 2 for want, have in zip(self.patch, piece.shape, strict=True)]
        out[tuple(slice(b, b + n) for b, n in zip(before, piece.shape, strict=True))] = piece
        return torch.from_numpy(out)
