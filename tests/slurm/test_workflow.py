"""DICOM to report through SLURM's queue: side by side, killed, timed out, and in the end as if nothing had happened."""

import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from medwvae import checkpoint, config_io, paths
from medwvae.stages.training import training_digest
from tests import test_train_kill, test_train_parallel
from tests.slurm import cluster

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "workflows" / "profiles" / "slurm"
STEPS = 1000
HANGS = 3600
"""Seconds after which something counts as hanging; on a quiet machine all takes minutes."""
NETWORKS = ("wavelet_vae", "unet")
STUDY = f"""
run: queue
phantom: {{subjects: 5, shape: [48, 56, 16], spacing: [4.0, 4.0, 9.0]}}
tasks: {{enabled: [denoise], denoise: {{crop: [48, 48]}}}}
networks:
  enabled: [wavelet_vae, unet]
  wavelet_vae: {{denoise: {{widths: [8, 8]}}}}
  unet: {{features: [8, 8, 8, 8, 8, 8]}}
classical: {{enabled: []}}
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
  gpu: {max_runtime: 1440, max_mem_mb: 64000, max_threads: 2, max_gpu: 4} # of all its nodes
"""


def skipped() -> str | None:
    """Why there is no SLURM to test on."""
    if not os.environ.get("MEDWVAE_TEST_SLURM"):
        return "installs and starts a SLURM on this machine; only by `make test-slurm`"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "needs the extra: pip install 'medwvae[slurm]'"
    return cluster.why_not() or cluster.install()


@pytest.fixture(scope="module")
def slurm():
    if (reason := skipped()) is not None:
        pytest.skip(reason)
    with cluster.running():
        yield


def snakemake(folder, *arguments, study=STUDY):
    """Start the workflow with the profile for SLURM, and what this cluster and a short test need besides."""
    (folder / "study.yaml").write_text(study)
    (folder / "partitions.yaml").write_text(PARTITIONS)
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder,
        "--workflow-profile", PROFILE, "--configfile", folder / "study.yaml",
        "--slurm-partition-config", folder / "partitions.yaml", "--slurm-status-command", "squeue",
        "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "20", "--cores", "2", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "USER": os.environ.get("USER", "root")}
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, env=environment)
    cluster.client(process.pid)
    return process


def steps_in(state):
    """Steps of a checkpoint; none as long as it is not there."""
    return checkpoint.load(state)["progress"]["step"] if state.exists() else 0


def training(network):
    """What the executor writes into the comment of a training's job."""
    return f"rule_train_wildcards_denoise_{network}"


def interrupt(folder, process):
    """Kill one training and stop the other until its time limit, each when it has a checkpoint; their steps then."""
    root = folder / "results" / "queue"
    states: dict[str, Path] = {}
    caught: dict[str, int] = {}
    limit = time.monotonic() + HANGS
    while len(caught) < len(NETWORKS):
        assert process.poll() is None, (folder / "snakemake.log").read_text()
        assert time.monotonic() < limit, cluster.jobs()
        time.sleep(0.3)
        jobs = cluster.jobs()[::-1]
        running = {name: job for job in jobs for name in NETWORKS if job["Comment"] == training(name)}  # first attempts
        if not caught and [job["JobState"] for job in running.values()] != ["RUNNING"] * len(NETWORKS):
            continue
        if not states:
            config = config_io.load([paths.config(root)], [f"results={root.parent}"])
            digests = {name: training_digest(config, "denoise", name) for name in NETWORKS}
            states = {name: paths.training_state(root, digest) / "last.ckpt" for name, digest in digests.items()}
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
    columns = ("JobId", "Comment", "Partition", "JobState", "StartTime", "EndTime", "TimeLimit", "MinMemoryNode")
    return "\n".join("  ".join(str(job.get(name)) for name in columns) for job in jobs)


@pytest.mark.slow
def test_the_demo_through_the_queue(slurm, tmp_path):
    process = snakemake(tmp_path)
    try:
        caught = interrupt(tmp_path, process)
        assert process.wait(timeout=HANGS) == 0, (tmp_path / "snakemake.log").read_text()
    finally:
        process.kill()  # of no effect on one that has ended
        process.wait(timeout=60)
    jobs = cluster.jobs()
    print(caught, table(jobs), sep="\n")
    check_jobs(jobs)
    check_results(tmp_path, caught)


def check_jobs(jobs):
    """The queue did what the profile says."""
    assert all(job["JobState"] == "COMPLETED" for job in jobs if "rule_train" not in job["Comment"])
    one, two = ([job for job in jobs if job["Comment"] == training(name)] for name in NETWORKS)
    assert [job["JobState"] for job in one] == ["TIMEOUT", "COMPLETED"]
    assert [job["JobState"] for job in two] == ["CANCELLED", "COMPLETED"]  # as SLURM calls a job killed by scancel
    starts, ends = zip(*(times(attempts[0]) for attempts in (one, two)), strict=True)
    assert max(starts) < min(ends)  # side by side
    for attempts in (one, two):
        assert [job["MinMemoryNode"] for job in attempts] == ["8000M", "16000M"]
        if not torch.cuda.is_available():
            assert all((job["Partition"], job["TresPerJob"]) == ("gpu", "gres:gpu:1") for job in attempts)
    groups = [job for job in jobs if job["Comment"].startswith(("rule_cohort_", "rule_ending_"))]
    assert len(groups) == 2  # source to slices, and scores to report
    assert all(job["Partition"] == "cpu" for job in groups)


def check_results(folder, caught):
    """There is a report, and each training went on and ended as one does that nobody interrupts."""
    root, whole = folder / "results" / "queue", folder / "whole" / "queue"
    assert paths.report(root).exists()
    assert paths.metrics(root).exists()
    shutil.copytree(root, whole, ignore=shutil.ignore_patterns("state", "models", "private", "canonical"))
    for name, steps in caught.items():
        assert 0 < steps < STEPS
        assert "goes on from step" in paths.log(root, f"train-denoise-{name}").read_text()
        command = [sys.executable, "-c", "from medwvae.cli import main; main()", "train", "-c", str(paths.config(root))]
        command += ["--task", "denoise", "--network", name, "--set", f"results={whole.parent}"]
        subprocess.run(command, check=True, timeout=HANGS, env=os.environ | {"OMP_NUM_THREADS": "1"})
        ours, theirs = (paths.model(place, "denoise", name) for place in (root, whole))
        assert_same_training(ours, theirs, STEPS)


def assert_same_training(one, two, steps):
    """Two files of weights are the same to the bit."""
    ours, theirs = map(checkpoint.load, (one, two))
    assert ours["meta"]["steps"] == theirs["meta"]["steps"] == steps
    assert ours["meta"]["best"] == theirs["meta"]["best"]
    assert ours["weights"].keys() == theirs["weights"].keys()
    assert all(torch.equal(weight, theirs["weights"][key]) for key, weight in ours["weights"].items())


@pytest.mark.slow
def test_two_tasks_of_srun_train_one_model(slurm, tmp_path):
    whole, tasks = tmp_path / "whole", tmp_path / "tasks"
    test_train_kill.study(whole / "default")
    shutil.copytree(whole, tasks)
    command = ["srun", "--ntasks=2", "--nodes=1", "--partition=cpu", "--time=10", *test_train_parallel.command(tasks)]
    subprocess.run(command, check=True, timeout=HANGS, env=os.environ | {"OMP_NUM_THREADS": "1"})
    test_train_parallel.finished(whole)  # processes that Fabric starts
    assert (tasks / "train.log").read_text().count("best validation PSNR") == 1
    ours, theirs = (paths.model(root / "default", "superres", "wavelet_vae") for root in (tasks, whole))
    assert_same_training(ours, theirs, 60)
