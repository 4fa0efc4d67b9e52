"""What a DICOM header says about who somebody is, and whether some text repeats it."""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_WHOLE: Final = (
    *("PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "AdmissionID", "MedicalRecordLocator"),
    *("PatientAddress", "PatientTelephoneNumbers", "InstitutionName", "InstitutionAddress", "ResponsibleOrganization"),
)
_MIN_SUBSTRING: Final = 5  # shorter words are looked for as whole words only: "Li" must not hit "Linear"
_MAX_JOINED: Final = 6  # names of more short parts are not joined in every order
_MIN_DIGITS: Final = 4
_CHANCE_DIGITS: Final = 6  # no measured value has so many by chance
_COUNTERS: Final = (  # what numbers things, and hardly ever reaches four digits by itself
    *("SeriesNumber", "InstanceNumber", "AcquisitionNumber", "NumberOfAverages", "TemporalPositionIdentifier"),
    *("NumberOfTemporalPositions", "EchoNumbers", "OverlayNumber", "CurveNumber", "ItemNumber"),
)
NUMBERS: Final = ("IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD")
_IMAGE: Final = (  # without which, or with another value, the pixels or their place would be lost
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RealWorldValueSlope", "RealWorldValueIntercept"),
)
_ENCODINGS: Final = ("utf-8", "latin-1", "utf-16-le")


@dataclass(frozen=True)
class Identifiers:
    """Words (in lower case) that must not be found in what is kept."""

    words: frozenset[str] = frozenset()

    def in_text(self, text: str) -> bool:
        """Return whether a text holds one of the words: anywhere, or for short words as a whole word.

        A word ends at everything but a letter, a word of digits at everything but a digit, and both where small letters
        turn to capitals (`headLi`).
        """
        lower = text.casefold()
        apart = "".join(f" {b}" if a.islower() and b.isupper() else b for a, b in pairwise(f" {text}")).casefold()
        return any(
            word in lower and (len(word) >= _MIN_SUBSTRING or _stands_alone(word, lower) or _stands_alone(word, apart))
            for word in self.words
        )

    def in_number(self, keyword: str, value: Any) -> bool:
        """Return whether a numeric element holds a number of the patient: from four digits in a counter, else from six.

        Shorter numbers, and in measured values those of four and five digits, occur by chance.
        """
        if keyword in _IMAGE:
            return False
        digits = _MIN_DIGITS if keyword in _COUNTERS else _CHANCE_DIGITS
        for single in values_of(value):
            try:
                number = abs(float(single))
            except (TypeError, ValueError, OverflowError):
                continue
            if number in self._numbers and number >= 10 ** (digits - 1):
                return True
        return False

    def in_element(self, vr: str, keyword: str, value: Any) -> bool:
        """Return whether an element, text or number, repeats one of the words."""
        if vr in NUMBERS:
            return self.in_number(keyword, value)
        return any(self.in_text(str(single)) for single in values_of(value))

    @cached_property
    def _numbers(self) -> frozenset[float]:
        return frozenset(float(word) for word in self.words if re.fullmatch("[0-9]{4,}", word))

    def in_bytes(self, data: bytes) -> bool:
        """Return whether bytes hold one of the longer words as text; short ones occur in any pixels by chance."""
        lower = data.lower()
        return any(
            word.encode(encoding, "ignore").lower() in lower
            for word in self.words
            if len(word) >= _MIN_SUBSTRING
            for encoding in _ENCODINGS
        )


def identifiers_in(files: Iterable[Path]) -> Identifiers:
    """Return the identifiers of all headers of a series."""
    found: frozenset[str] = frozenset()
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found |= identifiers_of(pydicom.dcmread(path, stop_before_pixels=True, force=True)).words
    return Identifiers(found)


def identifiers_of(dataset: Dataset) -> Identifiers:
    """Return the names, numbers, addresses and birth dates of a data set, nested ones too."""
    return Identifiers(frozenset(word for word in _words(dataset) if len(word) >= 2))


def _words(dataset: Dataset) -> Iterator[str]:
    for tag in list(dataset.keys()):
        if tag.group % 2:
            continue
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value:
                    yield from _words(item)
            elif element.VR == "PN":
                for script in (script for name in values_of(element.value) for script in str(name).split("=")):
                    # Family, given and middle name; prefixes such as "Mr" are no identifiers.
                    yield from _name_words(re.split(r"[\s,;]+", " ".join(script.split("^")[:3]).casefold()))
            elif element.keyword in _WHOLE:
                texts = (str(value).strip().casefold() for value in values_of(element.value))
                yield from (text for text in texts if len(text) >= 3)
            elif element.keyword == "PatientBirthDate":
                yield from _dates(str(element.value or ""))
        except Exception:  # noqa: S112 -- a value that cannot be parsed is removed later on, not searched for
            continue


def _name_words(parts: list[str]) -> Iterator[str]:
    """Yield the parts of a name, and the short ones joined in any order: `Li^Zqx` also as lizqx and zqxli."""
    yield from parts
    short = sorted({part for part in parts if 2 <= len(part) < _MIN_SUBSTRING})
    if len(short) <= _MAX_JOINED:
        yield from ("".join(order) for order in permutations(short, 2))
        # Of more, a pair within is found by itself unless it is short, too.
        yield from ("".join(order) for order in permutations(short, 3) if len(order[0] + order[1]) < _MIN_SUBSTRING)


def _stands_alone(word: str, text: str) -> bool:
    """Return whether a word stands in a text with nothing of its kind beside it: no letter, or for digits no digit."""
    kinds = [r"\d" if end.isdigit() else r"[^\W\d_]" for end in (word[0], word[-1])]
    return re.search(rf"(?<!{kinds[0]}){re.escape(word)}(?!{kinds[1]})", text) is not None


def values_of(value: Any) -> list[Any]:
    """Return the values of an element as a list, however many there are."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple | MultiValue) else [value]


def _dates(text: str) -> Iterator[str]:
    """Yield the usual spellings of a DICOM date."""
    if match := re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", text.strip()):
        year, month, day = match.groups()
        for mark in ("", "-", ".", "/", " "):
            yield from (mark.join(parts) for parts in ((year, month, day), (day, month, year), (month, day, year)))
