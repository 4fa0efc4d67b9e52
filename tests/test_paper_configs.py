"""The paper's own experiments load as they stand in the project."""

from pathlib import Path

import pytest

from medwvae.config_io import load

PAPER = sorted((Path(__file__).parents[1] / "configs" / "paper").glob("*.yaml"))


def test_there_are_three():
    assert [file.stem for file in PAPER] == ["celeba_hq", "cifar10", "mnist"]


@pytest.mark.parametrize("file", PAPER, ids=lambda file: file.stem)
def test_every_experiment_of_the_paper_is_valid(file):
    config = load([file])
    assert config.run == f"paper-{file.stem.replace('_', '-')}"
    assert config.generative.data.kind == file.stem
    assert config.generative.data.model_dump()["path"]
    assert len(config.generative.systems) >= 3


@pytest.mark.parametrize("file", PAPER, ids=lambda file: file.stem)
def test_the_files_own_place_is_an_override_away(file):
    config = load([file], ["generative.data.path=/elsewhere", "generative.data.size=null"])
    data = config.generative.data.model_dump()
    assert (data["path"], data["size"]) == ("/elsewhere", None)
