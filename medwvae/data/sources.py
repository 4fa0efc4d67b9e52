"""The images of a folder, found by content (DICOM) or suffix (NIfTI), and whose they are, before voxels are read."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import pydicom

from medwvae.data import bids, dicom, nifti, tree
from medwvae.data.contrast import contrast_of
from medwvae.data.subjects import Owner, Person, owner_of, sanitised, sex_of, years
from medwvae.errors import InputError, Refusal
from medwvae.names import Contrast, Modality

_WHOSE: Final = (
    "cannot tell whose image this is; set ingest.pattern to a regular expression with a group (?P<subject>...)"
)


_FOREIGN: Final = (".mgh", ".mgz", ".mnc", ".par", ".head", ".nrrd", ".nhdr", ".mha", ".mhd")
_TWO_DATASETS: Final = (
    "another BIDS dataset in the source has a subject of the same label, who may be somebody else; "
    "ingest one dataset at a time, or set ingest.pattern"
)
_CLOSED: Final = (
    "a file of the source cannot be opened; check its permissions, and that it is no link to nowhere",
    "a folder of the source cannot be opened, so its images are unknown; check its permissions",
)
_INCOMPLETE: Final = (
    "a file in the folder of the series is damaged, empty or cannot be opened and may be a slice of it; "
    "export the series again, or remove that file if it does not belong to it"
)


@dataclass(frozen=True)
class Image:
    """One image of the source, before its voxels are read; `refusal` is empty unless its header already fails.

    A NIfTI file may turn out to hold several volumes. Where one series of DICOM does, each is an image of its own and
    `part` says which ("2/5"). `institution` is what DICOM names, an identifier, which leaves only as a pseudonym.
    `options` are settings that decide how the voxels are read.
    """

    files: tuple[Path, ...]
    order: tuple[Any, ...]
    subject: str = ""
    session: tuple[Any, ...] = ()
    session_text: str = ""
    modality: Modality | Literal[""] = ""
    contrast: Contrast = "unknown"
    person: Person = field(default_factory=Person)
    institution: str = ""
    stack: dicom.Stack | None = None
    kept: dict[str, float | str] = field(default_factory=dict)
    part: str = ""
    options: tuple[str, ...] = ()
    refusal: str = ""


@dataclass
class _Tree:
    """What lies in the source: files by kind, the number of others, and BIDS datasets by folder.

    `empty` are files that are named like DICOM and hold none; `closed` says of what cannot be opened whether it is a
    folder.
    """

    niftis: list[Path] = field(default_factory=list)
    dicoms: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    closed: dict[Path, bool] = field(default_factory=dict)
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
    `out` and, where it lies inside `source`, the study around it, and the results of any other run of medwvae: they are
    no images of the user's. Of a BIDS dataset, `derivatives` and `sourcedata` are skipped, and so is every nested
    derivative dataset. A file or folder that cannot be opened is an image that is refused.

    Raises
    ------
    InputError
        If the source is, or lies within, the results.
    """
    _check_place(source, out)
    found = _walk(source, out)
    images = [
        *_dicom_images(source, found, pattern, on_gap, on_tilt),
        *_nifti_images(source, found, pattern, default_modality),
        *(
            Image(files=(path,), order=(), refusal="the file's format is not handled; convert it to NIfTI or DICOM")
            for path in found.foreign
        ),
        *(Image(files=(path,), order=(), refusal=_CLOSED[folder]) for path, folder in found.closed.items()),
    ]
    return images, found.ignored


def _check_place(source: Path, out: Path) -> None:
    real, results = source.resolve(), out.resolve()
    if real.is_relative_to(results) or real.is_relative_to(results.parent / "state"):
        raise InputError("the source lies within this run's own results; choose the folder of the original images")
    if tree.is_results(real):
        raise InputError("the source is the results of a run of medwvae; choose the folder of the original images")


def _walk(source: Path, out: Path) -> _Tree:
    """Find the files; hidden ones, results and what a BIDS dataset repeats are skipped."""
    found = _Tree()
    folders_of = tree.Tree(source, skip=(out, out.parent), hidden=False)
    for here, folders, names in folders_of.walk():
        if here != source and bids.DESCRIPTION in names and bids.is_derivative(here):
            folders.clear()
            continue
        if bids.is_dataset(folders, names):
            found.datasets[here] = bids.Dataset(here, described=bids.DESCRIPTION in names)
            folders[:] = [name for name in folders if name not in bids.NOT_RAW]
        dicoms: list[Path] = []
        others: list[Path] = []
        for path in (here / name for name in names):
            if path.name.lower().endswith(nifti.SUFFIXES):
                found.niftis.append(path)
            elif path.name.lower().endswith(_FOREIGN):
                found.foreign.append(path)
            else:
                try:
                    (dicoms if tree.is_file(path) and dicom.starts_as_dicom(path) else others).append(path)
                except OSError:
                    found.closed[path] = False
        shapes = {tree.shape(path) for path in dicoms}
        empty = [path for path in others if path.is_file() and tree.named_like(path, shapes)]
        found.dicoms += dicoms
        found.empty += empty
        found.ignored += len(others) - len(empty)
    found.closed |= dict.fromkeys(folders_of.closed, True)
    return found


def _dicom_images(
    source: Path, found: _Tree, pattern: re.Pattern[str] | None, on_gap: dicom.OnGap, on_tilt: dicom.OnTilt
) -> Iterator[Image]:
    series, unreadable = dicom.scan(found.dicoms)
    folders = defaultdict(list)
    for path in (*unreadable, *found.empty):
        folders[path.parent].append(path)
    for paths in folders.values():
        reason = f"the header of {len(paths)} DICOM file(s) is damaged or empty; export them again"
        yield Image(files=tuple(paths), order=(), refusal=reason)
    lost = _lost(found, series, unreadable)
    for one in series:
        image = _dicom_image(source, one, pattern)
        missing, alone = lost[one.files[0].parent]
        if missing and alone:
            yield replace(image, refusal=_INCOMPLETE)
            continue
        if missing:
            image = replace(image, kept=image.kept | {"DamagedFilesInFolder": missing})
        try:
            parts = dicom.split(one)
        except Refusal as refusal:
            yield replace(image, refusal=str(refusal))
            continue
        for k, part in enumerate(parts, start=1):
            numbered = replace(image, part=f"{k}/{len(parts)}" if len(parts) > 1 else "", options=(on_gap, on_tilt))
            yield _dicom_volume(numbered, part, on_gap, on_tilt)


def _lost(found: _Tree, series: list[dicom.Series], unreadable: list[Path]) -> dict[Path, tuple[int, bool]]:
    """Return by folder how many DICOM files were lost to damage or permissions, and whether it holds one series.

    Where it does, they can be nothing but slices of it, perhaps its last, which no check of its geometry would miss.
    """
    within = Counter(folder for one in series for folder in {path.parent for path in one.files})
    shapes = defaultdict(set)
    for path in found.dicoms:
        shapes[path.parent].add(tree.shape(path))
    closed = [path for path in found.closed if tree.named_like(path, shapes[path.parent])]
    lost = Counter(path.parent for path in (*unreadable, *found.empty, *closed))
    return defaultdict(lambda: (0, False), {folder: (lost[folder], within[folder] == 1) for folder in within})


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
        institution=str(header.get("InstitutionName") or ""),
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


def _nifti_images(source: Path, found: _Tree, pattern: re.Pattern[str] | None, default: Modality) -> Iterator[Image]:
    """Say whose each file is: the user's pattern, or its BIDS name, or its path; none of them guesses."""
    labels: dict[str, set[Path]] = defaultdict(set)
    images = []
    for path in found.niftis:
        relative, dataset = _relative(path, source), found.dataset_of(path)
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
