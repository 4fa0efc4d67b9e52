"""Headers to frames: every file is opened once, and only what geometry, grouping and scaling need is kept of it.

References: DICOM PS3.3 C.7.6.2 (image plane), C.11.1 (modality LUT), C.8.2.1 (CT image), C.8.3.1 (MR image).
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
)

from medwvae.data.dicom import jpeg, mosaic, multiframe
from medwvae.data.dicom.records import FRAGILE, File, Frame, Pixels, Series
from medwvae.data.dicom.scale import Scale, scale_of
from medwvae.data.dicom.tells import ordinals_of, tells_of
from medwvae.data.dicom.values import first, items, numbers, read, text, texts
from medwvae.data.header_words import kind_word, modality_word

HEADER: Final = (
    *("PatientID", "PatientAge", "PatientSex", "StudyDate", "StudyTime", "StudyInstanceUID"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ProtocolName", "Modality"),
    *("ScanningSequence", "RepetitionTime", "EchoTime", "InversionTime", "MagneticFieldStrength"),
    *("ManufacturerModelName", "LossyImageCompression", "InstitutionName"),
)
"""What is kept of the first header of a series, beside its frames."""

# The fastest that refuses damage at once: pyjpegls takes seconds to give up on a stream that was cut short.
_DECODERS: Final = dict.fromkeys(jpeg.SYNTAXES, FRAGILE) | dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg")
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"  # little endian
_DICOMDIR: Final = "1.2.840.10008.1.3.10"


def scan(files: Iterable[Path]) -> tuple[list[Series], list[Path]]:
    """Read every header once and group by series instance UID.

    Returns the series, in the order of their UID and their files by name, and the files whose header cannot be read.
    Headers that an anonymiser robbed of the UID are grouped by folder: `split` shows whether they are one volume.
    A DICOMDIR (an index of other files) is in neither.
    """
    headers: dict[tuple[str, str], pydicom.Dataset] = {}
    frames: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    paths: dict[tuple[str, str], list[Path]] = defaultdict(list)
    unreadable = []
    shared: dict[Any, Any] = {}  # slices repeat their orientation and spacing: keep one of each
    for path in sorted(files):
        try:
            with path.open("rb") as handle:
                dataset = read(handle, pixels=False)
                start = handle.tell()
                offset = start if handle.read(4) == _PIXEL_DATA else 0
            if text(dataset.file_meta, 0x00020002) == _DICOMDIR:
                continue
            if not len(dataset):
                raise ValueError("no element")
            found = _frames(path, dataset, offset, shared)
            uid = text(dataset, 0x0020000E)
            key = uid, "" if uid else str(path.parent)
            if key not in headers:
                headers[key] = _header(dataset)
        except Exception:  # pydicom raises what the damaged bytes provoke
            unreadable.append(path)
            continue
        paths[key].append(path)
        frames[key] += found
    series = [Series(tuple(paths[key]), headers[key], tuple(frames[key])) for key in sorted(headers)]
    return series, unreadable


def _frames(path: Path, dataset: pydicom.Dataset, offset: int, shared: dict[Any, Any]) -> list[Frame]:
    """Return the frames of one file; one frame without geometry, whose file says why, if it cannot be used."""

    def same(value: Any) -> Any:
        return shared.setdefault(value, value)

    enhanced = multiframe.is_enhanced(dataset)
    modality = text(dataset, 0x00080060)
    refusal, scale = problem_of(dataset), Scale()
    if not refusal and not enhanced:
        scale = scale_of(dataset, dataset, modality)
    file = File(
        path=path,
        instance=text(dataset, 0x00080018),
        owner=same((text(dataset, 0x00100020), text(dataset, 0x0020000D))),
        modality=same(modality),
        shape=same((int(first(dataset, 0x00280010) or 0), int(first(dataset, 0x00280011) or 0))),
        grey=same(text(dataset, 0x00280004) or "MONOCHROME2"),
        refusal=same(refusal or scale.refusal),
        frames=int(first(dataset, 0x00280008) or 1),
        padding=same(_padding(dataset)),
        native=same(_native(dataset, offset)),
        decoder=_DECODERS.get(dataset.file_meta.TransferSyntaxUID, ""),
    )
    if file.refusal:
        return [Frame(file, 0, (), (), ())]
    if enhanced:
        return multiframe.frames_of(file, dataset, same)
    frame = Frame(
        file=file,
        index=0,
        position=numbers(dataset, 0x00200032),
        cosines=same(numbers(dataset, 0x00200037)),
        spacing=same(numbers(dataset, 0x00280030)),
        slope=scale.slope,
        intercept=scale.intercept,
        tells=same(tells_of(dataset)),
        ordinals=ordinals_of(dataset),
    )
    return mosaic.frames_of(frame, dataset) if "MOSAIC" in frame.tells.kind else [frame]


def problem_of(dataset: pydicom.Dataset) -> str:
    """Return why a file is no grey-value MR or CT image, or nothing."""
    modality = text(dataset, 0x00080060)
    kind = kind_word(text(dataset, 0x00080016))
    if not first(dataset, 0x00280010) or not first(dataset, 0x00280011):
        return f"the file holds no image (it is: {kind or modality_word(modality)}); nothing to do"
    if modality not in ("MR", "CT"):
        return f"the modality is {modality_word(modality)}; only MR and CT can be used"
    if "Secondary Capture" in kind:
        return "the series is a secondary capture (a screenshot); export the original series"
    if (first(dataset, 0x00280008) or 1) > 1 and not multiframe.is_enhanced(dataset):
        return "the file holds several frames but does not say where they lie; export the original series"
    if (first(dataset, 0x00280002) or 1) != 1 or text(dataset, 0x00280004) not in ("", "MONOCHROME1", "MONOCHROME2"):
        return "the image is in colour (a map or a screenshot); export the original grey-value series"
    if text(dataset, 0x00280301).upper() == "YES":
        return (
            "text is burned into the image (DICOM BurnedInAnnotation is YES) and may name the patient; "
            "export the original series without annotations"
        )
    types = {value.upper() for value in texts(dataset, 0x00080008)}
    types |= {value.upper() for value in multiframe.frame_types(dataset)}
    if "LOCALIZER" in types:
        return "the series is a localiser (scout, topogram), not a volume; nothing to do"
    return ""


def _padding(dataset: pydicom.Dataset) -> tuple[int, int] | None:
    """Return the lowest and the highest stored value that stand for padding (PS3.3 C.7.5.1.1.2), or None."""
    one, limit = first(dataset, 0x00280120), first(dataset, 0x00280121)
    if one is None:
        return None
    bits, signed = int(first(dataset, 0x00280100) or 16), first(dataset, 0x00280103) == 1
    ends = [_wrapped(int(value), bits, signed) for value in (one, one if limit is None else limit)]
    return min(ends), max(ends)


def _wrapped(value: int, bits: int, signed: bool) -> int:
    """Return a stored value in the range of its pixels: many files write it with the other sign."""
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _native(dataset: pydicom.Dataset, offset: int) -> Pixels | None:
    """Return how the pixels lie in the file, None where pydicom has to decode them."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not offset or syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) or items(dataset, 0x00283000):
        return None
    allocated, stored = int(first(dataset, 0x00280100) or 0), int(first(dataset, 0x00280101) or 0)
    if allocated not in (8, 16) or not 0 < stored <= allocated or first(dataset, 0x00280102) != stored - 1:
        return None
    header = 12 if syntax == ExplicitVRLittleEndian else 8
    return Pixels(offset + header, allocated, stored, first(dataset, 0x00280103) == 1)


def _header(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """Return the elements of `HEADER` that can be read; timing of an enhanced object comes from its frames."""
    kept = pydicom.Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in HEADER:
            try:
                if keyword in dataset:
                    kept[keyword] = dataset[keyword]
            except Exception:  # noqa: S112 (a value that cannot be read counts as absent)
                continue
    for keyword, value in multiframe.timing_of(dataset).items():
        if kept.get(keyword) in (None, ""):
            setattr(kept, keyword, value)
    return kept
