"""MNIST from its four idx files, gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from medwvae.errors import InputError

CLASSES: Final = tuple("0123456789")

_PREFIX: Final[dict[Literal["train", "test"], str]] = {"train": "train", "test": "t10k"}
_LIMIT: Final = 2**30
"""Bytes of a file; the largest real one has 47 million."""


def sources(path: Path, part: Literal["train", "test"]) -> tuple[Path, Path]:
    """Return the files with the images and the labels of a part.

    Raises
    ------
    InputError
        If one of them is not there.
    """
    return _source(path, f"{_PREFIX[part]}-images", 3), _source(path, f"{_PREFIX[part]}-labels", 1)


def _source(path: Path, stem: str, dims: int) -> Path:
    names = [f"{stem}{mark}idx{dims}-ubyte{suffix}" for mark in "-." for suffix in ("", ".gz")]
    for name in names:
        if (path / name).is_file():
            return path / name
    raise InputError(f"{path}: no {names[0]} here, with or without .gz; put the four files of MNIST there")


def shape_of(path: Path) -> tuple[int, int, int]:
    """Return (1, H, W) of the training images; InputError as `read_idx`."""
    images = read_idx(sources(path, "train")[0], 3)
    return (1, images.shape[1], images.shape[2])


def read(path: Path, part: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images (N, 1, H, W) and labels (N,) of an official part.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the other.
    """
    image_file, label_file = sources(path, part)
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise InputError(
            f"{image_file} has {len(images)} images but {label_file.name} {len(labels)} labels; download both again"
        )
    if labels.max() >= len(CLASSES):
        raise InputError(f"{label_file}: has the label {labels.max()}, larger than {len(CLASSES) - 1}; is this MNIST?")
    return images[:, None], labels.astype(np.int64)


def read_idx(file: Path, dims: int) -> NDArray[np.uint8]:
    """Return the array of an idx file of bytes with `dims` axes.

    Layout: two zero bytes, the type 0x08, the number of axes, their sizes as big-endian 32-bit integers, the values.

    Raises
    ------
    InputError
        If the file says or holds anything else.
    """
    try:
        with _opened(file) as handle:
            header = handle.read(4 + 4 * dims)
            if header[:4] != bytes((0, 0, 8, dims)):
                raise InputError(
                    f"{file}: begins with {header[:4].hex()}, not 000008{dims:02x}, so it is no idx file of bytes "
                    f"with {dims} axes; download it again"
                )
            if len(header) < 4 + 4 * dims:
                raise InputError(f"{file}: ends within its header; download it again")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            expected = math.prod(shape)
            if not 0 < expected <= _LIMIT:
                raise InputError(f"{file}: says that its array is {_by(shape)}; is this MNIST?")
            content = handle.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({error}); download it again") from None
    if len(content) != expected:
        found = "more" if len(content) > expected else f"only {len(content)}"
        raise InputError(f"{file}: says {expected} values ({_by(shape)}) but holds {found}; download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(file: Path) -> BinaryIO:
    with file.open("rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"  # browsers unpack some downloads and leave the name as it was
    return cast(BinaryIO, gzip.open(file, "rb")) if zipped else file.open("rb")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
