"""The DICOM series that a volume came from: found again, checked, one flat header a slice."""

import csv
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, generate_uid
from pydicom.valuerep import format_number_as_ds

from medwvae.data import dicom
from medwvae.data.dicom_export_modules import COPIED
from medwvae.data.tree import Tree
from medwvae.errors import InputError, Refusal
from medwvae.files import unspelled
from medwvae.geometry import onto_grid

_GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_READ: Final = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames", "BitsAllocated"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber", *_GROUPS),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName", "InstitutionName"),
    *("SoftwareVersions", "ContributingEquipmentSequence"),
)
Scanned = dict[tuple[Path, bool], list[dicom.Series]]
"""The series of a folder, without (False) or with (True) its subfolders."""

_PLANE: Final = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_LOSSY: Final = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}


@dataclass(frozen=True)
class Source:
    """A checked series.

    Attributes
    ----------
    headers
        One a slice, in the order of the volume, without pixels and without private elements; what an enhanced object
        keeps in functional groups lies flat in it, and its frame number under ReferencedFrameNumber.
    shape, affine
        (columns, rows, slices) and voxel index to mm, RAS.
    files
        Those of the series, in no order.
    """

    headers: tuple[Dataset, ...]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    files: tuple[Path, ...] = ()

    @property
    def modality(self) -> str:
        """MR or CT."""
        return str(self.headers[0].Modality)


def source_files(table: Path) -> dict[str, Path]:
    """Return volume name to source file, from the private table that ingestion writes.

    Raises
    ------
    InputError
        If there is no such table.
    """
    try:
        with table.open(newline="", encoding="utf-8") as handle:
            return {row[0]: unspelled(row[1]) for row in list(csv.reader(handle))[1:] if len(row) == 2}
    except OSError as error:
        raise InputError(
            f"{table}: the private table that leads back to the source images is missing; name the source with --source"
        ) from error


def find_source(
    place: Path,
    volume: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    around: Path | None = None,
    number: int | None = None,
    scanned: Scanned | None = None,
) -> Source:
    """Return the series at `place` that has the grid of a volume.

    Parameters
    ----------
    place
        A folder, read with all its subfolders, or one file of the series: then its folder is read, and `around`
        (a tree that holds the series) only where the series is not complete there.
    volume, affine
        Any order of the axes.
    number
        Which volume of its series, from 1, where a series holds several.
    scanned
        Folders whose headers were read for another volume; completed here.

    Raises
    ------
    Refusal
        If no series there fits, or several do; with the reason.
    """
    trees = [place] if place.is_dir() else [place.parent, *([around] if around and around.is_dir() else [])]
    if not place.exists():
        raise Refusal("the source images are no longer where they were read from; name their folder with --source")
    reason = "there is no DICOM series in the source; name the folder that holds it with --source"
    for tree in trees:
        deep = place.is_dir() or tree == around
        scanned = {} if scanned is None else scanned
        if (tree, deep) not in scanned:
            deeper = (folder / name for folder, _, names in Tree(tree).walk() for name in names)
            found = (path for path in (deeper if deep else tree.iterdir()) if path.is_file())
            scanned[tree, deep] = dicom.scan(path for path in found if dicom.is_dicom(path))[0]
        fitting = []
        for stack in _stacks(scanned[tree, deep], place if place.is_file() else None, number):
            if isinstance(stack, Refusal):
                reason = str(stack)
                continue
            try:
                source = _source(stack)
                onto_grid(volume, affine, source.shape, source.affine)
            except Refusal as refusal:
                reason = str(refusal)
                continue
            fitting.append(source)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Refusal(f"{len(fitting)} series in the source fit the volume; name one file of the right one instead")
    raise Refusal(f"no source series fits the volume: {reason}")


def _stacks(found: Iterable[dicom.Series], member: Path | None, number: int | None) -> Iterator[dicom.Stack | Refusal]:
    """Yield the volumes, or the reasons why series are none; only those with the file `member`, the `number`th."""
    for series in found:
        if member and not any(_same(path, member) for path in series.files):
            continue
        try:
            for part in dicom.split(series):
                if (number or part.number) == part.number and (
                    member is None or any(_same(path, member) for path in part.files)
                ):
                    yield dicom.check(part)
        except Refusal as refusal:
            yield refusal


def _same(path: Path, other: Path) -> bool:
    return path.name == other.name and path.samefile(other)


def _source(stack: dicom.Stack) -> Source:
    flat = {path: _frames(path) for path in stack.files}
    headers = []
    for frame in stack.frames:
        own = flat[frame.file.path]
        if not frame.file.tiles:
            headers.append(own[frame.index])
            continue
        tile = Dataset()  # a mosaic says where its first corner lies, not its slices
        tile.update({e.tag: e for e in own[0] if e.keyword not in ("SliceLocation", "InstanceNumber", *_PLANE)})
        for keyword, values in zip(_PLANE, (frame.position, frame.cosines, frame.spacing), strict=True):
            setattr(tile, keyword, [format_number_as_ds(float(value) + 0.0) for value in values])
        headers.append(tile)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):  # an anonymiser took them: one for all, always the same
        new = generate_uid(entropy_srcs=[keyword, str(headers[0].SOPInstanceUID), np.array2string(stack.affine)])
        for header in headers:
            setattr(header, keyword, header.get(keyword) or new)
    rows, columns = stack.frames[0].file.shape
    return Source(tuple(headers), (columns, rows, len(headers)), stack.affine, tuple(flat))


def _frames(path: Path) -> list[Dataset]:
    """Return one flat header per frame of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            whole = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_READ, *COPIED])
        except Exception as error:  # pydicom raises what the damaged bytes provoke
            raise Refusal("a header of the source cannot be read; export the series again") from error
        whole.remove_private_tags()
        if whole.get("SpecificCharacterSet"):  # whatever the source is written in, what is derived from it is UTF-8
            whole.decode()
            whole.SpecificCharacterSet = "ISO_IR 192"
        for keyword in ("SOPClassUID", "SOPInstanceUID"):  # what an anonymiser took may still stand in the file's head
            setattr(whole, keyword, whole.get(keyword) or whole.file_meta.get(f"MediaStorage{keyword}") or "")
        _state_loss(whole, path)
        groups = whole.get(_GROUPS[1])
        if not groups:
            return [whole]
        shared = (whole.get(_GROUPS[0]) or [Dataset()])[0]
        frames = []
        for number, own in enumerate(groups, start=1):
            flat = Dataset()
            flat.update({e.tag: e for e in whole if e.keyword not in _GROUPS})
            for group in (shared, own):
                for element in group:
                    if element.VR == "SQ" and element.value:
                        flat.update(element.value[0])
            flat.ReferencedFrameNumber = number
            frames.append(flat)
        return frames


def _state_loss(whole: Dataset, path: Path) -> None:
    """Complete what the header says about lossy compression; JPEG 2000 that may have lost something counts as lossy."""
    method = _LOSSY.get(str(whole.file_meta.get("TransferSyntaxUID")))
    whole.LossyImageCompression = whole.get("LossyImageCompression") or ("01" if method else "00")
    if method and "LossyImageCompressionRatio" not in whole:
        words = ("Rows", "Columns", "BitsAllocated", "NumberOfFrames")
        bits = np.prod([float(whole.get(word) or 1) for word in words])
        whole.LossyImageCompressionRatio = round(max(1.0, float(bits) / 8 / path.stat().st_size), 2)
        whole.LossyImageCompressionMethod = method
