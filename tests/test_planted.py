"""The search for planted identifiers finds them however they are written, or the tests that use it show nothing."""

import base64
import gzip
import io
import json
import zipfile
from urllib.parse import quote

import pytest
from PIL import Image, PngImagePlugin

from tests import planted


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", gzip.compress(data, mtime=0))
    return buffer.getvalue()


def picture(text):
    buffer, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Comment", text, zip=True)
    Image.new("L", (4, 4)).save(buffer, "PNG", pnginfo=info)
    return b"<img src='data:image/png;base64," + base64.b64encode(buffer.getvalue()) + b"'>"


@pytest.mark.parametrize(
    "data",
    [
        planted.NAME.upper().encode(),
        planted.NAME.encode("utf-16"),
        *(base64.b64encode(b"x" * n + planted.ADDRESS.encode() + b"yz") for n in range(4)),
        *(base64.urlsafe_b64encode(b"\xff" * n + planted.UMLAUT.encode()) for n in range(4)),
        quote(planted.UMLAUT).encode(),
        quote(planted.ADDRESS).encode(),
        json.dumps(planted.UMLAUT).encode(),
        planted.UMLAUT.encode("ascii", "xmlcharrefreplace"),
        b"17/04/1983",
        gzip.compress(b"x" + planted.BIRTH.encode(), mtime=0),
        zipped(planted.NUMBER.encode()),
        picture(planted.NAME),
    ],
    ids=lambda data: f"{len(data)} bytes",  # archives hold the time: every process would name them otherwise
)
@pytest.mark.parametrize("suffix", ["bin", "html"])
def test_it_is_found(tmp_path, data, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(b"some words " + data + b" and more" if data[:2] != b"PK" else data)
    if data[:2] == b"\x1f\x8b":
        (tmp_path / f"a.{suffix}").write_bytes(data)
    assert planted.leaks(tmp_path)


def test_names_are_read_too_and_numbers_of_tables_are_not_dates(tmp_path):
    (tmp_path / "a.csv").write_text("0.19830417,5.3774411,1.774411\n")
    assert planted.leaks(tmp_path) == []
    (tmp_path / "b.csv").write_text("x,774411,y\n")
    assert planted.leaks(tmp_path) == ["'774411' in b.csv"]
    (tmp_path / "b.csv").rename(tmp_path / base64.b64encode(planted.NAME.encode()).decode())
    assert any("(base64) in name" in leak for leak in planted.leaks(tmp_path))
