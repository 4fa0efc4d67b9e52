"""One mutant through the reader: it must come out as an image, or as the project's own refusal, and nothing else."""

import gzip
import logging
import os
import resource
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medwvae.data import dicom, nifti
from medwvae.data.ingest import ingest
from medwvae.errors import InputError, Refusal
from medwvae.files import sha256_of
from medwvae.geometry import is_singular
from tests.fuzz.mutants import SOUND_SHAPE, Mutant
from tests.fuzz.seeds import SECRET

SECONDS = 2.0
"""Of processor time, per mutant: the wall clock of a busy machine proves nothing."""
MEMORY = 1 << 30
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Fault(Exception):  # noqa: N818
    """What the reader must never do; the first word says which kind of fault it is."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `verdict` is ok, refused, or the kind of fault; seconds of processor, bytes at peak."""

    index: int
    kind: str
    name: str
    verdict: str
    detail: str
    seconds: float
    memory: int

    @property
    def good(self) -> bool:
        return self.verdict in ("ok", "refused")


def read_dicom(files: list[Path]) -> None:
    """Read a series the way that ingest does: the one place that knows the reader's functions."""
    found, unreadable = dicom.scan([path for path in files if dicom.is_dicom(path)])
    refusals = [Refusal("the header is damaged")] if unreadable or not found else []
    for one in found:
        try:
            for part in dicom.split(one):
                volume = dicom.load(dicom.check(part))
                _expect_image(volume.voxels, volume.affine)
        except Refusal as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]


def read_nifti(files: list[Path]) -> None:
    _expect_image(*nifti.read(min(files)))


def read_folder(source: Path) -> None:
    """Ingest a folder of mutants with one sound series between them, which must come through."""
    out, private = source.parent / "out" / "volumes", source.parent / "private"
    rows = ingest(source, out, key_file=private / "subjects.key")
    good = [row for row in rows if row.status == "ok"]
    if SOUND_SHAPE not in {row.shape for row in good}:
        raise Fault("stopped: the sound series between the mutants was not converted")
    expected = {row.file.removesuffix(".nii.gz") + suffix for row in good for suffix in (".nii.gz", ".json")}
    written = {path.relative_to(out.parent).as_posix() for path in out.glob("sub-*/**/*") if path.is_file()}
    if written != expected:
        raise Fault(f"litter: files that no row names or rows without files: {sorted(written ^ expected)}")
    for row in rows:
        if row.status != "ok" and (not row.reason or SECRET in row.reason):
            raise Fault(f"leak: refused without a reason, or with an identity in it: {row.reason!r}")
    for row in good:
        path = out.parent / row.file
        if sha256_of(path) != row.result_sha256:
            raise Fault("litter: a result is not the file that its row describes")
        _expect_image(*nifti.read(path))
        content = (
            gzip.decompress(path.read_bytes()) + path.with_name(path.name.replace(".nii.gz", ".json")).read_bytes()
        )
        if SECRET.encode() in content or SECRET in row.volume:
            raise Fault("leak: the planted identity lies in a result")


def _expect_image(volume: np.ndarray, affine: np.ndarray) -> None:
    if volume.ndim != 3 or volume.dtype != np.float32 or not np.isfinite(volume).all() or is_singular(affine):
        raise Fault(f"wrong: no finite float32 volume with an affine, but {volume.dtype} {volume.shape} {affine}")


def judge(mutant: Mutant, index: int, folder: Path) -> Outcome:
    """Write a mutant's files below `folder` (empty) and read them."""
    source = folder / "source"
    paths = [source / name for name in mutant.files]
    for path, data in zip(paths, mutant.files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    readers = {"dicom": partial(read_dicom, paths), "nifti": partial(read_nifti, paths)}
    reader = readers.get(mutant.kind, partial(read_folder, source))
    verdict, detail, seconds, memory = measured(reader)
    if mutant.kind != "folder" and {path for path in folder.rglob("*") if path.is_file()} != set(paths):
        verdict, detail = "litter", "reading left files behind"
    return Outcome(index, mutant.kind, mutant.name, verdict, detail, seconds, memory)


def measured(reader: Callable[[], None]) -> tuple[str, str, float, int]:
    """Run a reader; return its verdict, the words or the traceback that belong to it, seconds and bytes."""
    verdict, detail = "ok", ""
    said = _Said()
    logging.getLogger().addHandler(said)
    forget_peak()
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning could name a patient
            reader()
    except (Refusal, InputError) as refusal:
        verdict, detail = "refused", str(refusal)
        if SECRET in detail:
            verdict = "leak"
        elif _ran_out_of_memory(refusal):
            verdict, detail = "memory", traceback.format_exc()
    except Fault as fault:
        verdict, detail = str(fault).partition(":")[0], str(fault)
    except BaseException:
        verdict, detail = "raised", traceback.format_exc()
    finally:
        logging.getLogger().removeHandler(said)
    seconds, memory = time.process_time() - started, peak()
    if verdict in ("ok", "refused"):
        if seconds > SECONDS:
            verdict, detail = "slow", f"{seconds:.1f} s; {detail}"
        elif memory > MEMORY:
            verdict, detail = "memory", f"{memory / 2**20:.0f} MiB; {detail}"
        elif any(SECRET in text for text in said.texts):
            verdict, detail = "leak", f"logged: {next(text for text in said.texts if SECRET in text)[:300]}"
    return verdict, detail, seconds, memory


class _Said(logging.Handler):
    """Keeps what libraries log: a host that shows it would show the identity in it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a refusal only hides an allocation that was too large for the address space."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def forget_peak() -> None:
    if _RESET.exists():
        _RESET.write_text("5")


def peak() -> int:
    """Return the most memory since `forget_peak` (where the system has no /proc: since the start), in bytes."""
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if os.uname().sysname == "Darwin" else 10)
