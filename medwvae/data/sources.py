"""The images of a folder, found by content (DICOM) or suffix (NIfTI), and whose they are, before voxels are read."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import pydicom

from medwvae.data import bids, dicom, nifti
from medwvae.data.contrast import contrast_of
from medwvae.data.subjects import Owner, Person, owner_of, sanitised, sex_of, years
from medwvae.errors import Refusal
from medwvae.names import Contrast, Modality

_WHOSE: Final = (
    "cannot tell whose image this is; set ingest.pattern to a regular expression with a group (?P<subject>...)"
)


_FOREIGN: Final = (".mgh", ".mgz", ".mnc", ".par", ".head", ".nrrd", ".nhdr", ".mha", ".mhd")
_TWO_DATASETS: Final = (
    "another BIDS dataset in the source has a subject of the same label, who may be somebody else; "
    "ingest one dataset at a time, or set ingest.pattern"
)


@dataclass(frozen=True)
class Image:
    """One image of the source, before its voxels are read; `refusal` is empty unless its header already fails.

    A NIfTI file may turn out to hold several volumes. Where one series of DICOM does, each is an image of its own and
    `part` says which ("2/5"). `options` are settings that decide how the voxels are read.
    """

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
    part: str = ""
    options: tuple[str, ...] = ()
    refusal: str = ""


@dataclass
class _Tree:
    """What lies in the source: files by kind, the number of others, and BIDS datasets by folder."""

    niftis: list[Path] = field(default_factory=list)
    dicoms: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    ignored: int = 0
    datasets: dict[Path, bids.Dataset] = field(default_factory=dict)

    def dataset_of(self, path: Path) -> bids.Dataset | None:
        """Return the innermost dataset around a file."""
        return next((self.datasets[folder] for folder in path.parents if folder in self.datasets), None)


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
    `out` and, where it lies inside `source`, the study around it: its results are no images of the user's. Of a BIDS
    dataset, `derivatives` and `sourcedata` are skipped, and so is every nested derivative dataset.
    """
    tree = _walk(source, out)
    images = [
        *_dicom_images(source, tree.dicoms, pattern, on_gap, on_tilt),
        *_nifti_images(source, tree, pattern, default_modality),
        *(
            Image(files=(path,), order=(), refusal="the file's format is not handled; convert it to NIfTI or DICOM")
            for path in tree.foreign
        ),
    ]
    return images, tree.ignored


def _walk(source: Path, out: Path) -> _Tree:
    """Find the files; hidden ones, results and what a BIDS dataset repeats are skipped."""
    tree = _Tree()
    results = (out.resolve(), out.resolve().parent)
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        if here != source and bids.DESCRIPTION in names and bids.is_derivative(here):
            folders.clear()
            continue
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (here / n).resolve() not in results)
        if bids.is_dataset(folders, names):
            tree.datasets[here] = bids.Dataset(here, described=bids.DESCRIPTION in names)
            folders[:] = [name for name in folders if name not in bids.NOT_RAW]
        for path in (here / name for name in sorted(names) if not name.startswith(".")):
            if path.name.lower().endswith(nifti.SUFFIXES):
                tree.niftis.append(path)
            elif path.name.lower().endswith(_FOREIGN):
                tree.foreign.append(path)
            elif path.is_file() and dicom.is_dicom(path):
                tree.dicoms.append(path)
            else:
                tree.ignored += 1
    return tree


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
        for k, part in enumerate(parts, start=1):
            numbered = replace(image, part=f"{k}/{len(parts)}" if len(parts) > 1 else "", options=(on_gap, on_tilt))
            yield _dicom_volume(numbered, part, on_gap, on_tilt)


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


def _nifti_images(source: Path, tree: _Tree, pattern: re.Pattern[str] | None, default: Modality) -> Iterator[Image]:
    """Say whose each file is: the user's pattern, or its BIDS name, or its path; none of them guesses."""
    labels: dict[str, set[Path]] = defaultdict(set)
    images = []
    for path in tree.niftis:
        relative, dataset = _relative(path, source), tree.dataset_of(path)
        image = Image(files=nifti.files_of(path), order=(1, *_natural(relative.as_posix())))
        name = None if pattern else bids.parse(path.name)
        if name:
            owner: Owner | None = Owner(name.entities["sub"], name.entities.get("ses", ""), name.contrast)
            image = replace(image, refusal=name.refusal(relative))
            if dataset:
                person = dataset.people.get(sanitised(name.entities["sub"]).casefold(), Person())
                image = replace(image, person=person, kept=dataset.sidecar(path, name))
            if dataset and dataset.described:
                labels[name.entities["sub"]].add(dataset.root)
        else:
            owner = owner_of(relative, pattern)
        images.append(_owned(image, owner, default) if owner else replace(image, refusal=_WHOSE))
    for image in images:
        doubtful = len(labels.get(image.subject, ())) > 1 and not image.refusal
        yield replace(image, refusal=_TWO_DATASETS) if doubtful else image


def _owned(image: Image, owner: Owner, default: Modality) -> Image:
    contrast: Contrast = "ct" if owner.contrast == "unknown" and default == "CT" else owner.contrast
    return replace(
        image,
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
