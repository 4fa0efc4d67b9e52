"""The DICOM attributes that all slices of one synthetic series share."""

from typing import Any, Final

import numpy as np

from medwvae.data.dicom_write import uid
from medwvae.data.phantom.signal import Protocol
from medwvae.names import Contrast

_DATE: Final = "20200101"
CT_INTERCEPT: Final = -1024
"""HU of the stored value 0."""
SERIES_NAMES: Final[dict[Contrast, str]] = {
    "t1w": "T1w SE axial",
    "t2w": "T2w SE axial",
    "pdw": "PDw SE axial",
    "flair": "FLAIR T2w IR axial",
    "ct": "CT head axial",
}


def series_attributes(
    name: str,
    identity: tuple[object, ...],
    person: np.random.Generator,
    *,
    number: int,
    contrast: Contrast,
    protocol: Protocol | None,
) -> dict[str, Any]:
    """Return the attributes of one series, by keyword; none of them describes a real person.

    Parameters
    ----------
    name
        PatientID, for example PHANTOM001.
    identity
        What the study's UIDs follow from; the same for all series of a subject.
    person
        Draws age and sex; a fresh generator of the same seed for each series of a subject.
    number, contrast, protocol
        SeriesNumber, the weighting, and the MR parameters (none for CT).
    """
    common: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientID": name,
        "PatientName": f"Phantom^{name[-3:]}",
        "PatientBirthDate": "",
        "PatientAge": f"{int(person.integers(20, 80)):03d}Y",
        "PatientSex": str(person.choice(["F", "M"])),
        "StudyInstanceUID": uid("medwvae phantom", *identity, "study"),
        "StudyID": "1",
        "StudyDate": _DATE,
        "SeriesDate": _DATE,
        "ContentDate": _DATE,
        "StudyTime": "120000",
        "SeriesTime": f"12{number:02d}00",
        "ContentTime": f"12{number:02d}00",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyDescription": "Synthetic head",
        "SeriesInstanceUID": uid("medwvae phantom", *identity, contrast),
        "SeriesNumber": number,
        "SeriesDescription": SERIES_NAMES[contrast],
        "FrameOfReferenceUID": uid("medwvae phantom", *identity, "frame"),
        "PositionReferenceIndicator": "",
        "Manufacturer": "medwvae phantom",
        "ManufacturerModelName": "procedural head",
        "BodyPartExamined": "HEAD",
        "PatientPosition": "HFS",
        "QualityControlImage": "YES",
        "BurnedInAnnotation": "NO",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL" if contrast == "ct" else "OTHER"],
    }
    if protocol is None:
        return common | {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "Modality": "CT",
            "KVP": "120",
            "RescaleSlope": "1",
            "RescaleIntercept": str(CT_INTERCEPT),
            "RescaleType": "HU",
            "WindowCenter": "40",
            "WindowWidth": "100",
        }
    inversion = bool(protocol.ti)
    return common | {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "Modality": "MR",
        "MagneticFieldStrength": "1.5",
        "ScanningSequence": ["IR", "SE"] if inversion else "SE",
        "SequenceVariant": "SP" if inversion else "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "RepetitionTime": str(protocol.tr),
        "EchoTime": str(protocol.te),
        "FlipAngle": str(protocol.flip),
        "EchoTrainLength": 1,
        **({"InversionTime": str(protocol.ti)} if inversion else {}),
    }
