"""Every test file that nibabel carries becomes a volume or is refused with a reason."""

import gzip
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from medwvae.data import nifti
from medwvae.data.ingest import ingest
from medwvae.errors import InputError, Refusal

FOLDER = Path(str(files("nibabel"))) / "tests" / "data"
FILES = sorted(path for path in FOLDER.glob("*") if path.is_file())
CONVERTED = {
    "anatomical.nii": 1,
    "example4d.nii.gz": 2,
    "example_nifti2.nii.gz": 2,
    "functional.nii": 20,
    "reoriented_anat_moved.nii": 1,
    "standard.nii.gz": 1,
}
pytestmark = pytest.mark.skipif(not FILES, reason="this nibabel came without its test files")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_converts_or_is_refused_with_a_reason(path, tmp_path):
    source, out = tmp_path / "in", tmp_path / "run" / "canonical"
    source.mkdir()
    shutil.copy(path, source)
    if path.name in CONVERTED:
        rows = ingest(source, out, key_file=tmp_path / "key", pattern="(?P<subject>.)")
        assert [row.status for row in rows] == ["ok"] * CONVERTED[path.name]
    else:
        with pytest.raises(InputError, match=r"none of 1 images can be used|there is no DICOM and no NIfTI"):
            ingest(source, out, key_file=tmp_path / "key", pattern="(?P<subject>.)")
    volumes = list(out.rglob("*.nii.gz"))
    assert len(volumes) == CONVERTED.get(path.name, 0)
    for volume in volumes:
        assert len(gzip.decompress(volume.read_bytes())) > 352
        nifti.read(volume)
    assert not list(tmp_path.rglob("*.tmp.*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_reader_refuses_whatever_is_no_nifti(path):
    try:
        volumes = list(nifti.inspect(path).volumes())
    except Refusal as refusal:
        assert path.name not in CONVERTED
        assert len(str(refusal)) > 30
        assert path.stem not in str(refusal)
    else:
        assert len(volumes) == CONVERTED.get(path.name, 1)
