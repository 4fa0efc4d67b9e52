import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEGLSLossless

from medwvae.data import manifest, nifti, splits, subjects
from medwvae.data.ingest import NothingUsableError, ingest
from medwvae.errors import InputError
from medwvae.geometry import codes_of
from tests.data.series import SHARED, image_of, write_series

HOSPITAL = "St. Doe  Hospital"
IDS = ["PAT-4711", "Doe", "Jane", "IXI012", "patient01", "clinic_of_dr_who", "Hospital"]


def put(path, seed=0, affine=None):
    """Write a NIfTI volume of its own content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, 2.0, 3.0, 1.0]) if affine is None else affine
    nifti.write(path, image_of(6, 5, 4, seed=seed, dtype=np.int16), affine)
    return path


@pytest.fixture
def clinic(tmp_path):
    """A mixed tree: two DICOM studies of one patient, NIfTI of two more, a broken series, and other files."""
    source = tmp_path / "clinic_of_dr_who"
    first = {"SeriesDescription": "t1 mprage", "PatientAge": "045Y", "PatientSex": "F", "InstitutionName": HOSPITAL}
    write_series(source / "a", image_of(4, 5, 6, seed=1), uids=("late", "s1"), StudyDate="20210101", **first)
    write_series(source / "b", image_of(4, 5, 6, seed=2), uids=("early", "s2"), **first)
    write_series(source / "b", image_of(4, 5, 6, seed=3), uids=("early", "s3"), prefix="x", SeriesNumber=9, **first)
    write_series(source / "broken", image_of(2, 5, 6, seed=4), uids=("early", "s4"), **first)
    put(source / "patient01" / "study1_FLAIR.nii.gz", 5)
    put(source / "patient01" / "study2_T1W.nii.gz", 6)
    put(source / "IXI012-HH-1211_T1.nii.gz", 7)
    put(source / "scans" / "brain_T1.nii.gz", 8)
    (source / "notes.txt").write_text("Jane Doe")
    (source / "demographics.csv").write_text("MRID,Age,Sex,Site\nIXI012-HH-1211,38.78,M,st. doe hospital\n")
    return source


def run(source, tmp_path, name="run", **options):
    out = tmp_path / name / "volumes"
    return ingest(source, out, key_file=tmp_path / "private" / "subjects.key", **options), out


def test_a_mixed_tree_becomes_volumes_and_rows(clinic, tmp_path):
    steps = []
    rows, out = run(clinic, tmp_path, advance=lambda done, total: steps.append((done, total)))
    assert steps == [(k, 8) for k in range(1, 9)]
    good = [row for row in rows if row.status == "ok"]
    assert sorted((row.session, row.contrast, row.series) for row in good) == [
        ("1", "flair", "1"),
        ("1", "t1w", "1"),
        ("1", "t1w", "1"),
        ("1", "t1w", "2"),
        ("2", "t1w", "1"),
        ("2", "t1w", "1"),
    ]
    assert len({row.subject for row in good}) == 3
    assert sorted(row.reason[:20] for row in rows if row.status == "refused") == [
        "cannot tell whose im",
        "the series has 2 sli",
    ]
    assert {(row.age, row.sex) for row in good} == {(45.0, "F"), (38.78, "M"), (None, "")}
    for row in good:
        image = nib.load(out.parent / row.file)
        assert codes_of(image.affine) == ("R", "A", "S")
        assert image.get_data_dtype() in (np.float32, np.int16)
        assert (image.dataobj.slope, image.dataobj.inter) == (1, 0)
        assert row.shape == "x".join(map(str, image.shape))
        beside = out.parent / row.file.replace(".nii.gz", ".json")
        assert json.loads(beside.read_text())["Contrast"] == row.contrast
    assert {path for path in out.glob("sub-*/**/*") if path.is_file()} == {
        (out.parent / row.file).with_name(Path(row.file).name.replace(".nii.gz", suffix))
        for row in good
        for suffix in (".nii.gz", ".json")
    }


def test_nothing_that_leaves_names_anybody(clinic, tmp_path):
    rows, out = run(clinic, tmp_path)
    manifest.write(out.parent / "manifest.csv", rows)
    for path in out.parent.rglob("*"):
        content = str(path.relative_to(out.parent)).encode()
        if path.is_file():
            content += gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for secret in [*IDS, str(tmp_path), "20200131"]:
            assert secret.lower().encode() not in content.lower()


def test_the_private_tables_lead_back_and_are_private(clinic, tmp_path):
    rows, _ = run(clinic, tmp_path)
    private = tmp_path / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for path in private.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    people = (private / "subjects_subjects.csv").read_text()
    assert {line.split(",")[1] for line in people.splitlines()[1:]} == {"PAT-4711", "patient01", "IXI012-HH-1211"}
    ((label, original),) = (line.split(",") for line in (private / "subjects_sites.csv").read_text().splitlines()[1:])
    assert original == "st. doe hospital" and {row.site for row in rows} == {label, ""}
    assert re.fullmatch("site-[a-z2-7]{6}", label)
    sources = dict(line.split(",") for line in (private / "subjects_sources.csv").read_text().splitlines()[1:])
    assert set(sources) == {row.volume for row in rows}
    assert all(Path(path).is_file() for path in sources.values())


def test_the_same_tree_gives_the_same_bytes_wherever_it_lies(clinic, tmp_path):
    rows, out = run(clinic, tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.copytree(clinic, moved)
    again, other = run(moved, tmp_path, "again", workers=2)
    assert rows == again
    files = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    assert len(files) == 3 + 2 * sum(row.status == "ok" for row in rows)
    for path in files:
        assert (out / path).read_bytes() == (other / path).read_bytes()


def test_the_key_makes_the_pseudonym(clinic, tmp_path):
    rows, _ = run(clinic, tmp_path)
    (tmp_path / "private" / "subjects.key").unlink()
    others, _ = run(clinic, tmp_path, "other")
    assert not {row.subject for row in rows if row.subject} & {row.subject for row in others if row.subject}


def test_with_the_key_copied_a_new_study_has_the_same_subjects_volumes_and_parts(clinic, tmp_path):
    def study(name):
        key = tmp_path / name / "private" / "key"
        return ingest(clinic, tmp_path / name / "canonical", key_file=key)

    def parts(rows):
        subjects = sorted({row.subject for row in rows if row.status == "ok"})
        return splits.split(subjects, fractions=(0.34, 0.33, 0.33), seed=1)

    first = study("first")
    (tmp_path / "second" / "private").mkdir(parents=True)
    shutil.copy(tmp_path / "first" / "private" / "key", tmp_path / "second" / "private" / "key")
    second = study("second")
    assert second == first and parts(second) == parts(first)
    assert {row.subject for row in study("third") if row.subject}.isdisjoint(row.subject for row in first)


def test_a_study_inside_its_own_source_is_not_read_again(tmp_path):
    source = tmp_path / "in"
    put(source / "p1_T1.nii.gz", 1)
    study = source / "results" / "study"
    rows = ingest(source, study / "canonical", key_file=study / "private" / "key")
    put(study / "restored" / "p1_T1.nii.gz", 2)
    again = ingest(source, study / "canonical", key_file=study / "private" / "key")
    assert again == rows
    assert len(rows) == 1


def test_names_can_be_kept(clinic, tmp_path):
    rows = ingest(clinic, tmp_path / "run" / "volumes", subjects="keep", key_file=None)
    assert {row.volume for row in rows if row.status == "ok"} == {
        "sub-IXI012HH1211_ses-1_t1w",
        "sub-PAT4711_ses-1_t1w",
        "sub-PAT4711_ses-1_t1w_2",
        "sub-PAT4711_ses-2_t1w",
        "sub-patient01_ses-study1_flair",
        "sub-patient01_ses-study2_t1w",
    }


def test_an_institution_of_a_header_is_known_by_a_pseudonym_only(tmp_path):
    for k, name in enumerate((HOSPITAL, HOSPITAL.upper(), "Elsewhere")):
        write_series(tmp_path / "in" / str(k), image_of(4, 5, 6, seed=k), uids=(str(k), str(k)), InstitutionName=name)
    assert {row.site for row in run(tmp_path / "in", tmp_path, subjects="keep")[0]} == {""}
    found = Counter(row.site for row in run(tmp_path / "in", tmp_path, "again")[0])
    assert sorted(found.values()) == [1, 2] and all(re.fullmatch("site-[a-z2-7]{6}", site) for site in found)


@given(st.lists(st.text(max_size=12), max_size=6), st.binary(min_size=32, max_size=32))
def test_labels_of_sites_tell_names_apart_and_say_nothing(names, key):
    labels = subjects.site_labels(names, key)
    assert set(labels) == {subjects.site_name(name) for name in names} - {""}
    assert len(set(labels.values())) == len(labels)
    assert labels == subjects.site_labels([f" {name} " for name in reversed(names)], key)
    assert all(re.fullmatch("site-[a-z0-9]+", label) for label in subjects.site_labels(names, None).values())


def test_names_that_would_merge_are_refused_if_kept(tmp_path):
    for k, name in enumerate(["A-1_T1", "a1_T1", "B2_T1"]):
        put(tmp_path / "in" / f"{name}.nii.gz", k)
    rows, _ = run(tmp_path / "in", tmp_path, subjects="keep")
    assert [row.subject for row in rows if row.status == "ok"] == ["sub-B2"]
    assert sum("cannot be told from another" in row.reason for row in rows) == 2


def test_a_name_too_long_for_a_folder_is_refused_if_kept(tmp_path):
    for k, name in enumerate(["x" * 65, "x" * 64]):
        put(tmp_path / "in" / f"{name}_T1.nii.gz", k)
    rows, _ = run(tmp_path / "in", tmp_path, subjects="keep")
    assert [row.subject for row in rows if row.status == "ok"] == [f"sub-{'x' * 64}"]
    assert sum("too long" in row.reason for row in rows) == 1


def test_one_image_under_two_subjects_is_refused(tmp_path):
    """It would lie on both sides of a split."""
    for name, seed in (("p1", 0), ("p2", 0), ("p3", 1)):
        put(tmp_path / "in" / f"{name}_T1.nii.gz", seed)
    rows, out = run(tmp_path / "in", tmp_path)
    assert [row.status for row in rows].count("ok") == 1
    assert sum("two subjects" in row.reason for row in rows) == 2
    assert len({row.volume for row in rows}) == 3
    assert len(list(out.rglob("*.nii.gz"))) == 1


def test_a_copy_under_one_subject_counts_once(tmp_path):
    put(tmp_path / "in" / "p1" / "study1_T1.nii.gz", 0)
    put(tmp_path / "in" / "p1" / "study2_T1.nii.gz", 0)
    rows, _ = run(tmp_path / "in", tmp_path)
    assert sorted(row.status for row in rows) == ["ok", "refused"]


def test_dicom_without_a_patient_id_needs_the_pattern(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        write_series(tmp_path / "in" / name, image_of(3, 5, 6, seed=seed), uids=(name, name), PatientID="")
    with pytest.raises(InputError, match=r"2 x the patient ID is empty.*ingest.pattern"):
        run(tmp_path / "in", tmp_path)
    rows, _ = run(tmp_path / "in", tmp_path, pattern="^(?P<subject>[^/]+)/")
    assert len({row.subject for row in rows if row.status == "ok"}) == 2


def test_a_damaged_dicom_header_is_one_refused_row(clinic, tmp_path):
    write_series(clinic / "ruin", image_of(1, 5, 6), Rows=5)
    path = next((clinic / "ruin").iterdir())
    raw = path.read_bytes()
    path.write_bytes(raw[:200])
    rows, _ = run(clinic, tmp_path)
    assert len(rows) == 9
    assert sum(row.status == "ok" for row in rows) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_that_cannot_be_read_is_a_refused_row(tmp_path):
    put(tmp_path / "in" / "p1_T1.nii.gz", 1)
    put(tmp_path / "in" / "p2_T1.nii.gz", 2).chmod(0)
    rows, _ = run(tmp_path / "in", tmp_path)
    assert sorted(row.status for row in rows) == ["ok", "refused"]


def test_what_cannot_be_ingested_at_all_says_why(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "absent", tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"no DICOM and no NIfTI.*1 other"):
        run(tmp_path / "in", tmp_path)
    with pytest.raises(InputError, match="key file"):
        ingest(tmp_path / "in", tmp_path / "out", key_file=None)
    put(tmp_path / "in" / "p1_T1.nii.gz")
    for pattern, message in (("(", "regular expression"), ("(?P<who>.)", "group")):
        with pytest.raises(InputError, match=message):
            run(tmp_path / "in", tmp_path, pattern=pattern)
    (tmp_path / "private").mkdir(exist_ok=True)
    (tmp_path / "private" / "subjects.key").write_text("abc")
    with pytest.raises(InputError, match="key"):
        run(tmp_path / "in", tmp_path)


def test_a_series_of_several_volumes_gives_a_row_each(tmp_path):
    def edit(dataset, k):
        dataset.EchoTime = 10 + 20 * (k // 4)
        dataset.ImagePositionPatient = [0, 0, 2 * (k % 4)]

    write_series(tmp_path / "in", image_of(12, 5, 6), edit=edit, SeriesDescription="t1 gre")
    rows, out = run(tmp_path / "in", tmp_path)
    assert [(row.status, row.series, row.contrast) for row in rows] == [("ok", str(n), "unknown") for n in (1, 2, 3)]
    kept = [json.loads((out.parent / row.file.replace(".nii.gz", ".json")).read_text()) for row in rows]
    assert [note["VolumeOfSeries"] for note in kept] == [1, 2, 3]
    assert [note["EchoTime"] for note in kept] == [0.01, 0.03, 0.05]


def test_a_gap_is_mended_on_request_and_recorded(tmp_path):
    def edit(dataset, k):
        dataset.ImagePositionPatient = [0, 0, 2 * k + 2 * (k > 2)]

    write_series(tmp_path / "in", image_of(5, 5, 6), edit=edit)
    with pytest.raises(InputError, match=r"1 slice\(s\) missing"):
        run(tmp_path / "in", tmp_path)
    (row,), out = run(tmp_path / "in", tmp_path, "again", on_gap="resample")
    assert row.shape == "6x5x6"
    assert json.loads((out.parent / row.file.replace(".nii.gz", ".json")).read_text())["SlicesInterpolated"] == 1


def test_ct_by_default(tmp_path):
    put(tmp_path / "in" / "p1" / "a.nii.gz", 1)
    rows, _ = run(tmp_path / "in", tmp_path, pattern="^(?P<subject>[^/]+)/", default_modality="CT")
    assert [(row.modality, row.contrast) for row in rows] == [("CT", "ct")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("patient01/study1_FLAIR.hdr.gz", ("patient01", "study1", "flair")),
        ("patient01/study1_FLAIR.nii.gz", ("patient01", "study1", "flair")),
        ("site/patient01/T2W.nii.gz", ("patient01", "", "t2w")),
        ("BraTS_001/BraTS_001_flair.nii.gz", ("BraTS_001", "", "flair")),
        ("IXI012-HH-1211_T1.nii.gz", ("IXI012-HH-1211", "", "t1w")),
        ("p1_study2_T1.nii.gz", ("p1", "study2", "t1w")),
        ("body_ct.nii.gz", ("body", "", "ct")),
        ("T1.nii.gz", None),
        ("cohort/IXI012-HH-1211_T1.nii.gz", None),
        ("sub-01_mask.nii.gz", None),
        ("patient01/lesions.nii.gz", None),
        ("_T1.nii.gz", None),
    ],
)
def test_whose_image_a_path_names(path, expected):
    owner = subjects.owner_of(PurePosixPath(path))
    assert owner == (expected and subjects.Owner(*expected))


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=20), st.binary(min_size=32, max_size=32))
def test_a_pseudonym_does_not_hold_the_original(original, key):
    label = subjects.pseudonyms([original], key)[original]
    assert re.fullmatch("sub-[a-z2-7]{10}", label)
    assert len(original) < 4 or original.lower() not in label.removeprefix("sub-")
    assert label == subjects.pseudonyms([original, "another"], key)[original]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("045Y", 45), ("006M", 0.5), ("38.78", 38.78), ("89+", 89), ("000Y", None), ("", None), ("old", None)],
)
def test_years(text, expected):
    assert subjects.years(text) == expected


def test_very_old_age_is_blurred_under_a_pseudonym(tmp_path):
    put(tmp_path / "in" / "p1_T1.nii.gz")
    (tmp_path / "in" / "participants.tsv").write_text("participant_id\tage\tsex\nsub-p1\t97\tfemale\n")
    assert [(row.age, row.sex) for row in run(tmp_path / "in", tmp_path)[0]] == [(90.0, "F")]
    assert run(tmp_path / "in", tmp_path, subjects="keep")[0][0].age == 97.0


def test_manifest_round_trip_and_refusals(clinic, tmp_path):
    rows, out = run(clinic, tmp_path)
    path = out.parent / "manifest.csv"
    manifest.write(path, reversed(rows))
    assert manifest.read(path) == rows
    text = path.read_text()
    for bad in (
        "",
        text.replace("reason", "why", 1),
        text.replace(",ok,", ",fine,", 1),
        text + text.split("\n")[1],
        "\0",
    ):
        path.write_text(bad)
        with pytest.raises(InputError, match="manifest"):
            manifest.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        manifest.read(tmp_path / "absent.csv")


def four_dimensional(path, count=3, seed=0, edit=None):
    """Write a NIfTI of several volumes; `edit(data)` may change its voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.stack([image_of(6, 5, 4, seed=seed + k, dtype=np.int16) for k in range(count)], axis=-1)
    if edit:
        edit(data)
    image = nib.Nifti1Image(data, np.diag([-1.0, 2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return data


def test_every_volume_of_a_file_is_a_row_of_its_own(tmp_path):
    put(tmp_path / "in" / "p1" / "T1.nii.gz", 9)
    data = four_dimensional(tmp_path / "in" / "p2" / "T1.nii.gz", 12, seed=20)
    rows, out = run(tmp_path / "in", tmp_path)
    rows = sorted((row for row in rows if row.part), key=lambda row: int(row.series))
    assert [row.part for row in rows] == [f"{k}/12" for k in range(1, 13)]
    assert len({row.source_sha256 for row in rows}) == 1
    for k, row in enumerate(rows):
        assert f"_run-{k + 1}_" in row.file
        assert np.array_equal(nib.load(out.parent / row.file).get_fdata(), data[::-1, :, :, k])


def test_all_orientations_of_an_image_become_the_same_volume(tmp_path):
    """Of its 48 orientations, each in one of the formats, one is kept; the others are recognised as its repeats."""
    original = nib.Nifti1Image(image_of(6, 5, 4, dtype=np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    orientations = itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    (tmp_path / "in" / "p1").mkdir(parents=True)
    for k, (axes, flips) in enumerate(orientations):
        turned = original.as_reoriented(np.array([axes, flips]).T)
        kind, suffix = [(nib.Nifti1Image, "nii"), (nib.Nifti2Image, "nii.gz"), (nib.Nifti1Pair, "hdr")][k % 3]
        image = kind(np.asarray(turned.dataobj), turned.affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / "in" / "p1" / f"scan{k}_T1.{suffix}")
    rows, out = run(tmp_path / "in", tmp_path)
    assert [row.status for row in rows].count("ok") == 1
    assert sum("repeats another one" in row.reason for row in rows) == 47
    kept = nib.load(out.parent / next(row.file for row in rows if row.status == "ok"))
    assert np.array_equal(kept.get_fdata(), original.get_fdata())
    assert np.allclose(kept.affine, original.affine)


def test_a_bad_volume_among_several_is_refused_alone(tmp_path):
    def flatten(data):
        data[..., 1] = 7

    four_dimensional(tmp_path / "in" / "p1" / "T1.nii.gz", 3, edit=flatten)
    rows, out = run(tmp_path / "in", tmp_path)
    assert sorted((row.part, row.status) for row in rows) == [("1/3", "ok"), ("2/3", "refused"), ("3/3", "ok")]
    assert len(list(out.rglob("*.nii.gz"))) == 2


@pytest.mark.parametrize("keep", [0.6, 0.999])
def test_of_a_damaged_file_no_volume_is_kept(tmp_path, keep):
    put(tmp_path / "in" / "p1" / "T1.nii.gz", 9)
    path = tmp_path / "in" / "p2" / "T1.nii.gz"
    four_dimensional(path, 20, seed=20)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    rows, out = run(tmp_path / "in", tmp_path)
    assert [row.reason[:19] for row in rows if row.status == "refused"] == ["the file is damaged"]
    assert len(list(out.rglob("*.nii.gz"))) == len(list((out.parent / "state").rglob("*.nii.gz"))) == 1


class Counted:
    """Counts what is read, and fails at the n-th image, as an interruption would."""

    def __init__(self, monkeypatch, fail_at=None):
        self.read, self.fail_at, self.inspect = [], fail_at, nifti.inspect
        monkeypatch.setattr(nifti, "inspect", self)

    def __call__(self, path):
        if len(self.read) + 1 == self.fail_at:
            raise KeyboardInterrupt
        self.read.append(path.name)
        return self.inspect(path)


@pytest.fixture
def archive(tmp_path):
    for k in range(6):
        put(tmp_path / "in" / f"p{k}_T1.nii.gz", k)
    return tmp_path / "in"


def test_an_interrupted_ingest_goes_on_where_it_stopped(archive, tmp_path, monkeypatch):
    whole, out = run(archive, tmp_path, "whole")
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        Counted(context, fail_at=4)
        run(archive, tmp_path)
    state = tmp_path / "run" / "state" / "ingest"
    (state / ".1.tmp.abc.nii.gz").write_bytes(b"half")
    steps = []
    counted = Counted(monkeypatch)
    rows, again = run(archive, tmp_path, advance=lambda done, total: steps.append((done, total)))
    assert len(counted.read) == 3
    assert steps == [(k, 6) for k in range(3, 7)]
    assert rows == whole
    for row in rows:
        assert (again.parent / row.file).read_bytes() == (out.parent / row.file).read_bytes()
    assert not list(tmp_path.rglob("*.tmp.*"))


def test_a_killed_ingest_leaves_nothing_half_written(tmp_path):
    """A real kill, workers and all; then the same call again."""
    for k in range(60):
        put(tmp_path / "in" / f"p{k}_T1.nii.gz", k)
    code = (
        "import sys; from pathlib import Path; from medwvae.data.ingest import ingest\n"
        "if __name__ == '__main__':\n"
        "    ingest(Path(sys.argv[1]), Path(sys.argv[2]), key_file=Path(sys.argv[3]), workers=2)\n"
    )
    (tmp_path / "call.py").write_text(code)
    out, key = tmp_path / "run" / "canonical", tmp_path / "private" / "key"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "call.py", tmp_path / "in", out, key],
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    state, deadline = tmp_path / "run" / "state" / "ingest", time.monotonic() + 600
    while len(list(state.glob("[!.]*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in state.glob("[!.]*.json")}
    assert len(finished) >= 3
    rows = ingest(tmp_path / "in", out, key_file=key)
    assert {row.status for row in rows} == {"ok"}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for row in rows:
        assert hashlib.sha256((out.parent / row.file).read_bytes()).hexdigest() == row.result_sha256
    assert not list(tmp_path.rglob("*.tmp.*"))


KILLER = """
import os, sys
from pathlib import Path
from medwvae.data import convert, ingest
inspect = convert.nifti.inspect
def killed(path):
    if "killer" in path.name:
        os.abort()
    return inspect(path)
convert.nifti.inspect = killed  # in the workers, too: they import this file
if __name__ == "__main__":
    rows = ingest.ingest(Path(sys.argv[1]), Path(sys.argv[2]), key_file=Path(sys.argv[3]), workers=int(sys.argv[4]))
    for row in rows:
        print(row.status, row.reason)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_ends_the_process_stops_no_other(tmp_path, workers):
    """A decoder in C that aborts cannot be caught: the image is read alone, and refused."""
    for k in range(4):
        put(tmp_path / "in" / f"p{k}_T1.nii.gz", k)
    put(tmp_path / "in" / "killer_T1.nii.gz", 9)
    (tmp_path / "call.py").write_text(KILLER)
    root = Path(__file__).parents[2]
    command = [sys.executable, "call.py", "in", "run/canonical", "private/key", str(workers)]
    environment = os.environ | {"PYTHONPATH": str(root)}

    def call():
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    if workers == 1:  # nobody is left to go on, but the next call knows
        assert call().returncode == -signal.SIGABRT
    said = call()
    assert said.returncode == 0, said.stderr
    lines = sorted(said.stdout.splitlines())
    assert [line.split()[0] for line in lines] == ["ok"] * 4 + ["refused"]
    assert "ended the process" in lines[-1]


def test_only_what_changed_is_read_again(archive, tmp_path, monkeypatch):
    run(archive, tmp_path)
    counted = Counted(monkeypatch)
    put(archive / "p2_T1.nii.gz", 22)
    put(archive / "p7_T1.nii.gz", 7)
    (archive / "p4_T1.nii.gz").unlink()
    rows, out = run(archive, tmp_path)
    assert sorted(counted.read) == ["p2_T1.nii.gz", "p7_T1.nii.gz"]
    state = out.parent / "state" / "ingest"
    assert len(list(state.glob("*.nii.gz"))) == len(list(state.glob("*.json"))) == len(rows) == 6
    assert len(list(out.rglob("*.nii.gz"))) == 6
    fresh, _ = run(archive, tmp_path, "fresh")
    assert rows == fresh


def test_a_finished_volume_that_was_changed_or_lost_is_made_again(archive, tmp_path, monkeypatch):
    rows, out = run(archive, tmp_path)
    before = (out.parent / rows[0].file).read_bytes()
    (out.parent / rows[0].file).write_bytes(before[:-50])  # also in the state: it is one file of two names
    lost = next(
        path for path in (out.parent / "state" / "ingest").glob("*.nii.gz") if path.stat().st_size != len(before[:-50])
    )
    lost.unlink()
    record = next((out.parent / "state" / "ingest").glob("*.json"))
    record.write_text("{")
    counted = Counted(monkeypatch)
    again, _ = run(archive, tmp_path)
    assert 2 <= len(counted.read) <= 3
    assert again == rows
    assert (out.parent / rows[0].file).read_bytes() == before


def test_other_code_reads_everything_again(archive, tmp_path, monkeypatch):
    run(archive, tmp_path)
    counted = Counted(monkeypatch)
    monkeypatch.setattr("medwvae.provenance.stage_code", lambda stage: "other")
    run(archive, tmp_path)
    assert len(counted.read) == 6


def test_without_hard_links_the_volumes_are_moved(archive, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "no links here")

    whole, _ = run(archive, tmp_path, "whole")
    monkeypatch.setattr(os, "link", refuse)
    rows, out = run(archive, tmp_path)
    assert rows == whole
    assert not list((out.parent / "state").rglob("*.nii.gz"))
    assert run(archive, tmp_path)[0] == whole


def test_an_error_of_ours_refuses_one_image_and_is_tried_again(archive, tmp_path, monkeypatch):
    class Failing(Counted):
        def __call__(self, path):
            if path.name.startswith("p3"):
                raise ZeroDivisionError
            return super().__call__(path)

    with monkeypatch.context() as context:
        Failing(context)
        rows, _ = run(archive, tmp_path)
    assert [row.status for row in rows].count("refused") == 1
    counted = Counted(monkeypatch)
    assert {row.status for row in run(archive, tmp_path)[0]} == {"ok"}
    assert counted.read == ["p3_T1.nii.gz"]


@pytest.mark.parametrize("name", ["brain.mgz", "brain.mnc", "scan.PAR", "scan.HEAD", "scan.nrrd"])
def test_foreign_formats_are_named(archive, tmp_path, name):
    (archive / name).write_bytes(b"something")
    rows, _ = run(archive, tmp_path)
    assert [row.reason for row in rows if row.status == "refused"] == [
        "the file's format is not handled; convert it to NIfTI or DICOM"
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_every_hostile_file_is_refused_with_a_reason(tmp_path):
    shutil.copytree(SHARED / "hostile", tmp_path / "in")
    put(tmp_path / "in" / "p1_T1.nii.gz")
    rows, _ = run(tmp_path / "in", tmp_path, pattern=r"^(?P<subject>\w+)")
    assert len(rows) >= 6
    assert [row.volume for row in rows if row.status == "ok"] == [row.volume for row in rows if not row.reason]
    assert len([row for row in rows if row.status == "ok"]) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
@pytest.mark.parametrize(
    ("name", "options", "good", "refused", "people"),
    [("openms", {}, 11, 0, 4), ("ct", {}, 2, 0, 2), ("dicom", {"pattern": "^(?P<subject>ct)_"}, 6, 12, 2)],
)
def test_real_trees(tmp_path, name, options, good, refused, people):
    rows, _ = run(SHARED / name, tmp_path, **options)
    status = [row.status for row in rows]
    assert (status.count("ok"), status.count("refused")) == (good, refused)
    assert len({row.subject for row in rows if row.status == "ok"}) == people


def test_two_ingestions_at_once_do_not_mix(archive, tmp_path):
    from medwvae.data import records

    with records.alone(tmp_path / "run" / "state" / "ingest"), pytest.raises(InputError, match="another ingestion"):
        run(archive, tmp_path)
    rows, _ = run(archive, tmp_path)
    assert {row.status for row in rows} == {"ok"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run_and_refuses_no_image(archive, tmp_path, workers):
    """A cohort of what happened to fit would be trained on."""
    code = f"""
import errno, os
from pathlib import Path
from medwvae.data import convert, ingest
from medwvae.errors import InputError
def full(path, volume, affine):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
convert.nifti.write = full  # in the workers, too: they import this file
if __name__ == "__main__":
    try:
        ingest.ingest(Path({str(archive)!r}), Path("run/canonical"), key_file=Path("private/key"), workers={workers})
    except InputError as error:
        print(error)
"""
    (tmp_path / "call.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "call.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "no space left on the disk" in done.stdout
    assert not list((tmp_path / "run").rglob("*.json"))


def test_names_need_not_be_utf8(tmp_path):
    """Old shares keep Latin-1."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/M\xfcller"))
    folder.mkdir(parents=True)
    put(tmp_path / "other_T1.nii.gz", 3).rename(folder / os.fsdecode(b"K\xf6ln_T1.nii.gz"))
    put(tmp_path / "in" / "p2_T1.nii.gz", 4)
    rows, out = run(tmp_path / "in", tmp_path, pattern="^(?P<subject>[^_]+)_")
    assert [row.status for row in rows] == ["ok", "ok"]
    table = (tmp_path / "private" / "subjects_sources.csv").read_text(encoding="utf-8")
    assert "M%FCller/K%F6ln_T1.nii.gz" in table
    assert not [path for path in out.parent.rglob("*") if "ller" in path.name]


def test_the_same_voxels_in_another_format_are_a_twin(tmp_path):
    """A converted copy under another name would lie on both sides of a split."""
    voxels = np.random.default_rng(0).integers(0, 900, (6, 7, 8)).astype(np.float32)
    affine = np.diag([1.0, 1.1, 1.2, 1])
    (tmp_path / "in").mkdir()
    nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "in" / "a_T1.nii.gz")
    turned = nib.Nifti1Image(voxels.astype(np.int16), affine + 1e-6).as_reoriented(
        nib.orientations.axcodes2ornt(("P", "L", "S"))
    )
    turned.to_filename(tmp_path / "in" / "b_T1.nii")
    put(tmp_path / "in" / "c_T1.nii.gz", 4)
    rows, _ = run(tmp_path / "in", tmp_path)
    assert sorted(row.status for row in rows) == ["ok", "refused", "refused"]
    assert all("two subjects" in row.reason for row in rows if row.status == "refused")


def test_a_run_that_can_use_nothing_says_so_in_its_rows(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_T1.nii.gz").write_bytes(b"nothing")
    with pytest.raises(NothingUsableError) as caught:
        run(tmp_path / "in", tmp_path)
    assert [row.status for row in caught.value.rows] == ["refused"]


def test_what_can_end_a_process_is_read_in_one_of_its_own(tmp_path, monkeypatch):
    from medwvae.data import convert

    write_series(tmp_path / "in" / "plain", image_of(4, 8, 10), uids=("study", "one"))
    write_series(tmp_path / "in" / "jpegls", image_of(4, 8, 10, seed=1), uids=("study", "two"))
    for path in (tmp_path / "in" / "jpegls").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        dataset.save_as(path)
    pools = []
    start = convert._in_pool

    def counted(jobs, workers):
        pools.append(len(jobs))
        return start(jobs, workers)

    monkeypatch.setattr(convert, "_in_pool", counted)
    rows, _ = run(tmp_path / "in", tmp_path)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert pools == [1]
