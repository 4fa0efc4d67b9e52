"""Identifiers that tests plant in sources, and the search for them in every byte that is written."""

import base64
import gzip
import html
import io
import json
import re
import unicodedata
import zipfile
import zlib
from itertools import permutations
from urllib.parse import quote

from PIL import Image

NAME, NUMBER, ACCESSION = "Zwiebelfisch^Ottokar", "KH-774411", "ACC99817"
BIRTH, STUDY = "19830417", "20190807"
ADDRESS, PHYSICIAN, HOSPITAL = "Fasanenweg 77", "Quastenflosser^Ute", "Klinik Wolkenkuckuck"
UMLAUT = "Grünkohl"
UID = "1.2.826.0.1.774411.42"

WORDS = ["Zwiebelfisch", "Ottokar", NUMBER, "774411", ACCESSION, ADDRESS, "Fasanenweg", "Quastenflosser"]
WORDS += ["Wolkenkuckuck", UMLAUT, UID]
_TEXT_FILES = (".csv", ".html", ".json", ".tsv", ".yaml", ".log")  # full of long numbers of the pipeline's own


def spellings(date):
    """Return the usual ways to write a date."""
    year, month, day = date[:4], date[4:6], date[6:]
    orders = [order for order in permutations((year, month, day)) if order[1] != year]
    return {mark.join(order) for mark in ("", "-", ".", "/", " ") for order in orders}


def needles(dates=(BIRTH, STUDY)):
    """Return the bytes to look for, lower case: every word and date in several encodings and escapes."""
    texts = {*WORDS, *(text for date in dates for text in spellings(date))}
    codecs = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le")
    found = {text.casefold().encode(codec): text for text in texts for codec in codecs}
    for text in texts:
        parts = unicodedata.normalize("NFD", text)
        entities = text.encode("ascii", "xmlcharrefreplace").decode()
        for other in (quote(text), json.dumps(text)[1:-1], html.escape(text), entities, parts):
            found[other.casefold().encode()] = text
    return found


def base64_needles(dates=(BIRTH, STUDY)):
    """Return what the words and dates look like within base64, whatever stands before and behind them."""
    found = {}
    for text in {spelt for word in (*WORDS, *dates) for spelt in (word, word.upper(), word.lower())}:
        for raw in (text.encode(), text.encode("utf-16-le")):
            for before in range(3):
                bits = 8 * (before + len(raw))
                core = base64.b64encode(b"\0" * before + raw)[-(-8 * before // 6) : bits // 6]
                found[core] = found[core.translate(bytes.maketrans(b"+/", b"-_"))] = text
    return found


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
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        yield repr(Image.open(io.BytesIO(data)).info).encode()
    for embedded in re.findall(rb"base64,([A-Za-z0-9+/]+=*)", data):
        yield from contents(base64.b64decode(embedded))


def leaks(*places, skip=(), dates=(BIRTH, STUDY)):
    """Return what is found of the planted identifiers: in texts, and in the names and bytes of all files of folders.

    In a text file, digits of a longer number or behind its point are no identifier.
    """
    wanted, encoded = needles(dates), base64_needles(dates)
    found: list[str] = []

    def alone(needle, data):
        return re.search(rb"(?<![0-9])(?<![0-9][.])" + needle + rb"(?![0-9])", data)

    def look(where, data, text_file=False):
        lower = data.lower()
        for needle, text in wanted.items():
            if needle in lower and (not (text_file and needle.isdigit()) or alone(needle, lower)):
                found.append(f"{text!r} in {where}")
        found.extend(f"{text!r} (base64) in {where}" for needle, text in encoded.items() if needle in data)

    for place in places:
        if isinstance(place, str):
            look("text", place.encode())
            look("text", place.casefold().encode())
            continue
        files = sorted(path for path in place.rglob("*") if not any(path.is_relative_to(s) for s in skip))
        for path in files:
            look("name", str(path.relative_to(place)).encode())
            look("name", str(path.relative_to(place)).casefold().encode())
            if path.is_file():
                for data in contents(path.read_bytes()):
                    look(path.relative_to(place), data, path.suffix in _TEXT_FILES)
    return found
