"""CelebA-HQ, or any other folder of photographs: PNG, JPEG or WebP, to training, validation and test parts."""

import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medwvae.data.image_sets.scaling import square
from medwvae.errors import InputError
from medwvae.names import Part
from medwvae.seeding import seed_for

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_CHANNELS: Final = {"RGB": 3, "L": 1}
_KINDS: Final = {3: "colour", 1: "grey"}


def sources(folder: Path) -> list[Path]:
    """Return every image below a folder, sorted.

    Raises
    ------
    InputError
        If there is none.
    """
    files = [f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise InputError(f"{folder}: no image here; expected a folder of {', '.join(SUFFIXES)} files")
    return sorted(files)


def part_of(name: str, *, validation: float, test: float, seed: int) -> Part:
    """Return the part of an image from a hash of its name: it stays there whatever other images come or go."""
    place = seed_for("image part", seed, name) / 2**63
    return "test" if place < test else "val" if place < test + validation else "train"


def chosen(folder: Path, files: Sequence[Path], part: Part, *, validation: float, test: float, seed: int) -> list[Path]:
    """Return the files of a part; an image in two formats is in the same part twice.

    Raises
    ------
    InputError
        If the part is empty.
    """
    names = ((file, file.relative_to(folder).with_suffix("").as_posix()) for file in files)
    mine = [file for file, name in names if part_of(name, validation=validation, test=test, seed=seed) == part]
    if not mine:
        raise InputError(f"{folder}: none of its {len(files)} images falls into the {part} part; add images")
    return mine


def shape_of(file: Path, size: int | None) -> tuple[int, int, int]:
    """Return what `read` makes of a file: (C, H, W)."""
    channels, height, width = load(file).shape
    return (channels, size, size) if size else (channels, height, width)


def read(files: Sequence[Path], shape: tuple[int, int, int], size: int | None) -> Iterator[NDArray[np.uint8]]:
    """Yield images (C, H, W), one at a time: as they are, or their central square scaled to `size` pixels a side.

    Raises
    ------
    InputError
        If one cannot be read, is colour where others are grey, or has another size (without `size`).
    """
    for file in files:
        image = load(file)
        if len(image) != shape[0]:
            kinds = _KINDS[len(image)], _KINDS[shape[0]]
            raise InputError(f"{file}: is {kinds[0]} but the first image {kinds[1]}; convert it, or take it out")
        if size:
            image = square(image, size)
        elif image.shape != shape:
            found, first = (f"{s[2]} x {s[1]}" for s in (image.shape, shape))
            raise InputError(f"{file}: is {found} pixels but the first image {first}; state a size for all")
        yield image


def load(file: Path) -> NDArray[np.uint8]:
    """Return an image upright, (C, H, W).

    Raises
    ------
    InputError
        If it is damaged, or neither 8-bit grey nor RGB.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as image:
                if image.mode not in _CHANNELS:
                    raise InputError(f"{file}: its mode is {image.mode}; convert it to 8-bit grey or RGB")
                pixels = np.asarray(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{file}: too many pixels for a photograph; take it out") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, struct.error) as error:
        raise InputError(f"{file}: damaged, or no image ({type(error).__name__}); download it again") from None
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0))
