"""Errors that a user can act on: what is wrong, in which file, what to do about it; and the others, without secrets."""

import re
import traceback
from pathlib import Path, PurePath

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
