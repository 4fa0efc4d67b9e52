"""CIFAR-10 from its `python version`: pickled batches in a folder, or still in their archive."""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from medwvae.data.image_sets.plain_pickle import read_pickle
from medwvae.errors import InputError

CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

FILES: Final[dict[Literal["train", "test"], tuple[str, ...]]] = {
    "train": tuple(f"data_batch_{n}" for n in range(1, 6)),
    "test": ("test_batch",),
}
_FOLDER: Final = "cifar-10-batches-py"
_ARCHIVE: Final = "cifar-10-python.tar.gz"
_SHAPE: Final = (3, 32, 32)
_LIMIT: Final = 2**26
"""Bytes of a batch; the real ones have 31 million."""


def sources(path: Path, part: Literal["train", "test"]) -> list[Path]:
    """Return the files that hold a part: its batches, or the archive.

    Raises
    ------
    InputError
        If they are not there.
    """
    if path.is_file():
        return [path]
    for folder in (path / _FOLDER, path):
        if all((folder / name).is_file() for name in FILES[part]):
            return [folder / name for name in FILES[part]]
    if (path / _ARCHIVE).is_file():
        return [path / _ARCHIVE]
    raise InputError(
        f"{path}: no CIFAR-10 here; expected the folder {_FOLDER} with {', '.join(FILES[part])}, or {_ARCHIVE} "
        "(the `python version` of https://www.cs.toronto.edu/~kriz/cifar.html)"
    )


def shape_of(path: Path) -> tuple[int, int, int]:
    """Return (C, H, W), the same for every CIFAR-10."""
    return _SHAPE


def read(path: Path, part: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images (N, 3, 32, 32) and labels (N,) of an official part, in the order of the files.

    Raises
    ------
    InputError
        If a file is missing, damaged, or holds something else.
    """
    files = sources(path, part)
    whole = files[0] if path.is_file() or files[0].name == _ARCHIVE else None
    contents = _archived(whole, FILES[part]) if whole else ((str(file), _content(file)) for file in files)
    batches = [_checked(read_pickle(content, name), name) for name, content in contents]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def _checked(batch: dict[str, Any], name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = batch.get("data"), batch.get("labels")
    if not isinstance(images, np.ndarray) or not isinstance(labels, list):
        raise InputError(f"{name}: has no `data` and `labels`, so it is no batch of CIFAR-10; download it again")
    pixels = int(np.prod(_SHAPE))
    if images.ndim != 2 or images.shape[1] != pixels or not len(images):
        raise InputError(f"{name}: its images have the shape {images.shape}, not (N, {pixels}); is this CIFAR-10?")
    if len(labels) != len(images):
        raise InputError(f"{name}: has {len(images)} images but {len(labels)} labels; download it again")
    if not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise InputError(f"{name}: has labels other than 0 to {len(CLASSES) - 1}; is this CIFAR-10?")
    return images.reshape(-1, *_SHAPE), np.array(labels, np.int64)


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LIMIT:
            raise InputError(f"{file}: too large for a batch of CIFAR-10")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


def _archived(file: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield batches of an archive in the order of `names`; nothing is unpacked to the disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(file, "r:*") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in names and name not in found and member.isfile():
                    if member.size > _LIMIT:
                        raise InputError(f"{file}: {name} is too large for a batch of CIFAR-10")
                    stream = archive.extractfile(member)
                    found[name] = stream.read() if stream else b""
                if len(found) == len(names):
                    break
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InputError(
            f"{file}: damaged, or no archive ({type(error).__name__}); download {_ARCHIVE} again"
        ) from None
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{file}: lacks {', '.join(missing)}; download {_ARCHIVE} again")
    yield from ((f"{file}: {name}", found[name]) for name in names)
