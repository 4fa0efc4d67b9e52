"""medwvae export: a study whose restored volumes leave it, by its command line."""

import json
import shutil

import numpy as np
import pydicom
import pytest

from medwvae import paths, stages
from medwvae.config_io import load
from medwvae.data import manifest, nifti
from medwvae.data.ingest import ingest
from medwvae.errors import ConfigError, InputError, Refusal
from tests.data.series import image_of, write_series
from tests.test_cli import medwvae

CODE_OF_RESAMPLING = "113085"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of two DICOM patients and a NIfTI one; every volume restored, one with a map of its uncertainty."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source"
    for k, (patient, shape) in enumerate((("A", (4, 6, 7)), ("B", (5, 6, 7)))):
        write_series(source / f"{k}", image_of(*shape, seed=k), uids=(patient, f"s{k}"), PatientID=patient)
    nifti.write(source / "C_T1.nii.gz", image_of(6, 5, 4, seed=9).astype(np.float32), np.diag([-1.0, 2, 3, 1]))
    config = load((), [f"input={source}", "run=r"])
    root = config.root
    rows = ingest(source, paths.canonical(root), key_file=paths.private(root) / "key")
    manifest.write(paths.manifest(root), rows)
    folder = paths.restored(root, "superres", "wavelet_vae")
    for row in rows:
        values, affine = nifti.read(root / row.file)
        nifti.write(paths.volume(folder, row.volume), values * np.float32(1.01), affine)
    mapped = next(row for row in rows if row.shape == "7x6x4")
    values, affine = nifti.read(root / mapped.file)
    nifti.write(paths.uncertainty(folder, mapped.volume), values * np.float32(0.1), affine)
    (folder / "record.json").write_text(json.dumps({"details": {"steps": 40}}))
    return config, {row.shape: row for row in rows}, mapped


def test_the_command_exports_every_volume_of_a_study(study, tmp_path):
    _, rows, mapped = study
    with_config = tmp_path / "study.yaml"
    with_config.write_text(f"input: {tmp_path / 'source'}\nrun: r\n")
    answer = medwvae(
        *("export", "-c", with_config, "--task", "superres", "--method", "wavelet_vae", "--out", "out"), cwd=tmp_path
    )
    assert answer.returncode == 0, answer.stderr
    assert "3 of 3 volumes" in answer.stderr
    assert "no DICOM series" in answer.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {row.volume for row in rows.values()}
    for row in rows.values():
        out = tmp_path / "out" / row.volume
        assert (out / "restored.nii.gz").is_file()
        assert (out / "restored").is_dir() == (row.shape != "6x5x4")
        assert (out / "uncertainty.dcm").is_file() == (row is mapped)
    image = pydicom.dcmread(tmp_path / "out" / mapped.volume / "restored" / "IM0001.dcm")
    assert image.PatientID == "A"
    assert image.DerivationCodeSequence[0].CodeValue == CODE_OF_RESAMPLING
    assert "steps 40" in image.ContributingEquipmentSequence[-1].ContributionDescription


def test_one_lost_source_never_stops_the_others(study, tmp_path, capsys):
    config, rows, _ = study
    shutil.rmtree(tmp_path / "source" / "0")
    stages.export(config, tmp_path / "out", task="superres", method="wavelet_vae")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        row.volume for shape, row in rows.items() if shape != "7x6x4"
    }
    assert "no longer where they were" in capsys.readouterr().err
    with pytest.raises(InputError, match="not empty"):
        stages.export(config, tmp_path / "out", task="superres", method="wavelet_vae")


def test_deidentified_volumes_carry_the_pseudonym_and_stay_together(study, tmp_path):
    config, rows, _ = study
    for out in ("a", "b"):
        stages.export(config, tmp_path / out, task="superres", method="wavelet_vae", deidentified=True)
    row = rows["7x6x4"]
    first, second = (pydicom.dcmread(tmp_path / out / row.volume / "restored" / "IM0001.dcm") for out in ("a", "b"))
    assert str(first.PatientName) == first.PatientID == row.subject
    assert first.StudyInstanceUID == second.StudyInstanceUID  # the study's key decides
    original = pydicom.dcmread(next((tmp_path / "source" / "0").iterdir()))
    assert first.StudyInstanceUID != original.StudyInstanceUID


def test_labels_that_were_kept_become_pseudonyms(study, tmp_path):
    """Also in the names of folders."""
    _, rows, _ = study
    keep = load((), [f"input={tmp_path / 'source'}", "run=r", "ingest.subjects=keep"])
    stages.export(keep, tmp_path / "out", task="superres", method="wavelet_vae", deidentified=True)
    subjects = {row.subject for row in rows.values()}
    assert all(row.volume.startswith(row.subject) for row in rows.values())
    folders = list((tmp_path / "out").iterdir())
    assert len(folders) == len(rows)
    assert not [folder for folder in folders for subject in subjects if subject in folder.name]
    for image in (pydicom.dcmread(path) for path in (tmp_path / "out").rglob("IM0001.dcm")):
        assert image.PatientID not in subjects


def test_a_single_volume_by_the_study_or_by_its_source(study, tmp_path, capsys):
    config, rows, _ = study
    volume = paths.volume(paths.restored(config.root, "superres", "wavelet_vae"), rows["7x6x5"].volume)
    stages.export(config, tmp_path / "known", volume=volume)
    assert "5 DICOM images" in capsys.readouterr().err
    stranger = tmp_path / "mine.nii.gz"
    shutil.copy(volume, stranger)
    with pytest.raises(InputError, match="--source"):
        stages.export(config, tmp_path / "unknown", volume=stranger)
    named = {"volume": stranger, "source": tmp_path / "source", "deidentified": True}
    with pytest.raises(ConfigError, match="--name, another one for every patient"):
        stages.export(config, tmp_path / "named", **named)
    with pytest.raises(Refusal, match="repeats a name or number of the patient"):
        stages.export(config, tmp_path / "named", name="Jane-2", **named)
    assert not (tmp_path / "named").exists()
    stages.export(config, tmp_path / "named", name="case-7", **named)
    image = pydicom.dcmread(tmp_path / "named" / "restored" / "IM0001.dcm")
    assert str(image.PatientName) == image.PatientID == "case-7"
    with pytest.raises(Refusal, match="voxel"):
        stages.export(config, tmp_path / "wrong", volume=stranger, source=tmp_path / "source" / "0")


def test_a_nifti_volume_with_a_named_series_of_its_grid_becomes_dicom(study, tmp_path):
    config, rows, _ = study
    row = rows["7x6x5"]
    lone = tmp_path / "lone.nii.gz"
    shutil.copy(config.root / row.file, lone)
    stages.export(load(), tmp_path / "out", volume=lone, source=tmp_path / "source" / "1")
    assert len(list((tmp_path / "out" / "restored").iterdir())) == 5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "--task"),
        ({"task": "superres"}, "--method"),
        ({"task": "superr", "method": "unet"}, "no task"),
        ({"task": "superres", "method": "unet", "source": "."}, "--volume"),
        ({"task": "superres", "method": "unet", "deidentified": True, "name": "x"}, "pseudonyms of its own"),
        ({"volume": "x.nii", "name": "x"}, "belongs to"),
        ({"volume": "x.nii", "name": "x^y", "deidentified": True}, "letters, digits"),
    ],
)
def test_arguments_that_say_too_little_are_refused(tmp_path, arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        stages.export(load(), tmp_path / "out", **arguments)


def test_results_never_go_where_images_are_read_from(study, tmp_path):
    config, *_ = study
    with pytest.raises(InputError, match="folder that images are read from"):
        stages.export(config, tmp_path / "source" / "out", task="superres", method="wavelet_vae")


def test_a_study_without_restored_volumes_says_what_to_run(study, tmp_path):
    config, *_ = study
    with pytest.raises(InputError, match="medwvae restore --task denoise --method unet"):
        stages.export(config, tmp_path / "out", task="denoise", method="unet")


def of_one_patient(tmp_path, edit, **choices):
    """Return the configuration and the rows of a study of one series, every volume of it restored."""
    write_series(tmp_path / "source", image_of(6, 6, 7), edit=edit)
    config = load((), [f"input={tmp_path / 'source'}", f"results={tmp_path / 'results'}", "run=r"])
    root = config.root
    rows = ingest(tmp_path / "source", paths.canonical(root), key_file=paths.private(root) / "key", **choices)
    manifest.write(paths.manifest(root), rows)
    for row in rows:
        folder = paths.restored(root, "denoise", "unet")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / row.file, paths.volume(folder, row.volume))
    return config, rows


def test_each_volume_of_a_series_goes_back_to_its_own_images(tmp_path):
    def edit(dataset, k):
        dataset.EchoTime, dataset.EchoNumbers = 10 + k // 3, 1 + k // 3
        dataset.ImagePositionPatient = [0, 0, 2 * (k % 3)]

    config, rows = of_one_patient(tmp_path, edit)
    stages.export(config, tmp_path / "out", task="denoise", method="unet")
    assert len(rows) == 2
    found = {
        row.volume: {
            pydicom.dcmread(path).EchoNumbers for path in (tmp_path / "out" / row.volume / "restored").iterdir()
        }
        for row in rows
    }
    assert sorted(found.values(), key=str) == [{1}, {2}]


@pytest.mark.parametrize("mended", ["missing slices interpolated", "the gantry tilt taken out"])
def test_what_ingestion_mended_does_not_go_back_as_dicom(tmp_path, mended, capsys):
    def edit(dataset, k):
        gap = "slices" in mended and k > 2
        dataset.ImagePositionPatient = [0, 0 if "slices" in mended else 0.5 * k, 2 * (k + gap)]

    config, (row,) = of_one_patient(tmp_path, edit, on_gap="resample", on_tilt="shear")
    with pytest.raises(InputError, match="no volume could be exported"):
        stages.export(config, tmp_path / "out", task="denoise", method="unet")
    said = capsys.readouterr().err
    assert f"left out: ingestion mended this volume ({mended}), so its slices are not those of the source" in said
    volume = paths.volume(paths.restored(config.root, "denoise", "unet"), row.volume)
    with pytest.raises(Refusal, match="cannot go back as DICOM; use its NIfTI"):
        stages.export(config, tmp_path / "one", volume=volume)
    assert not (tmp_path / "out").exists() and not (tmp_path / "one").exists()
