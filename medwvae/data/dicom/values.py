"""Is a file DICOM, and single values of its header, read without pydicom's costly conversion of every element."""

import re
import struct
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Final

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US UT OB OW SQ UN".split())
_LONG: Final = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT"))  # VRs with a four-byte length (PS3.5 7.1.2)
_BINARY: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_TEXT: Final = frozenset(("CS", "DS", "IS", "UI", "SH", "LO", "TM", "DA", "DT", "AS"))
_HEAD: Final = 1024
_LARGEST: Final = 1e30  # no header means more, and products of a few such numbers do not overflow


def is_dicom(path: Path) -> bool:
    """Return whether the file carries the DICOM magic, or without it starts with a run of DICOM's first elements.

    A file that cannot be opened is none; where that matters, ask `starts_as_dicom`.
    """
    try:
        return starts_as_dicom(path)
    except OSError:
        return False


def starts_as_dicom(path: Path) -> bool:
    """Return what `is_dicom` does; raise OSError where the file cannot be opened or read."""
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    return head[128:132] == b"DICM" or any(_starts_bare(head, order, explicit) for order in "<>" for explicit in (1, 0))


def _starts_bare(head: bytes, order: str, explicit: int) -> bool:
    """Return whether bytes are elements of group 0002 or 0008 in rising order, as files without a preamble start.

    Three in a row, or two whose values fill the head: text and other formats do not read like that.
    """
    place, last, seen = 0, -1, 0
    while place + 8 <= len(head) and seen < 3:
        group, element = struct.unpack_from(f"{order}HH", head, place)
        tag = group << 16 | element
        if group not in (0x0002, 0x0008) or tag <= last or (not seen and element > 0x18):
            return False
        kind = head[place + 4 : place + 6]
        if not explicit:
            size, start = struct.unpack_from(f"{order}I", head, place + 4)[0], place + 8
        elif kind not in _VRS:
            return False
        elif kind in _LONG:
            if place + 12 > len(head):
                break
            size, start = struct.unpack_from(f"{order}I", head, place + 8)[0], place + 12
        else:
            size, start = struct.unpack_from(f"{order}H", head, place + 6)[0], place + 8
        if size % 2 or size > 1 << 16:
            return False
        place, last, seen = start + size, tag, seen + 1
    return seen == 3 or (seen == 2 and len(head) == _HEAD)


def read(source: Path | BinaryIO, *, pixels: bool) -> pydicom.Dataset:
    """Return a dataset; where there is no transfer syntax, the one that pydicom found by looking."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(source, stop_before_pixels=not pixels, force=True)
        if not dataset.file_meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def texts(dataset: pydicom.Dataset, tag: int) -> list[str]:
    """Return the values of an element as text, none where it is absent, empty or damaged."""
    element = _element(dataset, tag)
    if element is None:
        return []
    if isinstance(element, RawDataElement) and (element.VR or _vr(tag)) in _TEXT:
        text = (element.value or b"").decode("latin-1")
        return [part.strip(" \0") for part in text.split("\\")] if text.strip(" \0") else []
    value = _decoded(dataset, tag)
    if value is None or value == "":
        return []
    return [str(part).strip() for part in (value if isinstance(value, list | pydicom.multival.MultiValue) else [value])]


def text(dataset: pydicom.Dataset, tag: int) -> str:
    """Return the whole value of an element as text, empty where there is none."""
    return "\\".join(texts(dataset, tag))


def numbers(dataset: pydicom.Dataset, tag: int) -> tuple[float, ...]:
    """Return the values of an element as numbers; none where one of them is not finite, or absurdly large."""
    element = _element(dataset, tag)
    try:
        if isinstance(element, RawDataElement) and (code := _BINARY.get(element.VR or _vr(tag))):
            raw = element.value or b""
            order = "<" if element.is_little_endian else ">"
            values = struct.unpack(f"{order}{len(raw) // struct.calcsize(code)}{code}", raw)
        else:
            values = tuple(texts(dataset, tag))
        found = tuple(float(value) for value in values)
    except (ValueError, struct.error):
        return ()
    return found if all(abs(value) <= _LARGEST for value in found) else ()


def first(dataset: pydicom.Dataset, tag: int) -> float | None:
    """Return the first number of an element, or None."""
    values = numbers(dataset, tag)
    return values[0] if values else None


def items(dataset: pydicom.Dataset, tag: int) -> list[pydicom.Dataset]:
    """Return the items of a sequence, none where it is absent or damaged."""
    value = _decoded(dataset, tag) if tag in dataset else None
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _decoded(dataset: pydicom.Dataset, tag: int) -> Any:
    """Return the value of an element as pydicom reads it, None where it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset[tag].value
    except Exception:  # pydicom raises what the damaged bytes provoke
        return None


def private(dataset: pydicom.Dataset, group: int, creator: str, offset: int) -> int | None:
    """Return the tag of a private element by its creator, or None if the creator has no block here."""
    for block in range(0x10, 0x20):
        if re.sub(r"\s+", " ", text(dataset, group << 16 | block)).upper() == creator.upper():
            return group << 16 | block << 8 | offset
    return None


def _element(dataset: pydicom.Dataset, tag: int) -> object:
    try:
        return dataset.get_item(tag)
    except KeyError:
        return None


def _vr(tag: int) -> str:
    """Return the VR that the dictionary gives, for elements of an implicit syntax."""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"
