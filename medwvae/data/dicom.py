"""DICOM series to volume and affine, or a refusal with its reason. Nothing about the geometry is ever guessed.

References: DICOM PS3.3 C.7.6.2 (image plane), C.11.1 (modality LUT), C.8.2.1 (CT image), C.8.3.1 (MR image).
"""

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut

from medwvae.data.header_words import kind_word, modality_word, scanner_model, unit_word
from medwvae.errors import Refusal
from medwvae.files import sha256_of
from medwvae.geometry import LPS_TO_RAS

logging.getLogger("pydicom").addHandler(logging.NullHandler())  # its messages quote values; nobody else listens

TAGS: Final = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"),
    *("StudyDate", "StudyTime", "PatientAge", "PatientSex", "Modality", "ImageType"),
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "AcquisitionNumber", "InstanceNumber"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("TemporalPositionIdentifier", "EchoNumbers", "DiffusionBValue", "TriggerTime"),
    *("ScanningSequence", "RepetitionTime", "EchoTime", "InversionTime", "MagneticFieldStrength"),
    *("Manufacturer", "ManufacturerModelName", "LossyImageCompression"),
]
"""All that is ever read of a header before its pixels."""

MIN_SLICES: Final = 3
"""Two slices have one gap: nothing would show that a third is missing between them."""
GAP_TOLERANCE: Final = 0.02
"""The largest deviation of a gap between slices from the median gap, as a fraction of it."""
TILT_TOLERANCE: Final = np.sin(np.deg2rad(0.5))
"""Sine of the largest angle between the direction of the stack and the slice normal."""
_SAME: Final = 1e-4  # direction cosines and pixel spacings (mm) of one series agree to this

_VARIES: Final = {  # what tells the volumes of one series apart, and how far its values agree within one volume
    "TemporalPositionIdentifier": ("time points", 0.0),
    "EchoNumbers": ("echoes", 0.0),
    "DiffusionBValue": ("b-values", 0.0),
    "EchoTime": ("echo times", 0.01),
    "InversionTime": ("inversion times", 0.01),
}


@dataclass(frozen=True)
class Series:
    """The files that share a series instance UID, with their headers, in the same order."""

    files: tuple[Path, ...]
    headers: tuple[pydicom.Dataset, ...]


@dataclass(frozen=True)
class Stack:
    """A series that passed every check of its headers: slices in order along the normal, affine RAS in mm."""

    files: tuple[Path, ...]
    headers: tuple[pydicom.Dataset, ...]
    affine: NDArray[np.float64]


def is_dicom(path: Path) -> bool:
    """Return whether the file carries the DICOM magic, whatever its name is."""
    try:
        with path.open("rb") as handle:
            handle.seek(128)
            return handle.read(4) == b"DICM"
    except OSError:
        return False


def scan(files: Iterable[Path]) -> tuple[list[Series], list[Path]]:
    """Read every header once and group by series instance UID.

    Returns the series, in the order of their UID and their files by name, and the files whose header cannot be read.
    Headers that an anonymiser robbed of the UID are grouped by folder: `check` shows whether they are one volume.
    A DICOMDIR (an index of other files) is in neither.
    """
    groups: dict[tuple[str, str], list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    unreadable = []
    for path in sorted(files):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
                if header.file_meta.get("MediaStorageSOPClassUID") == "1.2.840.10008.1.3.10":
                    continue
                for tag in TAGS:  # conversion is lazy: let a value that cannot be parsed fail here
                    header.get(tag)
        except Exception:  # pydicom raises what the damaged bytes provoke
            unreadable.append(path)
            continue
        uid = str(header.get("SeriesInstanceUID") or "")
        groups[uid, "" if uid else str(path.parent)].append((path, header))
    return [_series(groups[key]) for key in sorted(groups)], unreadable


def _series(members: list[tuple[Path, pydicom.Dataset]]) -> Series:
    return Series(tuple(path for path, _ in members), tuple(header for _, header in members))


def check(series: Series) -> Stack:
    """Return the slices in their order along the normal and the affine of the volume, from the headers alone.

    The spacing between slices comes from their positions; slice thickness is never read.

    Raises
    ------
    Refusal
        If the series is no regular stack of MR or CT slices of one patient. The reason names no identifier.
    """
    series = _without_copies(series)
    for header in series.headers:
        _check_image(header)
    _check_one(series, lambda h: (h.get("PatientID"), h.get("StudyInstanceUID")), "patients or examinations")
    _check_one(series, lambda h: (h.get("Rows"), h.get("Columns")), "image sizes")
    _check_one(series, lambda h: h.get("PhotometricInterpretation"), "grey scales (bright and dark exchanged)")
    position = np.stack([_numbers(h, "ImagePositionPatient", 3) for h in series.headers])
    cosines = np.stack([_numbers(h, "ImageOrientationPatient", 6) for h in series.headers])
    spacing = np.stack([_numbers(h, "PixelSpacing", 2) for h in series.headers])
    if np.abs(cosines - cosines[0]).max() > _SAME:
        raise Refusal(
            "the slices do not share one orientation (a localiser or several stacks); export each stack alone"
        )
    if np.abs(spacing - spacing[0]).max() > _SAME:
        raise Refusal("the slices do not share one pixel spacing; export each stack as its own series")
    if spacing.min() <= 0:
        raise Refusal("the pixel spacing is not positive; export the series again from the scanner or PACS")
    along_row, along_column = cosines[0, :3], cosines[0, 3:]
    if np.abs(cosines[0].reshape(2, 3) @ cosines[0].reshape(2, 3).T - np.eye(2)).max() > 1e-3:
        raise Refusal("the image orientation is not two unit vectors at a right angle; export the series again")
    if len(series.files) < MIN_SLICES:
        raise Refusal(f"the series has {len(series.files)} slice(s), a volume needs {MIN_SLICES}; export all slices")
    normal = np.cross(along_row, along_column)
    normal /= np.linalg.norm(normal)
    order = np.argsort(position @ normal, kind="stable")
    _check_several(series)
    _check_gaps((position @ normal)[order], series)
    position = position[order]
    step = (position[-1] - position[0]) / (len(position) - 1)
    _check_straight(position, step, normal)
    lps = np.eye(4)
    lps[:3, 0] = along_row * spacing[0, 1]  # PixelSpacing is (between rows, between columns)
    lps[:3, 1] = along_column * spacing[0, 0]
    lps[:3, 2] = step
    lps[:3, 3] = position[0]
    files, headers = (tuple(items[k] for k in order) for items in (series.files, series.headers))
    return Stack(files, headers, LPS_TO_RAS @ lps)


def load(stack: Stack) -> NDArray[np.float32]:
    """Return the volume of a checked series: axes (column, row, slice), CT in HU, MR in the scanner's units.

    Slope and intercept are applied slice by slice; MONOCHROME1 of MR (small values are
    bright) is mirrored within its own range; Hounsfield units mean the same either way.

    Raises
    ------
    Refusal
        If the pixels of a slice cannot be decoded, or the image is empty.
    """
    first = stack.headers[0]
    shape = (int(first.Columns), int(first.Rows), len(stack.files))
    slices = [_slice(path, shape, f"slice {k} of {shape[2]}") for k, path in enumerate(stack.files, start=1)]
    volume = np.stack(slices, axis=-1)
    if not np.isfinite(volume).all():
        raise Refusal("the rescaled pixels are not all numbers: the rescale slope or intercept is wrong; export again")
    if volume.min() == volume.max():
        raise Refusal(f"every pixel has the same value ({float(volume.flat[0]):g}): there is no image in the series")
    if first.get("PhotometricInterpretation") == "MONOCHROME1" and first.get("Modality") == "MR":
        volume = volume.max() + volume.min() - volume
    return volume


def acquisition_of(header: pydicom.Dataset) -> dict[str, float | str]:
    """Return what may be kept of a header, by allowlist; BIDS keys, times in seconds, field strength in tesla."""
    kept: dict[str, float | str] = {}
    for tag in ("RepetitionTime", "EchoTime", "InversionTime"):
        if (value := number(header, tag)) is not None:
            kept[tag] = round(value / 1000, 9)
    if (field := number(header, "MagneticFieldStrength")) is not None:
        kept["MagneticFieldStrength"] = field
    if model := scanner_model(header.get("ManufacturerModelName")):
        kept["ManufacturersModelName"] = model
    if header.get("LossyImageCompression") == "01":
        kept["LossyImageCompression"] = "01"
    return kept


def number(header: pydicom.Dataset, tag: str) -> float | None:
    """Return one finite number of a header, or None."""
    try:
        value = float(header.get(tag))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _numbers(header: pydicom.Dataset, tag: str, count: int) -> NDArray[np.float64]:
    words = {
        "ImagePositionPatient": "position",
        "ImageOrientationPatient": "orientation",
        "PixelSpacing": "pixel spacing",
    }
    try:
        values = np.array([float(value) for value in header[tag].value])
    except (KeyError, TypeError, ValueError):
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise Refusal(
            f"a slice does not say its {words[tag]} (DICOM {tag}), so its place in the patient is not known; "
            "export the original series, not a secondary capture"
        )
    return values


def _without_copies(series: Series) -> Series:
    """Drop files that repeat another byte for byte (exports often hold an image twice)."""
    kept: dict[Hashable, int] = {}
    seen = defaultdict(list)
    for k, header in enumerate(series.headers):
        seen[str(header.get("SOPInstanceUID"))].append(k)
    for uid, copies in seen.items():
        for k in copies:
            kept.setdefault((uid, sha256_of(series.files[k]) if len(copies) > 1 else ""), k)
    return Series(*(tuple(items[k] for k in sorted(kept.values())) for items in (series.files, series.headers)))


def _check_image(header: pydicom.Dataset) -> None:
    """Refuse what is no single-frame grey-value MR or CT slice."""
    modality = header.get("Modality")
    kind = kind_word(header.get("SOPClassUID"))
    if not header.get("Rows") or not header.get("Columns"):
        raise Refusal(f"the file holds no image (it is: {kind or modality_word(modality)}); nothing to do")
    if modality not in ("MR", "CT"):
        raise Refusal(f"the modality is {modality_word(modality)}; only MR and CT can be used")
    if "Secondary Capture" in kind:
        raise Refusal("the series is a secondary capture (a screenshot); export the original series")
    if int(header.get("NumberOfFrames") or 1) > 1 or kind.startswith("Enhanced"):
        raise Refusal(
            "the file is an enhanced multi-frame object, which is not handled yet; "
            "export the series as classic single-frame DICOM or convert it to NIfTI"
        )
    if int(header.get("SamplesPerPixel") or 1) != 1 or not str(
        header.get("PhotometricInterpretation") or "MONOCHROME2"
    ).startswith("MONOCHROME"):
        raise Refusal("the image is in colour (a map or a screenshot); export the original grey-value series")
    if "LOCALIZER" in {str(value).upper() for value in _values(header, "ImageType")}:
        raise Refusal("the series is a localiser (scout, topogram), not a volume; nothing to do")
    if modality == "CT":
        if any(number(header, tag) is None for tag in ("RescaleSlope", "RescaleIntercept")):
            raise Refusal("the CT has no rescale slope and intercept, so no Hounsfield units; export it again")
        if (unit := str(header.get("RescaleType") or "HU").strip()) != "HU":
            raise Refusal(
                f"the CT is in units {unit_word(unit)}, not in Hounsfield units; export the standard reconstruction"
            )


def _values(header: pydicom.Dataset, tag: str) -> list[Any]:
    value = header.get(tag)
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def _check_one(series: Series, key: Callable[[pydicom.Dataset], Hashable], what: str) -> None:
    if (count := len({key(header) for header in series.headers})) > 1:
        raise Refusal(f"the series mixes {count} {what}; export each as its own series")


def _check_several(series: Series) -> None:
    """Refuse several volumes (time points, echoes, b-values) under one series number."""
    for tag, (words, tolerance) in _VARIES.items():
        values = sorted({float(v) for h in series.headers for v in _values(h, tag)[:1] if number(h, tag) is not None})
        if values and values[-1] - values[0] > tolerance * max(abs(value) for value in values):
            raise Refusal(
                f"the series holds several {words} ({len(values)} values of {tag}), so more than one volume; "
                "export each as its own series or convert it to NIfTI, one file per volume"
            )


def _check_gaps(places: NDArray[np.float64], series: Series) -> None:
    """Refuse slices that lie at the same place, unevenly, or with a hole; `places` in mm along the normal, sorted."""
    gaps = np.diff(places)
    if (same := int((gaps < 1e-3).sum())) > 0:
        raise Refusal(
            f"{same} of {len(places)} slices lie where another one lies (first at {places[np.argmin(gaps)]:.2f} mm): "
            "the series holds several volumes or repeated slices; export each volume as its own series"
        )
    median = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - median)))
    if abs(gaps[worst] - median) <= GAP_TOLERANCE * median:
        return
    between = f"between {places[worst]:.2f} and {places[worst + 1]:.2f} mm along the stack"
    multiple = gaps[worst] / median
    if round(multiple) >= 2 and abs(multiple - round(multiple)) <= 0.1:
        raise Refusal(f"{round(multiple) - 1} slice(s) missing {between} (of {len(series.files)}); export all slices")
    raise Refusal(
        f"the slices are not evenly spaced: the gap {between} is {gaps[worst]:.2f} mm, the others {median:.2f} mm "
        f"(tolerance {GAP_TOLERANCE:.0%}); export a reconstruction with even spacing"
    )


def _check_straight(position: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    """Refuse a stack that leans over (gantry tilt) or whose slices wander sideways."""
    length = float(np.linalg.norm(step))
    lean = float(np.linalg.norm(step - (step @ normal) * normal)) / length
    if lean > TILT_TOLERANCE:
        raise Refusal(
            f"the stack leans by {np.rad2deg(np.arcsin(min(lean, 1.0))):.1f} degrees against its slices (gantry tilt); "
            "export a reconstruction at right angles to the table"
        )
    drift = max(float(np.linalg.norm(b - a - step)) for a, b in pairwise(position))
    if drift > 2 * GAP_TOLERANCE * length:
        raise Refusal(f"the slices do not lie on one straight line (one is off by {drift:.2f} mm); export again")


def _slice(path: Path, shape: tuple[int, int, int], which: str) -> NDArray[np.float32]:
    """Return one decoded, rescaled slice as (column, row)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            if "PixelData" not in dataset:
                raise Refusal(f"{which} holds no pixel data; export the series again")
            scaled = apply_modality_lut(dataset.pixel_array, dataset)
    except Refusal:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes provoke
        raise Refusal(f"the pixels of {which} cannot be decoded: the file is damaged; export it again") from error
    if scaled.shape != (shape[1], shape[0]):
        raise Refusal(f"the pixels of {which} do not have the size that the header promises; export it again")
    return np.asarray(scaled, dtype=np.float32).T
