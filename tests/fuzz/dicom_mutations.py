"""Damage to a DICOM file, element by element: the bytes are put together here, since pydicom would refuse to."""

import struct
from dataclasses import dataclass, replace

from pydicom.uid import UID_dictionary

from tests.fuzz.common import ANY_FILE, Mutation, Rng, flip, pick

UNDEFINED = 0xFFFFFFFF
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}
_VRS = [*sorted(_LONG), b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"]
_VRS += [b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"??", b"\0\0", b"xx"]
_UIDS = sorted(uid.encode() for uid, entry in UID_dictionary.items() if entry[1] in ("Transfer Syntax", "SOP Class"))
_SYNTAXES = sorted(uid.encode() for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
_NUMBERS: tuple[bytes, ...] = (
    b"",
    b"0",
    b"-1",
    b"1",
    b"2",
    b"nan",
    b"inf",
    b"-inf",
    b"1e308",
    b"-1e308",
    b"1e-320",
    b"1e999",
    b"0.0001",
)
_NUMBERS += (
    b"99999999999999999999",
    b"-2147483649",
    b"65536",
    b"4",
    b"1,5",
    b"0x10",
    b"abc",
    b"\xff\xfe",
    b"1 2",
    b"+",
)
_WORDS: tuple[bytes, ...] = (
    b"",
    b" ",
    b"MR",
    b"CT",
    b"OT",
    b"US",
    b"MONOCHROME1",
    b"MONOCHROME2",
    b"RGB",
    b"PALETTE COLOR",
    b"MOSAIC",
)
_WORDS += (
    b"LOCALIZER",
    b"PHASE",
    b"P",
    b"YES",
    b"NO",
    b"HU",
    b"01",
    b"045Y",
    b"000Y",
    b"-10Y",
    b"99991332",
    b"20200131",
)
_WORDS += (b"../../../tmp/x", b"a\nb", b"\0" * 8, b"\x1b$B\x1b(J", b"\xff" * 8, b"\\" * 40, b"^" * 9, b"=HYPERLINK(1)")
_WORDS += (b"ISO_IR 192", b"ISO 2022 IR 87", b"ISO_IR 999", b"A" * 5000, b"COLOR", b"DERIVED\\SECONDARY", b"XA\\YB")
_INTEGERS = (0, 1, 2, 3, 4, 7, 8, 9, 12, 15, 16, 17, 32, 64, 255, 256, 1000, 4096, 32767, 32768, 65534, 65535)
_FLOATS = (0.0, -1.0, 3e38, -3e38, 1e-40, float("nan"), float("inf"), float("-inf"), 90.0, 0.001)
_EXTRA = (  # what the seeds do not hold but readers look for
    *((0x0028, 0x0008, b"IS"), (0x0020, 0x0100, b"IS"), (0x0018, 0x0086, b"IS"), (0x0018, 0x9087, b"FD")),
    *((0x0018, 0x1060, b"DS"), (0x0018, 0x1120, b"DS"), (0x0028, 0x0301, b"CS"), (0x0028, 0x0120, b"US")),
    *((0x0028, 0x0121, b"US"), (0x0028, 0x2110, b"CS"), (0x0028, 0x3000, b"SQ"), (0x5200, 0x9229, b"SQ")),
    *((0x5200, 0x9230, b"SQ"), (0x7FE0, 0x0008, b"OF"), (0x7FE0, 0x0009, b"OD"), (0x0008, 0x0005, b"CS")),
    *((0x0018, 0x0081, b"DS"), (0x0018, 0x0082, b"DS"), (0x0028, 0x1054, b"LO"), (0x0020, 0x0012, b"IS")),
    *((0x0028, 0x1052, b"DS"), (0x0028, 0x1053, b"DS"), (0x0028, 0x0106, b"SS"), (0x0028, 0x1101, b"US")),
    *((0x0004, 0x1220, b"SQ"), (0x0018, 0x0088, b"DS"), (0x0020, 0x0011, b"IS"), (0x0029, 0x1010, b"OB")),
    *((0x0019, 0x100A, b"US"), (0x0019, 0x100C, b"IS"), (0x0043, 0x1039, b"IS"), (0x2001, 0x1003, b"FL")),
)


@dataclass(frozen=True)
class Element:
    """One element in Explicit VR Little Endian; `length` is a lie where it is given."""

    group: int
    element: int
    vr: bytes
    value: bytes
    length: int | None = None

    def encoded(self) -> bytes:
        """Return tag, VR, length and value."""
        length = len(self.value) if self.length is None else self.length
        head = struct.pack("<2H", self.group, self.element) + self.vr
        if self.vr in _LONG:
            return head + struct.pack("<HI", 0, length & UNDEFINED) + self.value
        return head + struct.pack("<H", length & 0xFFFF) + self.value


def split(data: bytes) -> list[Element]:
    """Return the elements after the preamble; an undefined length takes the rest of the file with it.

    Raises ValueError where the file is not in Explicit VR Little Endian (or no longer).
    """
    at, elements = 132, []
    while at + 8 <= len(data):
        group, element, vr, length = struct.unpack_from("<2H2sH", data, at)
        at += 8
        if vr not in _VRS:
            raise ValueError("no explicit VR")
        if vr in _LONG:
            (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (0,)
            at += 4
        lie = length if length == UNDEFINED else None
        value = data[at:] if lie else data[at : at + length]
        elements.append(Element(group, element, vr, value, lie))
        at += len(value) if lie else length
    return elements


def join(data: bytes, elements: list[Element]) -> bytes:
    """Return the file with these elements behind its preamble."""
    return data[:132] + b"".join(element.encoded() for element in elements)


def hostile(rng: Rng, element: Element) -> bytes:
    """Return a value of the element's own kind that it should not have."""
    vr, value = element.vr, element.value
    if vr in (b"DS", b"IS") or (vr in (b"LO", b"SH") and rng.random() < 0.3):
        parts = value.split(b"\\")
        if rng.random() < 0.3:
            parts = [pick(rng, _NUMBERS) for _ in range(int(rng.integers(0, 9)))]
        else:
            parts[int(rng.integers(len(parts)))] = pick(rng, _NUMBERS)
        return b"\\".join(parts)
    if vr in (b"US", b"SS", b"AT"):
        return b"".join(struct.pack("<H", pick(rng, _INTEGERS)) for _ in range(max(len(value) // 2, 1)))
    if vr in (b"UL", b"SL"):
        return struct.pack("<I", pick(rng, (0, 1, 2**31, UNDEFINED, 65536)))
    if vr in (b"FD", b"FL"):
        x = pick(rng, _FLOATS)
        return struct.pack("<d", x) if vr == b"FD" else struct.pack("<f", x)
    if vr == b"UI":
        values: tuple[bytes, ...] = (
            pick(rng, _UIDS),
            b"",
            b"1..2",
            b"abc",
            b"1." * 200,
            b"1.2\0\0",
            bytes(rng.bytes(6)),
        )
        return pick(rng, values)
    if vr in _LONG:
        half = value[: len(value) // 2]
        return pick(rng, (b"", half, value + value, rng.bytes(len(value)), b"\xff" * 9, flip(rng, value)))
    return pick(rng, _WORDS)


def nest(rng: Rng) -> bytes:
    """Return the items of a sequence that holds itself, up to a thousand times; some are never closed."""
    depth, closed = int(pick(rng, (1, 3, 30, 300, 1500))), rng.random() < 0.5
    item = struct.pack("<2HI", 0xFFFE, 0xE000, UNDEFINED)
    inner = Element(0x0040, 0xA730, b"SQ", b"", UNDEFINED).encoded()
    ends = struct.pack("<2HI", 0xFFFE, 0xE00D, 0) + struct.pack("<2HI", 0xFFFE, 0xE0DD, 0)
    return (item + inner) * depth + (ends * (depth + 1) if closed else b"")


def set_value(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    return [*elements[:k], replace(elements[k], value=hostile(rng, elements[k])), *elements[k + 1 :]]


def set_length(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    length = int(pick(rng, (0, 1, 3, 255, 65535, 0x7FFFFFFF, 0xFFFFFFFE, UNDEFINED, len(elements[k].value) + 2)))
    return [*elements[:k], replace(elements[k], length=length), *elements[k + 1 :]]


def set_vr(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    return [*elements[:k], replace(elements[k], vr=pick(rng, _VRS)), *elements[k + 1 :]]


def drop(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    return elements[:k] + elements[k + 1 :]


def repeat(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    at = int(rng.integers(len(elements) + 1))
    return [*elements[:at], elements[k], *elements[at:]]


def add(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    group, element, vr = pick(rng, _EXTRA)
    new = Element(group, element, vr, b"")
    new = replace(new, value=nest(rng) if vr == b"SQ" and rng.random() < 0.5 else hostile(rng, new))
    if rng.random() < 0.1:
        return [*elements[:k], new, *elements[k:]]
    return sorted([e for e in elements if (e.group, e.element) != (group, element)] + [new], key=_tag)


def add_nested(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    length = UNDEFINED if rng.random() < 0.7 else None
    return sorted([*elements, Element(0x0008, 0x1140, b"SQ", nest(rng), length)], key=_tag)


def set_syntax(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    uid = pick(rng, (*_SYNTAXES, b"", b"1.2.3", b"garbage"))
    syntax = Element(0x0002, 0x0010, b"UI", uid + b"\0" * (len(uid) % 2))
    return [syntax if _tag(e) == (0x0002, 0x0010) else e for e in elements]


def set_pixels(rng: Rng, elements: list[Element], k: int) -> list[Element]:
    """Damage the pixels: first bytes of a codestream, fragments, too few or too many of them."""
    pixels = elements[-1]
    value = flip(rng, pixels.value, 120) if rng.random() < 0.6 else hostile(rng, replace(pixels, vr=b"OB"))
    return [*elements[:-1], replace(pixels, value=value)]


def _tag(element: Element) -> tuple[int, int]:
    return element.group, element.element


ELEMENTS = (
    set_value,
    set_value,
    set_value,
    set_length,
    set_vr,
    drop,
    repeat,
    add,
    add,
    add_nested,
    set_syntax,
    set_pixels,
)


def strip_preamble(rng: Rng, data: bytes) -> bytes:
    """Leave the preamble, the magic or the meta information out."""
    return pick(rng, (data[128:], data[132:], b"\0" * 128 + b"DICM" + data[200:], b"\0" * 128 + b"DICM"))


def by_element(rng: Rng, data: bytes) -> bytes:
    """Damage one element; where there are none to be told apart, some bytes."""
    try:
        elements = split(data)
    except (ValueError, struct.error):
        return flip(rng, data, 700)
    if not elements:
        return flip(rng, data)
    return join(data, pick(rng, ELEMENTS)(rng, elements, int(rng.integers(len(elements)))))


MUTATIONS: tuple[Mutation, ...] = (*ANY_FILE, strip_preamble, *[by_element] * 12)
