"""Split and preprocess as stages: what is left out, and what must not wait for the training to be found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medwvae import paths, stages
from medwvae.config import Config
from medwvae.config_io import load
from medwvae.data import loaders, manifest, nifti, splits
from medwvae.data.manifest import Row
from medwvae.data.transforms import prepare
from medwvae.errors import InputError
from medwvae.names import Part
from tests.cases import head_like

SUBJECTS = ["sub-a", "sub-b", "sub-c", "sub-d"]
PARTS: dict[str, Part] = {"sub-a": "train", "sub-b": "train", "sub-c": "val", "sub-d": "test"}


def volume_of(config: Config, subject: str) -> Path:
    return paths.volume(paths.canonical(config.root), subject)


def write_volume(path, shape=(20, 18, 14), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.write(path, 400 * head_like(shape, seed)[0], np.diag([2.0, 2.0, 3.0, 1.0]))
    return path


@pytest.fixture
def study(tmp_path):
    """A study of four ingested subjects whose split is given by a file."""
    config = load(overrides={"results": str(tmp_path), "split.file": str(tmp_path / "parts.csv")})
    rows = [Row(volume=s, subject=s, modality="MR", contrast="t1w", file=f"canonical/{s}.nii.gz") for s in SUBJECTS]
    for seed, row in enumerate(rows):
        write_volume(volume_of(config, row.subject), seed=seed)
    manifest.write(paths.manifest(config.root), rows)
    splits.write(tmp_path / "parts.csv", PARTS)
    return config


def prepared_parts(config: Config) -> dict[str, str]:
    return {row["subject"]: row["part"] for row in loaders.read_index(paths.prepared_index(config.root))}


def test_split_and_preprocess_follow_the_file(study):
    stages.split(study)
    stages.preprocess(study, 1)
    assert prepared_parts(study) == PARTS
    assert {path.stem for path in paths.prepared(study.root).iterdir()} == set(SUBJECTS)


def test_volumes_of_unknown_contrast_do_not_enter_in_silence(study, capsys):
    stages.split(study)
    stages.preprocess(study, 1)
    assert "unknown" not in capsys.readouterr().err
    rows = manifest.read(paths.manifest(study.root))
    two = [replace(row, contrast="unknown") if row.subject in ("sub-a", "sub-d") else row for row in rows]
    manifest.write(paths.manifest(study.root), two)
    stages.preprocess(study, 1)
    said = capsys.readouterr().err
    assert "preprocess: 2 of 4 volumes are of unknown contrast (such as diffusion, BOLD," in said
    assert "preprocess.contrasts=[t1w]" in said
    assert len(prepared_parts(study)) == 4
    only = study.model_copy(update={"preprocess": study.preprocess.model_copy(update={"contrasts": ("t1w",)})})
    assert {row.subject for row in stages.cohort.usable(only)} == {"sub-b", "sub-c"}  # as the message says


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_split_file_that_leaves_a_part_empty_is_refused(study, part):
    splits.write(Path(study.split.file), {s: "train" if p == part else p for s, p in PARTS.items()})
    with pytest.raises(InputError, match=rf"parts.csv: no usable subject of the study is in the part {part};"):
        stages.split(study)
    assert not paths.splits(study.root).exists()


def test_what_cannot_be_prepared_is_left_out_with_its_reason(study, capsys):
    stages.split(study)
    volume_of(study, "sub-b").write_bytes(volume_of(study, "sub-b").read_bytes()[:-400])
    stages.preprocess(study, 1)
    assert set(prepared_parts(study)) == {"sub-a", "sub-c", "sub-d"}
    assert "sub-b left out: the file is damaged or cut short" in capsys.readouterr().err


def test_a_part_left_empty_by_preprocessing_is_named_before_anything_trains(study, capsys):
    stages.split(study)
    write_volume(volume_of(study, "sub-c"), shape=(20, 18, 10))
    with pytest.raises(InputError, match="no volume that could be preprocessed is in the part val;"):
        stages.preprocess(study, 1)
    assert "fewer than 11 voxels along S (20x18x10)" in capsys.readouterr().err
    assert not paths.prepared_index(study.root).exists()


@pytest.mark.parametrize(
    ("shape", "axes"), [((11, 18, 14), ""), ((10, 18, 14), "R"), ((20, 7, 10), "A and S")], ids=str
)
def test_a_volume_thinner_than_the_window_of_the_ssim_is_refused(tmp_path, shape, axes):
    path = write_volume(tmp_path / "thin.nii.gz", shape)
    if not axes:
        assert prepare(path, modality="MR", plane="axial", percentile=99).image.shape == (14, 11, 18)
        return
    with pytest.raises(InputError, match=f"thin.nii.gz: fewer than 11 voxels along {axes} "):
        prepare(path, modality="MR", plane="axial", percentile=99)
