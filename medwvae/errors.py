"""Errors that a user can act on: what is wrong, in which file, what to do about it; and the others, without secrets."""

import errno
import re
import traceback
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Final

_PACKAGE = Path(__file__).parent.parent


class MedwvaeError(Exception):
    """Base of every error that the command line prints as one line, without a traceback (exit code 2)."""


class ConfigError(MedwvaeError):
    """The configuration cannot be used."""


class InputError(MedwvaeError):
    """A file or folder of the user's cannot be used; the message says which and why."""


class Refusal(MedwvaeError):  # noqa: N818 -- a verdict on an image, not an error of the program
    """One image (series or file) that cannot be trusted. Listed in the manifest; never stops the others."""


class TrainingError(MedwvaeError):
    """Training cannot go on (for example a loss that is not finite)."""


_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_STORAGE: Final = {
    **dict.fromkeys(_FULL, "there is no space left on the disk; free some, or choose a folder on another disk"),
    errno.EROFS: "the file system is read-only; choose another folder",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "not permitted; change the permissions, or choose another folder"),
    errno.ENOENT: "there is no such file or folder, and none can be made; check the name, or choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EISDIR: "it is a folder, not a file; choose another name",
    errno.EEXIST: "something of that name is there already; choose another name, or move it away",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open; use fewer threads, or raise the limit"),
    **dict.fromkeys((errno.EIO, errno.ENODEV, errno.ENXIO), "the disk fails or is gone; check it, and its connection"),
    **dict.fromkeys((errno.ESTALE, errno.ETIMEDOUT), "the network disk does not answer; connect it again"),
}


def storage_words(error: BaseException) -> str:
    """Return what a disk, a folder or its permissions have refused and what to do about it, or nothing.

    Libraries wrap what the operating system says into errors of their own, so the causes are looked at, too; of those,
    only that nothing could be written counts.
    """
    found = os_error(error)
    return _STORAGE[found.errno or 0] if found else ""


def not_written(what: str, error: OSError) -> InputError:
    """Return the error to raise where something cannot be written: what refused, and what to do about it."""
    return InputError(f"{what} cannot be written: {storage_words(error) or error.strerror or type(error).__name__}")


def os_error(error: BaseException) -> OSError | None:
    """Return the error of the operating system that `storage_words` has words for, or None."""
    own, seen = error, set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        wanted: Collection[int] = _STORAGE if isinstance(own, OSError) else (*_FULL, errno.EROFS)
        if isinstance(error, OSError) and error.errno in wanted:
            return error
        following = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if following is None:
            return None
        error = following
    return None


def nameless_traceback(error: BaseException) -> str:
    """Return types and places in the code of an error and of what caused it, without any text of theirs.

    The texts of exceptions quote paths and values, and these can name a patient.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [nameless_traceback(cause), ""] if cause is not None else []
    if remote := getattr(error, "tb", None):  # concurrent.futures carries a worker's traceback as text
        places = re.findall(r'^ *File "(.*)", line (\d+), in (\S+)', str(remote), re.MULTILINE)
    else:
        places = [(f.filename, str(f.lineno), f.name) for f in traceback.extract_tb(error.__traceback__)]
    lines += [f"  {_code_place(file)}, line {line}, in {function}" for file, line, function in places]
    return "\n".join([*lines, f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")])


def _code_place(file: str) -> str:
    path = PurePath(file)
    if path.is_relative_to(_PACKAGE / "medwvae"):
        return path.relative_to(_PACKAGE).as_posix()
    parts = path.parts
    return "/".join(parts[parts.index("site-packages") + 1 :]) if "site-packages" in parts else path.name
