"""Errors that a user can act on: what is wrong, in which file, what to do about it."""


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
