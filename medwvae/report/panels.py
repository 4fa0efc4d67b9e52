"""Pictures as small PNGs: slices, error maps and details, in radiological display."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medwvae.anatomy import middle

Array = NDArray[np.float32]
ERROR_MAP = "magma"
WIDTH_MAP = "cividis"
"""Alike to eyes with and without a colour vision deficiency (Nuñez, Anderton and Renslow, 2018)."""
Window = tuple[float, float]
"""Values of the lowest and the highest grey level, in the unit of the volume."""
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Tile:
    """One method of a panel; an image is a `data:` address, '' where there is nothing to show."""

    method: str
    image: str
    detail: str
    error: str
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One slice of one volume by every method, all in one window and one error scale.

    Attributes
    ----------
    ratio : float
        Width to height of the slice as it lies in the patient (mm).
    box : tuple of float
        Left, top, width and height of the enlarged detail, in percent of the slice.
    window, error_top : the display window and the largest error of the colour bar, in the unit of the volume.
    """

    tiles: list[Tile]
    ratio: float
    detail_ratio: float
    box: tuple[float, float, float, float]
    window: Window
    error_top: float
    plane: str
    left: str
    position: str = ""


@dataclass(frozen=True)
class IntervalPanel:
    """One slice of a restored volume, of half the width of its intervals, and of its error.

    Attributes
    ----------
    pictures : name to `data:` address, from left to right.
    top : upper end of the scale of width and error, in the unit of the volume.
    ratio, plane, left, position : as in `Panel`.
    """

    pictures: dict[str, str]
    top: float
    ratio: float
    plane: str
    left: str
    position: str


@dataclass
class _Source:
    path: Path
    axis: int
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    cache: dict[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image = nib.load(self.path)
        self.shape = tuple(self.image.shape[:3])
        self.spacing = tuple(float(zoom) for zoom in self.image.header.get_zooms()[:3])

    def slice(self, index: int) -> Array:
        """Return one slice for display: anterior or superior up, the patient's right (or anterior) on the left."""
        take = tuple(index if axis == self.axis else slice(None) for axis in range(3))
        return radiological(np.asarray(self.image.dataobj[take], dtype=np.float32))


def radiological(array: Array) -> Array:
    """Turn a slice of a RAS+ volume (its two axes in order) for display: second axis upwards, first to the left."""
    return np.ascontiguousarray(array.T[::-1, ::-1])


def panel(truth: Path, methods: Mapping[str, Path], axis: int, window: Window | None, side: int) -> Panel:
    """Return the slice through the middle of the anatomy by every method, "truth" last.

    The slice and the detail are chosen on the truth alone. `methods` goes from left to right; one whose file is
    missing or has another shape keeps its place and says so. `side` is the longest side in pixels that is stored.
    Without a window it is that of `display_window`.
    """
    reference = _Source(truth, axis)
    index = _middle(reference)
    goal = reference.slice(index)
    low, high = window or display_window(goal)
    rows, columns = _detail(goal)
    restored: dict[str, Array | str] = {name: _restored(path, reference, index) for name, path in methods.items()}
    errors = {name: np.abs(image - goal) for name, image in restored.items() if not isinstance(image, str)}
    tops = [float(np.percentile(error, 99.5)) for error in errors.values()]
    top = float(np.median(tops)) if tops else 1.0
    top = top or 1.0
    tiles = []
    for name, image in [*restored.items(), ("truth", goal)]:
        if isinstance(image, str):
            tiles.append(Tile(name, "", "", "", image))
            continue
        shown = scaled(image, low, high)
        error = _png(scaled(errors[name], 0.0, top), side, ERROR_MAP) if name in errors else ""
        tiles.append(Tile(name, _png(shown, side), _png(shown[rows, columns], side), error))
    across, up = (spacing for k, spacing in enumerate(reference.spacing) if k != axis)
    height, width = goal.shape
    corner = (100 * columns.start / width, 100 * rows.start / height)
    extent = (100 * (columns.stop - columns.start) / width, 100 * (rows.stop - rows.start) / height)
    return Panel(
        tiles=tiles,
        ratio=width * across / (height * up),
        detail_ratio=(columns.stop - columns.start) * across / ((rows.stop - rows.start) * up),
        box=(*corner, *extent),
        window=(low, high),
        error_top=top,
        plane=_PLANES[axis],
        left="A" if axis == 0 else "R",
        position=f"{index + 1} of {reference.shape[axis]}",
    )


def interval_panel(
    truth: Path, restored: Path, half: Path, axis: int, window: Window | None, side: int
) -> IntervalPanel | None:
    """Return the slice of `panel` with half the width of its intervals; None where a volume is not on the grid."""
    reference = _Source(truth, axis)
    index = _middle(reference)
    goal = reference.slice(index)
    result, width = (_restored(path, reference, index) for path in (restored, half))
    if isinstance(result, str) or isinstance(width, str):
        return None
    low, high = window or display_window(goal)
    top = float(np.percentile(width, 99.5)) or 1.0
    across, up = (spacing for k, spacing in enumerate(reference.spacing) if k != axis)
    height, columns = goal.shape
    return IntervalPanel(
        pictures={
            "Result": _png(scaled(result, low, high), side),
            "Half-width": _png(scaled(width, 0.0, top), side, WIDTH_MAP),
            "Absolute error": _png(scaled(np.abs(result - goal), 0.0, top), side, WIDTH_MAP),
        },
        top=top,
        ratio=columns * across / (height * up),
        plane=_PLANES[axis],
        left="A" if axis == 0 else "R",
        position=f"{index + 1} of {reference.shape[axis]}",
    )


def display_window(image: Array) -> Window:
    """Return the window of an image whose values have no unit: from 0 to what few voxels exceed."""
    return 0.0, float(np.percentile(image, 99.7)) or 1.0


def _restored(path: Path, reference: _Source, index: int) -> Array | str:
    try:
        source = _Source(path, reference.axis)
    except (OSError, ImageFileError):
        return "no image"
    return source.slice(index) if source.shape == reference.shape else "other grid"


def _middle(source: _Source) -> int:
    """Return the index of a slice through the middle of the anatomy (what is above the mean)."""
    volume = np.asarray(source.image.dataobj, dtype=np.float32)[::2, ::2, ::2]
    mass = np.clip(volume - volume.mean(), 0, None)
    profile = mass.sum(axis=tuple(k for k in range(3) if k != source.axis))
    return min(2 * middle(profile, source.axis), source.shape[source.axis] - 1)


def _detail(image: Array) -> tuple[slice, slice]:
    """Return the rows and columns of a window with many edges, not far from the middle of the anatomy."""
    size = [max(4, round(0.28 * extent)) for extent in image.shape]
    gradient = np.hypot(*np.gradient(image.astype(np.float64)))
    energy = ndimage.uniform_filter(np.minimum(gradient, np.percentile(gradient, 98)), size, mode="constant")
    centre = (
        ndimage.center_of_mass(np.clip(image - image.min(), 0, None)) if np.ptp(image) else np.array(image.shape) / 2
    )
    grid = np.meshgrid(*(np.arange(extent) for extent in image.shape), indexing="ij")
    distance = sum(((g - c) / (0.22 * extent)) ** 2 for g, c, extent in zip(grid, centre, image.shape, strict=True))
    peak = np.unravel_index(np.argmax(energy * np.exp(-distance / 2)), image.shape)
    starts = [int(np.clip(p - s // 2, 0, extent - s)) for p, s, extent in zip(peak, size, image.shape, strict=True)]
    return slice(starts[0], starts[0] + size[0]), slice(starts[1], starts[1] + size[1])


def gradient(name: str = ERROR_MAP, stops: int = 9) -> str:
    """Return a colour map as the stops of a CSS gradient."""
    colours = matplotlib.colormaps[name](np.linspace(0, 1, stops))
    return ", ".join(matplotlib.colors.to_hex(colour) for colour in colours)


def scaled(image: Array, low: float, high: float) -> Array:
    """Map the window [low, high] to [0, 1]; what lies beyond is cut off."""
    unit: Array = np.clip((image - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    return unit


def _png(unit: Array, side: int, colours: str | None = None) -> str:
    picture = Image.fromarray(np.uint8(255 * unit + 0.5))
    if max(picture.size) > side:
        factor = side / max(picture.size)
        size = (max(1, round(picture.size[0] * factor)), max(1, round(picture.size[1] * factor)))
        picture = picture.resize(size, Image.Resampling.BOX)
    if colours is not None:
        table: Iterable[int] = (
            np.uint8(255 * matplotlib.colormaps[colours](np.arange(256))[:, :3] + 0.5).ravel().tolist()
        )
        picture.putpalette(list(table))
    return address(picture)


def address(picture: Image.Image) -> str:
    """Return a picture as a `data:` address of its PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
