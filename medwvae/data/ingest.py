"""A folder of DICOM and NIfTI to canonical NIfTI volumes (RAS+, mm, float32) and manifest rows, without identifiers."""

import hashlib
import json
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from medwvae.data import dicom, nifti
from medwvae.data.manifest import Row
from medwvae.data.sources import Image, find
from medwvae.data.subjects import (
    Person,
    compile_pattern,
    kept_labels,
    load_key,
    pseudonyms,
    read_demographics,
    sanitised,
    write_private_table,
)
from medwvae.errors import InputError, Refusal
from medwvae.files import atomic, sha256_of
from medwvae.geometry import spacing_of, to_ras
from medwvae.names import Modality

_OLDEST: Final = 90.0  # ages above 89 identify a person (45 CFR 164.514(b)(2)(i)(C))


@dataclass(frozen=True)
class _Job:
    """What one worker needs to turn an image into a file and a row."""

    image: Image
    row: Row
    out: Path


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
    workers: int = 1,
    advance: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Convert every image under `source` and return one row per image, usable or refused, sorted by volume.

    Parameters
    ----------
    source
        Folder of DICOM (found by content) and NIfTI (found by suffix), in any mixture; it is only read.
    out
        Folder that gets `<volume>.nii.gz` (float32, RAS+, mm, CT in HU) and a `<volume>.json` of allowed header fields.
        `Row.file` is relative to its parent.
    subjects
        `pseudonym` names subjects by a keyed hash and numbers their sessions; `keep` keeps the letters and digits of
        the original names.
    key_file
        Secret key of the pseudonyms, made if absent. Beside it, readable by the owner only, lie the tables
        `<stem>_subjects.csv` (pseudonym, original) and `<stem>_sources.csv` (volume, source path).
    pattern
        Regular expression that reads subject, session and contrast off a NIfTI's path relative to `source`, and the
        subject of DICOM files without a patient ID; see `subjects.owner_of` for what is read without one.
    default_modality
        Of NIfTI files whose contrast does not tell.
    on_gap, on_tilt
        What to do with DICOM slices that are missing or unevenly spaced, and with a tilted gantry: refuse, or resample
        and shear (`dicom.check`), which the sidecar then records.
    demographics
        Table of age and sex; `demographics.csv` or `participants.tsv` in `source` is found by itself.
    workers
        Number of processes.
    advance
        Called with (images done, images in all).

    Raises
    ------
    InputError
        If nothing under `source` can be used (the reasons are counted), or an option makes no sense.
    """
    if not source.is_dir():
        raise InputError(f"the source folder {source} does not exist")
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
    if subjects == "keep":
        labels = kept_labels(originals)
    else:
        assert key_file is not None  # noqa: S101 (checked above)
        labels = pseudonyms(originals, load_key(key_file))
    jobs = _plan(images, labels, people, out, pseudonymous=subjects == "pseudonym")
    rows = []
    for row in _run(jobs, workers):
        rows.append(row)
        if advance:
            advance(len(rows), len(jobs))
    rows = _without_twins(rows, out)
    if key_file is not None:
        if subjects == "pseudonym":
            private = {label: original for original, label in labels.items()}
            write_private_table(key_file.with_name(f"{key_file.stem}_subjects.csv"), ("subject", "original"), private)
        sources = {row.volume: str(job.image.files[0]) for row, job in zip(rows, jobs, strict=True)}
        write_private_table(key_file.with_name(f"{key_file.stem}_sources.csv"), ("volume", "path"), sources)
    if all(row.status == "refused" for row in rows):
        reasons = "; ".join(f"{n} x {reason}" for reason, n in Counter(row.reason for row in rows).most_common())
        raise InputError(f"none of {len(rows)} images can be used ({ignored} other files ignored): {reasons}")
    return sorted(rows, key=lambda row: row.volume)


def _people(source: Path, demographics: Path | None) -> dict[str, Person]:
    usual = (source / name for name in ("demographics.csv", "participants.tsv"))
    path = demographics or next((path for path in usual if path.is_file()), None)
    return read_demographics(path) if path else {}


def _plan(
    images: list[Image], labels: dict[str, str], people: dict[str, Person], out: Path, *, pseudonymous: bool
) -> list[_Job]:
    """Name every image: subject, session, contrast, and a number where these three repeat."""
    studies = defaultdict(set)
    for image in images:
        studies[image.subject].add(image.session)
    number = {subject: {key: str(n) for n, key in enumerate(sorted(keys), 1)} for subject, keys in studies.items()}
    repeats: Counter[str] = Counter()
    jobs = []
    for image in sorted(images, key=lambda image: (image.subject, image.session, image.contrast, image.order)):
        label = labels.get(image.subject, "")
        if image.subject and not label and not image.refusal:
            reason = "its subject cannot be told from another by letters and digits alone; use pseudonyms"
            image = replace(image, refusal=reason)
        session = number[image.subject][image.session]
        if not pseudonymous and image.session_text:
            session = sanitised(image.session_text) or session
        person = people.get(sanitised(image.subject).casefold(), Person())
        age = person.age if person.age is not None else image.person.age
        name = f"{label}_ses-{session}_{image.contrast}"
        if not image.refusal:
            repeats[name] += 1
        row = Row(
            volume=name if repeats[name] < 2 else f"{name}_{repeats[name]}",
            subject=label,
            session=session if label else "",
            series=str(max(repeats[name], 1)),
            modality=image.modality,
            contrast=image.contrast,
            age=min(age, _OLDEST) if age is not None and pseudonymous else age,
            sex=person.sex or image.person.sex,
        )
        jobs.append(_Job(image, row, out))
    return jobs


def _run(jobs: list[_Job], workers: int) -> Iterator[Row]:
    if workers <= 1:
        yield from map(_convert, jobs)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(_convert, jobs)
    except BrokenProcessPool as error:
        raise InputError("a worker of ingest died, probably for want of memory; use fewer workers") from error


def _convert(job: _Job) -> Row:
    """Read, turn to RAS+ and write one image; whatever is wrong with it becomes the reason of a refused row."""
    row = replace(job.row)
    try:
        volume: NDArray[np.generic]
        if job.image.stack is not None:
            loaded = dicom.load(job.image.stack)
            row, volume, affine = _from(row, loaded.digests), loaded.voxels, loaded.affine
        else:
            row = _from(row, map(sha256_of, job.image.files))
            if job.image.refusal:
                raise Refusal(job.image.refusal)
            volume, affine = nifti.read(job.image.files[0])
    except Refusal as refusal:
        return _refused(row if row.source else _from(row, _digests(job.image.files)), str(refusal))
    except (OSError, MemoryError) as error:
        return _refused(row, f"the image cannot be read ({type(error).__name__}); check permissions, disk and memory")
    canonical, affine = to_ras(volume, affine)
    path = job.out / f"{row.volume}.nii.gz"
    nifti.write(path, np.asarray(canonical, dtype=np.float32), affine)
    spacing = spacing_of(affine)
    sidecar = {"Modality": row.modality, "Contrast": row.contrast, "Spacing": [round(mm, 6) for mm in spacing]}
    with atomic(path.with_name(f"{row.volume}.json")) as temporary:
        temporary.write_text(json.dumps(sidecar | job.image.kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return replace(
        row,
        shape="x".join(str(n) for n in canonical.shape),
        spacing="x".join(f"{mm:.3f}" for mm in spacing),
        file=f"{job.out.name}/{path.name}",
        result_sha256=sha256_of(path),
    )


def _from(row: Row, digests: Iterable[str]) -> Row:
    """Return the row with the digest of the files it came from, whatever their order."""
    digest = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    return replace(row, source=digest[:12], source_sha256=digest)


def _digests(files: Iterable[Path]) -> Iterator[str]:
    """Yield the digest of every file that can be read."""
    for path in files:
        with suppress(OSError):
            yield sha256_of(path)


def _refused(row: Row, reason: str) -> Row:
    return replace(
        row, volume=f"refused-{row.source}", series="", status="refused", reason=reason, file="", result_sha256=""
    )


def _without_twins(rows: list[Row], out: Path) -> list[Row]:
    """Refuse what is the same image twice: a copy under one subject, or, worse, one image under two subjects.

    The same image under two names would lie on both sides of a split. Also makes the names of refused rows unique.
    """
    owners = defaultdict(set)
    for row in rows:
        owners[row.result_sha256].add(row.subject)
    seen: set[str] = set()
    names: Counter[str] = Counter()
    kept = []
    for row in rows:
        reason = ""
        if row.status == "ok" and len(owners[row.result_sha256]) > 1:
            reason = "the same image lies under two subjects, which would leak between splits; remove the wrong one"
        elif row.status == "ok" and row.result_sha256 in seen:
            reason = "the image repeats another one of the same subject; nothing to do"
        if reason:
            for suffix in (".nii.gz", ".json"):
                (out / f"{row.volume}{suffix}").unlink(missing_ok=True)
            row = _refused(row, reason)
        elif row.status == "ok":
            seen.add(row.result_sha256)
        names[row.volume] += 1
        kept.append(row if names[row.volume] < 2 else replace(row, volume=f"{row.volume}_{names[row.volume]}"))
    return kept
