"""The processes of a data-parallel training: who starts them, their device, their random states."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medwvae.errors import ConfigError, TrainingError
from medwvae.precision import plugin


def launched(accelerator: str, precision: str, devices: int, nodes: int) -> Any:
    """Return a Lightning Fabric whose processes run.

    They were started by `torchrun`, or by `srun` with one task per device. Where neither did, on one node, Fabric
    starts the further processes itself, by the command line of the first.

    Parameters
    ----------
    accelerator, precision : str
        As Fabric names them.
    devices, nodes : int
        Devices of each node (on a CPU: processes), and nodes.

    Raises
    ------
    ConfigError
        If other than `devices` × `nodes` processes were started, or the accelerator lacks the precision.
    """
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator=accelerator,
        strategy="ddp" if devices * nodes > 1 else "auto",
        devices=devices,
        num_nodes=nodes,
        plugins=[_environment(devices, nodes), plugin(precision, accelerator)],
    )
    fabric.launch()
    return fabric


def _environment(devices: int, nodes: int) -> Any:
    # Fabric's own choice takes every job of SLURM for one that srun started with a task per device, and warns on every
    # machine that has an srun.
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if TorchElasticEnvironment.detect():
        _check(int(os.environ["WORLD_SIZE"]), "torchrun", devices, nodes)
        return TorchElasticEnvironment()
    if tasks > 1:
        _check(tasks, "srun", devices, nodes)
        step = {"NTASKS": tasks, "NNODES": os.environ.get("SLURM_STEP_NUM_NODES", nodes), "NTASKS_PER_NODE": devices}
        os.environ |= {f"SLURM_{name}": str(number) for name, number in step.items()}  # of the step, not of the job
        return SLURMEnvironment(auto_requeue=False)
    if nodes > 1:
        raise ConfigError(
            f"train.nodes={nodes}: on several nodes srun or torchrun starts the processes; see docs/cluster.md"
        )
    return LightningEnvironment()


def _check(started: int, by: str, devices: int, nodes: int) -> None:
    if started != devices * nodes:
        raise ConfigError(
            f"{by} started {started} processes, but train.devices={devices} and train.nodes={nodes} "
            f"make {devices * nodes}; change one of them"
        )


def random_states(fabric: Any, slices: Tensor) -> dict[str, Tensor]:
    """Return the states of all that draws at random, of every process: uint8, (processes, bytes), by name.

    All processes must call it together, each with the state of its own generator of slices.
    """
    own = {"slices": slices, "noise": torch.get_rng_state()}
    if fabric.device.type != "cpu":
        own["device noise"] = torch.get_device_module(fabric.device).get_rng_state(fabric.device)
    if fabric.world_size == 1:
        return {name: state[None] for name, state in own.items()}
    gathered = fabric.all_gather({name: state.to(fabric.device) for name, state in own.items()})
    return {name: states.cpu() for name, states in gathered.items()}


def restore_random_states(fabric: Any, generator: torch.Generator, states: dict[str, Tensor], source: Path) -> None:
    """Undo `random_states`: every process draws on from where it was.

    Raises
    ------
    TrainingError
        If there were more or fewer processes.
    """
    if len(states["slices"]) != fabric.world_size:
        raise TrainingError(
            f"{source} is of {len(states['slices'])} processes, but there are {fabric.world_size}; "
            "train with as many, or delete its folder to start afresh"
        )
    own = {name: state[fabric.global_rank].clone() for name, state in states.items()}
    generator.set_state(own["slices"])
    torch.set_rng_state(own["noise"])
    if fabric.device.type != "cpu" and "device noise" in own:
        torch.get_device_module(fabric.device).set_rng_state(own["device noise"], fabric.device)
