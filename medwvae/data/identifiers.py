"""What a DICOM header says about who somebody is, and whether some text repeats it."""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
_ENCODINGS: Final = ("utf-8", "latin-1", "utf-16-le")


@dataclass(frozen=True)
class Identifiers:
    """Words (in lower case) that must not be found in what is kept."""

    words: frozenset[str] = frozenset()

    def in_text(self, text: str) -> bool:
        """Return whether a text holds one of the words: anywhere, or for short words as a whole word."""
        lower = text.casefold()
        return any(
            word in lower and (len(word) >= _MIN_SUBSTRING or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", lower))
            for word in self.words
        )

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
                for name in values_of(element.value):
                    # Family, given and middle name in each script; prefixes such as "Mr" are no identifiers.
                    parts = [part for group in str(name).split("=") for part in group.split("^")[:3]]
                    yield from (word.casefold() for part in parts for word in re.split(r"[\s,;]+", part))
            elif element.keyword in _WHOLE:
                texts = (str(value).strip().casefold() for value in values_of(element.value))
                yield from (text for text in texts if len(text) >= 3)
            elif element.keyword == "PatientBirthDate":
                yield from _dates(str(element.value or ""))
        except Exception:  # noqa: S112 -- a value that cannot be parsed is removed later on, not searched for
            continue


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
