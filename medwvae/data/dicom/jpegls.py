"""JPEG-LS streams that GDCM can be given: it ends the process, beyond Python's reach, on one of another size.

Reference: ITU-T T.87 (1998), annex C; its markers are those of ITU-T T.81 (1992), annex B.
"""

import struct

import pydicom
from pydicom.encaps import generate_frames

_START, _FRAME, _SCAN, _END = 0xD8, 0xF7, 0xDA, 0xD9  # SOI, SOF55, SOS, EOI
_SHORTEST = 2  # bytes of a segment: its own length


def check(dataset: pydicom.Dataset) -> None:
    """Compare every frame's own header with that of the data set.

    Raises
    ------
    ValueError
        If a frame is no JPEG-LS stream, or one of another size, depth or number of components.
    """
    promised = (
        int(dataset.BitsAllocated) // 8,
        int(dataset.Rows),
        int(dataset.Columns),
        int(dataset.SamplesPerPixel),
    )
    for frame in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
        bits, rows, columns, components = _header(frame)
        if (-(-bits // 8), rows, columns, components) != promised:
            raise ValueError("a frame has another size than the header promises")


def _header(frame: bytes) -> tuple[int, int, int, int]:
    """Return bits, rows, columns and components of a stream (T.81 B.2.2), whose scan and end are there."""
    if frame[:2] != bytes((0xFF, _START)):
        raise ValueError("no start of image")
    found = None
    place = 2
    while place + 4 <= len(frame):
        mark, code, size = struct.unpack_from(">BBH", frame, place)
        if mark != 0xFF or size < _SHORTEST:
            raise ValueError("damaged segment")
        if code == _FRAME:
            found = struct.unpack_from(">BHHB", frame, place + 4)
        if code == _SCAN:
            break
        place += 2 + size
    if found is None or bytes((0xFF, _END)) not in frame[-4:]:
        raise ValueError("no frame header or no end of image")
    bits, rows, columns, components = found
    return bits, rows, columns, components
