"""Progress of long work: a bar on a terminal, plain lines elsewhere, and the same lines in the rule's log."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PLAIN_SECONDS = 15.0
_log: Path | None = None
_hidden: dict[str, str] = {}


def is_main_process() -> bool:
    """Whether this is the first (or only) process of a data-parallel training; the others keep quiet.

    Under `torchrun` its rank alone says so: it need not number the nodes as SLURM does, which may have started it.
    """
    started_by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    names = ("RANK",) if started_by_torchrun else ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(int(os.environ.get(name) or 0) == 0 for name in names)


def log_to(path: Path | None) -> None:
    """Also write plain lines to this file from now on (started afresh)."""
    global _log
    if not is_main_process():
        return
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    _log = path  # only now: why there can be no log is for the terminal


def hide(path: str | Path, label: str) -> None:
    """From now on write `<label>` for this path: folders and files of the user's can be named after a patient."""
    typed, whole = str(path).rstrip("/\\"), str(Path(path).resolve())
    # A short word alone would be taken for the path wherever it stands.
    long = (text for text in (typed, whole) if len(Path(text).name) > 2 or len(Path(text).parts) > 2)
    _hidden.update(dict.fromkeys(long, f"<{label}>"))


def shown(message: str) -> str:
    """Return a message with the labels of hidden paths in their place."""
    for text, label in sorted(_hidden.items(), key=lambda item: -len(item[0])):
        message = re.sub(rf"(?<![\w.-]){re.escape(text)}(?![\w-])", label, message)
    return message


def place(path: str | os.PathLike[str]) -> str:
    """Return where a path lies, without a name that could be a patient's: a label, or a path below this folder."""
    whole = Path(*(re.sub(r"^\.(\d+\.)?tmp\.", "", part) for part in Path(path).absolute().parts))  # a temporary one
    for text, label in sorted(_hidden.items(), key=lambda item: -len(item[0])):
        hidden = Path(text).absolute()
        if whole.is_relative_to(hidden) or hidden.is_relative_to(whole):
            return label
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else ""


def say(message: str) -> None:
    """One line to standard error and to the log, without the hidden paths."""
    message = shown(message)
    if is_main_process():
        print(message, file=sys.stderr, flush=True)
        note(message)


def note(message: str) -> None:
    """One line to the log only, without the hidden paths; a disk that is full must not hide what goes wrong."""
    message = shown(message)
    if _log is not None:
        with suppress(OSError), _log.open("a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(message + "\n")


class Bar:
    """Shows the fraction done, figures, and the time left."""

    def __init__(self, title: str, rich_progress: Any = None) -> None:
        self.title, self._rich = title, rich_progress
        self._task = rich_progress.add_task(title, total=1.0, figures="") if rich_progress else None
        self._started = self._spoken = time.monotonic()
        self._first: float | None = None

    def update(self, fraction: float, **figures: float) -> None:
        """Move to `fraction` of the whole and show the figures."""
        if self._first is None:
            self._first = fraction  # work resumed from a checkpoint starts in the middle
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if value == value)
        if self._rich:
            self._rich.update(self._task, completed=fraction, figures=text)
        now = time.monotonic()
        if now - self._spoken >= _PLAIN_SECONDS or fraction >= 1:
            self._spoken = now
            gained = fraction - self._first
            left = f"  {(now - self._started) * (1 - fraction) / gained:.0f} s left" if gained > 0 else ""
            line = f"{self.title}: {100 * fraction:.0f} %  {text}{left}"
            note(line) if self._rich else say(line)


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """Yield a `Bar`; a rich one on a terminal."""
    if not (sys.stderr.isatty() and is_main_process()):
        yield Bar(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield Bar(title, progress)


@contextmanager
def counter(title: str, total: int) -> Iterator[Any]:
    """Yield a function that counts one of `total` pieces of work as done, and shows the figures that it is given."""
    done = 0
    with bar(title) as shown:
        shown.update(0.0)

        def advance(*_: Any, **figures: float) -> None:
            nonlocal done
            done += 1
            shown.update(done / max(total, 1), **figures)

        yield advance
