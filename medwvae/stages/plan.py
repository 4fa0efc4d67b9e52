"""What a study consists of: its source, its methods, its trainings. Light: the workflow asks at parse time."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from medwvae import paths
from medwvae.config import Config
from medwvae.errors import ConfigError
from medwvae.files import atomic
from medwvae.names import CLASSICAL, TASKS, Kind, Network, Task


def source_of(config: Config) -> Path:
    """Return the folder that ingestion reads: the user's, or the synthetic cohort's."""
    return Path(config.input) if config.input else paths.phantom(config.root)


def methods_of(config: Config, task: Task) -> dict[str, Kind]:
    """Return every method in a task's table, with its kind."""
    methods: dict[str, Kind] = {}
    if task == "autoencode":
        methods["exact_inverse"] = "control"
    else:
        methods["input"] = "input"
        available = CLASSICAL[task]
        wanted = config.classical.enabled
        methods |= {name: "classical" for name in available if wanted is None or name in wanted}
    for network in config.networks_of(task):
        methods[network] = "ours" if network == "wavelet_vae" else "network"
    return methods


def networks_trained(config: Config) -> list[tuple[Task, Network]]:
    """Return every (task, network) that the study trains."""
    return [(task, network) for task in config.tasks.enabled for network in config.networks_of(task)]


def module_of(config: Config, method: str | None) -> str | None:
    """Return the module of `medwvae.nets` behind a network, a generative model's id, or None of a classical method."""
    model = config.generative.models().get(method or "")
    return config.generative.systems[model.system].module if model else method


def generative_weights(config: Config, model: str) -> list[Path]:
    """Return the files that a generative model's scores are computed from; none of a control."""
    one = config.generative.models().get(model)
    if one is None:
        raise ConfigError(f"the study has no generative model {model!r}")
    system, root = config.generative.systems[one.system], config.root
    weights = [paths.generative_model(root, model)] if system.trained else []
    return [*weights, paths.generative_prior(root, model)] if getattr(system, "prior", False) else weights


def write_config(config: Config) -> None:
    """Write the resolved configuration beside the results."""
    from medwvae.config_io import to_yaml

    with atomic(paths.config(config.root)) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


def task_named(name: str) -> Task:
    """Return the task of that name; raise `ConfigError` where there is none."""
    if name not in TASKS:
        raise ConfigError(f"no task {name!r}; have: {', '.join(TASKS)}")
    return name


def each(function: Callable[[Any], Any], items: list[Any], workers: int) -> Any:
    """Yield function(item) in order, in worker processes when there is more than one."""
    if workers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(min(workers, len(items))) as pool:
        yield from pool.map(function, items)
