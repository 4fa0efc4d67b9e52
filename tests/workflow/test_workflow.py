import gzip
import json
import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from medwvae import paths
from medwvae.config_io import load
from medwvae.evaluate import COLUMNS
from tests.workflow.conftest import Workflow
from tests.workflow.planner import REPOSITORY

pytestmark = pytest.mark.slow


def test_dicom_in_report_out(finished: Workflow) -> None:
    metrics = pd.read_csv(finished.results / "metrics.csv")
    assert tuple(metrics.columns) == COLUMNS
    assert set(metrics["task"]) == {"superres", "denoise"}
    denoise = metrics[metrics["task"] == "denoise"]
    assert dict(zip(denoise["method"], denoise["kind"], strict=True)) == {
        "input": "input", "tv": "classical", "wavelet_vae": "ours", "unet": "network",
    }  # fmt: skip
    assert metrics["value"].notna().all()
    # One row per subject, method, region and metric: no subject is counted twice.
    assert not metrics.duplicated(["task", "method", "subject", "region", "metric"]).any()
    page = (finished.results / "report.html").read_text()
    assert "<html" in page
    assert 'src="http' not in page
    summary = json.loads((finished.results / "summary.json").read_text())
    assert set(summary["tasks"]) == {"superres", "denoise"}


def test_identifiers_stay_private(finished: Workflow) -> None:
    private = finished.results / "private"
    known = (private / "key_subjects.csv").read_text() + (private / "key_sources.csv").read_text()
    assert known.count("PHANTOM005") == 2 and str(finished.source) in known  # what must not be found is there to find
    shared = [path for path in finished.results.rglob("*") if private not in path.parents]
    shared += (finished.folder / ".snakemake").rglob("*")
    for path in shared:
        content = str(path.relative_to(finished.folder)).encode()
        if path.is_file():
            content += gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for secret in (b"phantom0", b"phantom^", finished.source.name.encode()):
            assert secret not in content.lower(), path
    assert len(shared) > 50
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in private.iterdir() if not path.is_symlink()} == {0o600}


def test_test_subjects_are_never_trained_on(finished: Workflow) -> None:
    splits = pd.read_csv(finished.results / "splits.csv")
    assert not splits["subject"].duplicated().any()
    metrics = pd.read_csv(finished.results / "metrics.csv")
    assert set(metrics["subject"]) == set(splits[splits["part"] == "test"]["subject"])


def test_second_run_does_nothing(finished: Workflow) -> None:
    assert finished.jobs() == {}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("report={title: Another headline}", {"report"}),
        ("evaluate={regions: [head]}", {"evaluate", "report"}),
        ("restore={batch: 5}", {"restore", "evaluate", "report"}),
        ("classical={tuning_slices: 3}", {"restore", "evaluate", "report"}),
        ("train__batch=3", {"train", "restore", "evaluate", "report"}),
    ],
)
def test_a_change_reruns_what_reads_it_and_no_more(finished: Workflow, config: str, expected: set[str]) -> None:
    jobs = finished.jobs(config)
    assert set(jobs) - {"all"} == expected


def test_a_network_s_own_settings_retrain_it_alone(finished: Workflow) -> None:
    jobs = finished.jobs("networks={unet: {features: [8, 8, 8, 8, 8, 4]}}")
    assert jobs["train"] == jobs["restore"] == 2  # one a task


def test_report_alone_really_reruns_alone(finished: Workflow) -> None:
    model = finished.results / "models" / "denoise" / "wavelet_vae" / "model.pt"
    before = model.stat().st_mtime_ns
    answer = finished.snakemake("--config", "report={title: A new headline}")
    assert answer.returncode == 0, answer.stderr
    assert "A new headline" in (finished.results / "report.html").read_text()
    assert model.stat().st_mtime_ns == before
    answer = finished.snakemake()  # back to the study as it is, for the other tests
    assert answer.returncode == 0, answer.stderr
    assert finished.jobs() == {}


def test_planning_imports_what_snakemake_does_and_no_networks(empty: Workflow) -> None:
    # What makes a plan quick, whatever else runs on the machine. (Snakemake itself imports pandas.)
    answer = empty.snakemake("--dry-run", start=("-X", "importtime"))
    assert answer.returncode == 0, answer.stderr
    imported = set(re.findall(r"^import time: .*\| +([\w.]+)$", answer.stderr, re.MULTILINE))
    assert {"snakemake.cli", "medwvae.config", "medwvae.stages.plan"} <= imported
    assert not imported & {"torch", "monai", "numba", "scipy", "matplotlib", "nibabel", "pydicom"}


def test_a_study_of_a_phantom_begins_with_it(empty: Workflow) -> None:
    jobs = empty.jobs()
    assert jobs["phantom"] == 1
    assert jobs["train"] == 4


def test_every_extra_of_a_task_is_a_job_more(empty: Workflow) -> None:
    extras = empty.jobs("classical__extras=[bm3d, bm4d]")
    assert extras["restore"] == empty.jobs()["restore"] + 2  # of denoising


@pytest.mark.parametrize("config", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_plans_a_run(empty: Workflow, config: Path) -> None:
    empty.source.mkdir(exist_ok=True)
    study = load([config])
    if study.networks.from_run:  # of a study that is finished
        for task in study.tasks.enabled:
            for network in study.networks.enabled:
                weights = paths.model(empty.folder / study.networks.from_run, task, network)
                weights.parent.mkdir(parents=True, exist_ok=True)
                weights.touch()
    answer = empty.snakemake(
        "--dry-run", "--quiet", "--config", f"input={empty.source}", "run=mystudy", configfile=config
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("key", "rule", "link"),
    [
        ("split={file: mine.csv}", "split", "split.file"),
        ("ingest={demographics: mine.csv}", "ingest", "ingest.demographics"),
    ],
)
def test_tables_of_the_user_s_are_inputs_so_that_editing_them_counts(
    empty: Workflow, key: str, rule: str, link: str
) -> None:
    answer = empty.snakemake("--dry-run", "--config", key)
    assert answer.returncode != 0
    assert re.search(
        rf"Missing input files for rule {rule}:(?s:.*)private/{link}-1\.csv", answer.stdout + answer.stderr
    )
    assert f"the path given as `{link}` does not exist" in answer.stderr


def test_a_typo_is_answered_with_line_and_nearest_name(empty: Workflow) -> None:
    wrong = empty.folder / "wrong.yaml"
    wrong.write_text("run: x\ntrain:\n  batchs: 3\n")
    answer = empty.snakemake("--dry-run", configfile=wrong)
    assert answer.returncode != 0
    assert "wrong.yaml:3: unknown key `train.batchs`; did you mean `batch`?" in answer.stdout + answer.stderr


def on_two_nodes(empty: Workflow, accelerator: str) -> tuple[dict[str, Any], list[str]]:
    """Return what a training on two nodes of two devices each asks for, and the words of its srun."""
    where = ("train__nodes=2", "train__devices=2", "train__threads=6", "train__budget=20 min")
    answer = empty.snakemake("--dry-run", "--printshellcmds", "--config", *where, f"train__accelerator={accelerator}")
    assert answer.returncode == 0, answer.stderr
    said = answer.stdout + answer.stderr
    trainings = [text.split("\nrule ")[0] for text in said.split("\nrule train:")[1:]]
    assert said.count("Shell command: srun ") == len(trainings) == 4
    both = {re.search("resources: (.*)", text)[1] for text in trainings}  # type: ignore[index]
    words = {re.search("Shell command: srun (.*) medwvae --log", text)[1] for text in trainings}  # type: ignore[index]
    assert len(both) == len(words) == 1
    asked = dict(word.split("=", 1) for word in both.pop().split(", "))
    return {name: int(value) if value.isdigit() else value for name, value in asked.items()}, words.pop().split()


@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_a_training_on_two_nodes_is_started_by_srun_and_asks_for_their_cards(empty: Workflow, accelerator: str) -> None:
    asked, srun = on_two_nodes(empty, accelerator)
    cards = 4 if accelerator == "cuda" else 0
    expected = {"gpu": cards, "nodes": 2, "tasks": 4, "cpus_per_task": 3, "mem_mb": 8000, "runtime": 45, "mpi": "srun"}
    assert expected.items() <= asked.items()
    # The executor takes the allocation's variables from srun: what is not said here, it does not know.
    assert {"--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--cpus-per-task=3"} <= set(srun)
    # `--gpu-bind=none` would take CUDA_VISIBLE_DEVICES away, and show the cards of other jobs.
    assert [word for word in srun if "gpu" in word] == ["--gpus-per-node=2"] * bool(cards)


@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_the_executor_asks_slurm_for_as_many_cards_on_each_node_and_binds_none(
    empty: Workflow, accelerator: str
) -> None:
    submit, utils, validation = (
        pytest.importorskip(f"snakemake_executor_plugin_slurm.{part}", reason="needs the extra `slurm`")
        for part in ("submit_string", "utils", "validation")
    )

    class Resources(dict[str, Any]):
        __getattr__ = dict.__getitem__

    asked, _ = on_two_nodes(empty, accelerator)
    job = SimpleNamespace(resources=Resources(asked), threads=6)
    validation.validate_slurm_extra(job)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    words = (submit.get_submit_command(job, dict.fromkeys(names, "")) + utils.set_gres_string(job)).split()
    assert {"--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--cpus-per-task=3"} <= set(words)
    cards = {"--gpus=4", "--gpus-per-node=2"} if accelerator == "cuda" else set()
    assert {word for word in words if "gpu" in word} == cards


def test_what_does_not_go_on_where_it_was_has_more_time_and_memory_in_the_next_attempt() -> None:
    """Read from the rules: what a second attempt asks for, a plan does not show."""
    for rules in (REPOSITORY / "workflows" / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", rules.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            name = rule.split(":")[0]
            assert "mem_mb=more(" in rule, name
            assert ("runtime=more(" in rule) != (name == "ingest" or "**TRAINING" in rule), name
