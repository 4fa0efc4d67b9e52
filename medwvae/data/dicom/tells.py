"""What tells the volumes of one series apart, read off the header of a single-frame file."""

import pydicom

from medwvae.data.dicom.records import Tells
from medwvae.data.dicom.values import first, numbers, private, text, texts


def tells_of(dataset: pydicom.Dataset) -> Tells:
    """Return echo, time point, b-value and so on; the b-value also from where each maker hides it."""
    return Tells(
        time=first(dataset, 0x00200100),
        echo=first(dataset, 0x00180086),
        echo_time=first(dataset, 0x00180081),
        inversion_time=first(dataset, 0x00180082),
        b_value=_b_value(dataset),
        direction=_direction(dataset),
        kind=tuple(value.upper() for value in texts(dataset, 0x00080008)),
    )


def ordinals_of(dataset: pydicom.Dataset) -> tuple[float | None, float | None]:
    """Return the acquisition number and the trigger time."""
    return first(dataset, 0x00200012), first(dataset, 0x00181060)


def _b_value(dataset: pydicom.Dataset) -> float | None:
    if (value := first(dataset, 0x00189087)) is not None:
        return value
    maker = text(dataset, 0x00080070).upper()
    if maker.startswith("SIEMENS"):
        return _private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0C)
    if maker.startswith("PHILIPS"):
        return _private(dataset, 0x2001, "Philips Imaging DD 001", 0x03)
    if maker.startswith("GE"):
        value = _private(dataset, 0x0043, "GEMS_PARM_01", 0x39)
        return None if value is None else value % 1e9  # GE adds a billion to it
    return None


def _private(dataset: pydicom.Dataset, group: int, creator: str, offset: int) -> float | None:
    tag = private(dataset, group, creator, offset)
    return None if tag is None else first(dataset, tag)


def _direction(dataset: pydicom.Dataset) -> tuple[float, ...]:
    """Return the diffusion gradient to three decimals: the same direction is not always spelled the same."""
    found = numbers(dataset, 0x00189089)
    if not found and text(dataset, 0x00080070).upper().startswith("SIEMENS"):
        tag = private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0E)
        found = numbers(dataset, tag) if tag else ()
    return tuple(round(value, 3) + 0.0 for value in found)
