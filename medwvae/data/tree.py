"""The folders of a source: links followed once, what cannot be opened kept for the report, own results left out."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_HIDDEN: Final = "."
_DICOM_SUFFIXES: Final = (".dcm", ".dicom", ".ima")


@dataclass
class Tree:
    """The folders below `source`; `closed` are those that could not be opened, once the walk is over.

    A link to a folder is followed where it leads out of the source, or to a folder that is hidden there; one that leads
    to another folder of the source, or above it, is not, because that folder is read at its own place, or would never
    end. A folder that several links lead to is read at the first. Left out are the folders `skip`, what medwvae itself
    wrote and, without `hidden`, names that start with a dot.
    """

    source: Path
    skip: tuple[Path, ...] = ()
    hidden: bool = True
    closed: list[Path] = field(default_factory=list)

    def walk(self) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Yield every folder with its folders (which may be changed) and its files, both sorted, as `os.walk` does."""
        root = self.source.resolve()
        skip = {path.resolve() for path in self.skip}
        seen = {root}

        def read_elsewhere(real: Path) -> bool:
            if not real.is_relative_to(root):
                return root.is_relative_to(real)
            return self.hidden or not any(part.startswith(_HIDDEN) for part in real.relative_to(root).parts)

        def wanted(folder: Path) -> bool:
            if not self.hidden and folder.name.startswith(_HIDDEN):
                return False
            real = folder.resolve()
            if real in skip or real in seen or is_results(folder) or (folder.is_symlink() and read_elsewhere(real)):
                return False
            seen.add(real)
            return True

        walked = os.walk(self.source, followlinks=True, onerror=lambda error: self.closed.append(Path(error.filename)))
        for name, folders, names in walked:
            here = Path(name)
            folders[:] = sorted(folder for folder in folders if wanted(here / folder))
            yield here, folders, sorted(n for n in names if self.hidden or not n.startswith(_HIDDEN))


def is_results(folder: Path) -> bool:
    """Return whether a folder holds the results of a run of medwvae: its volumes are no images of the user's."""
    marks = ("manifest.csv", "config.yaml")
    try:
        return (folder / "state" / "ingest").is_dir() and any((folder / mark).is_file() for mark in marks)
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Return whether a path is a file that may be opened: no device, no pipe, which would wait for ever.

    Raises
    ------
    OSError
        If that cannot be said: a link to nowhere, or a closed folder.
    """
    return stat.S_ISREG(path.stat().st_mode)


def named_like(path: Path, others: set[str]) -> bool:
    """Return whether a file is named as DICOM files are, or as its neighbours (`shape` of their names) are."""
    return path.name.lower().endswith(_DICOM_SUFFIXES) or shape(path) in others


def shape(path: Path) -> str:
    """Return a file's name with every number replaced by one digit: slices of one series differ in nothing else."""
    return re.sub(r"[0-9]+", "0", path.name)
