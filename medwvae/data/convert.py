"""Images to canonical volumes in a state that survives an interruption: one record an image, one image a worker."""

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from medwvae import provenance
from medwvae.data import dicom, nifti, records
from medwvae.data.records import Part, Record
from medwvae.data.sources import Image
from medwvae.errors import InputError, Refusal
from medwvae.files import sha256_of
from medwvae.geometry import spacing_of, to_ras

_NO_WORKERS: Final = "the worker processes of ingest end before they read anything; check memory and system limits"


@dataclass(frozen=True)
class _Job:
    """What one worker needs to turn an image into a record and its volumes in the state."""

    image: Image
    key: str
    state: Path


def convert(
    images: list[Image], state: Path, secret: bytes, *, workers: int, advance: Callable[[int, int], None]
) -> list[Record]:
    """Return the record of every image, in their order; what a former run has finished is not read again.

    Parameters
    ----------
    images
        From `sources.find`.
    state
        Folder of records and volumes; what belongs to none of the images is deleted from it.
    secret
        Key of the hash that names the records; empty where names are no secret.
    workers
        Number of processes; each holds one image's volume, as it is read and as it is turned.
    advance
        Called with (images done, images in all).


    Raises
    ------
    InputError
        If worker processes cannot be started.
    """
    code = [provenance.stage_code("ingest"), *provenance.versions("nibabel", "pydicom").values()]
    jobs = [_Job(image, _key(image, code, secret), state) for image in images]
    records.tidy(state, {job.key for job in jobs})
    found = [records.load(state, job.key) for job in jobs]
    missing = [n for n, record in enumerate(found) if record is None]
    finished = len(jobs) - len(missing)
    if finished:
        advance(finished, len(jobs))
    for n, record in _run({n: jobs[n] for n in missing}, workers):
        found[n] = record
        finished += 1
        advance(finished, len(jobs))
    return [record for record in found if record is not None]


def _key(image: Image, code: list[str], secret: bytes) -> str:
    affine = None if image.stack is None else image.stack.affine.tolist()
    depends = [code, image.refusal, image.part, image.options, affine]
    try:
        return records.key_of(image.files, depends, secret)
    except OSError:  # a link to nowhere, for example; the worker says so
        return records.key_of((), [[str(path) for path in image.files], depends], secret)


def _run(jobs: dict[int, _Job], workers: int) -> Iterator[tuple[int, Record]]:
    """Yield the record of every job as it is done; what ends a process is read in one of its own, at last."""
    suspects = {n: job for n, job in jobs.items() if records.was_begun(job.state, job.key)}
    others = {n: job for n, job in jobs.items() if n not in suspects}
    if workers <= 1 or len(others) < 2:
        here = {n: job for n, job in others.items() if not (job.image.stack and job.image.stack.is_fragile)}
        for n, job in here.items():
            yield n, _convert(job)
        others = {n: job for n, job in others.items() if n not in here}
    while others:
        try:
            for n, record in _in_pool(others, workers):
                del others[n]
                yield n, record
        except BrokenProcessPool:
            lost = {n: job for n, job in others.items() if records.was_begun(job.state, job.key)}
            if not lost:
                raise InputError(_NO_WORKERS) from None
            suspects |= lost
            others = {n: job for n, job in others.items() if n not in lost}
    for n, job in suspects.items():
        try:
            yield from _in_pool({n: job}, 1)
        except BrokenProcessPool:
            if not records.was_begun(job.state, job.key):
                raise InputError(_NO_WORKERS) from None
            reason = "reading the image ended the process: the file is damaged, or memory ran out; export it again"
            yield n, Record("", (Part(reason=reason, number=job.image.part),))


def _in_pool(jobs: dict[int, _Job], workers: int) -> Iterator[tuple[int, Record]]:
    context = multiprocessing.get_context("spawn")
    size = max(1, min(workers, len(jobs)))
    # An interruption is the parent's to answer: workers end with the image that they are reading.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(size, mp_context=context, initializer=signal.signal, initargs=ignore) as pool:
        try:
            futures = {pool.submit(_convert, job): n for n, job in jobs.items()}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # an interruption must not wait for the thousand images that are queued
            pool.shutdown(cancel_futures=True)
            raise


def _convert(job: _Job) -> Record:
    """Read, turn to RAS+ and write one image; whatever is wrong with it becomes a reason. The record comes last.

    A decoder of damaged pixels can end the process: a mark says which image was being read.
    """
    with records.begun(job.state, job.key):
        return _read(job)


def _read(job: _Job) -> Record:
    digests: list[str] = []
    try:
        if job.image.refusal:
            with suppress(OSError):  # of what cannot be opened the refusal says so
                digests += map(sha256_of, job.image.files)
            raise Refusal(job.image.refusal)
        parts = tuple(_parts(job, digests))
    except Refusal as refusal:
        parts = (Part(reason=str(refusal), number=job.image.part),)
        if not digests:
            with suppress(OSError):
                digests += map(sha256_of, job.image.files)
    except InputError:  # nothing can be written: that is no fault of the image
        raise
    except Exception as error:  # one bad image never stops the others; not recorded: the next run tries again
        reason = f"the image cannot be read ({type(error).__name__}); check permissions, disk and memory"
        return Record(_together(digests), (Part(reason=reason, number=job.image.part),))
    if not any(part.file for part in parts):
        for path in job.state.glob(f"{job.key}-*"):  # a damaged file was found out after its first volumes
            path.unlink()
    record = Record(_together(digests), parts)
    records.save(job.state, job.key, record)
    return record


def _together(digests: list[str]) -> str:
    """Return the digest of an image from those of its files, whatever their order."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest() if digests else ""


def _parts(job: _Job, digests: list[str]) -> Iterator[Part]:
    """Write the volumes of an image and yield what became of each; one is in memory at a time."""
    for k, (number, volume, affine) in enumerate(_volumes(job.image, digests), start=1):
        try:
            checked = volume if job.image.stack is not None else nifti.repaired(volume)
            canonical, turned = to_ras(checked, affine)
        except Refusal as refusal:
            yield Part(reason=str(refusal), number=number)
            continue
        path = job.state / f"{job.key}-{k}.nii.gz"
        compact = nifti.compact(np.asarray(canonical, dtype=np.float32))
        with records.writing():
            nifti.write(path, compact, turned)
        yield Part(
            number=number,
            shape="x".join(str(n) for n in canonical.shape),
            spacing="x".join(f"{mm:.3f}" for mm in spacing_of(turned)),
            **records.stamped(path),
            result_sha256=sha256_of(path),
            voxels_sha256=hashlib.sha256(np.asfortranarray(compact).T.data).hexdigest(),
        )


def _volumes(image: Image, digests: list[str]) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float64]]]:
    """Yield the volumes of an image, with their number among several ("3/20"); collect its files' digests."""
    if image.stack is not None:
        loaded = dicom.load(image.stack)
        digests += loaded.digests
        yield image.part, loaded.voxels, loaded.affine
        return
    digests += map(sha256_of, image.files)
    file = nifti.inspect(image.files[0])
    for k, volume in enumerate(file.volumes(), start=1):
        yield (f"{k}/{file.count}" if file.count > 1 else ""), volume, file.affine
