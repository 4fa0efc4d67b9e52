"""Images to another size, and many of them to a file that is mapped rather than loaded."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medwvae.errors import InputError, not_written
from medwvae.files import atomic
from medwvae.provenance import digest_of

ALGORITHM = 1
"""Raise it with every change of what `square` returns, so that cached images are made anew."""


def square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the central square of an image (C, H, W) at (C, size, size): bicubic enlarged, Lanczos reduced.

    Reducing widens the filter to the new pixel spacing, so that nothing aliases. Values are rounded and clipped.
    """
    side = min(image.shape[1:])
    top, left = ((n - side) // 2 for n in image.shape[1:])
    central = image[:, top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(central)
    method = Image.Resampling.BICUBIC if size > side else Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(c).resize((size, size), method)) for c in central])


def signature(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return the name, size and time of files: what tells that they changed."""
    found = [(file, file.stat()) for file in files]
    return [(file.name, stat.st_size, stat.st_mtime_ns) for file, stat in found]


def cached(
    folder: Path,
    name: str,
    key: object,
    shape: tuple[int, ...],
    images: Iterator[NDArray[np.uint8]],
    report: Callable[[float], None],
) -> NDArray[np.uint8]:
    """Return images mapped from a file of `folder`, which is written from `images` unless it is there.

    Parameters
    ----------
    name, key
        Beginning of the file's name, and what decides its content: another key has another file. Files may be deleted
        at any time that they are not in use.
    shape : tuple of int
        (N, C, H, W), of what `images` yields one by one.
    report : callable
        Called with the fraction done after every image.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    path = folder / f"{name}-{digest_of([ALGORITHM, key, shape])}.npy"
    if (found := _mapped(path, shape)) is not None:
        return found
    try:
        # Written as a stream: a mapped file on a full disk would end the process by a signal.
        with atomic(path) as temporary, temporary.open("wb") as handle:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(handle, header)
            for done, image in enumerate(images, start=1):
                handle.write(image.tobytes())
                report(done / shape[0])
    except OSError as error:
        raise InputError(f"{not_written(str(path), error)} (it needs {np.prod(shape) / 1e6:.0f} MB)") from None
    if (found := _mapped(path, shape)) is None:
        raise InputError(f"{path}: does not hold what was just written to it; delete it and look at the disk")
    return found


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None
