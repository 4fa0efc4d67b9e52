"""Commands of the documentation: on a finished study, which is the tiny one; and its workflows, planned."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from medwvae import cli
from medwvae.config_io import load
from tests.docs.blocks import REPOSITORY, Block, blocks, commands
from tests.workflow.conftest import Workflow
from tests.workflow.planner import plan

pytestmark = pytest.mark.slow

ON_A_STUDY = ("train", "restore", "card", "export")
RUN = [(block, words[1:]) for block, words in commands() if words[0] == "medwvae" and words[1] in ON_A_STUDY]


def named(cases):
    return [pytest.param(*case, id=f"{case[0]}-{' '.join(case[1])[:60]}") for case in cases]


@pytest.fixture(scope="module")
def copied(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished study once more, under the names that the pages give it."""
    here = tmp_path_factory.mktemp("copied")
    shutil.copytree(finished.source, here / finished.source.name)
    for run in ("mystudy", "small"):
        root = here / "results" / run
        shutil.copytree(finished.results, root, symlinks=True)
        config = (root / "config.yaml").read_text().replace("run: tiny", f"run: {run}")
        (root / "config.yaml").write_text(config.replace("results/tiny/", f"results/{run}/"))
    volume = next((here / "results/mystudy/restored/superres/wavelet_vae").glob("*.nii.gz"))
    for name in ("restored.nii.gz", "map.nii.gz"):
        shutil.copy(volume, here / name)
    sources = pd.read_csv(here / "results/mystudy/private/key_sources.csv").astype(str)
    label = volume.name.removesuffix(".nii.gz")
    row = sources[(sources == label).any(axis=1)].iloc[0]
    series = next(path for path in map(Path, row) if path.exists())
    (here / "series").symlink_to(series if series.is_dir() else series.parent)
    return here


@pytest.mark.parametrize(("block", "words"), named(RUN))
def test_a_command_on_a_finished_study_runs(
    block: Block, words: list[str], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied)
    for folder in ("send", "send/"):
        if folder in words:
            shutil.rmtree(folder, ignore_errors=True)
    if "nlm" in words:  # the tiny study has another classical method
        words = [*words, "--set", "classical.enabled=[nlm]"]
    answer = CliRunner().invoke(cli.app, ["series" if word == "/path/to/series" else word for word in words])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == 0, answer.output


OF_A_FINISHED_STUDY = [path.name for path in (REPOSITORY / "configs").glob("*.yaml") if load([path]).networks.from_run]
PLANNED = [
    (block, words[1:])
    for block, words in commands()
    if words[0].endswith("snakemake")
    and {"--configfile", "--config"} & set(words)
    and not any(Path(word).name in OF_A_FINISHED_STUDY for word in words)
]


@pytest.mark.parametrize(("block", "words"), named(PLANNED))
def test_a_workflow_is_planned(block: Block, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / "scans" / f"{part}-{kind}-ubyte").touch()
    for text in (given.text for given in blocks("yaml")):
        for name in ("small", "mystudy"):
            if f"run: {name}" in text:
                (tmp_path / f"{name}.yaml").write_text(text.replace("/path/to/folder", "scans"))
    (tmp_path / "mine.yaml").write_text("train: {budget: 2 min}\n")
    arguments = [_here(word, tmp_path) for word in words if word != "--quiet"]
    options = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(tmp_path), "--dry-run"]
    answer = plan([*options, *arguments], os.environ | {"OMP_NUM_THREADS": "1"})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "ingest" in answer.stdout + answer.stderr or "generative" in answer.stdout + answer.stderr


def _here(word: str, folder: Path) -> str:
    """Return a word of a command with the paths of this repository and of the user's scans in place of the page's."""
    key, equals, value = word.rpartition("=")
    if value.startswith("/path/to/"):
        return f"{key}{equals}{folder / 'scans'}"
    if (REPOSITORY / word).exists() and "/" in word:
        return str(REPOSITORY / word)
    return str(folder / word) if word.endswith(".yaml") else word
