"""DICOM to report through SLURM's queue: side by side, killed, timed out, and in the end as if nothing had happened."""

import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch

from medwvae import checkpoint, config_io, paths
from medwvae.stages.training import training_digest
from tests.slurm import cluster

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "workflows" / "profiles" / "slurm"
STEPS = 800
NETWORKS = ("wavelet_vae", "unet")
STUDY = f"""
run: queue
phantom: {{subjects: 5, shape: [48, 56, 16], spacing: [4.0, 4.0, 9.0]}}
tasks: {{enabled: [denoise], denoise: {{crop: [48, 48]}}}}
networks:
  enabled: [wavelet_vae, unet]
  wavelet_vae: {{denoise: {{widths: [8, 8]}}}}
  unet: {{features: [8, 8, 8, 8, 8, 8]}}
classical: {{enabled: [tv], tuning_subjects: 1, tuning_slices: 2}}
train:
  budget: {STEPS} steps
  batch: 4
  validations: 4
  validation_slices: 4
  patience: 0
  precision: 32-true
  threads: 1
  checkpoint_seconds: 0.5
  accelerator: {"cpu" if torch.cuda.is_available() else "auto"} # `auto` asks SLURM for cards, and finds none
"""
PARTITIONS = """
partitions:
  cpu: {max_runtime: 1440, max_mem_mb: 64000, max_threads: 2}
  gpu: {max_runtime: 1440, max_mem_mb: 64000, max_threads: 2, max_gpu: 2}
"""


def skipped() -> str | None:
    """Why there is no SLURM to test on."""
    if shutil.which("snakemake") is None:
        return "the environment is not on the PATH"
    try:
        import snakemake_executor_plugin_slurm  # noqa: F401
    except ImportError:
        return "needs the extra: pip install 'medwvae[slurm]'"
    return cluster.why_not() or cluster.install()


@pytest.fixture(scope="module")
def slurm():
    if (reason := skipped()) is not None:
        pytest.skip(reason)
    with cluster.one_node():
        yield


def snakemake(folder):
    """Start the workflow with the profile for SLURM, and what this cluster and a short test need besides."""
    (folder / "study.yaml").write_text(STUDY)
    (folder / "partitions.yaml").write_text(PARTITIONS)
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder,
        "--workflow-profile", PROFILE, "--configfile", folder / "study.yaml",
        "--slurm-partition-config", folder / "partitions.yaml", "--slurm-status-command", "squeue",
        "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "20", "--cores", "2",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "USER": os.environ.get("USER", "root")}
    return subprocess.Popen(
        list(map(str, command)),
        stdout=(folder / "snakemake.log").open("w"),
        stderr=subprocess.STDOUT,
        env=environment,
    )


def steps_in(state):
    """Steps of a checkpoint; none as long as it is not there."""
    return checkpoint.load(state)["progress"]["step"] if state.exists() else 0


def jobs_of(word):
    """Jobs whose rule, task or network is named so, first attempts first."""
    return [job for job in cluster.jobs() if word in job.get("Comment", "")]


def interrupt(folder, process):
    """Kill one training and stop the other until its time limit, each when it has a checkpoint; their steps then."""
    root, states, caught = folder / "results" / "queue", {}, {}
    limit = time.monotonic() + 900
    while len(caught) < len(NETWORKS):
        assert process.poll() is None, (folder / "snakemake.log").read_text()
        assert time.monotonic() < limit, cluster.jobs()
        time.sleep(0.3)
        running = {name: job for name in NETWORKS for job in jobs_of(f"train_denoise_{name}")[:1]}
        if len(running) < len(NETWORKS) or any(job["JobState"] != "RUNNING" for job in running.values()):
            if not caught:
                continue
        if not states:
            config = config_io.load([paths.config(root)], ())
            states = {n: paths.training_state(root, training_digest(config, "denoise", n)) / "last.ckpt" for n in NETWORKS}
        for name in set(NETWORKS) - set(caught):
            if steps := steps_in(states[name]):
                job = running[name]["JobId"]
                if name == "unet":
                    subprocess.run(["scancel", "--signal=KILL", job], check=True, timeout=60)
                else:  # stopped it cannot be done before the limit, on a machine of whatever speed
                    subprocess.run(["scancel", "--signal=STOP", job], check=True, timeout=60)
                    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], check=True, timeout=60)
                caught[name] = steps
    return caught


def times(job):
    return datetime.fromisoformat(job["StartTime"]), datetime.fromisoformat(job["EndTime"])


def table(jobs):
    """The jobs as lines, for the eye."""
    columns = ("JobId", "Comment", "Partition", "JobState", "StartTime", "EndTime", "TimeLimit", "MinMemoryNode", "TRES")
    return "\n".join("  ".join(str(job.get(name)) for name in columns) for job in jobs)


@pytest.mark.slow
def test_the_demo_through_the_queue(slurm, tmp_path):
    process = snakemake(tmp_path)
    try:
        caught = interrupt(tmp_path, process)
        assert process.wait(timeout=1200) == 0, (tmp_path / "snakemake.log").read_text()
    finally:
        process.terminate()
        process.wait(timeout=120)
    root, jobs = tmp_path / "results" / "queue", cluster.jobs()
    print(caught, table(jobs), sep="\n")
    assert paths.report(root).exists()
    assert paths.metrics(root).exists()

    trainings = {name: jobs_of(f"train_denoise_{name}") for name in NETWORKS}
    assert [job["JobState"] for job in trainings["unet"]] == ["FAILED", "COMPLETED"]  # killed, and retried
    assert [job["JobState"] for job in trainings["wavelet_vae"]] == ["TIMEOUT", "COMPLETED"]
    assert all(job["JobState"] == "COMPLETED" for job in jobs if "train_" not in job["Comment"])
    (one, until), (two, end) = (times(trainings[name][0]) for name in NETWORKS)
    assert max(one, two) < min(until, end)  # side by side

    for attempts in trainings.values():
        assert [job["MinMemoryNode"] for job in attempts] == ["8000M", "16000M"]
        if not torch.cuda.is_available():
            assert all(job["Partition"] == "gpu" and "gres/gpu=1" in job["TRES"] for job in attempts)
    assert all(job["Partition"] == "cpu" for job in jobs_of("evaluate") + jobs_of("cohort"))
    names = [job["Comment"] for job in jobs]
    assert not any(rule in name for name in names for rule in ("rule_ingest", "rule_split", "rule_preprocess")), names

    # Each went on from its checkpoint, and ended as a training does that nobody interrupts.
    whole = tmp_path / "whole" / "queue"
    shutil.copytree(root, whole, ignore=shutil.ignore_patterns("state", "models", "private", "canonical"))
    for name, steps in caught.items():
        assert 0 < steps < STEPS
        assert "goes on from step" in paths.log(root, f"train-denoise-{name}").read_text()
        command = [sys.executable, "-c", "from medwvae.cli import main; main()", "train", "-c", str(paths.config(root))]
        command += ["--task", "denoise", "--network", name, "--set", f"results={tmp_path / 'whole'}"]
        subprocess.run(command, check=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"})
        ours, theirs = (checkpoint.load(paths.model(place, "denoise", name)) for place in (root, whole))
        assert ours["meta"]["steps"] == theirs["meta"]["steps"] == STEPS
        assert ours["meta"]["best"] == theirs["meta"]["best"]
        assert ours["weights"].keys() == theirs["weights"].keys()
        assert all(torch.equal(weight, theirs["weights"][key]) for key, weight in ours["weights"].items())
