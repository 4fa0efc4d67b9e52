"""One network for one task."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medwvae import paths, provenance
from medwvae.config import Config, slice_for
from medwvae.errors import ConfigError
from medwvae.names import Task
from medwvae.progress import bar, is_main_process, say
from medwvae.stages.plan import task_named


def train(config: Config, task: str, network: str, threads: int) -> None:
    """Train one network for one task, from its last checkpoint if there is one."""
    task = task_named(task)
    if network not in (have := config.networks_of(task)):
        raise ConfigError(f"no network {network!r} trains for {task}; have: {', '.join(have)}")
    import torch

    from medwvae import build, checkpoint
    from medwvae.data.loaders import SliceSampler, load_cases
    from medwvae.train import Validation, write_history
    from medwvae.train import train as run

    torch.set_num_threads(threads)
    root, c = config.root, config.train
    index = paths.prepared_index(root)
    degrade = build.degradation(config, task)
    cases = load_cases(index, "train")
    levels = len(getattr(config.networks.wavelet_vae, task).widths)
    sampler = SliceSampler(cases, getattr(config.tasks, task).crop, multiple=2**levels)
    validation = Validation(load_cases(index, "val"), degrade, c.validation_slices, config.seed)
    state = paths.training_state(root, training_digest(config, task, network))
    started = time.monotonic()
    with bar(f"train {task}/{network}") as shown, _tensorboard(root, task, network, c.tensorboard) as writer:
        weights, progress, precision = run(
            lambda: build.network(config, task, network),
            sampler,
            degrade,
            validation,
            build.training(config, task, network),
            state,
            lambda fraction, figures: shown.update(fraction, **figures),
            writer,
        )
    if not is_main_process():
        return
    write_history(paths.history(root, task, network), progress.history)
    meta = {
        "task": task,
        "network": network,
        "precision": precision,
        "steps": progress.step,
        "best": progress.best,
        "training_seconds": round(progress.seconds, 2),
        "wall_seconds": round(time.monotonic() - started, 2),
        "parameters": sum(w.numel() for name, w in weights.items()),
        "config": json.dumps(slice_for(config, "train", task, network)),
    }
    checkpoint.save(paths.model(root, task, network), {"weights": weights, "meta": meta})
    say(f"train {task}/{network}: {progress.step} steps, best validation PSNR {progress.best:.2f} dB")


def training_digest(config: Config, task: Task, network: str) -> str:
    """Digest of what decides a training's result: configuration, code and data."""
    from medwvae.files import sha256_of

    index = paths.prepared_index(config.root)
    return provenance.digest_of(
        [
            slice_for(config, "train", task, network),
            slice_for(config, "preprocess"),
            provenance.stage_code("train", network),
            sha256_of(index),
            sha256_of(paths.manifest(config.root)),
        ]
    )


@contextmanager
def _tensorboard(root: Path, task: str, network: str, wanted: bool) -> Iterator[Any]:
    """Yield a writer of TensorBoard events, or None; its events are flushed at the end."""
    if not wanted or not is_main_process():
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("train.tensorboard needs the extra: pip install 'medwvae[tensorboard]'") from None
    with SummaryWriter(str(root / "tensorboard" / f"{task}-{network}")) as writer:
        yield writer


def trained(config: Config, task: Task, network: str) -> tuple[Any, dict[str, Any]]:
    """Return a trained network, ready to restore, and what is known of its training."""
    from medwvae import build, checkpoint

    state = checkpoint.load(paths.model(config.root, task, network))
    model = build.network(config, task, network)
    model.load_state_dict(state["weights"])
    return model.eval(), state["meta"]
