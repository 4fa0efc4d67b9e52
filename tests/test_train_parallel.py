"""Data-parallel training with two processes on the CPU (gloo)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medwvae import checkpoint, paths
from tests.test_train_kill import study

SETTINGS = (
    "train={budget: 4 steps, batch: 2, validations: 2, validation_slices: 2, precision: 32-true}",
    "train.accelerator=cpu", "train.devices=2", "tasks.superres.crop=[16, 16]",
    "networks.wavelet_vae.superres={widths: [6, 8], blocks: 1}",
)  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    root, log = tmp_path / "default", tmp_path / "train.log"
    study(root)
    # The console script, since each further process is started from it by the same command line.
    command = [str(Path(sys.executable).with_name("medwvae")), "--log", str(log), "train"]
    command += ["--task", "superres", "--network", "wavelet_vae"]
    command += [part for setting in (*SETTINGS, f"results={tmp_path}") for part in ("--set", setting)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert answer.returncode == 0, answer.stderr
    state = checkpoint.load(paths.model(root, "superres", "wavelet_vae"))
    assert state["meta"]["steps"] == 4
    assert all(torch.isfinite(weight).all() for weight in state["weights"].values())
    # Only the first process speaks.
    assert answer.stderr.count("best validation PSNR") == 1
    assert log.read_text().count("best validation PSNR") == 1
