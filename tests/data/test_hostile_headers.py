"""Damage that a campaign of mutants (tests/fuzz) once got through to the reader, or through it."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless

from medwvae.data import dicom, nifti
from medwvae.errors import Refusal
from tests.data.series import image_of, write_series


def read(folder):
    series, _ = dicom.scan(sorted(folder.iterdir()))
    return [dicom.load(dicom.check(part)) for one in series for part in dicom.split(one)]


def changed(folder, change):
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)


@pytest.mark.parametrize("rows", [8, 9, 16, 400])
def test_a_jpegls_stream_of_another_size_never_reaches_the_decoder(tmp_path, rows):
    """GDCM ends the process over one, which no exception handler can stop."""
    write_series(tmp_path / "s", image_of(3, 8, 10))
    changed(tmp_path / "s", lambda d: d.compress(JPEGLSLossless, generate_instance_uid=False))
    assert len(read(tmp_path / "s")) == 1
    changed(tmp_path / "s", lambda d: setattr(d, "Rows", rows))
    if rows != 8:
        with pytest.raises(Refusal, match="cannot be decoded"):
            read(tmp_path / "s")


@pytest.mark.parametrize("keep", [3, 20, -1])
def test_a_jpegls_stream_that_was_cut_short_is_refused(tmp_path, keep):
    write_series(tmp_path / "s", image_of(3, 8, 10))

    def cut(dataset):
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = pydicom.encaps.encapsulate([frame.rstrip(b"\0")[:keep]])

    changed(tmp_path / "s", cut)
    with pytest.raises(Refusal, match="cannot be decoded"):
        read(tmp_path / "s")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", [0, 0, "1e200"]),
        ("ImageOrientationPatient", ["1e300", 0, 0, 0, 1, 0]),
        ("PixelSpacing", ["1e-30", 1]),
        ("PixelSpacing", ["1e300", 1]),
        ("PixelSpacing", [1, 5000]),
    ],
)
def test_numbers_no_scanner_writes_are_refused(tmp_path, keyword, value):
    write_series(tmp_path / "s", image_of(3, 8, 10))
    changed(tmp_path / "s", lambda d: setattr(d, keyword, value))
    with pytest.raises(Refusal):
        read(tmp_path / "s")


def test_voxels_before_the_file_are_refused(tmp_path):
    path = tmp_path / "x.hdr"
    nib.Nifti1Pair(image_of(4, 5, 6).astype(np.int16), np.diag([1.0, 1, 1, 1])).to_filename(path)
    header = bytearray(path.read_bytes())
    header[108:112] = np.float32(-(2.0**62)).tobytes()
    path.write_bytes(header)
    with pytest.raises(Refusal, match=r"header .* damaged"):
        nifti.read(path)
