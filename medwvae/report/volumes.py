"""Volumes for the viewer in the page: cropped to the head, in grey levels, packed as text.

A restored volume is kept as its difference from the truth, modulo 256, in grey levels: nothing is lost by that, and
noise around zero packs better than a picture does.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
from markupsafe import Markup
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from scipy import ndimage

from medwvae.report.panels import Window, display_window, scaled

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# What is given up, in this order, until the volumes fit: first grey levels, then voxels.
_STEPS: Final = (
    (1, 256),
    (1, 128),
    (1, 64),
    (2, 256),
    (2, 128),
    (3, 256),
    (4, 256),
    (6, 256),
    (8, 256),
    (12, 256),
    (16, 256),
)
_MARGIN: Final = 2  # voxels kept around the head
_ERROR_PERCENTILE: Final = 99.5


@dataclass(frozen=True)
class VolumeView:
    """One subject's volumes by every method on one grid (RAS+, C order).

    Attributes
    ----------
    shape, spacing : voxels and mm of the stored grid.
    window : the values of the lowest and the highest grey level; what lies beyond is cut off.
    levels, factor : grey levels, and how many voxels along each axis were averaged into one.
    origin, whole : voxel of the file where the stored grid begins, and the file's shape.
    start : voxel of the stored grid where the viewer begins: where the reference errs most within the middle half of
        every axis, so that all three planes show something (the rim of the head errs most in most volumes).
    error_top, uncertainty_top : ends of the colour bars, in the unit of the volume.
    images : "truth" and every method that has a volume on this grid, packed; see `pack`.
    uncertainties : method to its map, packed: 0 to 255 for 0 to `uncertainty_top`.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    window: Window
    levels: int
    factor: int
    origin: tuple[int, int, int]
    whole: tuple[int, int, int]
    start: tuple[int, int, int]
    error_top: float
    uncertainty_top: float
    images: dict[str, Markup]
    uncertainties: dict[str, Markup]

    @property
    def bytes(self) -> int:
        """Return the length of all packed text."""
        return sum(map(len, (*self.images.values(), *self.uncertainties.values())))


def volume_view(
    truth: Path,
    methods: Mapping[str, Path],
    uncertainties: Mapping[str, Path],
    window: Window | None,
    reference: str,
    most_bytes: int,
) -> VolumeView | None:
    """Return the volumes of one subject in at most `most_bytes` of text; None if no method has one, or it is no volume.

    A method whose file is missing or lies on another grid is left out. Where the volumes are too large, grey levels
    are made coarser first, then blocks of voxels are averaged, truth and methods alike. Without a window it is that of
    `display_window`.
    """
    image = nib.load(truth)
    goal = _read(truth, None)
    if goal is None or goal.ndim != 3 or min(goal.shape) < 2:
        return None
    found = {name: volume for name, path in methods.items() if (volume := _read(path, goal.shape)) is not None}
    if not found:
        return None
    maps = {name: volume for name, path in uncertainties.items() if (volume := _read(path, goal.shape)) is not None}
    box = _box(goal)
    window = window or display_window(goal)
    spacing = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    for factor, levels in _STEPS:
        images = {name: _reduced(volume[box], factor) for name, volume in (("truth", goal), *found.items())}
        grey = {name: _levels(scaled(volume, *window), levels) for name, volume in images.items()}
        packed = {name: pack(volume - grey["truth"] if name != "truth" else volume) for name, volume in grey.items()}
        small = {name: _reduced(volume[box], factor) for name, volume in maps.items()}
        top = max((float(np.percentile(volume, _ERROR_PERCENTILE)) for volume in small.values()), default=0.0) or 1.0
        spread = {name: pack(_levels(scaled(volume, 0.0, top), 256)) for name, volume in small.items()}
        if sum(map(len, (*packed.values(), *spread.values()))) <= most_bytes:
            break
    else:
        return None
    errors = {name: np.abs(scaled(v, *window) - scaled(images["truth"], *window)) for name, v in images.items()}
    tops = [float(np.percentile(error, _ERROR_PERCENTILE)) for name, error in errors.items() if name != "truth"]
    worst = errors[reference if reference in found else next(iter(found))]
    middle = tuple(slice(n // 4, max(n // 4 + 1, n - n // 4)) for n in worst.shape)
    inner = ndimage.uniform_filter(worst, 5, mode="constant")[middle]
    peak = [int(k) + s.start for k, s in zip(np.unravel_index(np.argmax(inner), inner.shape), middle, strict=True)]
    nx, ny, nz = images["truth"].shape
    return VolumeView(
        shape=(nx, ny, nz),
        spacing=(spacing[0] * factor, spacing[1] * factor, spacing[2] * factor),
        window=window,
        levels=levels,
        factor=factor,
        origin=(box[0].start or 0, box[1].start or 0, box[2].start or 0),
        whole=(goal.shape[0], goal.shape[1], goal.shape[2]),
        start=(peak[0], peak[1], peak[2]),
        error_top=max(float(np.median(tops)), 4 / (levels - 1)) * (window[1] - window[0]),
        uncertainty_top=top,
        images=packed,
        uncertainties=spread,
    )


def pack(volume: Bytes) -> Markup:
    """Return bytes in C order as text: zlib (RFC 1950), then base64. Runs and Huffman codes pack noise best."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = packer.compress(np.ascontiguousarray(volume).tobytes()) + packer.flush()
    return Markup(base64.b64encode(data).decode())  # noqa: S704  (the alphabet of base64 needs no escape)


def unpack(text: str, shape: tuple[int, ...]) -> Bytes:
    """Return what `pack` was given."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def _levels(unit: Array, levels: int) -> Bytes:
    return (unit * (levels - 1) + 0.5).astype(np.uint8)


def _read(path: Path, shape: tuple[int, ...] | None) -> Array | None:
    try:
        image = nib.load(path)
        if shape is not None and tuple(image.shape) != shape:
            return None
        values: Array = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32))
    except (OSError, ImageFileError):
        return None
    return values


def _box(volume: Array) -> tuple[slice, ...]:
    """Return the box around what is above the mean, with a margin: air around a head is most of many a volume."""
    parts, n = ndimage.label(volume > volume.mean())
    if not n:
        return (slice(None),) * volume.ndim
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1  # specks of air may be above the mean
    found = ndimage.find_objects((parts == largest).astype(np.int8))
    return tuple(
        slice(max(0, part.start - _MARGIN), min(n, part.stop + _MARGIN))
        for part, n in zip(found[0], volume.shape, strict=True)
    )


def _reduced(volume: Array, factor: int) -> Array:
    """Return the means over blocks of `factor` voxels along each axis; an incomplete last block is left out."""
    if factor == 1:
        return volume
    n = [max(1, extent // factor) for extent in volume.shape]
    size = [min(factor, extent) for extent in volume.shape]
    cut = volume[tuple(slice(0, k * s) for k, s in zip(n, size, strict=True))]
    blocks = cut.reshape(n[0], size[0], n[1], size[1], n[2], size[2])
    means: Array = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    return means
