"""JPEG and JPEG-LS streams that GDCM can be given: damaged ones can end the process, beyond Python's reach.

References: ITU-T T.81 (1992), annex B (markers), H.1.2.2 (lossless categories); ITU-T T.87 (1998), annex C (JPEG-LS).
"""

import re
import struct
from dataclasses import dataclass, field
from typing import Final

import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSTransferSyntaxes

from medwvae.errors import Refusal

_SOI, _EOI, _SOS, _DHT, _DQT, _DRI, _DNL, _LSE = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xDC, 0xF8
_BASELINE, _EXTENDED, _LOSSLESS, _LS = 0xC0, 0xC1, 0xC3, 0xF7  # SOF0, SOF1, SOF3, SOF55
_ALLOWED: Final = (
    dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit), (_BASELINE, _EXTENDED))
    | dict.fromkeys((JPEGLossless, JPEGLosslessSV1), (_LOSSLESS,))
    | dict.fromkeys(JPEGLSTransferSyntaxes, (_LS,))
)
SYNTAXES: Final = frozenset(_ALLOWED)
"""Transfer syntaxes whose frames `check` looks at."""

# What ends coded data: a marker that is no restart; JPEG-LS stuffs a bit after 0xFF, the others a zero byte.
_NEXT: Final = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_NEXT_LS: Final = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")
_MOST_CODES: Final = 256
_MOST_CATEGORIES: Final = 17  # of a lossless difference, 0 to 16 (H.1.2.2); of a DC coefficient there are 12 or 16
_DC, _AC = 0, 1


def check(dataset: pydicom.Dataset) -> None:
    """Check every frame of a JPEG or JPEG-LS data set: a whole, sane stream of the size that the header promises.

    A stream may have fewer bits than the header allocates: GDCM widens them.

    Raises
    ------
    Refusal
        If the streams are lossy JPEG of 12 bits, which nothing here decodes.
    ValueError
        If a frame is no stream of its transfer syntax, damaged where GDCM would not notice, of another size, depth or
        number of components, or if GDCM cannot take the data set's depth.
    """
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16) or not 0 < stored <= allocated or (allocated == 8 and stored != 8):
        raise ValueError("a depth that cannot be decoded")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and stored != 8:
        raise Refusal("the pixels are compressed as lossy JPEG of 12 bits, which cannot be read; export uncompressed")
    promised = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    processes = _ALLOWED[syntax]
    for content in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
        frame = _Reader(content, processes).read()
        if (frame.rows, frame.columns, len(frame.components)) != promised or frame.bits > allocated:
            raise ValueError("a frame has another size than the header promises")


@dataclass(frozen=True)
class _Frame:
    """A frame header (B.2.2): the table of every component by its identifier is the one of quantisation."""

    process: int
    bits: int
    rows: int
    columns: int
    components: dict[int, int]


@dataclass
class _Reader:
    """The markers of one stream, in their order."""

    content: bytes
    processes: tuple[int, ...]
    place: int = 0
    frame: _Frame | None = None
    huffman: dict[tuple[int, int], bytes] = field(default_factory=dict)
    quantisation: set[int] = field(default_factory=set)
    coded: set[int] = field(default_factory=set)

    def read(self) -> _Frame:
        """Return the frame header of a stream all of whose components are coded and whose end is there."""
        if self.content[:2] != bytes((0xFF, _SOI)):
            raise ValueError("no start of image")
        self.place = 2
        while (code := self._marker()) != _EOI:
            segment = self._segment()
            if code in self.processes:
                self._frame(code, segment)
            elif code == _DHT:
                self._huffman(segment)
            elif code == _DQT:
                self._quantisation(segment)
            elif code == _SOS:
                self._scan(segment)
            elif code == _DRI:
                _expect(len(segment) == 2, "restart interval")
            else:  # application data and comments; the presets of JPEG-LS
                _expect(code >= 0xE0 and (code != _LSE or _LS in self.processes) and code != _LS, "marker")
        if self.frame is None or self.coded != set(self.frame.components):
            raise ValueError("a component is missing")
        return self.frame

    def _marker(self) -> int:
        """Return the code of the marker that follows; any number of 0xFF may precede it (B.1.1.2)."""
        start = self.place
        while self.place < len(self.content) and self.content[self.place] == 0xFF:
            self.place += 1
        _expect(start < self.place < len(self.content), "marker or end of image")
        self.place += 1
        return self.content[self.place - 1]

    def _segment(self) -> bytes:
        _expect(self.place + 2 <= len(self.content), "segment")
        (size,) = struct.unpack_from(">H", self.content, self.place)
        segment = self.content[self.place + 2 : self.place + size]
        _expect(size >= 2 and len(segment) == size - 2, "segment")
        self.place += size
        return segment

    def _frame(self, process: int, segment: bytes) -> None:
        _expect(self.frame is None and len(segment) >= 6, "frame header")
        bits, rows, columns, count = struct.unpack_from(">BHHB", segment)
        _expect(count > 0 and len(segment) == 6 + 3 * count and rows > 0 and columns > 0, "frame header")
        depths = {_BASELINE: (8,), _EXTENDED: (8, 12)}.get(process, range(2, 17))
        _expect(bits in depths, "depth")
        components = {}
        for k in range(6, len(segment), 3):
            identity, sampling, table = segment[k : k + 3]
            _expect(identity not in components and 1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4, "component")
            _expect(table < 4, "component")
            components[identity] = table
        self.frame = _Frame(process, bits, rows, columns, components)

    def _huffman(self, segment: bytes) -> None:
        """Keep the tables: 16 counts of codes by length, and a symbol for every code (B.2.4.2, C.2)."""
        while segment:
            _expect(len(segment) >= 17, "Huffman table")
            kind, slot = divmod(segment[0], 16)
            counts = segment[1:17]
            total = sum(counts)
            _expect(kind in (_DC, _AC) and slot < 4 and 0 < total <= _MOST_CODES, "Huffman table")
            free = 1
            for count in counts:  # the codes of each length must fit beside the shorter ones
                free = 2 * free - count
                _expect(free >= 0, "Huffman table")
            symbols, segment = segment[17 : 17 + total], segment[17 + total :]
            _expect(len(symbols) == total == len(set(symbols)), "Huffman table")
            if kind == _DC:
                _expect(total <= _MOST_CATEGORIES and max(symbols) < _MOST_CATEGORIES, "Huffman table")
            self.huffman[kind, slot] = symbols

    def _quantisation(self, segment: bytes) -> None:
        """Keep the numbers of the tables: 64 steps of one byte or two, none of them zero (B.2.4.1)."""
        while segment:
            wide, slot = divmod(segment[0], 16)
            _expect(wide < 2 and slot < 4, "quantisation table")
            steps, segment = segment[1 : 65 + 64 * wide], segment[65 + 64 * wide :]
            _expect(len(steps) == 64 * (1 + wide), "quantisation table")
            _expect(all(struct.unpack(f">64{'H' if wide else 'B'}", steps)), "quantisation table")
            self.quantisation.add(slot)

    def _scan(self, segment: bytes) -> None:
        """Check that a scan refers to what is there (B.2.3, C.2.3 of T.87), and go to the marker behind its data."""
        frame = self.frame
        if frame is None or not segment or len(segment) != 4 + 2 * segment[0] or not 1 <= segment[0] <= 4:
            raise ValueError("damaged scan header")
        first, last, approximation = segment[-3:]
        high, low = divmod(approximation, 16)
        for k in range(1, len(segment) - 3, 2):
            identity, (dc, ac) = segment[k], divmod(segment[k + 1], 16)
            _expect(identity in frame.components and identity not in self.coded, "scan header")
            self.coded.add(identity)
            if frame.process == _LS:
                continue
            _expect((_DC, dc) in self.huffman, "scan header")
            if frame.process != _LOSSLESS:
                _expect((_AC, ac) in self.huffman and frame.components[identity] in self.quantisation, "scan header")
        if frame.process == _LS:  # NEAR, interleaving, no mapping table
            _expect(first < 1 << (frame.bits - 1) and last <= 2 and low < frame.bits and high == 0, "scan header")
            _expect(not any(segment[2:-3:2]), "scan header")
        elif frame.process == _LOSSLESS:  # predictor, point transform
            _expect(1 <= first <= 7 and last == 0 and high == 0 and low < frame.bits, "scan header")
        else:  # sequential: all coefficients at once
            _expect((first, last, approximation) == (0, 63, 0), "scan header")
        found = (_NEXT_LS if frame.process == _LS else _NEXT).search(self.content, self.place)
        _expect(found is not None, "coded data, or no end of image")
        self.place = found.start() if found else self.place


def _expect(fine: bool, what: str) -> None:
    if not fine:
        raise ValueError(f"damaged {what}")
