"""Where a study's images come from: slices of its volumes, the volumes as a whole, or photographs or digits."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from medwvae.data.image_sets import ImageSampler, ImageSet, ImageValidation, classes_of, image_shape, read_image_set
from medwvae.data.loaders import Case, Mirror, PatchSampler, Sampler, SliceSampler, contrasts_in, load_cases
from medwvae.degradation import Clean
from medwvae.generative.images import Images, fitted, framed, gathered, of_set, unfitted, whole
from medwvae.generative.placement import Grid, place, placed
from medwvae.geometry import spacing_of
from medwvae.names import ImageKind, Part
from medwvae.progress import bar
from medwvae.seeding import seed_for
from medwvae.train import Score, Validation


class Source(Protocol):
    """The images of a study."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of every image."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What a label can name, in the order of their numbers; empty where nothing is labelled."""
        ...

    def sampler(self) -> Sampler:
        """Return random training images."""
        ...

    def validation(self, count: int, seed: int, *, conditional: bool) -> Score:
        """Return the score of a model on about so many fixed validation images."""
        ...

    def images(self, part: Part, *, labelled: bool) -> Images:
        """Return the images of a part that are scored or compared with, if so wanted with their classes."""
        ...


@dataclass(frozen=True)
class OfCohort:
    """What slices and volumes share: they come from the study's own prepared volumes.

    Attributes
    ----------
    index : Path
        List of the prepared volumes.
    size : tuple of int
        Of every image.
    mirror : bool
        Whether training mirrors them left to right by chance.
    """

    from_disk: ClassVar[bool] = False
    """Whether `fitted` copies, so that the volumes need not be read as a whole."""

    index: Path
    size: tuple[int, ...]
    mirror: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Source`."""
        return (1, *self.size)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Contrasts of the training volumes."""
        return contrasts_in(self.index, "train")

    @property
    def mirrored(self) -> Mirror:
        """How training mirrors."""
        return "left-right" if self.mirror else "none"

    def cases(self, part: Part) -> list[Case]:
        """Return the volumes of a part, as `fitted`."""
        return [self.fitted(case) for case in load_cases(self.index, part, mapped=self.from_disk)]

    def fitted(self, case: Case) -> Case:
        """Return a volume brought to the size of the images."""
        raise NotImplementedError

    def fitted_mask(self, case: Case, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask on the canonical grid of a volume as it lies in `fitted`."""
        raise NotImplementedError

    def returned(self, case: Case, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return images in the place of those of `fitted` as a volume in the units of the case, and its affine, mm."""
        raise NotImplementedError


@dataclass(frozen=True)
class Slices(OfCohort):
    """Slices that show the head, in one frame of `size` rows and columns.

    Attributes
    ----------
    per_volume : int
        Test slices per volume that are scored.
    """

    size: tuple[int, int]
    per_volume: int

    def fitted(self, case: Case) -> Case:
        """See `OfCohort`; every slice is padded with zeros, or cut, about its middle."""
        return framed(case, self.size)

    def fitted_mask(self, case: Case, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """See `OfCohort`."""
        return fitted(np.moveaxis(mask, case.prepared.axis, 0), self.size)

    def returned(self, case: Case, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """See `OfCohort`; on the canonical grid of the volume, which keeps what the frame cut off."""
        prepared = case.prepared
        return prepared.to_volume(unfitted(images, prepared.image)), prepared.affine

    def sampler(self) -> Sampler:
        """See `Source`."""
        return SliceSampler(self.cases("train"), self.size, mirror=self.mirrored)

    def validation(self, count: int, seed: int, *, conditional: bool) -> Score:
        """See `Source`."""
        return Validation(self.cases("val"), Clean(), count, seed, self.classes if conditional else ())

    def images(self, part: Part, *, labelled: bool) -> Images:
        """See `Source`; every training slice. InputError if a volume has none of the classes that are wanted."""
        per_volume = self.per_volume if part == "test" else None
        return gathered(self.cases(part), per_volume, self.classes if labelled else ())


@dataclass(frozen=True)
class Volumes(OfCohort):
    """Whole volumes, each in one grid of `size` voxels along R, A, S about its head.

    Attributes
    ----------
    block : (int, int, int)
        Voxels along R, A, S whose mean is one voxel of the grid.
    """

    from_disk: ClassVar[bool] = True

    size: Grid
    block: Grid

    def fitted(self, case: Case) -> Case:
        """See `OfCohort` and `placement.placed`."""
        return placed(case, self.size, self.block)

    def fitted_mask(self, case: Case, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """See `OfCohort`; at least half of each block."""
        return place(case, self.size, self.block).mask(mask)

    def returned(self, case: Case, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """See `OfCohort`; on the small grid, which lies in the patient as the volume does."""
        own = self.fitted(case).prepared
        return own.to_volume(images), own.affine

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size of the grid in mm along R, A, S: the median of the training volumes'."""
        spacings = [spacing_of(case.prepared.affine) for case in load_cases(self.index, "train", mapped=True)]
        x, y, z = (float(median(axis)) * b for axis, b in zip(zip(*spacings, strict=True), self.block, strict=True))
        return x, y, z

    def sampler(self) -> Sampler:
        """See `Source`."""
        return PatchSampler(self.cases("train"), self.size, mirror=self.mirrored)

    def validation(self, count: int, seed: int, *, conditional: bool) -> Score:
        """See `Source`; every validation volume, whatever `count`."""
        classes = self.classes if conditional else ()
        return Validation(self.cases("val"), Clean(), count, seed, classes, depth=self.size[0])

    def images(self, part: Part, *, labelled: bool) -> Images:
        """See `Source`; every volume. InputError if one has none of the classes that are wanted."""
        return whole(self.cases(part), self.classes if labelled else ())


@dataclass(frozen=True)
class Photographs:
    """CIFAR-10, CelebA-HQ or MNIST.

    Attributes
    ----------
    kind, path, cache, size, held_out, test, seed
        As of `read_image_set`; `held_out` is its `validation`.
    mirror : bool
        Whether training mirrors them left to right by chance.
    most : int
        Most images of a part that are scored or compared with; the seed chooses them.
    """

    kind: ImageKind
    path: Path
    cache: Path
    size: int | None
    held_out: float
    test: float
    seed: int
    mirror: bool
    most: int

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """See `Source`."""
        return image_shape(self.kind, self.path, self.size)

    @property
    def classes(self) -> tuple[str, ...]:
        """See `Source`."""
        return classes_of(self.kind)

    def part(self, part: Part) -> ImageSet:
        """Return a part of the set."""
        with bar(f"scale the {part} images") as shown:
            return read_image_set(
                self.kind,
                self.path,
                part,
                cache=self.cache,
                size=self.size,
                validation=self.held_out,
                test=self.test,
                seed=self.seed,
                report=shown.update,
            )

    def sampler(self) -> Sampler:
        """See `Source`."""
        return ImageSampler(self.part("train"), mirror=self.mirror)

    def validation(self, count: int, seed: int, *, conditional: bool) -> Score:
        """See `Source`; a model without classes takes no notice of the labels."""
        return ImageValidation(self.part("val"), count, seed)

    def images(self, part: Part, *, labelled: bool) -> Images:
        """See `Source`; a set has its labels in any case."""
        return of_set(self.part(part), self.most, seed_for(self.seed, "scored images", part))
