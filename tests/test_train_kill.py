"""A training that is killed and started again ends as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from medwvae import checkpoint, paths
from medwvae.data import loaders
from medwvae.files import atomic
from tests.cases import case

SETTINGS = (
    "train.budget=400 steps", "train.batch=2", "train.checkpoint_seconds=0.2", "train.precision=32-true",
    "train.accelerator=cpu", "train.validations=4", "train.validation_slices=2", "train.patience=0",
    "tasks.superres.crop=[16,16]", "networks.wavelet_vae.superres.widths=[6,8]",
    "networks.wavelet_vae.superres.blocks=1",
)  # fmt: skip


def study(root):
    """Write what preprocessing leaves behind."""
    volumes = [case("a"), case("b", seed=1), case("c", seed=2)]
    parts = ("train", "train", "val")
    loaders.write_index(
        paths.prepared_index(root), [(v.volume, v.subject, "t1w", p) for v, p in zip(volumes, parts, strict=True)]
    )
    for volume in volumes:
        volume.prepared.save(paths.prepared(root) / f"{volume.volume}.npz")
    with atomic(paths.manifest(root)) as temporary:
        temporary.write_text("volume\na\nb\nc\n")


def training(results):
    """Start `medwvae train` for a study in a results folder."""
    sets = [part for setting in (*SETTINGS, f"results={results}") for part in ("--set", setting)]
    command = [sys.executable, "-c", "from medwvae.cli import main; main()", "train", "--task", "superres"]
    return subprocess.Popen(
        [*command, "--network", "wavelet_vae", *sets],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finished(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_killed_and_started_again(tmp_path):
    whole, parts = tmp_path / "whole" / "default", tmp_path / "parts" / "default"
    study(whole)
    shutil.copytree(whole, parts)

    process = training(parts.parent)
    while not (found := list(parts.glob("state/*/last.ckpt"))):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL
    model = paths.model(parts, "superres", "wavelet_vae")
    assert not model.exists()
    assert 0 < checkpoint.load(found[0])["progress"]["step"] < 400
    finished(training(parts.parent))

    finished(training(whole.parent))
    one, two = (checkpoint.load(paths.model(root, "superres", "wavelet_vae")) for root in (whole, parts))
    assert one["weights"].keys() == two["weights"].keys()
    for name, value in one["weights"].items():
        assert torch.equal(value, two["weights"][name]), name
    assert one["meta"]["steps"] == two["meta"]["steps"] == 400
    assert one["meta"]["best"] == two["meta"]["best"]
    histories = [paths.history(root, "superres", "wavelet_vae").read_text().splitlines() for root in (whole, parts)]
    assert len(histories[0]) == len(histories[1])
    # The state is keyed by what decides the result, and the folder is no part of that.
    assert [path.name for path in parts.glob("state/*")] == [path.name for path in whole.glob("state/*")]
