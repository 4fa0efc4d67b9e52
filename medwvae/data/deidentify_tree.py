"""A whole tree of DICOM files without identity: names from new UIDs, an audit, a private way back.

Nothing under the source is written. What was done file by file is kept in a journal beside the key, so that a run that
was killed goes on where it was.
"""

import csv
import hashlib
import hmac
import multiprocessing
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import pydicom

from medwvae.data.cleanable import check_cleanable
from medwvae.data.confidentiality import EDITION
from medwvae.data.deidentify import Cleaner, Counts, days_of, new_uid
from medwvae.data.deidentify_journal import Journal, journal_of
from medwvae.data.dicom import starts_as_dicom
from medwvae.data.dicom.values import read
from medwvae.data.subjects import load_key, pseudonyms, write_private_table
from medwvae.data.tree import Tree, is_file
from medwvae.errors import InputError, Refusal, not_written
from medwvae.files import atomic, sha256_of, spelled

Dates = Literal["shift", "remove"]

_DICOMDIR: Final = "1.2.840.10008.1.3.10"
_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DAMAGED: Final = "the DICOM header is damaged; export the file again"


@dataclass
class Outcome:
    """What became of a tree: numbers of files, the reasons of those refused, and what was done to the others."""

    written: int = 0
    copies: int = 0
    others: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counter)


@dataclass(frozen=True)
class _Head:
    """What a first look at a file finds: the person (empty: unreadable) and the UIDs; `index` marks a DICOMDIR."""

    person: str = ""
    uids: tuple[str, ...] = ()
    index: bool = False


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    person: str
    label: str


def deidentify(
    source: Path,
    out: Path,
    *,
    key_file: Path,
    dates: Dates = "shift",
    workers: int = 1,
    advance: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Write every image of a DICOM tree, cleaned, to `out/<pseudonym>/<study>/<series>/<instance>.dcm`.

    Parameters
    ----------
    source
        Folder of DICOM under any names; it is only read. Files that are not DICOM, and DICOMDIR, are not copied.
    out
        Empty or absent, or the folder of the same run before. Also gets `audit.csv` (what was removed or replaced, how
        often, without a value) and `refused.csv` (neutral labels and reasons).
    key_file
        Secret key of pseudonyms, UIDs and dates, made if absent; outside `out` and `source`. Beside it, readable by the
        owner only, lie the tables that lead back: `<stem>_subjects.csv`, `<stem>_dates.csv`, `<stem>_files.csv`.
    dates
        `shift` moves every date by the subject's own number of days and keeps times; `remove` follows the plain table.
    workers
        Number of processes.
    advance
        Called with (files done, files in all).

    Raises
    ------
    InputError
        If the folders lie within each other, `out` holds something else, or no file could be written.
    """
    source, out, key_file = source.resolve(), out.resolve(), key_file.resolve()
    _check_places(source, out, key_file)
    files, others, closed = _walk(source, out)
    if not files:
        unread = f", {len(closed)} files or folders that cannot be opened; check permissions" if closed else ""
        raise InputError(f"there is no DICOM file in the source folder ({others} other files{unread})")
    key = load_key(key_file)
    outcome = Outcome(others=others)
    stated = {"edition": EDITION, "dates": dates, "source": str(source), "key": _tag("check", key)}
    with _mapper(workers) as mapped, Journal(journal_of(key_file, out), out, stated) as journal:
        jobs = _plan(files, list(mapped(_head, files, 64)), source, out, key, outcome)
        outcome.refused |= {_label(path, source, key): reason for path, reason in closed.items()}
        _write_back(key_file, jobs, key, shift=dates == "shift")
        todo = [job for job in jobs if not journal.has(job.source, job.target)]
        done = len(jobs) - len(todo)
        for job, (reason, counts) in zip(todo, mapped(partial(_one, key, dates), todo, 4), strict=True):
            done += 1
            if reason:
                outcome.refused[_label(job.source, source, key)] = reason
                job.target.unlink(missing_ok=True)  # of a run before, when the file was another
            else:
                journal.add(job.source, job.target, counts)
            if advance:
                advance(done, len(jobs))
        kept = {job.target for job in jobs}
        for target, counts in journal.done(kept):
            outcome.written += 1
            outcome.counts.update(counts)
            outcome.counts["file", "", "name and folder", "replaced by new UIDs"] += target.is_file()
    back = {str(job.target.relative_to(out)): spelled(job.source) for job in jobs}
    labels = {_label(path, source, key): spelled(path) for path in (*files, *closed)}
    refused = {label: labels[label] for label in outcome.refused}
    write_private_table(key_file.with_name(f"{key_file.stem}_files.csv"), ("file", "path"), back | refused)
    _write_tables(out, outcome)
    if not outcome.written:
        reasons = "; ".join(f"{n} x {reason}" for reason, n in Counter(outcome.refused.values()).most_common())
        raise InputError(f"none of {len(files)} DICOM files could be cleaned: {reasons}")
    return outcome


def _check_places(source: Path, out: Path, key_file: Path) -> None:
    if not source.is_dir():
        wrong = "is a file; name the folder that holds it" if source.exists() else "does not exist"
        raise InputError(f"the source folder {wrong}")
    if out == source or out.is_relative_to(source) or source.is_relative_to(out):
        raise InputError("the output folder and the source folder lie within each other; choose another output folder")
    if key_file.is_relative_to(out) or key_file.is_relative_to(source):
        raise InputError("the key must lie outside the source and the output folder, or it would be given away with it")
    if out.exists() and not out.is_dir():
        raise InputError("the output is a file, not a folder; choose another name")


def _walk(source: Path, out: Path) -> tuple[list[Path], int, dict[Path, str]]:
    """Return the DICOM files, the number of others, and why files and folders cannot be opened."""
    found = Tree(source, skip=(out,))
    files, others, closed = [], 0, {}
    for folder, _, names in found.walk():
        for path in (folder / name for name in names):
            try:
                if is_file(path) and starts_as_dicom(path):
                    files.append(path)
                else:
                    others += 1
            except OSError:
                closed[path] = "the file cannot be opened; check its permissions, and that it is no link to nowhere"
    return files, others, closed | dict.fromkeys(found.closed, "a folder cannot be opened; check its permissions")


def _head(path: Path) -> _Head:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = ["PatientID", "PatientName", *_UIDS]
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
            if header.file_meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
                return _Head(index=True)
            uids = tuple(str(header.get(name) or "").strip() for name in _UIDS)
            number, name = (str(header.get(tag) or "").strip() for tag in ("PatientID", "PatientName"))
    except Exception:  # pydicom raises what the damaged bytes provoke
        return _Head()
    # Without a number and a name, all that is known to be of one person is a study.
    person = number or (f"name {name}" if name else f"study {uids[0]}")
    return _Head(person, uids)


def _plan(files: list[Path], heads: list[_Head], source: Path, out: Path, key: bytes, outcome: Outcome) -> list[_Job]:
    """Say where every file goes; refuse what cannot be read and what claims the UID of another file."""
    labels = pseudonyms({head.person for head in heads if head.person}, key)
    jobs: dict[Path, _Job] = {}
    for path, head in zip(files, heads, strict=True):
        if head.index:
            outcome.others += 1
        elif not head.person:
            outcome.refused[_label(path, source, key)] = _DAMAGED
        elif not all(head.uids):
            outcome.refused[_label(path, source, key)] = "a UID of the file is missing; export the file again"
        else:
            study, series, instance = (new_uid(uid, key) for uid in head.uids)
            target = out / labels[head.person] / study / series / f"{instance}.dcm"
            if target not in jobs:
                jobs[target] = _Job(path, target, head.person, labels[head.person])
            elif sha256_of(jobs[target].source) == sha256_of(path):
                outcome.copies += 1
            else:
                reason = "another file with other content has the same SOP instance UID; keep the right one"
                outcome.refused[_label(path, source, key)] = reason
    return list(jobs.values())


def _one(key: bytes, dates: Dates, job: _Job) -> tuple[str, Counts]:
    """Clean and write one file; return the reason if it is refused, and what was done."""
    cleaner = Cleaner(key, job.label, days_of(job.person, key) if dates == "shift" else None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = read(job.source, pixels=True)
            check_cleanable(dataset)
            cleaner.clean(dataset)
    except Refusal as refusal:
        return str(refusal), Counter()
    except Exception:
        return _DAMAGED, Counter()
    try:
        with warnings.catch_warnings(), atomic(job.target) as temporary:
            warnings.simplefilter("ignore")
            dataset.save_as(temporary, enforce_file_format=True)
    except OSError as error:
        raise not_written("the output folder", error) from None
    except Exception:
        return "the header holds values that DICOM cannot hold; export the file again", Counter()
    return "", cleaner.counts


def _write_back(key_file: Path, jobs: list[_Job], key: bytes, *, shift: bool) -> None:
    people = {job.label: job.person for job in jobs}
    write_private_table(key_file.with_name(f"{key_file.stem}_subjects.csv"), ("subject", "original"), people)
    if shift:
        days = {label: str(days_of(person, key)) for label, person in people.items()}
        write_private_table(key_file.with_name(f"{key_file.stem}_dates.csv"), ("subject", "days"), days)


def _write_tables(out: Path, outcome: Outcome) -> None:
    """Write the audit and the list of refused files, neither with a value or a name of the source."""
    audit = ((*what, count) for what, count in sorted(outcome.counts.items()))
    _write_csv(out / "audit.csv", ("where", "tag", "keyword", "done", "times"), audit)
    _write_csv(out / "refused.csv", ("file", "reason"), sorted(outcome.refused.items()))


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _label(path: Path, source: Path, key: bytes) -> str:
    """Return the neutral name of a refused file; the private table says which one it is."""
    return f"refused-{_tag(path.relative_to(source).as_posix(), key)}"


def _tag(text: str, key: bytes) -> str:
    return hmac.new(key, b"tag\0" + os.fsencode(text), hashlib.sha256).hexdigest()[:12]


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[Callable[[Any], Any], list[Any], int], Iterable[Any]]]:
    """Yield a `map(function, items, chunk)` that keeps the order, over processes where there are several."""
    if workers <= 1:
        yield lambda function, items, _: map(function, items)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield lambda function, items, chunk: pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool as error:
        raise InputError("a worker died, probably for want of memory; use fewer workers") from error
