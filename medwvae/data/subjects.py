"""Whose image is it: subject and session from a path, pseudonyms, demographics. A subject is never guessed."""

import base64
import csv
import hashlib
import hmac
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from medwvae.data.contrast import WORDS, contrast_worded
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import Contrast

_SESSION: Final = re.compile(
    r"(?:ses|session|study|visit|scan|time|tp|day|month|year|v|m)[-]?\d+|\d{1,8}|baseline", re.I
)


@dataclass(frozen=True)
class Owner:
    """What a path says; `session` is empty where it says nothing."""

    subject: str
    session: str
    contrast: Contrast


def owner_of(path: PurePosixPath, pattern: re.Pattern[str] | None = None) -> Owner | None:
    """Return whose image a NIfTI file is, from its path relative to the source folder, or None if it is not certain.

    Read are `<subject>/[<session>_]<contrast>.nii.gz`, `<subject>/<subject>_<contrast>.nii.gz` and, in the source
    folder itself, `<subject>[_<session>]_<contrast>.nii.gz`. A `pattern` with the groups `subject` and, if there are
    any, `session` and `contrast` replaces them all. For BIDS names see `bids.parse`.
    """
    if pattern is not None:
        match = pattern.search(path.as_posix())
        if match is None or not match["subject"]:
            return None
        groups = match.groupdict()
        return Owner(match["subject"], groups.get("session") or "", contrast_worded(groups.get("contrast") or ""))
    stem = re.sub(r"\.(nii|hdr)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    prefix, _, word = stem.rpartition("_")
    if word.lower() not in WORDS:
        return None
    contrast = WORDS[word.lower()]
    folder = path.parent.name
    if not folder:
        subject, _, session = prefix.rpartition("_")
        if subject and _SESSION.fullmatch(session):
            return Owner(subject, session, contrast)
        return Owner(prefix, "", contrast) if prefix else None
    if prefix in ("", folder):
        return Owner(folder, "", contrast)
    session = prefix.removeprefix(f"{folder}_")
    return Owner(folder, session, contrast) if _SESSION.fullmatch(session) else None


def compile_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """Return the user's pattern compiled; InputError if it is none or has no group named subject."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"ingest.pattern is no regular expression: {error}") from None
    if "subject" not in compiled.groupindex:
        raise InputError("ingest.pattern needs a group (?P<subject>...), for example '^(?P<subject>[^/]+)/'")
    return compiled


def sanitised(text: str) -> str:
    """Return the ASCII letters and digits of an identifier, without a leading `sub-`."""
    return re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^sub-", "", text.strip()))


_LONGEST = 64
"""Letters of a subject's label: what DICOM allows a patient ID (VR LO)."""


def kept_labels(originals: Iterable[str]) -> dict[str, str]:
    """Return `sub-<letters and digits>` per original.

    Those that would be confused with another are left out, and those too long for the name of a folder.
    """
    labels = {o: f"sub-{sanitised(o)}" for o in originals if 0 < len(sanitised(o)) <= _LONGEST}
    taken: dict[str, list[str]] = defaultdict(list)
    for original, label in labels.items():
        taken[label.casefold()].append(original)  # some file systems do not tell case apart
    return {original: label for original, label in labels.items() if len(taken[label.casefold()]) == 1}


def pseudonyms(originals: Iterable[str], key: bytes) -> dict[str, str]:
    """Return `sub-<10 characters>` per original: base32 of its HMAC-SHA256 (RFC 2104) under a secret key.

    Without the key, a pseudonym can be neither computed from an identifier nor turned back into one.
    """
    return {original: f"sub-{_keyed(original, key)[:10]}" for original in originals}


def site_labels(names: Iterable[str], key: bytes | None) -> dict[str, str]:
    """Return a label by `site_name` of an institution: `site-<6 characters>`, keyed as `pseudonyms` are.

    Without a key the names stay, as `kept_labels` keeps those of subjects; those too long are left out.
    """
    known = {site_name(name) for name in names} - {""}
    if key is None:
        kept = {name: re.sub(r"[^a-z0-9]", "", name) for name in known}
        return {name: f"site-{letters}" for name, letters in kept.items() if 0 < len(letters) <= _LONGEST}
    return {name: f"site-{_keyed(f'site {name}', key)[:6]}" for name in known}


def site_name(text: str) -> str:
    """Return the name of an institution without regard to case and spaces; empty for BIDS's `n/a`."""
    name = " ".join(text.split()).casefold()
    return "" if name in ("n/a", "na", "unknown") else name


def _keyed(text: str, key: bytes) -> str:
    digest = hmac.new(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().lower()


def load_key(path: Path) -> bytes:
    """Return the secret key of a file; make one (32 random bytes, readable by its owner only) if there is none."""
    if not path.exists():
        write_private(path, secrets.token_hex(32) + "\n")
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no key of this program; move it away to make a new one") from error
    if len(key) != 32:
        raise InputError(f"{path}: the key is not 32 bytes long; move it away to make a new one")
    return key


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically; a folder made for it is its owner's alone, too."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.touch(mode=0o600)
        # File names need not be UTF-8: their other bytes are written as Python escapes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_private_table(path: Path, header: tuple[str, str], new: Mapping[str, str]) -> None:
    """Write a private CSV of two columns, keeping what an earlier run has put there."""
    table: dict[str, str] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as handle:
            table = {row[0]: row[1] for row in list(csv.reader(handle))[1:] if len(row) == 2}
    table.update(new)
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(sorted(table.items()))
    write_private(path, "".join(lines))


class _Lines(list[str]):
    write = list.append


@dataclass(frozen=True)
class Person:
    """Age in years, sex (M, F, O) and institution as its source names it, where they are known."""

    age: float | None = None
    sex: str = ""
    site: str = ""


_SITE_COLUMNS: Final = ("site", "site_id", "center", "centre", "institution")
_ID_COLUMNS: Final = ("subject", "mrid", "patientid", "patient_id", "participant_id", "subject_id", "id")


def read_demographics(path: Path) -> dict[str, Person]:
    """Return age, sex and site per identifier (as `sanitised`, without regard to case) of a CSV or TSV file.

    Raises
    ------
    InputError
        If the file cannot be read, or none of its columns names the subject.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            records = list(csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table of demographics") from error
    people: dict[str, Person] = {}
    for record in records:
        row = {(name or "").strip().lower(): value for name, value in record.items() if isinstance(value, str)}
        column = next((name for name in _ID_COLUMNS if name in row), None)
        if column is None:
            raise InputError(
                f"{path}: no column names the subject (one of {', '.join(_ID_COLUMNS)}, besides age, sex and site)"
            )
        site = next((row[name] for name in _SITE_COLUMNS if row.get(name)), "")
        person = Person(years(row.get("age", "")), sex_of(row.get("sex") or row.get("gender") or ""), site.strip())
        people.setdefault(sanitised(row[column]).casefold(), person)
    return people


def years(text: str) -> float | None:
    """Return an age in years from a number, a DICOM age string (`045Y`, `006M`, ...) or BIDS's `89+`."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([YMWD]?)\+?", text.strip().upper())
    if match is None:
        return None
    if match[2] == "Y" and not float(match[1]):  # 000Y is what anonymisers write
        return None
    return round(float(match[1]) / {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}[match[2]], 2)


def sex_of(text: str) -> str:
    """Return M, F or O, or nothing for anything else."""
    return {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"}.get(text.strip().upper(), "")
