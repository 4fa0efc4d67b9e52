"""One network for one task, and what every training of the study shares."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths, provenance
from medwvae.config import Config, slice_for
from medwvae.errors import ConfigError, InputError
from medwvae.names import Task
from medwvae.progress import bar, is_main_process, say
from medwvae.stages.plan import task_named

if TYPE_CHECKING:
    from medwvae.data.loaders import Sampler
    from medwvae.degradation import Degradation
    from medwvae.nets.restorer import Restorer
    from medwvae.train import Settings


def train(config: Config, task: str, network: str, threads: int) -> None:
    """Train one network for one task, from its last checkpoint if there is one."""
    task = task_named(task)
    if config.networks.from_run is not None:
        raise ConfigError("networks.from_run: the networks are those of another run; there is nothing to train")
    if network not in (have := config.networks.enabled):
        raise ConfigError(f"the study has no network {network!r}; have: {', '.join(have)}")
    import torch

    from medwvae import build
    from medwvae.data.loaders import load_cases
    from medwvae.operators import CONDITIONS
    from medwvae.train import Validation
    from medwvae.volumetric import volumetric

    torch.set_num_threads(max(1, threads // config.train.devices))
    root, c = config.root, config.train
    index = paths.prepared_index(root)
    degrade = build.training_degradation(config, task)
    depth = c.depth if config.networks.dims == 3 else None
    fit(
        config,
        Job(
            title=f"train {task}/{network}",
            build=lambda: build.network(config, task, network),
            sampler=_sampler(config, task),
            degrade=degrade if depth is None else volumetric(degrade),
            validation=Validation(load_cases(index, "val"), degrade, c.validation_slices, config.seed, depth=depth),
            settings=build.training(config, task, network),
            digest=training_digest(config, task, network),
            weights=paths.model(root, task, network),
            history=paths.history(root, task, network),
            measure="validation PSNR" if c.supervision == "clean" else "ratio of held-out data to the error there",
            meta={
                "task": task,
                "network": network,
                "conditions": list(CONDITIONS),
                "config": json.dumps(slice_for(config, "train", task, network)),
            },
        ),
    )


def _sampler(config: Config, task: Task) -> "Sampler":
    """Return where training draws its images from: slices, or patches, of volumes that stay on disk."""
    from medwvae.data.loaders import PatchSampler, SliceSampler, load_cases

    index, crop = paths.prepared_index(config.root), getattr(config.tasks, task).crop
    multiple = 2 ** len(getattr(config.networks.wavelet_vae, task).widths)
    cases = load_cases(index, "train", mapped=True)
    if config.networks.dims == 2:
        return SliceSampler(cases, crop, multiple=multiple, neighbours=config.networks.neighbours)
    if crop is None:
        largest = (max(case.prepared.image.shape[axis] for case in cases) for axis in (1, 2))
        crop = tuple(size + -size % multiple for size in largest)
    return PatchSampler(cases, (config.train.depth, *crop))


@dataclass(frozen=True)
class Job:
    """One training: what the loop needs, where its state is found again, where its result goes."""

    title: str
    build: "Callable[[], Restorer]"
    sampler: "Sampler"
    degrade: "Degradation"
    validation: Any
    settings: "Settings"
    digest: str
    weights: Path
    history: Path
    meta: dict[str, Any]
    measure: str = "validation PSNR"
    unit: str = "dB"


def fit(config: Config, job: Job) -> None:
    """Train, from the last checkpoint if there is one; write the best weights and the history."""
    from medwvae import checkpoint
    from medwvae.train import train as run
    from medwvae.train import write_history

    started = time.monotonic()
    learned = {name for name, _ in job.build().named_parameters()}  # weights hold running means as well
    with bar(job.title) as shown, _tensorboard(config, job.title) as writer:
        weights, progress, precision = run(
            job.build,
            job.sampler,
            job.degrade,
            job.validation,
            job.settings,
            paths.training_state(config.root, job.digest),
            lambda fraction, figures: shown.update(fraction, **figures),
            writer,
        )
    if not is_main_process():
        return
    write_history(job.history, progress.history)
    meta = job.meta | {
        "precision": precision,
        "steps": progress.step,
        "best": progress.best,
        "training_seconds": round(progress.seconds, 2),
        "wall_seconds": round(time.monotonic() - started, 2),
        "images_per_s": progress.step * job.settings.images_per_step / progress.seconds,
        "parameters": sum(w.numel() for name, w in weights.items() if name in learned),
    }
    checkpoint.save(job.weights, {"weights": weights, "meta": meta})
    say(f"{job.title}: {progress.step} steps, best {job.measure} {progress.best:.2f} {job.unit}".rstrip())


def training_digest(config: Config, task: Task, network: str) -> str:
    """Digest of what decides a training's result: configuration, code and data."""
    return state_digest(config, slice_for(config, "train", task, network), provenance.stage_code("train", network))


def state_digest(config: Config, settings: dict[str, Any], code: str, *files: Path) -> str:
    """Digest of a slice of the configuration, of code, of the prepared volumes, and of further files."""
    from medwvae.files import sha256_of

    read = (paths.prepared_index(config.root), paths.manifest(config.root), *files)
    return provenance.digest_of([settings, slice_for(config, "preprocess"), code, *map(sha256_of, read)])


@contextmanager
def _tensorboard(config: Config, title: str) -> Iterator[Any]:
    """Yield a writer of TensorBoard events, or None; its events are flushed at the end."""
    if not config.train.tensorboard or not is_main_process():
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("train.tensorboard needs the extra: pip install 'medwvae[tensorboard]'") from None
    with SummaryWriter(str(config.root / "tensorboard" / title.removeprefix("train ").replace("/", "-"))) as writer:
        yield writer


def trained(config: Config, task: Task, network: str) -> tuple[Any, dict[str, Any]]:
    """Return a trained network, ready to restore, and what is known of its training.

    Raises
    ------
    InputError
        If it was not trained, the run of `networks.from_run` has another configuration by now, or the network learned
        to read other `CONDITIONS`.
    """
    from medwvae import build, checkpoint
    from medwvae.operators import CONDITIONS

    config = study_of_networks(config)
    path = paths.model(config.root, task, network)
    state = checkpoint.load(path)
    model = build.network(config, task, network)
    try:
        model.load_state_dict(state["weights"])
    except RuntimeError as error:
        raise InputError(f"{path}: these weights are not of the network that the run's configuration has") from error
    found = tuple(state["meta"].get("conditions", ()))
    if model.conditions > 1 and found != CONDITIONS:
        raise InputError(
            f"{path}: the network learned to read {' and '.join(found) or 'the acceleration on another scale'}, "
            f"and this version tells it {' and '.join(CONDITIONS)}; delete that file and train again"
        )
    return model.eval(), state["meta"]


def study_of_networks(config: Config) -> Config:
    """Return the study that trained the networks: this one, or that of `networks.from_run`.

    Raises
    ------
    ConfigError
        If that run has no configuration that can be read, or took its networks from a third.
    """
    from medwvae.config_io import load

    if config.networks.from_run is None:
        return config
    root = Path(config.networks.from_run)
    other = load([paths.config(root)], {"results": str(root.parent), "run": root.name})
    if other.networks.from_run is not None:
        raise ConfigError("networks.from_run: that run trained nothing; name the one that its networks come from")
    return other
