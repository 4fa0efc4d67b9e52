"""What each subcommand does: read the study's files, call the rooms below, write the study's files."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths, provenance
from medwvae.config import Config, slice_for
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic
from medwvae.names import CLASSICAL, NETWORKS, TASKS, Kind, Network, Task
from medwvae.progress import bar, counter, say

if TYPE_CHECKING:
    from medwvae.data.loaders import Case
    from medwvae.restore import Method, Record

LATENTS = 2
"""Test volumes whose latent is kept for the report."""


def source_of(config: Config) -> Path:
    """Return the folder that ingestion reads: the user's, or the synthetic cohort's."""
    return Path(config.input) if config.input else paths.phantom(config.root)


def phantom(config: Config, threads: int) -> None:
    """Write the synthetic cohort."""
    from medwvae.data.phantom.cohort import make_cohort

    p = config.phantom
    with counter("phantom", p.subjects) as advance:
        make_cohort(
            paths.phantom(config.root),
            subjects=p.subjects,
            seed=config.seed,
            shape=p.shape,
            spacing=p.spacing,
            contrasts=p.contrasts,
            lesions=p.lesions,
            bias=p.bias,
            noise=p.noise,
            file_format=p.file_format,
            workers=threads,
            advance=advance,
        )


def ingest(config: Config, threads: int) -> None:
    """Source folder to canonical volumes and manifest."""
    from medwvae.data import ingest as ingestion
    from medwvae.data import manifest

    c, root = config.ingest, config.root
    with bar("ingest") as shown:
        rows = ingestion.ingest(
            source_of(config),
            paths.canonical(root),
            subjects=c.subjects if config.input else "keep",  # a phantom is no patient
            pattern=c.pattern,
            key_file=paths.private(root) / "key",
            default_modality=c.default_modality,
            demographics=Path(c.demographics) if c.demographics else None,
            workers=threads,
            advance=lambda done, total: shown.update(done / total),
        )
    manifest.write(paths.manifest(root), rows)
    refused = [row for row in rows if row.status == "refused"]
    say(f"ingest: {len(rows) - len(refused)} volumes, {len(refused)} refused (see {paths.manifest(root)})")
    for row in refused:
        say(f"  {row.volume}: {row.reason}")


def split(config: Config) -> None:
    """Subjects of the usable volumes to parts."""
    from medwvae.data import splits

    c = config.split
    subjects = sorted({row.subject for row in _usable(config)})
    if c.file:
        assigned = splits.read(Path(c.file))
        if missing := [s for s in subjects if s not in assigned]:
            raise InputError(f"{c.file}: {len(missing)} subjects of the manifest have no part, first {missing[0]}")
        assigned = {s: assigned[s] for s in subjects}
    else:
        assigned = splits.split(subjects, fractions=(c.train, c.val, c.test), seed=config.seed)
    splits.write(paths.splits(config.root), assigned)


def preprocess(config: Config, threads: int) -> None:
    """Canonical volumes to slices in network units."""
    from medwvae.data import loaders, splits

    root, assigned = config.root, splits.read(paths.splits(config.root))
    rows = _usable(config)
    jobs = partial(_prepare_one, root, config.preprocess.plane, config.preprocess.percentile)
    work = [(row.volume, row.file, row.modality or config.ingest.default_modality) for row in rows]
    failed: set[str] = set()
    with counter("preprocess", len(work)) as advance:
        for name, reason in _each(jobs, work, threads):
            advance()
            if reason:
                say(f"preprocess: {name} left out: {reason}")
                failed.add(name)
    index = [(r.volume, r.subject, r.contrast, assigned[r.subject]) for r in rows if r.volume not in failed]
    if not index:
        raise InputError("no volume could be preprocessed; see the reasons above")
    loaders.write_index(paths.prepared_index(root), index)


def train(config: Config, task: str, network: str, threads: int) -> None:
    """Train one network for one task, from its last checkpoint if there is one."""
    task = _task(task)
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
    state = paths.training_state(root, _training_digest(config, task, network))
    started = time.monotonic()
    with bar(f"train {task}/{network}") as shown:
        weights, progress, precision = run(
            lambda: build.network(config, task, network),
            sampler,
            degrade,
            validation,
            build.training(config, task),
            state,
            lambda fraction, figures: shown.update(fraction, **figures),
            _tensorboard(root, task, network) if c.tensorboard else None,
        )
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


def restore(config: Config, task: str, method: str, threads: int) -> None:
    """Restore the test volumes of a task with one method."""
    task = _task(task)
    if method not in (have := methods_of(config, task)):
        raise ConfigError(f"no method {method!r} for task {task!r}; have: {', '.join(have)}")
    import torch

    from medwvae import build
    from medwvae import restore as restoration
    from medwvae.data.loaders import load_cases

    torch.set_num_threads(threads)
    root = config.root
    cases = load_cases(paths.prepared_index(root), "test")
    degrade = build.degradation(config, task)
    run, record = _method(config, task, method)
    for old in paths.restored(root, task, method).glob("*.nii.gz"):
        old.unlink()  # of a subject that may have left the test part
    with counter(f"restore {task}/{method}", len(cases)) as advance:
        restoration.restore_cases(
            cases,
            run,
            degrade,
            seed=config.seed,
            task=task,
            folder=paths.restored(root, task, method),
            record=record,
            advance=advance,
        )
    if task == "autoencode" and method == "wavelet_vae":
        _write_latents(config, cases)
    restoration.write_record(paths.record(root, task, method), record)


def evaluate(config: Config, task: str, threads: int) -> None:
    """Score all methods of a task."""
    task, root = _task(task), config.root
    import pandas as pd

    from medwvae import build
    from medwvae.data.loaders import load_cases
    from medwvae.evaluate import Restored, by_subject, score_volumes, write_table

    items = [
        Restored(method, kind, paths.restored(root, task, method)) for method, kind in methods_of(config, task).items()
    ]
    cases = load_cases(paths.prepared_index(root), "test")
    one = partial(
        score_volumes,
        cases,
        run=config.run,
        task=task,
        setting=build.setting(config, task),
        regions=config.evaluate.regions,
    )
    with counter(f"evaluate {task}", len(items)) as advance:
        tables = []
        for table in _each(one, [[item] for item in items], threads):
            tables.append(table)
            advance()
    volumes = pd.concat(tables, ignore_index=True)
    write_table(paths.volume_scores(root, task), volumes)
    write_table(paths.scores(root, task), by_subject(volumes))


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


def _usable(config: Config) -> list[Any]:
    """Rows of the manifest that are usable and of a wanted contrast."""
    from medwvae.data import manifest

    wanted = config.preprocess.contrasts
    rows = [row for row in manifest.read(paths.manifest(config.root)) if row.status == "ok"]
    rows = [row for row in rows if not wanted or row.contrast in wanted]
    if not rows:
        raise InputError(f"no usable volume of contrast {', '.join(wanted)}; see {paths.manifest(config.root)}")
    return rows


def _prepare_one(root: Path, plane: Any, percentile: float, item: tuple[str, str, Any]) -> tuple[str, str]:
    from medwvae.data.transforms import prepare

    name, file, modality = item
    try:
        prepared = prepare(root / file, modality=modality, plane=plane, percentile=percentile)
    except InputError as error:
        return name, str(error)
    prepared.save(paths.prepared(root) / f"{name}.npz")
    return name, ""


def _each(function: Callable[[Any], Any], items: list[Any], workers: int) -> Any:
    """Yield function(item) in order, in worker processes when there is more than one."""
    if workers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(min(workers, len(items))) as pool:
        yield from pool.map(function, items)


def _task(name: str) -> Task:
    if name not in TASKS:
        raise ConfigError(f"no task {name!r}; have: {', '.join(TASKS)}")
    return name


def _training_digest(config: Config, task: Task, network: str) -> str:
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


def _tensorboard(root: Path, task: str, network: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("train.tensorboard needs the extra: pip install 'medwvae[tensorboard]'") from None
    return SummaryWriter(str(root / "tensorboard" / f"{task}-{network}"))


def _trained(config: Config, task: Task, network: str) -> tuple[Any, dict[str, Any]]:
    from medwvae import build, checkpoint

    state = checkpoint.load(paths.model(config.root, task, network))
    model = build.network(config, task, network)
    model.load_state_dict(state["weights"])
    return model.eval(), state["meta"]


def _method(config: Config, task: Task, name: str) -> "tuple[Method, Record]":
    """Return a method ready to run and the beginning of its record."""
    from medwvae import restore as restoration
    from medwvae.train import best_precision, device_for

    record = restoration.Record(kind=methods_of(config, task)[name])
    if name == "input":
        return restoration.input_method, record
    if name == "exact_inverse":
        return restoration.exact_inverse(len(config.networks.wavelet_vae.autoencode.widths)), record
    if name in NETWORKS:
        model, meta = _trained(config, task, name)
        record.details = {key: meta[key] for key in ("precision", "steps", "training_seconds", "parameters", "best")}
        ensemble = config.restore.self_ensemble and task != "autoencode"
        device = device_for(config.train.accelerator)
        run = restoration.network_method(
            model,
            self_ensemble=ensemble,
            batch=config.restore.batch,
            precision=best_precision(config.train.accelerator) if device == "cpu" else meta["precision"],
            device=device,
        )
        return run, record
    return _tuned(config, task, name, record)


def _tuned(config: Config, task: Task, name: str, record: "Record") -> "tuple[Method, Record]":
    """Tune a classical method on validation subjects."""
    from medwvae import build
    from medwvae import restore as restoration
    from medwvae.baselines import classical
    from medwvae.baselines.tuning import Case as TuningCase
    from medwvae.baselines.tuning import tune
    from medwvae.data.loaders import load_cases

    method = classical(task)[name]
    params: dict[str, float] = method.grid[0]
    if method.tuned:
        degrade = build.degradation(config, task)
        cases = load_cases(paths.prepared_index(config.root), "val")
        first = {case.subject: case for case in reversed(cases)}  # one volume a subject
        chosen = [first[subject] for subject in sorted(first)][: config.classical.tuning_subjects]
        problems = [
            TuningCase(
                restoration.simulate(case, degrade, config.seed, task).measurement, case.slices(), case.prepared.head
            )
            for case in chosen
        ]
        every = max(1, min(len(case.prepared.tissue_slices()) for case in chosen) // config.classical.tuning_slices)
        tuning = tune(method, problems, every=every)
        params = tuning.params
        record.details["tuning"] = [vars(trial) for trial in tuning.table]
        record.details["tuning_seconds"] = round(tuning.seconds, 2)
        record.details["tuning_subjects"] = len(chosen)
    record.details["params"] = params
    return (lambda measurement: method.run(measurement, **params)), record


def _write_latents(config: Config, cases: "list[Case]") -> None:
    """Write the coefficients that the trained autoencoder gives the middle slice of the first volumes."""
    import torch

    from medwvae.restore import write_latent

    model, _ = _trained(config, "autoencode", "wavelet_vae")
    for case in cases[:LATENTS]:
        tissue = case.prepared.tissue_slices()
        with torch.no_grad():
            coefficients = model.encode(case.slices()[[int(tissue[len(tissue) // 2])]])
        write_latent(paths.latent(config.root, "autoencode", "wavelet_vae", case.volume), coefficients)


def networks_trained(config: Config) -> list[tuple[Task, Network]]:
    """Return every (task, network) that the study trains."""
    return [(task, network) for task in config.tasks.enabled for network in config.networks_of(task)]


def write_config(config: Config) -> None:
    """Write the resolved configuration beside the results."""
    from medwvae.config_io import to_yaml

    with atomic(paths.config(config.root)) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


def report(config: Config) -> None:
    """Write the long table, the summary and the page; print the summary and where the page lies."""
    root = config.root
    for task in config.tasks.enabled:
        if not paths.scores(root, task).is_file():
            raise InputError(f"{paths.scores(root, task)} is missing; run `medwvae evaluate --task {task}` first")
    import pandas as pd
    from rich.console import Console

    from medwvae.evaluate import write_table
    from medwvae.report import page
    from medwvae.report.tables import render_text_table

    metrics = pd.concat([pd.read_csv(paths.scores(root, task)) for task in config.tasks.enabled], ignore_index=True)
    inputs = _report_inputs(config, metrics)
    summary = page.summary(metrics, inputs.reference)
    html = page.build(inputs)
    write_table(paths.metrics(root), metrics)
    for path, text in ((paths.summary(root), json.dumps(summary, indent=1) + "\n"), (paths.report(root), html)):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    Console().print(render_text_table(summary))
    print(f"Report: {paths.report(root)}")


def _report_inputs(config: Config, metrics: Any) -> Any:
    """Gather what the page shows from the study's folder."""
    import pandas as pd

    from medwvae import build
    from medwvae.data import splits
    from medwvae.data.loaders import load_cases
    from medwvae.protocols import PROTOCOLS
    from medwvae.report.page import ReportInputs

    root, tasks = config.root, config.tasks.enabled
    manifest = pd.read_csv(paths.manifest(root))
    cases = load_cases(paths.prepared_index(root), "test")
    names = [case.volume for case in cases]
    files = manifest.set_index("volume")["file"]
    records = {
        (task, m): json.loads(paths.record(root, task, m).read_text())
        for task in tasks
        for m in methods_of(config, task)
    }
    tuning = [
        {
            "task": task,
            "method": m,
            "params": ", ".join(f"{k} = {v:g}" for k, v in r["details"]["params"].items()),
            "seconds": r["details"]["tuning_seconds"],
        }
        for (task, m), r in records.items()
        if "tuning" in r["details"]
    ]
    trained = networks_trained(config)
    return ReportInputs(
        run=config.run,
        title=config.report.title,
        metrics=metrics,
        manifest=manifest,
        splits=dict(splits.read(paths.splits(root))),
        histories={key: pd.read_csv(paths.history(root, *key)) for key in trained},
        volumes={
            task: {
                m: {v: paths.volume(paths.restored(root, task, m), v) for v in names} for m in methods_of(config, task)
            }
            for task in tasks
        },
        truths={v: root / files[v] for v in names},
        subjects={case.volume: case.subject for case in cases},
        slice_axis={case.volume: case.prepared.axis for case in cases},
        latents={
            f"{case.subject}, middle slice": path
            for case in cases[:LATENTS]
            if (path := paths.latent(root, "autoencode", "wavelet_vae", case.volume)).is_file()
        },
        tuning=pd.DataFrame(tuning, columns=["task", "method", "params", "seconds"]),
        settings={task: build.setting(config, task) for task in tasks},
        protocols={name: PROTOCOLS[name].description for name in dict.fromkeys(metrics["protocol"])},
        durations=_durations(root),
        provenance={
            "configuration": _without_paths(config),
            "versions": provenance.versions() | {"revision": provenance.revision()},
            "machine": provenance.machine(),
            "digests": {stage: provenance.stage_code(stage) for stage in ("ingest", "preprocess", "evaluate")}
            | {f"train {task}/{network}": _training_digest(config, task, network) for task, network in trained},
            "seed": config.seed,
        },
        parameters={key: records[key]["details"]["parameters"] for key in trained},
        figures_per_task=config.report.subjects_shown,
    )


def _without_paths(config: Config) -> dict[str, Any]:
    """Return the configuration with the user's own paths blanked: they can hold names, and a report travels."""
    plain = config.model_dump(mode="json")
    for section, field in (
        (plain, "input"),
        (plain, "results"),
        (plain["split"], "file"),
        (plain["ingest"], "demographics"),
    ):
        section[field] = section[field] and "(a path of the user's)"
    return plain


def _durations(root: Path) -> dict[str, float]:
    """Wall seconds of every job, from the workflow's own benchmark tables (empty when stages ran by hand)."""
    import pandas as pd

    tables = sorted((root / "benchmarks").glob("*.tsv"))
    return {path.stem: float(pd.read_csv(path, sep="\t")["s"].iloc[-1]) for path in tables}
