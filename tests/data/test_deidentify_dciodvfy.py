"""What is de-identified is as valid DICOM as it was: dciodvfy finds no error that its source does not have."""

import csv
import re
import shutil
import subprocess
import warnings
from collections import Counter

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medwvae.data import deidentify_tree
from tests.data.objects import write_enhanced, write_mosaic
from tests.data.series import image_of, write_series
from tests.data.test_deidentify import identified
from tests.data.test_export import Scan

DCIODVFY = shutil.which("dciodvfy") or ""
pytestmark = [
    pytest.mark.skipif(not DCIODVFY, reason="dciodvfy (Debian package dicom3tools) is not installed"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def errors(path):
    """Return the errors of a file, without the values that they quote."""
    answer = subprocess.run([DCIODVFY, "-new", path], capture_output=True, text=True, errors="replace", timeout=600)
    lines = (answer.stdout + answer.stderr).splitlines()
    assert lines  # it says at least which object it sees
    return Counter(re.sub(r"= (<[^/].*|'.')", "=", line) for line in lines if line.startswith("Error"))


def described(dataset):
    """Give every frame a description, which an enhanced image of a metabolite map must have."""
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        kind, item = Dataset(), Dataset()
        kind.MetaboliteMapDescription = "NAA of Jane"
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "110800", "DCM", "Spin Tagging Perfusion MR"
        kind.MetaboliteMapCodeSequence = Sequence([item])
        frame.MRMetaboliteMapSequence = Sequence([kind])


def synthesise(kind, folder):
    modality = "CT" if "CT" in kind else "MR"
    if kind == "mosaic":
        write_mosaic(folder / "a", image_of(4, 5, 6))
    elif "enhanced" in kind:
        edit = described if modality == "MR" else None
        write_enhanced(folder / "a", image_of(2, 3, 5, 6), modality=modality, edit=edit)
    elif kind == "series and map":
        Scan(folder / "scan").export()
        (folder / "scan" / "out").rename(folder / "out")
        shutil.rmtree(folder / "scan")
    else:
        edit = identified if "identified" in kind else None
        write_series(folder, image_of(2, 5, 6), modality=modality, edit=edit)


@pytest.mark.parametrize("dates", ["shift", "remove"])
@pytest.mark.parametrize(
    "kind",
    [
        *("MR", "CT", "identified MR", "identified CT"),
        *("enhanced MR", "enhanced CT", "mosaic", "series and map"),
    ],
)
def test_cleaning_makes_no_error(tmp_path, kind, dates):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        synthesise(kind, tmp_path / "in")
    out, key = tmp_path / "out", tmp_path / "private" / "key"
    outcome = deidentify_tree.deidentify(tmp_path / "in", out, key_file=key, dates=dates)
    with (key.parent / "key_files.csv").open(newline="", encoding="utf-8") as handle:
        back = {row["file"]: row["path"] for row in csv.DictReader(handle)}
    cleaned = list(out.rglob("*.dcm"))
    assert len(cleaned) == outcome.written > 0
    assert not outcome.refused
    for path in cleaned:
        assert not errors(path) - errors(back[str(path.relative_to(out))])
        if kind == "series and map":
            assert not errors(path)
