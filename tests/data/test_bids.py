import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medwvae.data import bids, nifti
from medwvae.data.ingest import ingest
from tests.data.series import image_of, write_series

LABEL = st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True)


def put(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.write(path, image_of(6, 5, 4, seed=seed, dtype=np.int16), np.diag([-1.0, 2.0, 3.0, 1.0]))


def describe(folder, **more):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / bids.DESCRIPTION).write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0", **more}))


@pytest.fixture
def dataset(tmp_path):
    """Two subjects, one with two sessions of which each lacks something, and all that is no raw image beside them."""
    root = tmp_path / "study_of_jane"
    describe(root)
    put(root / "sub-01" / "ses-pre" / "anat" / "sub-01_ses-pre_T1w.nii.gz", 1)
    put(root / "sub-01" / "ses-post" / "anat" / "sub-01_ses-post_run-10_T1w.nii.gz", 2)
    put(root / "sub-01" / "ses-post" / "anat" / "sub-01_ses-post_run-2_T1w.nii.gz", 3)
    put(root / "sub-01" / "ses-post" / "anat" / "sub-01_ses-post_acq-tse_FLAIR.nii.gz", 4)
    put(root / "sub-02" / "anat" / "sub-02_part-mag_T2w.nii.gz", 5)
    put(root / "sub-02" / "anat" / "sub-02_PDw.nii.gz", 6)
    put(root / "derivatives" / "fs" / "sub-01" / "anat" / "sub-01_desc-brain_T1w.nii.gz", 7)
    put(root / "sourcedata" / "sub-01" / "T1.nii.gz", 8)
    describe(root / "elsewhere", DatasetType="derivative")
    put(root / "elsewhere" / "sub-01" / "sub-01_space-MNI_T1w.nii.gz", 9)
    write_series(root / "sourcedata" / "dicom", image_of(4, 5, 6, seed=10))
    people = "participant_id age sex site", "sub-01 45 F Uni+Ost", "sub-02 89+ n/a n/a"
    (root / "participants.tsv").write_text("\n".join(people).replace(" ", "\t").replace("Uni+", "Uni "))
    return root


def run(source, tmp_path, **options):
    options = {"subjects": "keep", "key_file": None} | options
    out = tmp_path / "run" / "canonical"
    return ingest(source, out, **options), out


def test_a_raw_dataset_becomes_a_derivative_dataset(dataset, tmp_path):
    rows, out = run(dataset, tmp_path)
    assert {row.volume: row.file for row in rows} == {
        "sub-01_ses-post_flair": "canonical/sub-01/ses-post/anat/sub-01_ses-post_desc-canonical_FLAIR.nii.gz",
        "sub-01_ses-post_t1w": "canonical/sub-01/ses-post/anat/sub-01_ses-post_run-1_desc-canonical_T1w.nii.gz",
        "sub-01_ses-post_t1w_2": "canonical/sub-01/ses-post/anat/sub-01_ses-post_run-2_desc-canonical_T1w.nii.gz",
        "sub-01_ses-pre_t1w": "canonical/sub-01/ses-pre/anat/sub-01_ses-pre_desc-canonical_T1w.nii.gz",
        "sub-02_ses-1_pdw": "canonical/sub-02/ses-1/anat/sub-02_ses-1_desc-canonical_PDw.nii.gz",
        "sub-02_ses-1_t2w": "canonical/sub-02/ses-1/anat/sub-02_ses-1_desc-canonical_T2w.nii.gz",
    }
    assert {row.status for row in rows} == {"ok"}
    assert {(row.subject, row.age, row.sex, row.site) for row in rows} == {
        ("sub-01", 45.0, "F", "site-uniost"), ("sub-02", 89.0, "", ""),
    }  # fmt: skip
    second = nifti.read(out.parent / next(row.file for row in rows if row.volume.endswith("_2")))[0]
    assert np.array_equal(second[::-1], image_of(6, 5, 4, seed=2, dtype=np.int16))  # run 10 comes after run 2
    description = json.loads((out / bids.DESCRIPTION).read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "medwvae"
    assert set(description) == {"Name", "BIDSVersion", "DatasetType", "GeneratedBy"}


def test_pseudonyms_hide_labels_of_sessions_too(dataset, tmp_path):
    rows, out = run(dataset, tmp_path, subjects="pseudonym", key_file=tmp_path / "private" / "key")
    assert {(row.session, row.contrast) for row in rows} == {
        ("1", "t1w"), ("1", "flair"), ("2", "t1w"), ("1", "t2w"), ("1", "pdw"),
    }  # fmt: skip
    assert len({row.site for row in rows}) == 2 and not any("ost" in row.site for row in rows)
    text = " ".join(str(path.relative_to(out.parent)) for path in out.parent.rglob("*"))
    for secret in ("sub-01", "sub-02", "post", "tse", "jane"):
        assert secret not in text


def test_our_own_dataset_is_read_like_any_other(dataset, tmp_path):
    rows, out = run(dataset, tmp_path)
    again = ingest(out, tmp_path / "second" / "canonical", subjects="keep")
    assert [(row.volume, row.file, row.result_sha256) for row in again] == [
        (row.volume, row.file, row.result_sha256) for row in rows
    ]


def test_a_nested_dataset_keeps_its_participants(dataset, tmp_path):
    dataset.rename(tmp_path / "in")
    (tmp_path / "in").rename(tmp_path / "dataset")
    (tmp_path / "all").mkdir()
    (tmp_path / "dataset").rename(tmp_path / "all" / "one")
    rows, _ = run(tmp_path / "all", tmp_path)
    assert {(row.subject, row.age) for row in rows} == {("sub-01", 45.0), ("sub-02", 89.0)}


def test_one_label_in_two_datasets_may_be_two_persons(dataset, tmp_path):
    all_of_them = tmp_path / "all"
    all_of_them.mkdir()
    dataset.rename(all_of_them / "one")
    describe(all_of_them / "two")
    put(all_of_them / "two" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 20)
    put(all_of_them / "two" / "sub-03" / "anat" / "sub-03_T1w.nii.gz", 21)
    rows, _ = run(all_of_them, tmp_path)
    assert {row.subject for row in rows if row.status == "ok"} == {"sub-02", "sub-03"}
    assert {row.subject for row in rows if "may be somebody else" in row.reason} == {"sub-01"}
    pattern = r"^(?P<subject>\w+/sub-\w+)/.*_(?P<contrast>\w+)\.nii"
    assert {row.subject for row in run(all_of_them, tmp_path, pattern=pattern)[0] if row.status == "ok"} == {
        "sub-onesub01", "sub-onesub02", "sub-twosub01", "sub-twosub03",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sub-01/anat/sub-01_mask.nii.gz", "names no MR or CT image"),
        ("sub-01/anat/sub-01_dseg.nii.gz", "names no MR or CT image"),
        ("sub-01/anat/sub-01_T1map.nii.gz", "names no MR or CT image"),
        ("sub-01/anat/sub-01_part-phase_T2starw.nii.gz", "phase"),
        ("sub-02/anat/sub-01_T1w.nii.gz", "disagree"),
        ("sub-01/ses-1/anat/sub-01_ses-2_T1w.nii.gz", "disagree"),
    ],
)
def test_what_is_no_image_by_its_name_is_refused(tmp_path, path, reason):
    put(tmp_path / "in" / path, 1)
    put(tmp_path / "in" / "sub-09" / "sub-09_T1w.nii.gz", 2)
    rows, _ = run(tmp_path / "in", tmp_path)
    assert [reason in row.reason for row in rows if row.status == "refused"] == [True]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_ses-2_T1w.nii.gz", ("01", "2", "t1w")),
        ("sub-01_acq-x_run-1_FLAIR.nii", ("01", None, "flair")),
        ("sub-01_inplaneT2.nii", ("01", None, "t2w")),
        ("sub-01_task-rest_bold.nii.gz", ("01", None, "unknown")),
        ("sub-01_ct.nii.gz", ("01", None, "ct")),
        ("sub-01.nii.gz", None),
        ("sub-_T1w.nii.gz", None),
        ("sub-a-b_T1w.nii.gz", None),
        ("IXI012-HH-1211_T1.nii.gz", None),
        ("p1_T1w.nii.gz", None),
    ],
)
def test_names(name, expected):
    read = bids.parse(name)
    assert (read and (read.entities["sub"], read.entities.get("ses"), read.contrast)) == expected


@given(LABEL, LABEL, st.sampled_from(["t1w", "t2w", "flair", "pdw", "ct", "unknown"]), st.none() | st.integers(1, 99))
def test_our_names_are_read_back(subject, session, contrast, run):
    place = bids.derivative(f"sub-{subject}", session, contrast, run)
    name = bids.parse(f"{place.name}.nii.gz")
    assert name is not None
    expected = {"sub": subject, "ses": session, "desc": "canonical"} | ({} if run is None else {"run": str(run)})
    assert name.entities == expected
    assert name.contrast == contrast
    assert name.refusal(place) == "" or contrast == "unknown"
    assert place.parts[:2] == (f"sub-{subject}", f"ses-{session}")


@given(st.text(max_size=40))
def test_no_name_breaks_the_parser(text):
    name = bids.parse(text)
    assert name is None or name.entities["sub"].isalnum()


def test_sidecars_are_inherited_and_only_numbers_pass(dataset):
    def write(path, **values):
        (dataset / path).write_text(json.dumps(values))

    write("T1w.json", EchoTime=0.1, RepetitionTime=2.0, InstitutionName="Jane Doe", Manufacturer="Jane")
    write("sub-01/ses-post/anat/sub-01_ses-post_run-2_T1w.json", EchoTime=0.003, FlipAngle="Jane", SkullStripped=True)
    write("sub-01/ses-post/anat/sub-01_ses-post_run-10_T1w.json", EchoTime=0.4, MagneticFieldStrength=True)
    (dataset / "sub-02" / "anat" / "sub-02_PDw.json").write_text("[" * 100_000)
    tree = bids.Dataset(dataset, described=True)

    def read(name):
        path = next(dataset.glob(f"sub-*/**/{name}"))
        parsed = bids.parse(name)
        assert parsed is not None
        return tree.sidecar(path, parsed)

    assert read("sub-01_ses-post_run-2_T1w.nii.gz") == {
        "EchoTime": 0.003, "RepetitionTime": 2.0, "SkullStripped": True,
    }  # fmt: skip
    assert read("sub-01_ses-post_run-10_T1w.nii.gz") == {"EchoTime": 0.4, "RepetitionTime": 2.0}
    assert read("sub-01_ses-pre_T1w.nii.gz") == {"EchoTime": 0.1, "RepetitionTime": 2.0}
    assert read("sub-02_PDw.nii.gz") == {}


def test_a_ct_lies_in_its_own_folder_that_validators_skip(tmp_path):
    put(tmp_path / "in" / "sub-01" / "ct" / "sub-01_ct.nii.gz", 1)
    rows, out = run(tmp_path / "in", tmp_path)
    assert [(row.modality, row.file) for row in rows] == [
        ("CT", "canonical/sub-01/ses-1/ct/sub-01_ses-1_desc-canonical_ct.nii.gz")
    ]
    assert "**/ct/**" in (out / ".bidsignore").read_text()
    assert bids.derivative("sub-a", "1", "ct", None) == PurePosixPath("sub-a/ses-1/ct/sub-a_ses-1_desc-canonical_ct")
    assert (out.parent / Path(rows[0].file)).is_file()
