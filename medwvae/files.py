"""Writing files so that nobody ever sees half of one."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` with the same suffixes; rename it over `path` on success only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def spelled(path: Path) -> str:
    """Return a path for a table in UTF-8: as it is or, if its bytes are no UTF-8, as an absolute `file://` URI.

    Nothing is lost: `unspelled` gives the path back.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return path.absolute().as_uri()
    return str(path)


def unspelled(text: str) -> Path:
    """Undo `spelled`."""
    uri = text.startswith("file://")
    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))) if uri else text)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
