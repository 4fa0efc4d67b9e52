import json
import os
import re
import shutil
import stat
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.data import manifest, nifti, subjects
from medwvae.data.ingest import ingest
from medwvae.errors import InputError
from medwvae.geometry import codes_of
from tests.data.series import SHARED, image_of, write_series

IDS = ["PAT-4711", "Doe", "Jane", "IXI012", "patient01", "clinic_of_dr_who"]


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
    first = {"SeriesDescription": "t1 mprage", "PatientAge": "045Y", "PatientSex": "F"}
    write_series(source / "a", image_of(4, 5, 6, seed=1), uids=("late", "s1"), StudyDate="20210101", **first)
    write_series(source / "b", image_of(4, 5, 6, seed=2), uids=("early", "s2"), **first)
    write_series(source / "b", image_of(4, 5, 6, seed=3), uids=("early", "s3"), prefix="x", SeriesNumber=9, **first)
    write_series(source / "broken", image_of(2, 5, 6, seed=4), uids=("early", "s4"), **first)
    put(source / "patient01" / "study1_FLAIR.nii.gz", 5)
    put(source / "patient01" / "study2_T1W.nii.gz", 6)
    put(source / "IXI012-HH-1211_T1.nii.gz", 7)
    put(source / "scans" / "brain_T1.nii.gz", 8)
    (source / "notes.txt").write_text("Jane Doe")
    (source / "demographics.csv").write_text("MRID,Age,Sex\nIXI012-HH-1211,38.78,M\n")
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
        assert image.get_data_dtype() == np.float32
        assert row.shape == "x".join(map(str, image.shape))
        assert json.loads((out / f"{row.volume}.json").read_text())["Contrast"] == row.contrast
    assert len(list(out.iterdir())) == 2 * len(good)


def test_nothing_that_leaves_names_anybody(clinic, tmp_path):
    rows, out = run(clinic, tmp_path)
    manifest.write(out.parent / "manifest.csv", rows)
    for path in [*out.iterdir(), out.parent / "manifest.csv"]:
        content = path.name.encode() + path.read_bytes()
        if path.suffix == ".gz":
            content += nib.load(path).header.binaryblock
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
    sources = dict(line.split(",") for line in (private / "subjects_sources.csv").read_text().splitlines()[1:])
    assert set(sources) == {row.volume for row in rows}
    assert all(Path(path).is_file() for path in sources.values())


def test_the_same_tree_gives_the_same_bytes_wherever_it_lies(clinic, tmp_path):
    rows, out = run(clinic, tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.copytree(clinic, moved)
    again, other = run(moved, tmp_path, "again", workers=2)
    assert rows == again
    for path in out.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_the_key_makes_the_pseudonym(clinic, tmp_path):
    rows, _ = run(clinic, tmp_path)
    (tmp_path / "private" / "subjects.key").unlink()
    others, _ = run(clinic, tmp_path, "other")
    assert not {row.subject for row in rows if row.subject} & {row.subject for row in others if row.subject}


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


def test_names_that_would_merge_are_refused_if_kept(tmp_path):
    for k, name in enumerate(["A-1_T1", "a1_T1", "B2_T1"]):
        put(tmp_path / "in" / f"{name}.nii.gz", k)
    rows, _ = run(tmp_path / "in", tmp_path, subjects="keep")
    assert [row.subject for row in rows if row.status == "ok"] == ["sub-B2"]
    assert sum("cannot be told from another" in row.reason for row in rows) == 2


def test_one_image_under_two_subjects_is_refused(tmp_path):
    """It would lie on both sides of a split."""
    for name, seed in (("p1", 0), ("p2", 0), ("p3", 1)):
        put(tmp_path / "in" / f"{name}_T1.nii.gz", seed)
    rows, out = run(tmp_path / "in", tmp_path)
    assert [row.status for row in rows].count("ok") == 1
    assert sum("two subjects" in row.reason for row in rows) == 2
    assert len({row.volume for row in rows}) == 3
    assert len(list(out.glob("*.nii.gz"))) == 1


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
    kept = [json.loads((out / f"{row.volume}.json").read_text()) for row in rows]
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
    assert json.loads((out / f"{row.volume}.json").read_text())["SlicesInterpolated"] == 1


def test_ct_by_default(tmp_path):
    put(tmp_path / "in" / "p1" / "a.nii.gz", 1)
    rows, _ = run(tmp_path / "in", tmp_path, pattern="^(?P<subject>[^/]+)/", default_modality="CT")
    assert [(row.modality, row.contrast) for row in rows] == [("CT", "ct")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", ("01", "2", "t1w")),
        ("sub-01/anat/sub-01_acq-x_run-1_FLAIR.nii", ("01", "", "flair")),
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
    ("text", "expected"), [("045Y", 45), ("006M", 0.5), ("38.78", 38.78), ("000Y", None), ("", None), ("old", None)]
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
