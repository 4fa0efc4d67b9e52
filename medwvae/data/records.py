"""What ingestion has finished, one record an image: an interrupted run goes on where it stopped.

The records and the volumes lie in a private state, named by a keyed hash: no name, no path, no date of the source.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medwvae.errors import InputError, not_written
from medwvae.files import atomic


@dataclass(frozen=True)
class Part:
    """One volume of an image, or the reason why it is none.

    `number` is its place among several ("3/20"), `file` its name in the state; `size` and `mtime_ns` tell whether
    that file is still the one that was written.
    """

    reason: str = ""
    number: str = ""
    shape: str = ""
    spacing: str = ""
    file: str = ""
    size: int = 0
    mtime_ns: int = 0
    result_sha256: str = ""
    voxels_sha256: str = ""


@dataclass(frozen=True)
class Record:
    """What became of one image; `source_sha256` is the digest of its files' digests."""

    source_sha256: str
    parts: tuple[Part, ...]


def key_of(files: Iterable[Path], depends: Any, secret: bytes) -> str:
    """Return the name of an image's record: it changes with the files' paths, sizes and times and with `depends`.

    Raises
    ------
    OSError
        If one of the files is gone.
    """
    facts = [(str(path.absolute()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    text = json.dumps([facts, depends], default=str)
    return hmac.new(secret, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]


def load(state: Path, key: str) -> Record | None:
    """Return a finished image's record, or None if it is not finished, or a volume of it was lost or changed."""
    try:
        content = json.loads((state / f"{key}.json").read_text(encoding="utf-8"))
        record = Record(content["source_sha256"], tuple(Part(**part) for part in content["parts"]))
        for part in record.parts:
            if part.file and _stamp(state / part.file) != (part.size, part.mtime_ns):
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record


def save(state: Path, key: str, record: Record) -> None:
    """Write a record; its volumes are there already, so whoever finds it finds them."""
    with writing(), atomic(state / f"{key}.json") as temporary:
        temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")


@contextmanager
def begun(state: Path, key: str) -> Iterator[None]:
    """Mark an image as being read; the mark stays where the process ends within."""
    mark = _mark(state, key)
    with writing():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


@contextmanager
def writing() -> Iterator[None]:
    """Turn a failure to write into an InputError: the images are not to blame, and the run is not to go on."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{not_written('the results', error)}; then start again, what is finished is kept") from error


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold the state against other runs until it is left, or the process ends.

    Raises
    ------
    InputError
        If another run holds it, or it cannot be written.
    """
    with writing():
        state.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(state.with_name(f"{state.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise InputError("another ingestion writes to the same results; wait for it, or choose others") from None
    try:
        yield
    finally:
        lock.release()


def was_begun(state: Path, key: str) -> bool:
    """Return whether a process ended while it read this image: by its fault, by a kill, or with the machine."""
    return _mark(state, key).exists()


def _mark(state: Path, key: str) -> Path:
    return state / f"{key}.begun"


def stamped(path: Path) -> dict[str, Any]:
    """Return the fields of a `Part` that identify its file."""
    size, mtime_ns = _stamp(path)
    return {"file": path.name, "size": size, "mtime_ns": mtime_ns}


def tidy(state: Path, keys: Iterable[str]) -> None:
    """Delete what belongs to none of the images: of sources that are gone, of older code, of a killed run."""
    wanted = set(keys)
    for path in state.iterdir() if state.is_dir() else ():
        if path.name.split(".")[0].split("-")[0] not in wanted:
            path.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
