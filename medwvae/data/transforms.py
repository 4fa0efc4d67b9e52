"""Canonical volumes to slices in network units: MONAI transforms whose intensity scaling can be undone."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from medwvae.data import nifti
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.geometry import spacing_of
from medwvae.intensity import LinearScaling, reference_scaling
from medwvae.metrics.similarity import GAUSSIAN_TAPS
from medwvae.names import Modality

Plane = Literal["acquired", "axial", "coronal", "sagittal"]
_AXES = ("R", "A", "S")
_PLANE_AXES: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Prepared:
    """A volume as networks and metrics see it.

    Attributes
    ----------
    image : array (S, H, W), float32
        Slices in network units: air 0, the reference intensity of the head 1.
    head : array (S, H, W), bool
        Head mask.
    scaling : LinearScaling
        Back to scanner units or HU.
    axis : int
        Axis of the canonical volume that became axis 0.
    affine : array (4, 4)
        RAS+ affine of the canonical volume, mm.
    """

    image: NDArray[np.float32]
    head: NDArray[np.bool_]
    scaling: LinearScaling
    axis: int
    affine: NDArray[np.float64]

    @cached_property
    def maximum(self) -> float:
        """Largest value of the image, network units; of a loaded volume it is known without reading the image."""
        return float(self.image.max())

    def tissue_slices(self) -> NDArray[np.intp]:
        """Return the indices of the slices worth training on: at least a tenth of the largest head section."""
        areas = self.head.sum((1, 2))
        return np.flatnonzero(areas >= max(1, areas.max() / 10))

    def to_volume(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Slices in network units (S, H, W) to the canonical volume in image units."""
        return np.moveaxis(self.scaling.invert(slices), 0, self.axis)

    def widths_to_volume(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Differences or widths in network units (S, H, W) to a canonical volume of them in image units."""
        return np.moveaxis(self.scaling.invert_width(slices), 0, self.axis)

    def to_slices(self, volume: NDArray[np.floating]) -> NDArray[np.float32]:
        """Undo `to_volume`."""
        return np.ascontiguousarray(np.moveaxis(self.scaling.apply(volume), self.axis, 0))

    def widths_to_slices(self, volume: NDArray[np.floating]) -> NDArray[np.float32]:
        """Undo `widths_to_volume`."""
        return np.ascontiguousarray(np.moveaxis(volume / self.scaling.factor, self.axis, 0), np.float32)

    def save(self, path: Path) -> None:
        """Write as .npz, atomically; loads without pickle."""
        meta = json.dumps({"scaling": self.scaling.to_dict(), "axis": self.axis, "maximum": self.maximum})
        with atomic(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, image=self.image, head=self.head, affine=self.affine, meta=np.array(meta))

    @classmethod
    def load(cls, path: Path, *, mapped: bool = False) -> Self:
        """Undo `save`.

        With `mapped`, image and head stay in the file, read-only, and only what is looked at is read: a cohort may be
        larger than the memory, and several trainings share what the system keeps of it.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as data:
                meta = json.loads(str(data["meta"]))
                scaling = LinearScaling.from_dict(meta["scaling"])
                image, head = (_mapped(path, n) if mapped else data[n] for n in ("image", "head"))
                found = cls(image, head, scaling, meta["axis"], data["affine"])
                if "maximum" in meta:  # as `cached_property` would keep it
                    vars(found)["maximum"] = meta["maximum"]
                return found
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: cannot be read ({error}); run `medwvae preprocess` again") from error


def _mapped(path: Path, name: str) -> NDArray[Any]:
    """Return an array of an uncompressed .npz as it lies in the file."""
    with ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(member)
        before = member.tell()
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type or dtype.hasobject:
            raise ValueError(f"{name} is compressed or no array of numbers")
        with path.open("rb") as handle:  # the central directory does not say how long the local header is
            handle.seek(info.header_offset + 26)
            lengths = np.frombuffer(handle.read(4), "<u2")
        start = info.header_offset + 30 + int(lengths.sum()) + before
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def slice_axis(spacing: tuple[float, float, float], plane: Plane) -> int:
    """Return the axis across the slices: of the thickest voxels for `acquired` (axial when nearly isotropic)."""
    if plane != "acquired":
        return _PLANE_AXES[plane]
    thickest = int(np.argmax(spacing))
    return thickest if spacing[thickest] > 1.2 * sorted(spacing)[1] else _PLANE_AXES["axial"]


def head_mask(volume: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Head (or body) against air: half of Otsu's threshold, largest component, closed and filled slice by slice.

    Raises
    ------
    InputError
        If nothing stands out from the background.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    floor = float(np.percentile(volume, 1))
    threshold = floor + 0.5 * (float(threshold_otsu(volume)) - floor)
    labels, count = ndimage.label(ndimage.binary_opening(volume > threshold))
    if count == 0:
        raise InputError("no head stands out from the background")
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    closed = ndimage.binary_closing(np.pad(largest, 3), iterations=3)[3:-3, 3:-3, 3:-3]
    for axis in range(3):
        # A hole in three dimensions can be open to the outside at the neck; within a slice it is not.
        slices = np.moveaxis(closed, axis, 0)
        for k, section in enumerate(slices):
            slices[k] = ndimage.binary_fill_holes(section)
    return np.asarray(closed, dtype=np.bool_)


def prepare(path: Path, *, modality: Modality, plane: Plane, percentile: float) -> Prepared:
    """Load a canonical NIfTI, find the head, scale, cut into slices.

    Raises
    ------
    InputError
        If the volume is empty, has no head, or is thinner along an axis than the window of the SSIM.
    Refusal
        If the file cannot be trusted; see `nifti.read`.
    """
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.dictionary import Orientationd

    volume, affine = nifti.read(path)
    image = MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(affine))
    data = Orientationd("image", "RAS", labels=None)({"image": image})
    if thin := [name for name, n in zip(_AXES, data["image"].shape[1:], strict=True) if n < GAUSSIAN_TAPS]:
        shape = "x".join(str(n) for n in data["image"].shape[1:])
        raise InputError(
            f"{path.name}: fewer than {GAUSSIAN_TAPS} voxels along {' and '.join(thin)} ({shape}); "
            "the 3D SSIM cannot score so thin a volume"
        )
    try:
        data["head"] = head_mask(data["image"].numpy()[0])
        data = reference_intensityd("image", modality=modality, percentile=percentile)(data)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    affine = np.asarray(data["image"].affine, dtype=np.float64)
    spacing = spacing_of(affine)
    axis = slice_axis(spacing, plane)
    scaling = LinearScaling.from_dict(data["scaling"])
    slices = np.ascontiguousarray(np.moveaxis(data["image"].numpy()[0], axis, 0))
    head = np.ascontiguousarray(np.moveaxis(data["head"], axis, 0))
    return Prepared(slices, head, scaling, axis, affine)


def reference_intensityd(key: str, *, modality: Modality, percentile: float) -> Any:
    """Return the invertible MONAI dictionary transform of `intensity.reference_scaling`.

    It reads data[key] (C, *spatial) and data["head"], and leaves its parameters in data["scaling"]; `inverse` returns
    the image to its own units.
    """
    from monai.transforms.inverse import InvertibleTransform
    from monai.transforms.transform import MapTransform

    class ReferenceIntensityd(MapTransform, InvertibleTransform):  # type: ignore[misc]
        """Scale the image by the reference intensity of its head."""

        def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
            out = dict(data)
            image = out[key]
            scaling = reference_scaling(image.numpy()[0], out["head"], modality=modality, percentile=percentile)
            out["scaling"] = scaling.to_dict()
            out[key] = (image - scaling.offset) / scaling.factor
            self.push_transform(out, key, extra_info=scaling.to_dict())
            return out

        def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
            out = dict(data)
            info = self.pop_transform(out, key)["extra_info"]
            out[key] = out[key] * info["factor"] + info["offset"]
            return out

    return ReferenceIntensityd(key)
