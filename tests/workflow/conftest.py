"""A tiny study, run once from DICOM to report by the real workflow."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from medwvae.data.phantom.cohort import make_cohort
from tests.workflow.planner import REPOSITORY, plan

HANGS = 3600
"""Seconds that a run may take before it counts as hanging; on a machine with other work it takes minutes."""

STUDY = """
run: tiny
phantom: {subjects: 5, shape: [48, 56, 16], spacing: [4.0, 4.0, 9.0]}
split: {train: 0.4, val: 0.2, test: 0.4} # test_generative.py walks from one test subject to another
tasks:
  enabled: [superres, denoise]
  superres: {crop: [48, 48]}
  denoise: {crop: [48, 48]}
networks:
  enabled: [wavelet_vae, unet]
  wavelet_vae:
    superres: {widths: [8, 8]}
    denoise: {widths: [8, 8]}
  unet: {features: [8, 8, 8, 8, 8, 8]}
classical: {enabled: [tv], tuning_subjects: 1, tuning_slices: 2}
train: {budget: 6 steps, batch: 4, validations: 2, validation_slices: 4, precision: 32-true}
"""


@dataclass(frozen=True)
class Workflow:
    """Runs snakemake on the study in a folder of its own."""

    folder: Path
    overlays: tuple[Path, ...] = ()

    @property
    def source(self) -> Path:
        return self.folder / "own data"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    def snakemake(
        self, *arguments: str, configfile: Path | None = None, start: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run snakemake; plans are made by the planner, unless `start` has options of a Python of their own."""
        options = [
            "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(self.folder), "--cores", "2",
            "--configfile", str(configfile or self.folder / "study.yaml"), *map(str, self.overlays), *arguments,
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        if "--dry-run" in arguments and not start:
            return plan(options, environment)
        command = [sys.executable, *start, "-m", "snakemake", *options]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANGS)

    def jobs(self, *config: str) -> dict[str, int]:
        """Rules that a dry run with other configuration would start, and how many jobs of each."""
        answer = self.snakemake("--dry-run", *(("--config", *config) if config else ()))
        assert answer.returncode == 0, answer.stderr
        text = answer.stdout + answer.stderr
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
        if table is None:
            assert "Nothing to be done" in text, text
            return {}
        return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table[1], re.MULTILINE)}


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The study before anything ran."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "study.yaml").write_text(STUDY)
    return Workflow(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The study after one run, on DICOM files of the user's own: subjects get pseudonyms."""
    folder = tmp_path_factory.mktemp("finished")
    workflow = Workflow(folder)
    make_cohort(workflow.source, seed=1, **yaml.safe_load(STUDY)["phantom"])
    (folder / "study.yaml").write_text(f"{STUDY}input: {workflow.source}\n")
    answer = workflow.snakemake()
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return workflow
