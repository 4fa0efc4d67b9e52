"""What a study consists of: its source, its methods, its trainings. Light: the workflow asks at parse time."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from medwvae import paths
from medwvae.config import Config
from medwvae.config_generative import CohortDataConfig, GenerativeModel
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic
from medwvae.names import CLASSICAL, EXTRAS, NETWORKS, TASKS, ZERO_SHOT, Kind, Network, Task, task_of
from medwvae.progress import say


def source_of(config: Config) -> Path:
    """Return the folder that ingestion reads: the user's, or the synthetic cohort's."""
    return Path(config.input) if config.input else paths.phantom(config.root)


def generative_models(config: Config) -> dict[str, GenerativeModel]:
    """Return the generative models that this study trains and scores: none where its networks are another run's."""
    return {} if config.networks.from_run else config.generative.models()


def neutral(config: Config) -> Config:
    """Return the configuration with the user's own paths replaced by links in the private folder, made where missing.

    The workflow writes the configuration among the results and Snakemake records the paths of inputs, but a path can
    name a patient. A link that was made is never changed (another path gets another link, as often as needed), so
    that planning something else does not touch a study that is being run.

    Raises
    ------
    InputError
        If the results lie on a file system without symbolic links.
    """
    private = paths.private(config.root)
    links = {key: str(_link(private, key, path)) for key, path in config.own_paths.items()}
    for key, link in links.items():
        if not Path(link).exists():
            say(f"medwvae: the path given as `{key}` does not exist")
        elif key == "input" and not Path(link).is_dir():
            say("medwvae: the path given as `input` is a file; give the folder that holds it")
    return config.with_paths(links)


def direct(config: Config) -> Config:
    """Return what `neutral` was given: the user's own paths, absolute or relative as they were."""
    private = paths.private(config.root).resolve()
    targets = {}
    for key, path in config.own_paths.items():
        link = Path(path)
        if link.is_symlink() and link.parent.resolve() == private:
            target = link.readlink()
            targets[key] = str(target) if target.is_absolute() else os.path.relpath(private / target)
    return config.with_paths(targets)


def _link(private: Path, key: str, path: str) -> Path:
    """Return the link that leads to a path; one relative to here stays right when the whole folder is moved."""
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = Path(path)
    target = whole if whole.is_absolute() else Path(os.path.relpath(whole, private.resolve()))
    suffix = whole.suffix.lower() if whole.suffix.lower() in (".csv", ".tsv") else ""
    for number in count(1):
        link = private / f"{key}-{number}{suffix}"
        try:
            with suppress(FileExistsError):
                link.symlink_to(target)
                # Only a change of what it leads to may count as one: the link itself is older than any result.
                with suppress(OSError, NotImplementedError):
                    os.utime(link, (0, 0), follow_symlinks=False)
            if link.readlink() == target:
                return link
        except OSError as error:
            raise InputError(
                f"no links can be made in the folder of results ({error.strerror}), and they keep names in your "
                "paths out of the results; set `results` to a folder on another file system"
            ) from None
    raise AssertionError


def methods_of(config: Config, problem: str) -> dict[str, Kind]:
    """Return every method in a problem's table, with its kind."""
    wanted = config.classical.enabled
    methods: dict[str, Kind] = {"input": "input"}
    methods |= {name: "classical" for name in CLASSICAL[task_of(problem)] if wanted is None or name in wanted}
    methods |= {name: "classical" for name in EXTRAS[task_of(problem)] if name in config.classical.extras}
    if config.restore.zero_shot is not None:
        methods[ZERO_SHOT] = "ours"
    for network in config.networks.enabled:
        methods[network] = "ours" if network == "wavelet_vae" else "network"
    return methods


def networks_trained(config: Config) -> list[tuple[Task, Network]]:
    """Return every (task, network) that the study trains; none where it takes those of another run."""
    if config.networks.from_run is not None:
        return []
    return [(task, network) for task in config.tasks.enabled for network in config.networks.enabled]


def weights_of(config: Config, problem: str, method: str) -> list[Path]:
    """Return the files of weights that a method restores with, this run's or another's; none of a classical one."""
    other = config.networks.from_run
    root = config.root if other is None else Path(other)
    if method == ZERO_SHOT and config.restore.zero_shot is not None:
        return generative_weights(config, config.restore.zero_shot, root)
    return [paths.model(root, task_of(problem), method)] if method in NETWORKS else []


def module_of(config: Config, method: str | None) -> str | None:
    """Return the module of `medwvae.nets` behind a network, a generative model's id, or None of a classical method."""
    model = config.generative.models().get(method or "")
    return config.generative.systems[model.system].module if model else method


def generative_weights(config: Config, model: str, root: Path | None = None) -> list[Path]:
    """Return the files of weights of a generative model, of another study with `root`; none of a control."""
    one = config.generative.models().get(model)
    if one is None:
        raise ConfigError(f"the study has no generative model {model!r}")
    system, root = config.generative.systems[one.system], root or config.root
    weights = [paths.generative_model(root, model)] if system.trained else []
    return [*weights, paths.generative_prior(root, model)] if getattr(system, "prior", False) else weights


def image_set_files(config: Config) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of the files of the study's set of images; none of the study's own volumes.

    Raises
    ------
    InputError
        If files are missing.
    """
    data = config.generative.data
    if isinstance(data, CohortDataConfig) or not config.generative.systems:
        return []
    from medwvae.data.image_sets import files_of, signature

    return signature(files_of(data.kind, Path(data.path)))


def write_config(config: Config) -> None:
    """Write the resolved configuration beside the results."""
    from medwvae.config_io import to_yaml

    with atomic(paths.config(config.root)) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


def task_named(name: str) -> Task:
    """Return the task of that name; raise `ConfigError` where there is none, or it is a task's setting."""
    try:
        task = task_of(name)
    except KeyError:
        raise ConfigError(f"no task {name!r}; have: {', '.join(TASKS)}") from None
    if task != name:
        raise ConfigError(f"{name!r}: the settings of a task share one training, that of {task}")
    return task


def each(function: Callable[[Any], Any], items: list[Any], workers: int) -> Any:
    """Yield function(item) in order, in worker processes when there is more than one."""
    if workers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(min(workers, len(items))) as pool:
        yield from pool.map(function, items)
