"""Lossless JPEG streams of any precision, which no installed encoder writes (ITU-T T.81, process 14, predictor 1)."""

import struct

import numpy as np


def segment(code: int, content: bytes) -> bytes:
    """Return a marker segment (T.81 B.1.1.4)."""
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


def lossless(image: np.ndarray, precision: int, *, restart: int = 0, fill: int = 0) -> bytes:
    """Return the stream of a grey image whose values have `precision` bits.

    Every code is five bits long, 17 of them for the 17 categories of a difference (T.81 H.1.2.2). `restart` is the
    number of rows of a restart interval, `fill` how many 0xFF stand before every marker beside its own.
    """
    rows, columns = image.shape
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    parts = [
        b"\xff\xd8",
        segment(0xC3, struct.pack(">BHHB3B", precision, rows, columns, 1, 1, 0x11, 0)),
        segment(0xC4, table),
        *([segment(0xDD, struct.pack(">H", restart * columns))] if restart else []),
        segment(0xDA, bytes([1, 1, 0, 1, 0, 0])),
    ]
    head = b"".join(parts[:1]) + b"".join(b"\xff" * fill + part for part in parts[1:])
    intervals = np.split(image.astype(int), range(restart, rows, restart)) if restart else [image.astype(int)]
    scan = b"".join(
        (b"\xff" + bytes([0xD0 + (k - 1) % 8]) if k else b"") + _coded(interval, precision)
        for k, interval in enumerate(intervals)
    )
    return head + scan + b"\xff" * fill + b"\xff\xd9"


def _coded(image: np.ndarray, precision: int) -> bytes:
    """Return the entropy-coded rows: the first is predicted from 2^(P-1), every other from the one above."""
    predicted = np.empty_like(image)
    predicted[:, 1:] = image[:, :-1]
    predicted[1:, 0] = image[:-1, 0]
    predicted[0, 0] = 1 << (precision - 1)
    bits = []
    for difference in ((image - predicted + 32767) % 65536 - 32767).ravel().tolist():  # modulo 2^16
        size = abs(difference).bit_length() if difference < 32768 else 16
        value = difference if difference > 0 else difference + (1 << size) - 1
        bits.append(f"{size:05b}" + (f"{value:0{size}b}" if 0 < size < 16 else ""))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
