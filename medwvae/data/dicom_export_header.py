"""The header of what is derived from a DICOM series: what passes on, what is new, who is hidden.

References: DICOM PS3.3 A.3, A.4 (CT, MR image), C.7.6.1 (general image), C.12.1.1.5 (contributing equipment);
PS3.15 table E.1-1 (Basic Application Level Confidentiality Profile); PS3.16 CID 7005, 7202, 7203.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

import pydicom
from pydicom.config import RAISE
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, UID_dictionary
from pydicom.valuerep import validate_value

from medwvae.data.deidentify import new_uid
from medwvae.data.dicom_export_modules import EMPTY_ALLOWED, EXAMINATION, GEOMETRY, PATIENT, STUDY, TECHNIQUE
from medwvae.data.identifiers import Identifiers
from medwvae.provenance import versions

MAKER: Final = "medwvae"
PROCESSING: Final = {
    "superres": ("113085", "Spatial resampling"),
    "denoise": ("113087", "Smoothing"),
}
"""Codes (DCM, CID 7203) of what a task does to an image; the others have none that would say more than the text."""
_SOP_CLASS: Final = {"MR": MRImageStorage, "CT": CTImageStorage}
_SERIES_STEP: Final = 100  # series 3 gives 301, 302, ...: beside their source in a list, and beyond what scanners count
_VERBATIM: Final = ("LO", "PN", "SH", "ST", "LT", "UI", "SQ")


@dataclass(frozen=True)
class Hidden:
    """Whom a de-identified export shows instead: a pseudonym, and a secret key that decides its new UIDs.

    `known` is what the source says about the patient: no text or number that repeats it passes on.
    """

    name: str
    key: bytes
    known: Identifiers = field(default_factory=Identifiers)

    def uid(self, original: str) -> str:
        """Return the UID that stands for an original one, the same as in a tree de-identified under the same key."""
        return new_uid(original, self.key)


@dataclass(frozen=True)
class Derivation:
    """How a volume was made. `details` (steps, digests) go into the equipment's description."""

    task: str = ""
    method: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Task and method in words, as far as they are known."""
        return ", ".join(f"{kind} {name}" for kind, name in (("task", self.task), ("method", self.method)) if name)


def passed_on(header: Dataset, hidden: Hidden | None) -> Dataset:
    """Return patient, study, frame of reference and geometry of a source slice, valid and complete."""
    new = Dataset()
    kept = GEOMETRY if hidden else (*PATIENT, *STUDY, *EXAMINATION, *GEOMETRY)
    modality = str(header.Modality)
    _copy(header, new, (*kept, *TECHNIQUE[modality]), hidden)
    new.Modality, new.SOPClassUID = modality, _SOP_CLASS[modality]
    new.StudyInstanceUID, new.FrameOfReferenceUID = header.StudyInstanceUID, header.FrameOfReferenceUID
    if hidden:
        new.StudyInstanceUID, new.FrameOfReferenceUID = (
            hidden.uid(new.StudyInstanceUID),
            hidden.uid(new.FrameOfReferenceUID),
        )
        if header.get("SpecificCharacterSet"):  # of the texts that stay; the source was read into UTF-8
            new.SpecificCharacterSet = "ISO_IR 192"
        new.PatientName = new.PatientID = hidden.name
        new.PatientIdentityRemoved, new.LongitudinalTemporalInformationModified = "YES", "REMOVED"
        new.DeidentificationMethod = "attributes passed on by allowlist; UIDs replaced; dates removed"
        new.DeidentificationMethodCodeSequence = [code("113100", "Basic Application Confidentiality Profile")]
    for keyword in (*EMPTY_ALLOWED[""], *EMPTY_ALLOWED[modality]):
        if keyword not in new:
            setattr(new, keyword, None)
    if modality == "MR":  # type 1: an anonymiser may have taken what a scanner wrote
        new.ScanningSequence = new.get("ScanningSequence") or "RM"
        new.SequenceVariant = new.get("SequenceVariant") or "NONE"
    return new


def derived_header(header: Dataset, derivation: Derivation, hidden: Hidden | None, now: datetime) -> Dataset:
    """Return all of a derived slice but its pixels, its own UIDs and its rescaling."""
    new = passed_on(header, hidden)
    new.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if new.Modality == "CT" else "OTHER"]
    new.SeriesNumber = series_number(header, 1, hidden)
    source = "" if hidden else str(header.get("SeriesDescription") or "").strip()
    words = f"{MAKER} {derivation.task} {derivation.method}".rstrip()
    new.SeriesDescription = f"{source[: 61 - len(words)]} - {words}" if source and len(words) < 50 else words[:64]
    new.InstanceCreationDate = new.SeriesDate = new.ContentDate = now.strftime("%Y%m%d")
    new.InstanceCreationTime = new.SeriesTime = new.ContentTime = now.strftime("%H%M%S")
    new.Manufacturer = new.ManufacturerModelName = MAKER
    new.SoftwareVersions = version()
    new.ContributingEquipmentSequence = equipment(header, derivation, hidden, now)
    if (task := derivation.task.partition("-")[0]) in PROCESSING:  # without its setting
        new.DerivationCodeSequence = [code(*PROCESSING[task])]
    if can_be_referenced(header):
        new.SourceImageSequence = [reference(header, hidden)]
    new.BurnedInAnnotation = "NO"  # a source with text in it is refused
    new.LossyImageCompression = "01" if header.LossyImageCompression == "01" else "00"
    if header.LossyImageCompression == "01":  # once lossy, always lossy
        _copy(header, new, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"), hidden)
    return new


@cache
def version() -> str:
    """Return the version of this program."""
    return versions()[MAKER]


def can_be_referenced(header: Dataset) -> bool:
    """Return whether a source slice still has the two UIDs that a reference names, its kind being the standard's."""
    return str(header.SOPClassUID) in UID_dictionary and bool(header.SOPInstanceUID)


def reference(header: Dataset, hidden: Hidden | None) -> Dataset:
    """Return the reference to the source slice."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    original = str(header.SOPInstanceUID)
    item.ReferencedSOPInstanceUID = hidden.uid(original) if hidden else original
    if "ReferencedFrameNumber" in header:
        item.ReferencedFrameNumber = header.ReferencedFrameNumber
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [code("121322", "Source image for image processing operation")]
    return item


def equipment(header: Dataset, derivation: Derivation, hidden: Hidden | None, now: datetime) -> list[Dataset]:
    """Return who contributed: those before, the scanner, this program."""
    scanner = Dataset()
    kept = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")
    own = () if hidden else ("DeviceSerialNumber", "StationName", "InstitutionName")
    _copy(header, scanner, (*kept, *own), hidden)
    scanner.Manufacturer = scanner.get("Manufacturer") or "not stated"
    scanner.PurposeOfReferenceCodeSequence = [code("109101", "Acquisition Equipment")]
    program = Dataset()
    program.Manufacturer = program.ManufacturerModelName = MAKER
    program.SoftwareVersions = version()
    details = [derivation.words, *(f"{name} {value}" for name, value in derivation.details.items())]
    program.ContributionDescription = "; ".join(text for text in details if text)[:1024] or "restoration"
    program.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    program.PurposeOfReferenceCodeSequence = [code("109102", "Processing Equipment")]
    before = [] if hidden else list(header.get("ContributingEquipmentSequence") or [])
    return [*before, scanner, program]


def series_number(header: Dataset, which: int, hidden: Hidden | None = None) -> int:
    """Return the number of the first, second, ... series that is derived from a source series."""
    number = int(header.get("SeriesNumber") or 0)
    if hidden and hidden.known.in_number("SeriesNumber", number):
        return which
    return number * _SERIES_STEP + which if 0 <= number < 1_000_000 else which


def code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    """Return the item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _copy(header: Dataset, new: Dataset, keywords: tuple[str, ...], hidden: Hidden | None) -> None:
    """Copy elements that say something; numbers, dates and codes of a wrong format (an age of 0Y) are left out.

    Names, texts and UIDs stay as the source spells them: an archive finds the patient and the examination by them.
    Of a hidden patient, no text or number passes on that repeats an identifier, and no sequence.
    """
    for keyword in keywords:
        if keyword in header and (element := header[keyword]).value not in (None, "", []):
            if hidden and (element.VR == "SQ" or hidden.known.in_element(element.VR, keyword, element.value)):
                continue
            try:
                if element.VR not in _VERBATIM:
                    for value in element.value if element.VM > 1 else [element.value]:
                        validate_value(element.VR, getattr(value, "original_string", value), RAISE)
            except ValueError:
                continue
            new[keyword] = pydicom.DataElement(element.tag, element.VR, element.value, already_converted=True)
