"""One DICOM data set without identity, after PS3.15 Annex E; which objects cannot be cleaned at all.

Basic Application Level Confidentiality Profile, with the Retain Longitudinal Temporal Information Modified Dates
option where dates are shifted. Stricter than the profile: every private element goes (no safe-private list), every
attribute that the dictionary does not know, every free text, date, person name and UID that the table does not name
(a text becomes REMOVED),
and every text that repeats a name, number, address or birth date of the header.
"""

import hashlib
import hmac
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import get_expected_length
from pydicom.sequence import Sequence
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, UID_dictionary

from medwvae.data.cleanable import PIXELS
from medwvae.data.confidentiality import EDITION, action_of, dummy_of, step_of
from medwvae.data.identifiers import NUMBERS, Identifiers, identifiers_of, values_of
from medwvae.errors import Refusal

METHOD: Final = f"medwvae, PS3.15 {EDITION} Basic Application Level Confidentiality"  # LO: at most 64 characters
_DATES: Final = ("DA", "DT", "TM")
_BIRTH: Final = ("PatientBirthDate", "PatientBirthTime")  # the date options do not cover these
_FREE_TEXT: Final = ("LT", "ST", "UT", "UR", "PN", "AE", "DA", "DT", "TM", "AS")  # unlisted by the table: removed
_PROSE: Final = ("LT", "ST", "UT")  # of these, replaced: some objects must have a description
_TEXT: Final = ("CS", "LO", "SH", "UC")  # unlisted by the table: kept where they repeat no identifier
_NEVER_TOUCHED: Final = ("Modality", "PhotometricInterpretation", "SpecificCharacterSet")
_CODING_SCHEMES: Final = ("2.16.840.1.113883.6.96", "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.8")  # SCT, LN, UCUM

Counts = Counter[tuple[str, str, str, str]]
"""How often something was done: (where, tag, keyword, what)."""


@dataclass
class Cleaner:
    """What the elements of one file are replaced with, and the count of what was done.

    `days` is the shift of every date, or None to remove dates. `label` replaces name and ID of the patient.
    """

    key: bytes
    label: str
    days: int | None
    known: Identifiers = field(default_factory=Identifiers)
    counts: Counts = field(default_factory=Counter)

    def clean(self, dataset: Dataset) -> None:
        """Remove or replace in place whatever identifies; the data set then says that and how it was done."""
        self.known = identifiers_of(dataset)
        self._pixels(dataset)
        self._walk(dataset, "data set")
        dataset.PatientName = dataset.PatientID = self.label
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = METHOD
        codes = [("113100", "Basic Application Confidentiality Profile")]
        if self.days is not None:
            codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
        dataset.DeidentificationMethodCodeSequence = Sequence([_code(*code) for code in codes])
        dataset.LongitudinalTemporalInformationModified = "REMOVED" if self.days is None else "MODIFIED"
        self._meta(dataset)

    def _walk(self, dataset: Dataset, where: str) -> None:
        for tag in list(dataset.keys()):
            keyword = keyword_for_tag(tag)
            if where == "data set" and keyword in PIXELS:
                continue
            if done := self._element(dataset, tag, keyword):
                self.counts[where, f"({tag.group:04X},{tag.element:04X})", _name(tag, keyword), done] += 1

    def _element(self, dataset: Dataset, tag: Any, keyword: str) -> str:
        """Treat one element and say what was done, in words of the audit table, or nothing."""
        action = action_of(tag)
        if tag.element == 0 or tag.group < 8 or (action == "X" and tag.group % 2) or not dictionary_has_tag(tag):
            del dataset[tag]
            return "removed"
        try:
            element = dataset[tag]
            vr, value = element.VR, element.value
        except Exception:  # a value that its own type cannot hold may be any text
            del dataset[tag]
            return "removed (not readable)"
        if keyword in ("PatientID", "PatientName"):
            element.value = self.label
            return "pseudonym"
        binary = isinstance(value, bytes) and not dictionary_VR(tag).startswith("O")
        if vr == "UN" or binary or (vr == "SQ") != (dictionary_VR(tag) == "SQ"):
            del dataset[tag]
            return "removed (of another type than the standard's)"
        kinds = {vr, *dictionary_VR(tag).split(" or ")}
        if self.days is not None and keyword not in _BIRTH:
            if keyword == "TimezoneOffsetFromUTC" and re.fullmatch(r"[+-]\d{4}", str(value)):
                return ""
            moved = [shifted(str(v), kinds, self.days) for v in values_of(value)] if kinds & set(_DATES) else []
            if moved and "" not in moved:
                element.value = moved if len(moved) > 1 else moved[0]
                return "date shifted" if not kinds <= {"TM"} else "time kept"
        step = step_of(action, vr)
        if not action and kinds & set(_FREE_TEXT):
            if kinds <= set(_PROSE) and not value:
                return ""
            step = "dummy" if kinds <= set(_PROSE) else "remove"
        if not action and "UI" in kinds:
            step = "uid"
        if step == "remove":
            del dataset[tag]
            return "removed"
        if step == "empty":
            element.value = Sequence() if vr == "SQ" else None
            return "emptied"
        if step == "dummy":
            element.value = dummy_of(vr)
            return "replaced by a dummy"
        if step == "uid":
            return self._uids(element)
        if vr == "SQ":
            for item in value:
                self._walk(item, "in sequences")
            return ""
        return self._swept(dataset, tag, keyword, kinds)

    def _uids(self, element: Any) -> str:
        old = [str(v) for v in values_of(element.value)]
        new = [uid if _is_public(uid) else new_uid(uid, self.key) for uid in old]
        if new == old:
            return ""
        element.value = new if len(new) > 1 else new[0]
        return "UID replaced"

    def _swept(self, dataset: Dataset, tag: Any, keyword: str, kinds: set[str]) -> str:
        """Look in an element that the profile keeps for what the header says about the patient."""
        element = dataset[tag]
        if keyword in _NEVER_TOUCHED:
            return ""
        if isinstance(element.value, bytes) and self.known.in_bytes(element.value):
            del dataset[tag]
            return "removed (repeats an identifier)"
        if element.VR in NUMBERS and self.known.in_number(keyword, element.value):
            element.value = None
            return "emptied (repeats a number of the patient)"
        if not kinds & set(_TEXT):
            return ""
        values = [str(v) for v in values_of(element.value)]
        kept = ["REMOVED" if self.known.in_text(v) else v for v in values]
        if kept == values:
            return ""
        element.value = kept if len(kept) > 1 else kept[0]
        return "replaced (repeats an identifier)"

    def _pixels(self, dataset: Dataset) -> None:
        """Cut what lies behind native pixels, and refuse compressed ones with an identifier in a comment."""
        data = dataset.get("PixelData")
        if not data:
            return
        if UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated:
            if self.known.in_bytes(data):
                raise Refusal("a comment in the compressed pixels repeats an identifier; export it uncompressed")
            return
        expected = get_expected_length(dataset)
        expected += expected % 2
        if len(data) > expected:
            dataset["PixelData"].value = data[:expected]
            self.counts["data set", "(7FE0,0010)", "PixelData", "bytes behind the last pixel removed"] += 1

    def _meta(self, dataset: Dataset) -> None:
        old, new = dataset.file_meta, FileMetaDataset()
        new.MediaStorageSOPClassUID = dataset.SOPClassUID
        new.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        new.TransferSyntaxUID = old.TransferSyntaxUID
        new.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
        for tag in old.keys() - new.keys():
            if tag.element not in (0, 1):  # length and version, which are written anew
                name = _name(tag, keyword_for_tag(tag))
                self.counts["file meta", f"({tag.group:04X},{tag.element:04X})", name, "removed"] += 1
        if any(getattr(dataset, "preamble", None) or b""):
            self.counts["file meta", "", "preamble", "removed"] += 1
        dataset.file_meta, dataset.preamble = new, b"\0" * 128


def new_uid(uid: str, key: bytes) -> str:
    """Return the UID that replaces another one: `2.25.` and 128 bits of its HMAC-SHA256, in the form of a UUID."""
    digest = hmac.new(key, b"uid\0" + uid.encode(), hashlib.sha256).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def days_of(subject: str, key: bytes) -> int:
    """Return the subject's own shift of dates in days, between one month and ten years into the past."""
    digest = hmac.new(key, b"days\0" + subject.encode(), hashlib.sha256).digest()
    return -(30 + int.from_bytes(digest[:8], "big") % 3621)


def shifted(text: str, kinds: set[str], days: int) -> str:
    """Return a DICOM date or date-time moved by days, to its own precision; times as they are; nothing if malformed."""
    text = text.strip()
    if "TM" in kinds:
        return text if re.fullmatch(r"\d{2}:?(\d{2}:?(\d{2}(\.\d{1,6})?)?)?", text) else ""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})?\.?(\d{2})?(\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?)", text)
    if match is None or ("DT" not in kinds and (match[4] or not match[3])):
        return ""
    try:
        moved = date(int(match[1]), int(match[2] or 7), int(match[3] or 15)) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    whole = f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"
    return whole[: 8 if match[3] else 6 if match[2] else 4] + match[4]


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _is_public(uid: str) -> bool:
    return not uid or uid in UID_dictionary or uid in _CODING_SCHEMES


def _name(tag: Any, keyword: str) -> str:
    return "private" if tag.group % 2 else keyword or "unknown"
