"""A folder of DICOM and NIfTI to canonical NIfTI volumes (RAS+, mm) and manifest rows, without identifiers.

Images are converted one by one into a state that survives an interruption; only when all are known are they named and
put in place, as a BIDS derivative dataset.
"""

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from medwvae.data import bids, convert, dicom, records
from medwvae.data.manifest import Row
from medwvae.data.records import Part
from medwvae.data.sources import Image, find
from medwvae.data.subjects import (
    Person,
    compile_pattern,
    kept_labels,
    load_key,
    pseudonyms,
    read_demographics,
    sanitised,
    site_labels,
    site_name,
    write_private_table,
)
from medwvae.errors import InputError
from medwvae.files import atomic, spelled
from medwvae.names import Modality

_OLDEST: Final = 90.0  # ages above 89 identify a person (45 CFR 164.514(b)(2)(i)(C))


class NothingUsableError(InputError):
    """Every image was refused; `rows` says why."""

    def __init__(self, message: str, rows: list[Row]) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True)
class _Volume:
    """One volume of an image, or the reason why it is none."""

    image: Image
    source_sha256: str
    part: Part


def ingest(
    source: Path,
    out: Path,
    *,
    subjects: Literal["pseudonym", "keep"] = "pseudonym",
    key_file: Path | None = None,
    pattern: str | None = None,
    default_modality: Modality = "MR",
    on_gap: dicom.OnGap = "refuse",
    on_tilt: dicom.OnTilt = "refuse",
    demographics: Path | None = None,
    state: Path | None = None,
    workers: int = 1,
    advance: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Convert every image under `source`; return one row per volume, usable or refused, sorted by volume.

    Memory is bounded by a few times a volume a worker. An interrupted call, made again, reads no finished image again.

    Parameters
    ----------
    source
        Folder of DICOM (found by content) and NIfTI (found by suffix), in any mixture; it is only read.
    out
        Folder that becomes a BIDS derivative dataset: volumes (RAS+, mm, CT in HU; int16 where that keeps every value,
        else float32), each with a `.json` of allowed header fields beside it; `bids.derivative` gives their names.
        `Row.file` is relative to its parent.
    subjects
        `pseudonym` names subjects by a keyed hash and numbers their sessions; `keep` keeps the letters and digits of
        the original names.
    key_file
        Secret key of the pseudonyms, made if absent. Beside it, readable by the owner only, lie the tables
        `<stem>_subjects.csv` and `<stem>_sites.csv` (pseudonym, original) and `<stem>_sources.csv` (volume, source
        path).
    pattern
        Regular expression that reads subject, session and contrast off a NIfTI's path relative to `source`, and the
        subject of DICOM files without a patient ID; see `subjects.owner_of` for what is read without one.
    default_modality
        Of NIfTI files whose contrast does not tell.
    on_gap, on_tilt
        What to do with DICOM slices that are missing or unevenly spaced, and with a tilted gantry: refuse, or resample
        and shear (`dicom.check`), which the sidecar then records.
    demographics
        Table of age, sex and site; `demographics.csv` or `participants.tsv` in `source`, and the latter in every BIDS
        dataset, is found by itself.
    state
        Folder of what is finished, `state/ingest` beside `out` by default. The volumes of `out` are hard links to it
        where the file system has them, so that it takes no room of its own.
    workers
        Number of processes.
    advance
        Called with (images done, images in all).

    Raises
    ------
    InputError
        If nothing under `source` can be used (`NothingUsableError`, with the reasons), an option makes no sense, the
        results cannot be written, or another run is writing them.
    """
    if not source.is_dir():
        wrong = "is a file; give the folder that holds it" if source.exists() else "does not exist"
        raise InputError(f"the source folder {source} {wrong}")
    if subjects == "pseudonym" and key_file is None:
        raise InputError("pseudonyms need a key file; name one, or keep the subjects' names")
    regex = compile_pattern(pattern)
    people = _people(source, demographics)
    images, ignored = find(
        source, out, pattern=regex, default_modality=default_modality, on_gap=on_gap, on_tilt=on_tilt
    )
    if not images:
        raise InputError(f"there is no DICOM and no NIfTI file in the source folder ({ignored} other files)")
    originals = sorted({image.subject for image in images if image.subject})
    secret = b""
    if subjects == "keep":
        labels = kept_labels(originals)
    else:
        assert key_file is not None  # noqa: S101 (checked above)
        secret = load_key(key_file)
        labels = pseudonyms(originals, secret)
    images = sorted((_labelled(i, labels) for i in images), key=lambda i: (i.subject, i.session, i.contrast, i.order))
    state = state or out.parent / "state" / "ingest"
    with records.alone(state):
        told = advance or (lambda done, total: None)
        converted = convert.convert(images, state, secret, workers=workers, advance=told)
        volumes = [
            _Volume(image, record.source_sha256, part)
            for image, record in zip(images, converted, strict=True)
            for part in record.parts
        ]
        volumes = _without_twins(volumes)
        sites = _sites(images, people, secret or None)
        rows = _rows(volumes, labels, people, sites, out, pseudonymous=subjects == "pseudonym")
        with records.writing():
            _place(volumes, rows, state, out)
            if key_file is not None:
                owners = (labels, sites) if subjects == "pseudonym" else ({}, {})
                _write_tables(
                    key_file, *owners, {r.volume: v.image.files[0] for r, v in zip(rows, volumes, strict=True)}
                )
    if all(row.status == "refused" for row in rows):
        reasons = "; ".join(f"{n} x {reason}" for reason, n in Counter(row.reason for row in rows).most_common())
        said = f"none of {len(rows)} images can be used ({ignored} other files ignored): {reasons}"
        raise NothingUsableError(said, sorted(rows, key=lambda row: row.volume))
    return sorted(rows, key=lambda row: row.volume)


def _write_tables(key_file: Path, labels: dict[str, str], sites: dict[str, str], sources: dict[str, Path]) -> None:
    """Write who and which institution is behind each pseudonym, and which file behind each volume; beside the key."""
    for kind, pseudonymous in (("subject", labels), ("site", sites)):
        if pseudonymous:
            originals = {label: original for original, label in pseudonymous.items()}
            write_private_table(key_file.with_name(f"{key_file.stem}_{kind}s.csv"), (kind, "original"), originals)
    paths = {volume: spelled(path) for volume, path in sources.items()}
    write_private_table(key_file.with_name(f"{key_file.stem}_sources.csv"), ("volume", "path"), paths)


def _people(source: Path, demographics: Path | None) -> dict[str, Person]:
    usual = (source / name for name in ("demographics.csv", "participants.tsv"))
    path = demographics or next((path for path in usual if path.is_file()), None)
    return read_demographics(path) if path else {}


def _person_of(image: Image, people: dict[str, Person]) -> Person:
    """Return what the table of demographics says, and where it says nothing, the image's header."""
    known, own = people.get(sanitised(image.subject).casefold(), Person()), image.person
    return Person(own.age if known.age is None else known.age, known.sex or own.sex, known.site or own.site)


def _sites(images: list[Image], people: dict[str, Person], secret: bytes | None) -> dict[str, str]:
    """Return the label of every institution by `site_name`; without a key, only of those that a table names."""
    tabled = {_person_of(image, people).site for image in images}
    return site_labels(tabled | {image.institution for image in images} if secret else tabled, secret)


_NOT_KEPT = (
    "its subject's name is too long for a folder, or cannot be told from another by letters and digits alone; "
    "use pseudonyms"
)


def _labelled(image: Image, labels: dict[str, str]) -> Image:
    if image.refusal or not image.subject or image.subject in labels:
        return image
    return replace(image, refusal=_NOT_KEPT)


def _without_twins(volumes: list[_Volume]) -> list[_Volume]:
    """Refuse what is the same volume twice: a copy under one subject, or, worse, one volume under two subjects.

    The same volume under two names would lie on both sides of a split. Volumes are the same if their voxels are, once
    turned to RAS+: a copy in another format has another affine in its last digits.
    """
    owners = defaultdict(set)
    for volume in volumes:
        owners[volume.part.voxels_sha256].add(volume.image.subject)
    seen: set[str] = set()
    kept = []
    for volume in volumes:
        digest, reason = volume.part.voxels_sha256, ""
        if digest and len(owners[digest]) > 1:
            reason = "the same image lies under two subjects, which would leak between splits; remove the wrong one"
        elif digest and digest in seen:
            reason = "the image repeats another one of the same subject; nothing to do"
        seen.add(digest)
        kept.append(replace(volume, part=Part(reason=reason, number=volume.part.number)) if reason else volume)
    return kept


def _rows(
    volumes: list[_Volume],
    labels: dict[str, str],
    people: dict[str, Person],
    sites: dict[str, str],
    out: Path,
    *,
    pseudonymous: bool,
) -> list[Row]:
    """Name every volume: subject, session, contrast, and a number where these three repeat."""
    studies = defaultdict(set)
    for volume in volumes:
        studies[volume.image.subject].add(volume.image.session)
    ordinal = {subject: {key: str(n) for n, key in enumerate(sorted(keys), 1)} for subject, keys in studies.items()}
    rows = []
    for image, source, part in ((volume.image, volume.source_sha256, volume.part) for volume in volumes):
        label = labels.get(image.subject, "")
        session = ordinal[image.subject][image.session]
        if not pseudonymous and image.session_text:
            session = sanitised(image.session_text) or session
        person = _person_of(image, people)
        age = person.age
        row = Row(
            volume=f"{label}_ses-{session}_{image.contrast}" if not part.reason else f"refused-{source[:12]}",
            subject=label,
            session=session if label else "",
            part=part.number,
            modality=image.modality,
            contrast=image.contrast,
            shape=part.shape,
            spacing=part.spacing,
            age=min(age, _OLDEST) if age is not None and pseudonymous else age,
            sex=person.sex,
            site=sites.get(site_name(person.site or image.institution), ""),
            status="refused" if part.reason else "ok",
            reason=part.reason,
            source=source[:12],
            source_sha256=source,
            result_sha256=part.result_sha256,
        )
        rows.append(row)
    return list(_numbered(rows, out))


def _numbered(rows: list[Row], out: Path) -> Iterator[Row]:
    """Make the names unique, and say where each volume is to lie."""
    several = Counter(row.volume for row in rows)
    repeats: Counter[str] = Counter()
    for row in rows:
        repeats[row.volume] += 1
        n = repeats[row.volume]
        volume = row.volume if n < 2 else f"{row.volume}_{n}"
        if row.status == "refused":
            yield replace(row, volume=volume)
            continue
        place = bids.derivative(row.subject, row.session, row.contrast, n if several[row.volume] > 1 else None)
        yield replace(row, volume=volume, series=str(n), file=f"{out.name}/{place}.nii.gz")


def _place(volumes: Iterable[_Volume], rows: list[Row], state: Path, out: Path) -> None:
    """Put the volumes where their rows say, each with its sidecar, and remove those of an earlier run."""
    bids.describe(out)
    wanted = set()
    for volume, row in zip(volumes, rows, strict=True):
        if not row.file:
            continue
        path = out.parent / row.file
        with atomic(path) as temporary:
            _link(state / volume.part.file, temporary)
        mended = volume.image.kept.keys() & {"SlicesInterpolated", "TiltCorrection"}
        treated = "mended as said below" if mended else "not resampled"
        sidecar: dict[str, Any] = {
            "Description": f"Acquired voxels, {treated}, turned to the nearest RAS+",
            "SkullStripped": False,  # which BIDS demands; `kept` has what the source's own sidecar says
            "Modality": row.modality,
            "Contrast": row.contrast,
            "Spacing": [float(mm) for mm in row.spacing.split("x")],
        }
        if row.part:
            sidecar["Part"] = row.part
        beside = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
        bids.write_json(beside, sidecar | volume.image.kept)
        wanted |= {path, beside}
    for path in out.glob("sub-*/ses-*/*/sub-*_desc-canonical_*"):
        if path not in wanted:
            path.unlink()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links here: the state gives its file away, and the image would be read again
        shutil.move(source, target)
