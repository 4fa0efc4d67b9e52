"""Nothing planted in a source is found in anything that ingestion and what follows it write: results, logs, crashes."""

import gzip
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from medwvae import progress
from medwvae.data import header_words
from medwvae.errors import nameless_traceback
from tests import planted
from tests.cases import head_like
from tests.data.series import write_series
from tests.data.test_deidentify import fill, identified

RUN = "from medwvae.cli import main; main()"
FAMILY, GIVEN = planted.NAME.split("^")


def medwvae(tmp_path, *arguments, code=RUN):
    source = tmp_path / f"{FAMILY}_{planted.BIRTH}"
    settings = [f"input={source}", "run=study", f"results={tmp_path / 'results'}", "preprocess.contrasts=[]"]
    settings += ["ingest.demographics=" + str(source / f"{GIVEN}.csv")] if arguments[0] == "ingest" else []
    command = [sys.executable, "-c", code, "--log", tmp_path / "logs" / f"{arguments[0]}.log", *arguments]
    sets = [word for setting in settings for word in ("--set", setting)]
    return subprocess.run([*map(str, command), *sets], capture_output=True, text=True, timeout=600, cwd=tmp_path)


def head(seed, shape=(32, 30, 12)):
    return (head_like(shape, seed)[0] * 400).astype(np.uint16)


def put_nifti(path, seed):
    """Write a NIfTI file that names the patient wherever its header, its extensions and its gzip wrapper can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(head(seed), np.diag([-2.0, -2.0, 3.0, 1.0]))
    image.set_sform(image.affine, code=1)
    image.header["descrip"], image.header["aux_file"] = planted.NAME.encode(), planted.NUMBER.encode()
    image.header["intent_name"], image.header["db_name"] = planted.ACCESSION.encode(), planted.BIRTH.encode()
    image.header.extensions.append(Nifti1Extension("comment", f"{planted.NAME} {planted.ADDRESS}".encode()))
    raw = image.to_bytes()
    with path.open("wb") as handle, gzip.GzipFile(f"{planted.NAME}.nii", "wb", fileobj=handle, mtime=0) as packed:
        packed.write(raw)
    if path.suffix == ".nii":
        path.write_bytes(raw)


@pytest.fixture
def clinic(tmp_path):
    """Return the folder of `make_clinic`; pydicom warns of values that are no good for their type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_clinic(tmp_path)


def make_clinic(tmp_path):
    """Patients whose names are everywhere; usable series, refused ones and damaged files."""
    source = tmp_path / f"{FAMILY}_{planted.BIRTH}"

    def everything(dataset, k):
        identified(dataset, k)
        dataset.PatientID, dataset.PatientAge, dataset.PatientSex = f"{planted.NUMBER}x", "036Y", "M"
        fill(dataset)

    def volume(seed):
        return head(seed).transpose(2, 1, 0)

    named = source / planted.NAME / planted.ACCESSION
    write_series(named, volume(1), uids=("a", "a"), prefix=f"{planted.NUMBER}_", edit=identified, SliceThickness=2.0)
    write_series(source / planted.ADDRESS, volume(2), uids=("b", "b"), edit=everything)
    broken: tuple[dict[str, Any], ...] = (
        {"Modality": FAMILY},
        {"SOPClassUID": planted.UID, "Rows": 0},
        {"modality": "CT", "RescaleType": planted.NUMBER},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    for k, tags in enumerate(broken):
        write_series(source / f"{planted.NAME}{k}", volume(k), uids=("c", f"c{k}"), edit=identified, **tags)
    file = next(path for path in named.iterdir())
    (source / planted.STUDY).mkdir()
    (source / planted.STUDY / f"{FAMILY}.dcm").write_bytes(file.read_bytes()[:400] + planted.NAME.encode() * 40)
    write_series(source / "cut", volume(7), uids=("d", "d"), edit=identified)
    for path in (source / "cut").iterdir():
        path.write_bytes(path.read_bytes()[:-300])
    put_nifti(source / FAMILY / f"{FAMILY}_T1.nii.gz", 3)
    put_nifti(source / f"{planted.NUMBER}_T1.nii", 4)
    put_nifti(source / "sub-Zwiebelfisch9" / f"{planted.NAME}.nii.gz", 5)
    damaged = source / "KH-774411b" / "FLAIR.nii.gz"
    put_nifti(damaged, 6)
    damaged.write_bytes(damaged.read_bytes()[:-4000])
    people = f"MRID,Age,Sex,Site\n{FAMILY},45,F,{planted.HOSPITAL}\n{planted.NUMBER},93,M,\n"
    (source / f"{GIVEN}.csv").write_text(people, encoding="utf-8")
    return source


def test_nothing_planted_is_found_up_to_the_prepared_slices(clinic, tmp_path):
    answers = [medwvae(tmp_path, "ingest", "--threads", "2"), medwvae(tmp_path, "split")]
    answers.append(medwvae(tmp_path, "preprocess"))
    results = next((tmp_path / "results").iterdir())
    for answer in answers:
        assert answer.returncode == 0, answer.stderr
        assert planted.leaks(answer.stdout, answer.stderr) == []
    private = results / "private"
    assert planted.leaks(tmp_path / "results", tmp_path / "logs", skip=[private]) == []
    assert planted.leaks(private) != []  # the search does find things where they are
    assert len(list((results / "prepared").glob("*.npz"))) >= 4
    manifest = (results / "manifest.csv").read_text(encoding="utf-8")
    assert manifest.count(",refused,") >= 7
    for words in ("modality is of no known code", "units of no known code", "damaged", "localiser", "holds no image"):
        assert words in manifest


def test_an_error_names_no_path_of_the_source(clinic, tmp_path):
    (clinic / f"{GIVEN}.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    answer = medwvae(tmp_path, "ingest")
    assert answer.returncode == 2
    assert "<ingest.demographics>: no column names the subject" in answer.stderr
    clinic.rename(tmp_path / "elsewhere")
    answer = medwvae(tmp_path, "split"), medwvae(tmp_path, "ingest")
    assert "the source folder <input> does not exist" in answer[1].stderr
    assert planted.leaks(answer[1].stderr, (tmp_path / "logs" / "ingest.log").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_crash_names_nobody(clinic, tmp_path, threads):
    code = """
import medwvae.data.convert as convert
def boom(job):
    raise RuntimeError(f"{job.image.subject} in {job.image.files}")
def run(jobs, workers):
    try:
        boom(jobs[0])
    except RuntimeError as error:
        raise KeyError(str(jobs[0].image.files[0])) from error
convert._run = run
from medwvae.cli import main
main()
"""
    answer = medwvae(tmp_path, "ingest", "--threads", threads, code=code)
    log = (tmp_path / "logs" / "ingest.log").read_text(encoding="utf-8")
    assert answer.returncode == 1
    assert planted.leaks(answer.stdout, answer.stderr, log) == []
    assert "RuntimeError" in log
    assert "KeyError" in log
    assert "medwvae/data/ingest.py, line" in log


def _fail(text):
    raise ValueError(text)


def test_a_workers_crash_keeps_its_places_without_its_text():
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with pool, pytest.raises(ValueError, match=FAMILY) as caught:
        pool.submit(_fail, planted.NAME).result()
    text = nameless_traceback(caught.value)
    assert planted.leaks(text) == []
    assert "test_privacy.py, line" in text
    assert ", in _fail" in text
    assert "ValueError" in text


def test_a_hidden_path_is_hidden_as_a_whole_only(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_hidden", {})
    monkeypatch.chdir(tmp_path)
    progress.hide(f"data/{FAMILY}/", "input")
    for text in (f"data/{FAMILY}", f"{tmp_path}/data/{FAMILY}"):
        progress.say(f"the folder {text}/x, {text}: gone")
        assert capsys.readouterr().err == "the folder <input>/x, <input>: gone\n"
    progress.say(f"otherdata/{FAMILY} data/{FAMILY}s")
    assert capsys.readouterr().err == f"otherdata/{FAMILY} data/{FAMILY}s\n"
    progress.hide(f"/data/{FAMILY}/T1", "input")
    progress.say(f"input=/data/{FAMILY}/T1 holds T1")
    assert capsys.readouterr().err == "input=<input> holds T1\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Prisma", "Prisma"), ("Ingenia 3.0T", "Ingenia 3.0T"), ("SIGNA Premier", "SIGNA Premier"),
        ("MAGNETOM Skyra", "MAGNETOM Skyra"), (planted.NAME, ""), (None, ""), ("1983-04-17", ""),
        ("Aquilion ONE", "Aquilion ONE"), ("Discovery MR750w", "Discovery MR750w"), ("TrioTim", "TrioTim"),
        (f"Prisma {FAMILY}", ""), (planted.BIRTH, ""), (planted.NUMBER, ""),
    ],
)  # fmt: skip
def test_only_known_scanner_models_are_repeated(text, kept):
    assert header_words.scanner_model(text) == kept


def test_deidentify_from_the_command_line(tmp_path):
    source = tmp_path / f"{FAMILY} {planted.BIRTH}"
    write_series(source / planted.NUMBER, head(1).transpose(2, 1, 0), edit=identified)
    (source / f"{planted.NAME}.txt").write_text(planted.NAME)
    log, out = tmp_path / "log", tmp_path / "out"
    command = [sys.executable, "-c", RUN, "--log", log, "deidentify", source, out]
    answer = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600)
    assert answer.returncode == 0, answer.stderr
    assert "12 files written, 0 refused" in answer.stderr
    assert planted.leaks(out) == []
    assert planted.leaks(answer.stdout, answer.stderr, log.read_text(encoding="utf-8")) == []
    assert (tmp_path / "out-private" / "key").is_file()
    answer = subprocess.run([*map(str, command), "--dates", "guess"], capture_output=True, text=True, timeout=600)
    assert (answer.returncode, answer.stderr) == (2, "medwvae: error: --dates is guess, expected shift or remove\n")
    command[-1] = source / "out"
    answer = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600)
    assert answer.returncode == 2
    assert "lie within each other" in answer.stderr
    assert planted.leaks(answer.stderr) == []
