"""One entry for every set: its images of a part, in memory where they are small, else mapped from a cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from medwvae.data.image_sets import cifar10, folder, mnist
from medwvae.data.image_sets.images import ImageSet, held_out
from medwvae.data.image_sets.scaling import cached, signature, square
from medwvae.errors import InputError
from medwvae.names import ImageKind, Part

_LABELLED: Final[dict[str, Any]] = {"cifar10": cifar10, "mnist": mnist}


def files_of(kind: ImageKind, path: Path) -> list[Path]:
    """Return every file that a set is read from.

    Raises
    ------
    InputError
        If one is missing.
    """
    if kind == "celeba_hq":
        return folder.sources(path)
    reader = _LABELLED[kind]
    return list(dict.fromkeys([*reader.sources(path, "train"), *reader.sources(path, "test")]))


def image_shape(kind: ImageKind, path: Path, size: int | None = None) -> tuple[int, int, int]:
    """Return (C, H, W) of the images of a set, from its first file.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    if kind == "celeba_hq":
        return folder.shape_of(folder.sources(path)[0], size)
    channels, height, width = _LABELLED[kind].shape_of(path)
    return (channels, size, size) if size else (channels, height, width)


def classes_of(kind: ImageKind) -> tuple[str, ...]:
    """Return the names of a set's classes; none where images have no label."""
    return () if kind == "celeba_hq" else tuple(_LABELLED[kind].CLASSES)


def read_image_set(
    kind: ImageKind,
    path: Path,
    part: Part,
    *,
    cache: Path,
    size: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 1,
    report: Callable[[float], None] = lambda fraction: None,
) -> ImageSet:
    """Return the images of a part.

    Parameters
    ----------
    kind : {"cifar10", "celeba_hq", "mnist"}
        Format: the pickled batches of CIFAR-10 (folder, or .tar.gz), a folder of images, the idx files of MNIST.
    path : Path
        Folder, or archive.
    part : {"train", "val", "test"}
        CIFAR-10 and MNIST have official training and test parts, and validation is taken from training. Of a folder,
        a hash of each file's name decides.
    cache : Path
        Folder for images that were scaled, or come from a folder: a memory-mapped file for each part and size, used
        again as long as the sources keep their sizes and times.
    size : int, optional
        Pixels of a side, at least one; the images as they are if not given.
    validation, test : float
        Fractions; `test` is read for a folder only.
    seed : int
        Decides validation (and test, of a folder).
    report : callable
        Called with the fraction done while the cache is written.

    Raises
    ------
    InputError
        If files are missing, damaged or do not fit together, with the file and what to do.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; it should hold {kind} (set generative.data.path)")
    if kind == "celeba_hq":
        return _from_folder(path, part, cache, size, report, {"validation": validation, "test": test, "seed": seed})
    reader, official = _LABELLED[kind], _official(part)
    images, labels = reader.read(path, official)
    if official == "train":
        rows = held_out(len(images), validation, seed) == (part == "val")
        images, labels = images[rows], labels[rows]
    if size and images.shape[2:] != (size, size):
        key = [signature(reader.sources(path, official)), part, validation, seed]
        shape = (len(images), images.shape[1], size, size)
        images = cached(cache, f"{kind}-{part}-{size}", key, shape, (square(image, size) for image in images), report)
    return ImageSet(images, labels, reader.CLASSES, part)


def _official(part: Part) -> Literal["train", "test"]:
    return "test" if part == "test" else "train"


def _from_folder(
    path: Path,
    part: Part,
    cache: Path,
    size: int | None,
    report: Callable[[float], None],
    fractions: dict[str, Any],
) -> ImageSet:
    files = folder.sources(path)
    mine = folder.chosen(path, files, part, **fractions)
    shape = folder.shape_of(files[0], size)
    # The first of all images, not of the part: the parts must agree on colour and size.
    key = [signature([files[0], *mine]), shape]
    name = f"celeba_hq-{part}-{size or 'native'}"
    images = cached(cache, name, key, (len(mine), *shape), folder.read(mine, shape, size), report)
    return ImageSet(images, None, (), part)
