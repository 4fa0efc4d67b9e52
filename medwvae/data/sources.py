"""The images of a folder, found by content (DICOM) or suffix (NIfTI), and whose they are, before voxels are read."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import pydicom

from medwvae.data import dicom, nifti
from medwvae.data.contrast import contrast_of
from medwvae.data.subjects import Person, owner_of, sex_of, years
from medwvae.errors import Refusal
from medwvae.names import Contrast, Modality

_WHOSE: Final = (
    "cannot tell whose image this is; set ingest.pattern to a regular expression with a group (?P<subject>...)"
)


@dataclass(frozen=True)
class Image:
    """One image of the source, before its voxels are read; `refusal` is empty unless its header already fails."""

    files: tuple[Path, ...]
    order: tuple[Any, ...]
    subject: str = ""
    session: tuple[Any, ...] = ()
    session_text: str = ""
    modality: Modality | Literal[""] = ""
    contrast: Contrast = "unknown"
    person: Person = field(default_factory=Person)
    stack: dicom.Stack | None = None
    kept: dict[str, float | str] = field(default_factory=dict)
    refusal: str = ""


def find(
    source: Path,
    out: Path,
    *,
    pattern: re.Pattern[str] | None,
    default_modality: Modality,
    on_gap: dicom.OnGap = "refuse",
    on_tilt: dicom.OnTilt = "refuse",
) -> tuple[list[Image], int]:
    """Return every image under `source` and the number of files that are none.

    A DICOM series gives one image per volume that it holds; `on_gap` and `on_tilt` as for `dicom.check`. Skipped are
    `out` and, where it lies inside `source`, the study around it: its results are no images of the user's.
    """
    niftis, dicoms, ignored = _walk(source, out)
    images = [
        *_dicom_images(source, dicoms, pattern, on_gap, on_tilt),
        *_nifti_images(source, niftis, pattern, default_modality),
    ]
    return images, ignored


def _walk(source: Path, out: Path) -> tuple[list[Path], list[Path], int]:
    """Return the NIfTI files, the DICOM files and the number of other files; hidden ones and results are skipped."""
    niftis, dicoms, ignored = [], [], 0
    results = (out.resolve(), out.resolve().parent)
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (here / n).resolve() not in results)
        for path in (here / name for name in sorted(names) if not name.startswith(".")):
            if path.name.lower().endswith(nifti.SUFFIXES):
                niftis.append(path)
            elif path.is_file() and dicom.is_dicom(path):
                dicoms.append(path)
            else:
                ignored += 1
    return niftis, dicoms, ignored


def _dicom_images(
    source: Path, files: list[Path], pattern: re.Pattern[str] | None, on_gap: dicom.OnGap, on_tilt: dicom.OnTilt
) -> Iterator[Image]:
    series, unreadable = dicom.scan(files)
    folders = defaultdict(list)
    for path in unreadable:
        folders[path.parent].append(path)
    for paths in folders.values():
        reason = f"the header of {len(paths)} DICOM file(s) is damaged; export them again"
        yield Image(files=tuple(paths), order=(), refusal=reason)
    for one in series:
        image = _dicom_image(source, one, pattern)
        try:
            parts = dicom.split(one)
        except Refusal as refusal:
            yield replace(image, refusal=str(refusal))
            continue
        for part in parts:
            yield _dicom_volume(image, part, on_gap, on_tilt)


def _dicom_image(source: Path, series: dicom.Series, pattern: re.Pattern[str] | None) -> Image:
    """Return what a series says of itself. Whose it is the patient ID says, or where it is empty, the pattern."""
    header = series.header
    owner = owner_of(_relative(series.files[0], source), pattern) if pattern else None
    patient = str(header.get("PatientID") or "").strip()
    modality = header.get("Modality")
    study = tuple(str(header.get(tag) or "") for tag in ("StudyDate", "StudyTime", "StudyInstanceUID"))
    return Image(
        files=series.files,
        order=(0, _series_number(header), str(header.get("SeriesInstanceUID") or "")),
        subject=patient or (owner.subject if owner else ""),
        session=(0, *study),
        modality=modality if modality in ("MR", "CT") else "",
        contrast=contrast_of(header),
        person=Person(years(str(header.get("PatientAge") or "")), sex_of(str(header.get("PatientSex") or ""))),
        kept=dicom.acquisition_of(header),
    )


def _dicom_volume(image: Image, part: dicom.Part, on_gap: dicom.OnGap, on_tilt: dicom.OnTilt) -> Image:
    """Return one volume of a series, checked by its headers."""
    contrast: Contrast = image.contrast if part.weighted else "unknown"
    image = replace(image, files=part.files, order=(*image.order, part.number), contrast=contrast)
    try:
        stack = dicom.check(part, on_gap=on_gap, on_tilt=on_tilt)
    except Refusal as refusal:
        return replace(image, refusal=str(refusal))
    if not image.subject:
        return replace(image, refusal=f"the patient ID is empty: {_WHOSE}")
    return replace(image, files=stack.files, stack=stack, kept=image.kept | stack.notes)


def _series_number(header: pydicom.Dataset) -> int:
    try:
        return int(header.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _nifti_images(
    source: Path, files: list[Path], pattern: re.Pattern[str] | None, default: Modality
) -> Iterator[Image]:
    for path in files:
        relative = _relative(path, source)
        pair = path.with_suffix(".img")
        members = (path, pair) if path.suffix.lower() == ".hdr" and pair.is_file() else (path,)
        owner = owner_of(relative, pattern)
        if owner is None:
            yield Image(files=members, order=(1, relative.as_posix()), refusal=_WHOSE)
            continue
        contrast: Contrast = "ct" if owner.contrast == "unknown" and default == "CT" else owner.contrast
        yield Image(
            files=members,
            order=(1, relative.as_posix()),
            subject=owner.subject,
            session=(1, *_natural(owner.session)),
            session_text=owner.session,
            modality="CT" if contrast == "ct" else "MR",
            contrast=contrast,
        )


def _relative(path: Path, source: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(source).as_posix())


def _natural(text: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts study2 before study10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"[0-9]+|[^0-9]+", text))
