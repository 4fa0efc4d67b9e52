"""What a de-identification has done so far, file by file, so that a run that was killed goes on where it was."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medwvae.data.deidentify import Counts
from medwvae.errors import InputError


def journal_of(key_file: Path, out: Path) -> Path:
    """Return where the journal of an output folder lies: beside the key."""
    digest = hashlib.sha256(os.fsencode(out)).hexdigest()[:12]
    return key_file.with_name(f"{key_file.stem}_done-{digest}.jsonl")


class Journal:
    """The files that are done, one JSON line each, private to the owner; the first line says under which options."""

    def __init__(self, path: Path, out: Path, stated: dict[str, str]) -> None:
        self.path, self.out = path, out
        self._done: dict[Path, tuple[list[int], Counts]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        before = json.loads(lines[0]) if lines else None
        if before != stated and out.is_dir() and any(out.iterdir()):
            raise InputError(
                "the output folder holds files of something else, or of a run with other options; choose an empty one"
            )
        if before == stated:
            self._read(lines[1:])
        else:
            self.path.unlink(missing_ok=True)
        for left in out.rglob(".*.tmp.*") if out.is_dir() else ():  # of a run that was killed
            left.unlink()
        self._handle = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8")
        if before != stated:
            self._say(stated)
        elif not path.read_bytes().endswith(b"\n"):
            self._handle.write("\n")

    def _read(self, lines: list[str]) -> None:
        for line in lines:
            try:
                entry = json.loads(line)
                counts: Counts = Counter({tuple(what): times for *what, times in entry["counts"]})
                self._done[self.out / entry["target"]] = entry["stat"], counts
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed

    def has(self, source: Path, target: Path) -> bool:
        """Whether the file was done before, has not changed since, and its result is there."""
        entry = self._done.get(target)
        return entry is not None and entry[0] == _stat(source) and target.is_file()

    def add(self, source: Path, target: Path, counts: Counts) -> None:
        """Note that a file is done."""
        stat = _stat(source)
        self._done[target] = stat, counts
        rows = [[*what, times] for what, times in sorted(counts.items())]
        self._say({"target": str(target.relative_to(self.out)), "stat": stat, "counts": rows})

    def done(self, targets: set[Path]) -> Iterator[tuple[Path, Counts]]:
        """Yield those of the targets that are done, and what was done to each."""
        yield from ((target, counts) for target, (_, counts) in self._done.items() if target in targets)

    def _say(self, entry: dict[str, Any]) -> None:
        self._handle.write(json.dumps(entry) + "\n")
        self._handle.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
