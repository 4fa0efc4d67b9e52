"""Data-parallel training with two processes on the CPU (gloo), and the accumulation of gradients."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medwvae import checkpoint, parallel, paths
from medwvae.data.loaders import SliceSampler, of_share
from medwvae.errors import ConfigError, TrainingError
from medwvae.progress import is_main_process
from tests.cases import case
from tests.test_train import conventional, denoiser, run
from tests.test_train_kill import study

SETTINGS = (
    "train={budget: 60 steps, batch: 2, validations: 2, validation_slices: 2, precision: 32-true, patience: 0}",
    "train.accelerator=cpu", "train.devices=2", "train.accumulate=2", "train.checkpoint_seconds=0.05",
    "tasks.superres.crop=[16, 16]", "networks.wavelet_vae.superres={widths: [6, 8], blocks: 1}",
)  # fmt: skip


def command(results: Path, *, torchrun: bool = False) -> list[str]:
    """Train with two processes: Fabric's own, by the command line of the console script, or torchrun's."""
    script = str(Path(sys.executable).with_name("medwvae"))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    log = ["--log", str(results / "train.log")]  # which torchrun takes for an option of its own
    arguments = [*start, script] if torchrun else [script, *log]
    sets = [part for one in (*SETTINGS, f"results={results}") for part in ("--set", one)]
    return [*arguments, "train", "--task", "superres", "--network", "wavelet_vae", *sets]


def finished(results: Path, *, torchrun: bool = False) -> str:
    answer = subprocess.run(
        command(results, torchrun=torchrun),
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stderr


@pytest.mark.slow
def test_two_processes_train_one_model_and_go_on_after_a_kill(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    study(whole / "default")
    shutil.copytree(whole, parts)

    with subprocess.Popen(
        command(parts), stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True
    ) as process:
        while not (found := list(parts.glob("default/state/*/last.ckpt"))):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    model = paths.model(parts / "default", "superres", "wavelet_vae")
    assert not model.exists()
    random = checkpoint.load(found[0])["random"]
    assert all(len(states) == 2 for states in random.values())
    assert not any(torch.equal(*states) for states in random.values())  # the ranks draw different slices and noise
    assert 0 < checkpoint.load(found[0])["progress"]["step"] < 60
    said = finished(parts, torchrun=True)  # started in whatever way
    assert "goes on from step" in said

    said = finished(whole)
    assert said.count("best validation PSNR") == 1  # only the first process speaks
    assert (whole / "train.log").read_text().count("best validation PSNR") == 1
    one, two = (checkpoint.load(paths.model(root / "default", "superres", "wavelet_vae")) for root in (whole, parts))
    assert one["meta"]["steps"] == two["meta"]["steps"] == 60
    assert one["meta"]["best"] == two["meta"]["best"]
    for name, value in one["weights"].items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, two["weights"][name]), name


@pytest.mark.parametrize("build", [denoiser, conventional], ids=lambda build: build.__name__)
def test_accumulated_gradients_are_those_of_the_larger_batch(tmp_path, monkeypatch, build):
    if build is conventional:  # chance in the latent comes in another order
        monkeypatch.setattr(torch, "randn_like", torch.zeros_like)

    def trained(batch, accumulate):
        better = itertools.count()  # the newest weights are the best, so that these are compared
        folder = tmp_path / f"{batch} x {accumulate}"
        score = lambda model, device: float(next(better))  # noqa: E731
        weights, progress, _ = run(folder, build, validation=score, batch=batch, accumulate=accumulate, steps=6)
        return torch.cat([weight.flatten().double() for weight in weights.values()]), progress.history

    (one, history), (two, same), (half, _) = trained(4, 1), trained(1, 4), trained(2, 1)
    assert [row["loss"] for row in same] == pytest.approx([row["loss"] for row in history], rel=1e-5)
    assert torch.linalg.norm(two - one) < 1e-3 * torch.linalg.norm(half - one)


@given(count=st.integers(1, 40), ranks=st.integers(1, 12))
def test_the_shares_together_draw_everything_equally_often(count, ranks):
    drawn = torch.arange(count)
    found = torch.cat([of_share(drawn, count, (rank, ranks)) for rank in range(ranks)])
    assert torch.bincount(found, minlength=count).tolist() == [ranks] * count
    for rank in range(ranks):  # no share needs much more than its part
        assert len(set(of_share(drawn, count, (rank, ranks)).tolist())) <= -(-count // ranks) + 1


def test_each_rank_reads_its_own_volumes():
    volumes = [case(str(k), seed=k) for k in range(4)]
    sampler = SliceSampler(volumes, (16, 12))
    for rank in range(2):
        drawn = sampler.draw(30, torch.Generator().manual_seed(rank), (rank, 2))
        own = {volume.prepared.maximum for volume in volumes[2 * rank : 2 * rank + 2]}
        assert {float(maximum) for maximum in drawn.maxima} == {float(torch.tensor(m)) for m in own}


# --- who starts the processes -----------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch):
    """Neither torchrun nor srun has started this process."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("nodes", [2, 3])
def test_several_nodes_need_a_launcher(alone, nodes):
    with pytest.raises(ConfigError, match=rf"train\.nodes={nodes}: .*srun or torchrun"):
        parallel.launched("cpu", "32-true", 1, nodes)


def test_processes_that_are_not_as_many_as_devices_are_refused(alone):
    alone.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ConfigError, match=r"srun started 4 processes, .*train\.devices=2 and train\.nodes=1 make 2"):
        parallel.launched("cpu", "32-true", 2, 1)
    alone.setenv("TORCHELASTIC_RUN_ID", "1")
    alone.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"torchrun started 3 processes"):
        parallel.launched("cpu", "32-true", 2, 1)


def test_a_job_of_one_task_is_no_parallel_training(alone):
    for name, value in {"NTASKS": "1", "JOB_ID": "7", "PROCID": "0", "STEP_NUM_TASKS": "1", "JOB_NAME": "x"}.items():
        alone.setenv(f"SLURM_{name}", value)
    assert parallel.launched("cpu", "32-true", 1, 1).world_size == 1


def test_a_state_of_more_processes_is_refused(tmp_path):
    run(tmp_path, steps=2)
    state = checkpoint.load(tmp_path / "last.ckpt")
    state["random"] = {name: states.repeat(2, 1) for name, states in state["random"].items()}
    checkpoint.save(tmp_path / "last.ckpt", state)
    with pytest.raises(TrainingError, match="of 2 processes, but there are 1"):
        run(tmp_path, steps=2)


RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@pytest.mark.parametrize(
    ("environment", "main"),
    [
        ({}, True),
        ({"SLURM_PROCID": "1"}, False),  # of srun
        ({"LOCAL_RANK": "1"}, False),  # of Fabric
        ({"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),
        ({"TORCHELASTIC_RUN_ID": "1", "RANK": "4", "LOCAL_RANK": "0", "SLURM_PROCID": "0"}, False),
    ],
)
def test_one_process_speaks_and_writes_whoever_numbers_them(monkeypatch, environment, main):
    """torchrun need not number the nodes as SLURM does, which may have started it."""
    for name in (*RANKS, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_main_process() is main
