"""Identifiers that tests plant in sources, and the search for them in every byte that is written."""

import gzip
import io
import zipfile
import zlib
from itertools import permutations

NAME, NUMBER, ACCESSION = "Zwiebelfisch^Ottokar", "KH-774411", "ACC99817"
BIRTH, STUDY = "19830417", "20190807"
ADDRESS, PHYSICIAN, HOSPITAL = "Fasanenweg 77", "Quastenflosser^Ute", "Klinik Wolkenkuckuck"
UMLAUT = "Grünkohl"
UID = "1.2.826.0.1.774411.42"

WORDS = ["Zwiebelfisch", "Ottokar", NUMBER, "774411", ACCESSION, ADDRESS, "Fasanenweg", "Quastenflosser"]
WORDS += ["Wolkenkuckuck", UMLAUT, UID]


def spellings(date):
    """Return the usual ways to write a date."""
    year, month, day = date[:4], date[4:6], date[6:]
    orders = [order for order in permutations((year, month, day)) if order[1] != year]
    return {mark.join(order) for mark in ("", "-", ".", "/", " ") for order in orders}


def needles(dates=(BIRTH, STUDY)):
    """Return the bytes to look for, lower case: every word and date in several encodings."""
    texts = {*WORDS, *(text for date in dates for text in spellings(date))}
    codecs = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le")
    return {text.casefold().encode(codec): text for text in texts for codec in codecs}


def contents(data):
    """Yield bytes and whatever is compressed in them."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from contents(gzip.decompress(data))
    elif data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from contents(archive.read(name))
    elif data[128:132] == b"DICM" and b"1.2.840.10008.1.2.1.99" in data[:400]:
        # Deflated: behind the meta group, whose length is its first element.
        start = 144 + int.from_bytes(data[140:144], "little")
        yield zlib.decompress(data[start:], -zlib.MAX_WBITS)


def leaks(*places, skip=(), dates=(BIRTH, STUDY)):
    """Return what is found of the planted identifiers: in texts, and in the names and bytes of all files of folders."""
    wanted = needles(dates)
    found: list[str] = []

    def look(where, data):
        lower = data.lower()
        found.extend(f"{text!r} in {where}" for needle, text in wanted.items() if needle in lower)

    for place in places:
        if isinstance(place, str):
            look("text", place.casefold().encode())
            continue
        files = sorted(path for path in place.rglob("*") if not any(path.is_relative_to(s) for s in skip))
        for path in files:
            look("name", str(path.relative_to(place)).casefold().encode())
            if path.is_file():
                for data in contents(path.read_bytes()):
                    look(path.relative_to(place), data)
    return found
