"""Every test file that pydicom and nibabel carry goes through ingest: an image, or a reason, and never a traceback."""

import gzip
import shutil
import socket
import time
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medwvae.data.ingest import ingest
from medwvae.errors import InputError

PYDICOM = Path(str(files("pydicom"))) / "data"
NIBABEL = Path(str(files("nibabel")))
IMAGES = sorted(path for path in PYDICOM.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
VOLUMES = sorted(
    path for path in NIBABEL.glob("**/data/*") if path.is_file() and path.suffix not in (".py", ".pyc", ".m")
)
SECONDS = 60.0
"""Of processor time, which does not count what else the machine does; together the files take five."""
CONVERTED = {"anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Let nothing be fetched: only the files on disk count."""

    def refuse(*_):
        raise AssertionError("the reader opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def name_of(path):
    return path.relative_to(PYDICOM if path.is_relative_to(PYDICOM) else NIBABEL).as_posix()


def ingested(source, folder):
    """Ingest `source` and check all that it wrote; return its rows, or none and its words."""
    before = {path: path.stat().st_size for path in source.rglob("*")}
    out, rows, words = folder / "run" / "volumes", [], ""
    started = time.process_time()
    try:
        rows = ingest(source, out, key_file=folder / "private" / "key", pattern=r"(?P<subject>\w+)")
    except InputError as error:
        words = str(error)
        assert len(words) > 30
    assert time.process_time() - started < SECONDS
    assert {path: path.stat().st_size for path in source.rglob("*")} == before
    good = [row for row in rows if row.status == "ok"]
    expected = {row.file.removesuffix(".nii.gz") + suffix for row in good for suffix in (".nii.gz", ".json")}
    assert {p.relative_to(out.parent).as_posix() for p in out.glob("sub-*/**/*") if p.is_file()} == expected
    for row in good:
        path = out.parent / row.file
        gzip.decompress(path.read_bytes())
        image = nib.load(path)
        assert np.isfinite(image.get_fdata()).all()
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert all(len(row.reason) > 20 for row in rows if row.status == "refused")
    return rows, words


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_every_file_of_pydicom(path, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(path, source)
    rows, words = ingested(source, tmp_path)
    assert rows or words  # a single slice is no volume, and most of these are single slices


@pytest.mark.skipif(not VOLUMES, reason="this nibabel was installed without its test data")
@pytest.mark.parametrize("path", VOLUMES, ids=name_of)
def test_every_file_of_nibabel(path, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(path, source)
    rows, words = ingested(source, tmp_path)
    assert rows or words
    if path.name in CONVERTED:
        assert [row.status for row in rows] == ["ok"]


@pytest.mark.skipif(not VOLUMES, reason="this nibabel was installed without its test data")
def test_all_files_together_do_not_stop_each_other(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(PYDICOM / "test_files", source / "pydicom")
    shutil.copytree(PYDICOM / "charset_files", source / "charsets")
    (source / "nibabel").mkdir()
    for path in VOLUMES:
        shutil.copy(path, source / "nibabel")
    rows, words = ingested(source, tmp_path)
    assert words == ""
    assert sum(row.status == "ok" for row in rows) >= len(CONVERTED)
    assert len({row.volume for row in rows}) == len(rows)
