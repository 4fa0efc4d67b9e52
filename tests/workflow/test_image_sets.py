"""A study of a set of images by the real workflow: no cohort is asked for, and nothing names the folder."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.data.image_files import mnist_folder
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.slow

PAPER = Path(__file__).parents[2] / "configs" / "paper" / "mnist.yaml"
SYSTEMS = ("dense_vae", "wavelet_elbo")
OURS = """
run: tiny
train: {threads: 1, batch: 2, validations: 1, validation_slices: 4, precision: 32-true}
generative:
  data: {path: "Jane Roe/mnist", size: 16}
  budget: 2 steps
  seeds: 1
  rates: [16]
  samples: 4
  fidelity: {images: 6, draws: 6, importance_draws: 2, importance_images: 2}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("digits")
    mnist_folder(folder / "Jane Roe" / "mnist", 12)
    paper = yaml.safe_load(PAPER.read_text())
    systems = paper["generative"]["systems"]
    paper["generative"]["systems"] = {name: systems[name] for name in SYSTEMS}
    (folder / "study.yaml").write_text(yaml.safe_dump(paper))
    overlay = folder / "ours.yaml"
    overlay.write_text(OURS)
    workflow = Workflow(folder, (overlay,))
    answer = workflow.snakemake()
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return workflow


def test_the_paper_s_digits_from_files_to_report(study: Workflow) -> None:
    table = pd.read_csv(study.results / "generative.csv")
    assert set(table["system"]) == {*SYSTEMS, "jpeg2000", "jpegls", "png"}
    assert json.loads((study.results / "generative.json").read_text())["conditions"]["data"] == "mnist"
    page = (study.results / "report.html").read_text()
    assert "MNIST, 16 × 16" in page
    assert not [name for name in ("manifest.csv", "splits.csv", "prepared.csv") if (study.results / name).exists()]
    written = [
        path for path in study.results.rglob("*") if path.is_file() and path.suffix in (".html", ".yaml", ".log")
    ]
    assert written and not [path for path in written if re.search("Jane|Roe", path.read_text())]
    assert study.jobs() == {}


def test_a_changed_file_of_the_set_trains_and_scores_again(study: Workflow) -> None:
    file = study.folder / "Jane Roe" / "mnist" / "t10k-labels-idx1-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    jobs = study.jobs()
    assert jobs["train_generative"] == jobs["score_generative"] == 2 and jobs["generative_references"] == 1
    file.unlink()
    answer = study.snakemake("--dry-run")
    file.write_bytes(content)
    assert answer.returncode != 0 and "no t10k-labels-idx1-ubyte here" in answer.stdout + answer.stderr
