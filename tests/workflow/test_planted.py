"""Nothing planted in a source is found in anything the whole pipeline writes, Snakemake's own records included."""

import csv
import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import planted
from tests.data.series import write_series
from tests.data.test_deidentify import identified
from tests.test_privacy import FAMILY, GIVEN, head, make_clinic, put_nifti
from tests.workflow.conftest import HANGS, Workflow

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

STUDY = """
run: study
preprocess: {contrasts: []}
tasks:
  enabled: [superres, denoise]
  superres: {crop: [16, 16]}
  denoise: {crop: [16, 16]}
networks:
  enabled: [wavelet_vae]
  wavelet_vae:
    superres: {widths: [8, 8]}
    denoise: {widths: [8, 8]}
classical: {enabled: [tv], tuning_subjects: 1, tuning_slices: 2}
train: {budget: 2 steps, batch: 2, validations: 1, validation_slices: 2, precision: 32-true}
"""


@dataclass(frozen=True)
class Clinic(Workflow):
    """A study of patients whose names are everywhere, also in the paths that its configuration names."""

    @property
    def source(self) -> Path:
        return self.folder / f"{FAMILY}_{planted.BIRTH}"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "study"

    @property
    def private(self) -> Path:
        return self.results / "private"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake, with the paths on the command line, as the guide shows it."""
        demographics = self.source / f"{GIVEN}.csv"
        paths = [f"input={self.source}", f"ingest__demographics={demographics}", f"split__file={self.split}"]
        return self.snakemake(*arguments, "--config", *paths)

    @property
    def split(self) -> Path:
        return self.source / f"{planted.NUMBER}.csv"

    def medwvae(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        code = "from medwvae.cli import main; main()"
        command = [sys.executable, "-c", code, "--log", "logs/by-hand.log", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=HANGS, cwd=self.folder)

    def leaks(self) -> list[str]:
        """Return what is found in the folder, but in the source, the user's own file and the private folder."""
        found: list[str] = planted.leaks(self.folder, skip=[self.source, self.private, self.folder / "study.yaml"])
        return found


def plant_bids(folder: Path) -> None:
    """Write a BIDS dataset that names a patient in its files, its participants and its sidecars."""
    session = f"ses-{planted.STUDY}"
    put_nifti(folder / f"sub-{GIVEN}" / session / "anat" / f"sub-{GIVEN}_{session}_T1w.nii.gz", 8)
    sidecar = {"PatientName": planted.NAME, "PatientBirthDate": planted.BIRTH, "EchoTime": 0.003, "RepetitionTime": 2.0}
    (folder / f"sub-{GIVEN}" / f"sub-{GIVEN}_T1w.json").write_text(json.dumps(sidecar))
    (folder / "dataset_description.json").write_text(json.dumps({"Name": planted.NAME, "BIDSVersion": "1.10.0"}))
    person = (f"sub-{GIVEN}", "36", "M", planted.NAME, planted.ADDRESS, planted.HOSPITAL)
    table = "\n".join("\t".join(row) for row in (("participant_id", "age", "sex", "name", "address", "site"), person))
    (folder / "participants.tsv").write_text(f"{table}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    """The study after ingestion by hand, a split that tests on the DICOM patients, the workflow, and an export."""
    clinic = Clinic(tmp_path_factory.mktemp("clinic"))
    make_clinic(clinic.folder)
    plant_bids(clinic.source / planted.HOSPITAL)
    third = clinic.source / f"{planted.NUMBER}z"
    write_series(third, head(11).transpose(2, 1, 0), uids=("e", "e"), edit=identified, PatientID="z")
    (clinic.folder / "study.yaml").write_text(STUDY)
    for name in ("tmp", "cache"):
        (clinic.folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(clinic.folder / "tmp"))
        patch.setenv("XDG_CACHE_HOME", str(clinic.folder / "cache"))
        by_hand = clinic.medwvae("ingest", "-c", "study.yaml", "-s", f"input={clinic.source}")
        assert by_hand.returncode == 0, by_hand.stderr
        with (clinic.results / "manifest.csv").open(newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.DictReader(handle) if row["status"] == "ok"]
        with (clinic.private / "key_sources.csv").open(newline="", encoding="utf-8") as handle:
            places = dict(list(csv.reader(handle))[1:])
        dicom = {row["subject"] for row in rows if ".nii" not in places[row["volume"]]}
        others = sorted({row["subject"] for row in rows} - dicom)
        parts = dict.fromkeys(dicom, "test") | dict.fromkeys(others, "train") | {others[0]: "val"}
        lines = "".join(f"{subject},{part}\n" for subject, part in parts.items())
        clinic.split.write_text(f"subject,part\n{lines}", encoding="utf-8")
        workflow = clinic.run()
        assert workflow.returncode == 0, workflow.stdout + workflow.stderr
        export = ("export", "-c", "results/study/config.yaml", "--task", "denoise", "--method", "wavelet_vae")
        exported = clinic.medwvae(*export, "--deidentified", "--out", "sent")
        assert exported.returncode == 0, exported.stderr
        for k, answer in enumerate((by_hand, workflow, exported)):
            (clinic.folder / f"terminal{k}").write_text(answer.stdout + answer.stderr, encoding="utf-8")
    return clinic


def test_nothing_planted_is_found(clinic: Clinic) -> None:
    assert clinic.leaks() == []
    written = [path for path in clinic.folder.rglob("*") if path.is_file() and clinic.source not in path.parents]
    for pattern in (
        *("results/study/report.html", "results/study/summary.json", "results/study/config.yaml"),
        *("results/study/logs/ingest.log", "results/study/benchmarks/ingest.tsv", "results/study/prepared/*.npz"),
        *("results/study/models/denoise/wavelet_vae/model.pt", "results/study/restored/*/*/*.nii.gz"),
        *("sent/*/restored/*.dcm", "sent/*/restored.nii.gz"),
        *("results/study/canonical/sub-*/ses-*/anat/*.json", ".snakemake/log/*.log", ".snakemake/metadata/*"),
    ):
        assert any(path.match(str(clinic.folder / pattern)) for path in written), pattern
    text = (clinic.folder / "terminal1").read_text(encoding="utf-8")
    assert "input: results/study/private/input-1" in text  # what Snakemake says instead of the path


def test_the_search_finds_things_where_they_are(clinic: Clinic) -> None:
    found = " ".join(planted.leaks(clinic.private))
    assert "Zwiebelfisch" in found
    assert planted.NUMBER in found
    modes = {stat.S_IMODE(path.stat().st_mode) for path in clinic.private.iterdir() if not path.is_symlink()}
    assert (stat.S_IMODE(clinic.private.stat().st_mode), modes) == (0o700, {0o600})
    assert str(clinic.source) in (clinic.private / "key_sources.csv").read_text(encoding="utf-8")


def test_the_links_change_nothing_of_what_runs_again(clinic: Clinic) -> None:
    answer = clinic.run("--dry-run")
    assert "Nothing to be done" in answer.stdout + answer.stderr, answer.stdout
    # The configuration beside the results is the same study.
    again = clinic.snakemake("--dry-run", configfile=clinic.results / "config.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr, again.stdout
    # Another path is another input, and planning it leaves the study alone.
    other = clinic.snakemake("--dry-run", "--config", f"input={clinic.folder / 'tmp'}")
    assert "private/input-2" in other.stdout + other.stderr
    assert (clinic.private / "input-1").readlink() == clinic.source
    # A newer source, and a changed table of the user's, are seen through the links.
    before = clinic.source.stat()
    os.utime(clinic.source)
    assert re.search("^ingest +1$", clinic.run("--dry-run").stdout, re.MULTILINE)
    os.utime(clinic.source, ns=(before.st_atime_ns, before.st_mtime_ns))
    table, times = clinic.split.read_bytes(), clinic.split.stat()
    clinic.split.write_bytes(table + b"\n")
    planned = clinic.run("--dry-run").stdout
    clinic.split.write_bytes(table)
    os.utime(clinic.split, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert re.search("^split +1$", planned, re.MULTILINE)
    assert not re.search("^ingest +1$", planned, re.MULTILINE)
    assert clinic.leaks() == []


def test_a_failure_names_nobody(clinic: Clinic) -> None:
    elsewhere = clinic.source.rename(clinic.folder / "elsewhere")
    try:
        missing = clinic.run("--forcerun", "ingest")
        by_hand = clinic.medwvae("ingest", "-c", "results/study/config.yaml")
    finally:
        elsewhere.rename(clinic.source)
    text = missing.stdout + missing.stderr
    assert missing.returncode != 0
    assert "medwvae: the path given as `input` does not exist" in text
    assert "the source folder <input> does not exist" in by_hand.stderr
    assert planted.leaks(text, by_hand.stdout, by_hand.stderr) == []
    assert clinic.leaks() == []


def test_an_identified_export_names_the_patient_in_its_dicom_only(clinic: Clinic) -> None:
    export = ("export", "-c", "results/study/config.yaml", "--task", "denoise", "--method", "wavelet_vae")
    out = clinic.folder / "to the archive"
    answer = clinic.medwvae(*export, "--out", out)
    assert answer.returncode == 0, answer.stderr
    images = list(out.glob("*/restored/*.dcm"))
    assert planted.leaks(*(image.read_bytes().decode("latin-1") for image in images[:1]))
    for image in images:
        image.unlink()
    assert planted.leaks(answer.stdout, answer.stderr, out) == []
