"""The recipes of the images take along what is there, and the same: neither can be built in the tests."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCKER, APPTAINER = ((REPOSITORY / "containers" / name).read_text() for name in ("Dockerfile", "medwvae.def"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def copied():
    """What each recipe copies from the repository."""
    lines = re.findall(r"^COPY (.+) \S+$", DOCKER, re.MULTILINE)
    files = APPTAINER.split("%files")[1].split("%post")[0].split("\n")
    return {word for line in lines for word in line.split()}, {line.split()[0] for line in files if line.strip()}


def test_both_images_hold_the_same():
    docker, apptainer = copied()
    assert docker == apptainer
    assert all((REPOSITORY / name).exists() for name in docker)
    needed = {"Snakefile", "workflows", "configs", "medwvae", "pyproject.toml", "constraints.txt"}
    assert docker >= needed | {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}


@pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=["docker", "apptainer"])
def test_images_install_extras_that_exist_on_a_python_that_fits(recipe):
    (extras,) = re.findall(r'pip install -c constraints\.txt "\.\[([\w,]+)\]"', recipe)
    assert {"tensorboard", "cuda"} <= set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    (version,) = re.findall(r"BASE=python:3\.(\d+)", recipe)
    (least,) = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert int(version) >= int(least)


def test_the_guide_names_the_recipes_and_the_profile():
    guide = (REPOSITORY / "docs" / "cluster.md").read_text()
    named = re.findall(r"(?:containers|workflows/profiles)/[\w./]+\w", guide)
    assert {"containers/medwvae.def", "containers/Dockerfile"} <= set(named)
    assert all((REPOSITORY / name).exists() for name in named)
    assert "MEDWVAE_IMAGE" in guide
    assert "MEDWVAE_IMAGE" in (REPOSITORY / "workflows" / "rules" / "common.smk").read_text()
