"""A restored volume as a derived DICOM series: classic MR or CT images on the slices of their source."""

import warnings
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from medwvae.data.dicom_export_header import Derivation, Hidden, derived_header
from medwvae.data.dicom_export_modules import DISPLAY
from medwvae.data.dicom_export_source import Source
from medwvae.errors import Refusal
from medwvae.geometry import LPS_TO_RAS

_LIMIT: Final = 32767
_SPAN: Final = 65535


@dataclass(frozen=True)
class Stored:
    """16-bit pixels: volume = slope * pixels + intercept, `error` the largest deviation from it (volume units).

    `bound` is what a reader finds at most that computes with 32-bit floats; rounded up to three digits.
    """

    pixels: NDArray[np.int16]
    slope: str
    intercept: int
    error: float
    bound: float


def stored(volume: NDArray[np.floating], modality: str) -> Stored:
    """Return a volume in 16 bits with the rounding that this costs.

    Whole numbers stay as they are and CT is rounded to whole Hounsfield units; other MR is stored in 32767 equal steps
    up to its largest magnitude, zero kept, so that viewers that know no rescaling show the same picture.

    Raises
    ------
    Refusal
        If Hounsfield units span more than 16 bits.
    """
    low, high = float(volume.min()), float(volume.max())
    slope, intercept = "1", 0
    if modality == "CT" or (max(-low, high) <= _LIMIT and np.array_equal(volume, np.rint(volume))):
        if max(-low, high) > _LIMIT:
            intercept = int(np.floor(low)) + _LIMIT + 1
            if high - low > _SPAN - 1:
                raise Refusal(
                    f"the Hounsfield units run from {low:.0f} to {high:.0f}, more than a CT image can hold; "
                    "the volume is no CT in Hounsfield units, or a restoration that went wrong"
                )
    else:
        slope = format_number_as_ds(max(-low, high) / _LIMIT)
    exact = volume.astype(np.float64)
    pixels = np.clip(np.rint((exact - intercept) / float(slope)), -_LIMIT - 1, _LIMIT).astype(np.int16)
    back = pixels * float(slope) + intercept
    error = float(np.abs(exact - back).max())
    # Slope and product are rounded by 2^-24 each, and so is what they are compared with; whole numbers are exact.
    inexact = 0.0 if slope == "1" else float(np.abs(back).max()) * 2.0**-22
    return Stored(pixels, slope, intercept, error, _rounded_up(error + inexact))


def _rounded_up(value: float) -> float:
    """Return the next number of three digits that is not smaller."""
    if not value > 0:
        return 0.0
    unit = Decimal(1).scaleb(Decimal(value).adjusted() - 2)
    return float(Decimal(value).quantize(unit, rounding=ROUND_CEILING))


def export_series(
    folder: Path,
    volume: NDArray[np.floating],
    source: Source,
    derivation: Derivation,
    *,
    hidden: Hidden | None = None,
    now: datetime | None = None,
) -> tuple[list[Dataset], Stored]:
    """Write IM0001.dcm, IM0002.dcm, ... in a new folder; return their headers, without pixels, and the stored pixels.

    Parameters
    ----------
    volume
        (columns, rows, slices) on the grid of the source, in its units (HU for CT).
    hidden
        Replaces patient and study, where the export is to be de-identified.
    now
        Time of the export.

    Raises
    ------
    Refusal
        If the volume does not have the source's shape, or its values cannot be stored.
    """
    if volume.shape != source.shape:
        raise Refusal("the volume does not have the shape of its source")
    now = now or datetime.now().astimezone()
    packed = stored(volume, source.modality)
    unit = "HU" if source.modality == "CT" else "of the source's units"
    text = (
        f"Restored image{f' ({derivation.words})' if derivation.words else ''}. Rounded to 16 bits: "
        f"stored values differ from the restored ones by at most {packed.bound:.3g} {unit}."
    )
    centre, width = window(source, volume, hidden)
    series = generate_uid()
    numbers = _instance_numbers(source, hidden)
    headers = []
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on values that the source already spelled oddly
        for k, header in enumerate(source.headers):
            image = derived_header(header, derivation, hidden, now)
            image.SeriesInstanceUID, image.SOPInstanceUID = series, generate_uid()
            image.InstanceNumber, image.DerivationDescription = numbers[k], text
            _place(image, source, k)
            _pixels(image, packed, k)
            image.WindowCenter, image.WindowWidth = format_number_as_ds(centre), format_number_as_ds(width)
            if width < 1:  # LINEAR, the default, needs a width of at least 1
                image.VOILUTFunction = "LINEAR_EXACT"
            save(image, folder / f"IM{k + 1:04d}.dcm")
            del image.PixelData
            headers.append(image)
    return headers, packed


def window(source: Source, volume: NDArray[np.floating], hidden: Hidden | None = None) -> tuple[float, float]:
    """Return centre and width to look at the volume: the source's own for its middle slice, or from the volume."""
    middle = source.headers[len(source.headers) // 2]
    centre, width, function = (_first(middle.get(keyword)) for keyword in DISPLAY)
    repeats = hidden and any(hidden.known.in_number(keyword, middle.get(keyword)) for keyword in DISPLAY[:2])
    try:
        if not repeats and function in (None, "LINEAR") and float(width) >= 1 and np.isfinite(float(centre)):
            return float(centre), float(width)
    except (TypeError, ValueError):
        pass
    low, high = (float(v) for v in np.percentile(volume, (1, 99.5)))
    if not high > low:
        low, high = float(volume.min()), float(volume.max())
    return (low + high) / 2, high - low


def save(image: Dataset, path: Path) -> None:
    """Write a file, Explicit VR Little Endian."""
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    image.save_as(path, enforce_file_format=True)


def _first(value: Any) -> Any:
    return value if value is None or isinstance(value, str | float | int) else next(iter(value), None)


def _instance_numbers(source: Source, hidden: Hidden | None) -> list[int]:
    """Return the source's numbers if they tell the slices apart, or else 1, 2, ... in the order of the volume."""
    try:
        numbers = [int(header.InstanceNumber) for header in source.headers]
    except (AttributeError, TypeError, ValueError):
        numbers = []
    if hidden and hidden.known.in_number("InstanceNumber", numbers):
        numbers = []
    return numbers if len(set(numbers)) == len(source.headers) else list(range(1, len(source.headers) + 1))


def _place(image: Dataset, source: Source, k: int) -> None:
    """State where the slice lies, as far as its source did not say it in the same words."""
    lps = LPS_TO_RAS @ source.affine
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    derived = {
        "ImagePositionPatient": lps[:3, 3] + k * lps[:3, 2],
        "ImageOrientationPatient": np.concatenate([lps[:3, 0] / steps[0], lps[:3, 1] / steps[1]]),
        "PixelSpacing": steps[[1, 0]],
    }
    for keyword, values in derived.items():
        if keyword not in image:
            setattr(image, keyword, [format_number_as_ds(float(value) + 0.0) for value in values])
    if image.Modality == "MR":
        image.SpacingBetweenSlices = format_number_as_ds(float(steps[2]))


def _pixels(image: Dataset, packed: Stored, k: int) -> None:
    image.Columns, image.Rows = packed.pixels.shape[:2]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    if image.Modality == "CT" or float(packed.slope) != 1:  # MR knows no rescaling: only where there is one to state
        image.RescaleSlope, image.RescaleIntercept = packed.slope, str(packed.intercept)
        image.RescaleType = "HU" if image.Modality == "CT" else "US"  # US: unspecified
    image.PixelData = np.ascontiguousarray(packed.pixels[:, :, k].T).astype("<i2").tobytes()
    image["PixelData"].VR = "OW"
