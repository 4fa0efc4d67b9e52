"""A study of generative models alone, by the real workflow, on the prepared volumes of the finished study."""

import json
import shutil

import pandas as pd
import pytest

from medwvae.names import LATENT_USES
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.slow

GENERATIVE = """
tasks: {enabled: []}
train: {threads: 1}
generative:
  data: {size: [48, 56]}
  budget: 4 steps
  rates: [4]
  samples: 4
  uses: elbo-r4-s1
  fidelity: {slices: 6, draws: 8, importance_draws: 4, importance_images: 2}
  systems:
    elbo: {kind: wavelet, widths: [4, 4, 4], blocks: 1, prior_width: 4, prior_blocks: 1}
    coarse: {kind: ll_only}
"""


@pytest.fixture(scope="module")
def study(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("generative") / "study"
    shutil.copytree(finished.folder, folder, symlinks=True)  # times and Snakemake's records come along
    overlay = folder / "generative.yaml"
    overlay.write_text(GENERATIVE)
    workflow = Workflow(folder, (overlay,))
    answer = workflow.snakemake()
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return workflow


def test_nothing_of_it_runs_without_systems(empty: Workflow) -> None:
    assert not {name for name in empty.jobs() if "generative" in name or "prior" in name}


def test_generative_models_alone_from_volumes_to_report(study: Workflow) -> None:
    table = pd.read_csv(study.results / "generative.csv")
    splits = pd.read_csv(study.results / "splits.csv")
    assert set(table["subject"]) == set(splits[splits["part"] == "test"]["subject"])
    assert set(table["system"]) == {"elbo", "coarse", "jpeg2000", "jpegls", "png"}
    summary = json.loads((study.results / "generative.json").read_text())
    assert [row["system"] for row in summary["rows"] if row["rate"] == 4] == ["elbo", "coarse"]
    page = (study.results / "report.html").read_text()
    assert 'id="generative"' in page and "No metrics" not in page
    assert 'src="http' not in page
    assert pd.read_csv(study.results / "metrics.csv").empty
    assert study.jobs() == {}


def test_the_latent_is_put_to_use_and_shown(study: Workflow) -> None:
    folder = study.results / "generative" / "elbo-r4-s1" / "uses"
    assert {path.name for path in folder.iterdir()} == {"uses.json", *(f"{use}.png" for use in LATENT_USES)}
    page = (study.results / "report.html").read_text()
    assert 'id="uses"' in page and page.count('class="sheet"') == len(LATENT_USES)
    splits = pd.read_csv(study.results / "splits.csv")
    facts = json.loads((folder / "uses.json").read_text())
    assert set(facts["walk"]["subjects"]) <= set(splits[splits["part"] == "test"]["subject"])
    jobs = study.jobs("generative={uses: coarse-r4-s1}")
    assert set(jobs) - {"all"} == {"generative_uses", "report"}
    assert set(study.jobs("generative={uses: null}")) - {"all"} == {"report"}


def test_another_system_leaves_the_trained_ones_alone(study: Workflow) -> None:
    jobs = study.jobs("generative={systems: {again: {kind: wavelet, objective: sparse}}}")
    assert jobs["train_generative"] == 1 and jobs["score_generative"] == 1
    assert jobs["generative_report"] == jobs["report"] == 1
    assert "generative_references" not in jobs


def test_a_change_of_what_is_scored_trains_nothing(study: Workflow) -> None:
    jobs = study.jobs("generative={fidelity: {slices: 2}}")
    assert set(jobs) - {"all"} == {"score_generative", "generative_references", "generative_report", "report"}
