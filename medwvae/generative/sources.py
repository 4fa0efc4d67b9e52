"""Where a study's images come from: the slices of its volumes, or a set of photographs or digits."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from medwvae.data.image_sets import ImageSampler, ImageSet, ImageValidation, classes_of, image_shape, read_image_set
from medwvae.data.loaders import Case, Sampler, SliceSampler, contrasts_in, load_cases
from medwvae.degradation import Clean
from medwvae.generative.images import Images, framed, gathered, of_set
from medwvae.names import ImageKind, Part
from medwvae.progress import bar
from medwvae.seeding import seed_for
from medwvae.train import Score, Validation


class Source(Protocol):
    """The images of a study."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
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
class Slices:
    """Slices that show the head, in one frame.

    Attributes
    ----------
    index : Path
        List of the prepared volumes.
    size : (int, int)
        Frame.
    mirror : bool
        Whether training mirrors them left to right by chance.
    per_volume : int
        Test slices per volume that are scored.
    """

    index: Path
    size: tuple[int, int]
    mirror: bool
    per_volume: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `Source`."""
        return (1, *self.size)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Contrasts of the training volumes."""
        return contrasts_in(self.index, "train")

    def cases(self, part: Part) -> list[Case]:
        """Return the volumes of a part, in the frame."""
        return framed(load_cases(self.index, part), self.size)

    def sampler(self) -> Sampler:
        """See `Source`."""
        return SliceSampler(self.cases("train"), self.size, mirror="left-right" if self.mirror else "none")

    def validation(self, count: int, seed: int, *, conditional: bool) -> Score:
        """See `Source`."""
        return Validation(self.cases("val"), Clean(), count, seed, self.classes if conditional else ())

    def images(self, part: Part, *, labelled: bool) -> Images:
        """See `Source`; every training slice. InputError if a volume has none of the classes that are wanted."""
        per_volume = self.per_volume if part == "test" else None
        return gathered(self.cases(part), per_volume, self.classes if labelled else ())


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
