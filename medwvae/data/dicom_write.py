"""Write one volume as a classic (one file per slice) DICOM series."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from medwvae.geometry import LPS_TO_RAS, shear_of


def uid(*parts: object) -> str:
    """Return the UID that belongs to `parts`: the same parts give the same UID, on every machine."""
    return str(generate_uid(entropy_srcs=["\x1f".join(str(part) for part in parts)]))


def write_series(
    folder: Path,
    volume: NDArray[np.uint16] | NDArray[np.int16],
    affine_ras: NDArray[np.float64],
    *,
    template: Dataset | Mapping[str, Any],
) -> list[Path]:
    """Write `volume` as IM0001.dcm, IM0002.dcm, ... in `folder`, one slice a file, Explicit VR Little Endian.

    Parameters
    ----------
    folder
        Made if absent.
    volume
        (i, j, k) stored values, 16 bits; i becomes the column index, j the row index, k the slice.
    affine_ras
        (4, 4) voxel index to mm in RAS, with right angles; every geometric attribute comes from here.
    template
        The attributes that all slices share, by keyword. Needs SOPClassUID and SeriesInstanceUID, from which the
        slices' own UIDs follow; RescaleSlope and RescaleIntercept default to 1 and 0.

    Raises
    ------
    ValueError
        If the volume is not 3-D with 16-bit voxels, or the affine is sheared: no classic series can hold it.
    """
    if volume.ndim != 3 or volume.dtype not in (np.uint16, np.int16):
        raise ValueError(f"a series takes (i, j, k) 16-bit integers, not {volume.ndim}-D {volume.dtype}")
    if shear_of(affine_ras) > 1e-4:
        raise ValueError("a sheared affine has no classic DICOM series: resample to right angles first")
    lps = LPS_TO_RAS @ affine_ras
    step_i, step_j, step_k = np.linalg.norm(lps[:3, :3], axis=0)
    along_i, along_j = lps[:3, 0] / step_i, lps[:3, 1] / step_j
    normal = np.cross(along_i, along_j)

    shared = Dataset()
    shared.RescaleSlope, shared.RescaleIntercept = "1", "0"
    shared.update(template if isinstance(template, Dataset) else _dataset(template))
    shared.ImageOrientationPatient = _decimals([*along_i, *along_j])
    shared.PixelSpacing = _decimals([step_j, step_i])  # between rows first, then between columns
    shared.SliceThickness = shared.get("SliceThickness") or _decimals([step_k])[0]
    shared.SpacingBetweenSlices = _decimals([step_k])[0]
    shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
    shared.Columns, shared.Rows = volume.shape[0], volume.shape[1]
    shared.BitsAllocated = shared.BitsStored = 16
    shared.HighBit, shared.PixelRepresentation = 15, int(volume.dtype == np.int16)
    shared.SmallestImagePixelValue, shared.LargestImagePixelValue = int(volume.min()), int(volume.max())

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for k in range(volume.shape[2]):
        position = lps[:3, 3] + k * lps[:3, 2]
        dataset = pydicom.Dataset(shared)
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = _decimals(position)
        dataset.SliceLocation = _decimals([float(position @ normal)])[0]
        dataset.SOPInstanceUID = uid(shared.SeriesInstanceUID, k)
        dataset.PixelData = np.ascontiguousarray(volume[:, :, k].T).astype(volume.dtype.newbyteorder("<")).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = _meta(dataset)
        path = folder / f"IM{k + 1:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def _dataset(attributes: Mapping[str, Any]) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _decimals(values: Any) -> list[str]:
    """Spell numbers as DICOM decimal strings (at most 16 characters)."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta
