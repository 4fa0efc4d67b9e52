"""Links in the private folder stand for the user's own paths in all that the workflow writes."""

import os
import stat

import pytest

from medwvae import stages
from medwvae.config_io import load, to_yaml
from medwvae.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("data", "moved"):
        (tmp_path / name).mkdir()
    for name in ("data/Ottokar", "data/Ottokar/sub"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "Ottokar.TSV").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(here, **more):
    absolute = here / "data" / "Ottokar.TSV"
    return load(overrides={"run": "r", "input": "data/Ottokar", "ingest.demographics": str(absolute)} | more)


def test_what_is_written_is_neutral_and_leads_back(here):
    config = given(here)
    study = stages.neutral(config)
    assert "Ottokar" not in to_yaml(study)
    assert study.input == "results/r/private/input-1"
    assert study.ingest.demographics == "results/r/private/ingest.demographics-1.tsv"  # the suffix says how it is read
    assert stages.source_of(study).resolve() == here / "data" / "Ottokar"
    assert stages.direct(study) == stages.direct(config) == config
    assert stages.neutral(study).own_paths.keys() == config.own_paths.keys()
    assert stat.S_IMODE((here / "results" / "r" / "private").stat().st_mode) == 0o700
    assert stages.neutral(load()) == load()


def test_a_link_is_made_once_and_never_changed(here):
    first = stages.neutral(given(here)).input or ""
    before = os.lstat(first)
    assert before.st_mtime == 0  # older than any result: a link made anew makes nothing run again
    other = stages.neutral(given(here, input="data")).input
    assert (first, other) == ("results/r/private/input-1", "results/r/private/input-2")
    assert stages.neutral(given(here)).input == first
    assert os.lstat(first) == before


def test_a_whole_folder_can_be_moved(here):
    study = stages.neutral(given(here))
    for name in ("data", "results"):
        (here / name).rename(here / "moved" / name)
    os.chdir(here / "moved")
    assert stages.source_of(study).resolve() == here / "moved" / "data" / "Ottokar"
    assert stages.neutral(load(overrides={"run": "r", "input": "data/Ottokar"})).input == study.input


def test_results_may_lie_behind_a_link(here):
    (here / "elsewhere" / "deep").mkdir(parents=True)
    (here / "results").symlink_to(here / "elsewhere" / "deep")
    study = stages.neutral(given(here))
    assert stages.source_of(study).resolve() == here / "data" / "Ottokar"
    assert stages.direct(study) == given(here)


def test_a_path_that_leads_nowhere_is_said_without_the_path(here, capsys):
    study = stages.neutral(given(here, input="data/Ottokar9"))
    assert study.input == "results/r/private/input-1"
    assert capsys.readouterr().err == "medwvae: the path given as `input` does not exist\n"


def test_an_input_that_is_a_file_is_called_one(here, capsys):
    (here / "data" / "one.nii").touch()
    stages.neutral(given(here, input="data/one.nii"))
    assert capsys.readouterr().err == "medwvae: the path given as `input` is a file; give the folder that holds it\n"


def test_without_links_the_results_belong_elsewhere(here, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    with pytest.raises(InputError, match="another file system") as caught:
        stages.neutral(given(here))
    assert "Ottokar" not in str(caught.value)
