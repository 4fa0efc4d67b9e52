"""What the options of subcommands say: lists of numbers; mistakes of the user's as errors to act on."""

from collections.abc import Iterator
from contextlib import contextmanager

from medwvae.errors import InputError


@contextmanager
def said() -> Iterator[None]:
    """Turn what the rooms below say about their arguments into an error of the user's."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Read '10,11'; raise `InputError` for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} is {text!r}; expected whole numbers with commas between") from None
