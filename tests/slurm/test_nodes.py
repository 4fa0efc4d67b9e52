"""A training on two nodes of two devices, started by the workflow through the executor and srun."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medwvae import paths
from tests.slurm import cluster
from tests.slurm.test_workflow import HANGS, STEPS, STUDY, assert_same_training, skipped, snakemake

FEW = 24
"""Steps: several processes take turns on the cores."""


@pytest.fixture(scope="module")
def slurm():
    if (reason := skipped()) is not None:
        pytest.skip(reason)
    with cluster.running(nodes=2):
        yield


@pytest.mark.slow
def test_two_nodes_of_two_devices_train_what_one_of_four_trains(slurm, tmp_path):
    root = tmp_path / "results" / "queue"
    model = paths.model(root, "denoise", "wavelet_vae")
    target = str(model.relative_to(tmp_path))
    where = ("train__nodes=2", "train__devices=2")
    process = snakemake(
        tmp_path, target, "--retries", "0", "--config", *where, study=STUDY.replace(f"{STEPS} steps", f"{FEW} steps")
    )
    try:
        assert process.wait(timeout=HANGS) == 0, (tmp_path / "snakemake.log").read_text()
    finally:
        process.kill()
        process.wait(timeout=60)
    (job,) = (job for job in cluster.jobs() if job["Comment"].startswith("rule_train"))
    assert (job["JobState"], job["NumNodes"], job["NumTasks"]) == ("COMPLETED", "2", "4")
    if not torch.cuda.is_available():
        assert (job["Partition"], job["TresPerNode"]) == ("gpu", "gres:gpu:2")
    assert paths.log(root, "train-denoise-wavelet_vae").read_text().count("best validation PSNR") == 1
    whole = tmp_path / "whole" / "queue"
    shutil.copytree(root, whole, ignore=shutil.ignore_patterns("state", "models", "private", "canonical"))
    sets = (f"results={whole.parent}", "train.nodes=1", "train.devices=4", "train.accelerator=cpu")
    command = [Path(sys.executable).with_name("medwvae"), "train", "--config", paths.config(root), "--task", "denoise"]
    command += ["--network", "wavelet_vae", *(part for one in sets for part in ("--set", one))]
    subprocess.run(list(map(str, command)), check=True, timeout=HANGS, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert_same_training(model, paths.model(whole, "denoise", "wavelet_vae"), FEW)
