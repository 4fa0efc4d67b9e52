"""The test volumes restored by one method, and all methods of a problem (a task, or one of its settings) scored."""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medwvae import paths
from medwvae.config import Config, Problem
from medwvae.errors import ConfigError, InputError
from medwvae.names import NETWORKS, ZERO_SHOT
from medwvae.progress import counter
from medwvae.stages.plan import each, methods_of
from medwvae.stages.training import study_of_networks, trained

if TYPE_CHECKING:
    from medwvae.baselines import Classical
    from medwvae.restore import Acquisition, Method, Record, SpreadMethod
    from medwvae.statistics import Calibration

TRAINING = ("precision", "steps", "training_seconds", "parameters", "best")
"""What the record of a restoration repeats of the training of its weights."""


def restore(config: Config, task: str, method: str, threads: int, max_memory: str | None = None) -> None:
    """Restore the test volumes of a task, or of one of its settings, with one method.

    `max_memory` goes before `restore.max_memory`.
    """
    problem = config.problem(task)
    if method not in (have := methods_of(config, problem.id)):
        raise ConfigError(f"no method {method!r} for task {problem.id!r}; have: {', '.join(have)}")
    import torch

    from medwvae import build
    from medwvae import restore as restoration
    from medwvae.data.loaders import load_cases
    from medwvae.load import Load
    from medwvae.precision import device_for

    torch.set_num_threads(threads)
    root = config.root
    cases = load_cases(paths.prepared_index(root), "test", mapped=True)
    on_cards = method in (*NETWORKS, ZERO_SHOT)
    acquire = build.acquisition(config, problem)
    run, spread, record = _method(config, problem, method, max_memory or config.restore.max_memory)
    calibration = None if spread is None else _calibrated(config, problem, spread, acquire, record)
    paths.record(root, problem.id, method).unlink(missing_ok=True)  # it is not that of the volumes to come
    for old in paths.restored(root, problem.id, method).glob("*.nii.gz"):
        old.unlink()  # of a subject that may have left the test part
    with counter(f"restore {problem.id}/{method}", len(cases)) as advance:
        restoration.restore_cases(
            cases,
            run,
            acquire,
            folder=paths.restored(root, problem.id, method),
            record=record,
            advance=advance,
            load=Load(torch.device(device_for(config.train.accelerator))) if on_cards else None,
            spread=spread,
            calibration=calibration,
            unsupported=config.restore.unsupported,
        )
    restoration.write_record(paths.record(root, problem.id, method), record)


def evaluate(config: Config, task: str, threads: int) -> None:
    """Score all methods of a task, or of one of its settings."""
    problem, root = config.problem(task).id, config.root
    import pandas as pd

    from medwvae import build
    from medwvae.data.loaders import load_cases
    from medwvae.evaluate import Restored, by_subject, score_volumes, write_table

    items = [
        Restored(method, kind, paths.restored(root, problem, method), _calibration(root, problem, method))
        for method, kind in methods_of(config, problem).items()
    ]
    cases = load_cases(paths.prepared_index(root), "test")
    lesions = Path(config.evaluate.lesions) if config.evaluate.lesions else None
    if lesions is not None and not lesions.is_dir():
        raise InputError("`evaluate.lesions` is no folder; give the folder of the lesion masks")
    one = partial(
        score_volumes,
        cases,
        run=config.run,
        task=problem,
        setting=build.setting(config, problem),
        regions=config.evaluate.regions,
        protocol=build.protocol(config, problem),
        metrics=config.evaluate.metrics,
        lesions=lesions,
    )
    with counter(f"evaluate {problem}", len(items)) as advance:
        tables = []
        for table in each(one, [[item] for item in items], threads):
            tables.append(table)
            advance()
    volumes = pd.concat(tables, ignore_index=True)
    write_table(paths.volume_scores(root, problem), volumes)
    write_table(paths.scores(root, problem), by_subject(volumes))


def _calibration(root: Path, problem: str, method: str) -> "Calibration | None":
    """Return what a restoration noted of its intervals; None where it has none."""
    from medwvae.statistics import Calibration

    record = paths.record(root, problem, method)
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    found = known.get("details", {}).get("uncertainty")
    return None if found is None else Calibration.from_dict(found)


def _method(
    config: Config, problem: Problem, name: str, max_memory: str | None
) -> "tuple[Method, SpreadMethod | None, Record]":
    """Return a method ready to run, the same with its spread where it is asked for, and the beginning of its record."""
    from medwvae import restore as restoration
    from medwvae.baselines import classical
    from medwvae.inference.memory import parse_size
    from medwvae.precision import device_for
    from medwvae.self_supervision import blended

    ceiling = None if max_memory is None else parse_size(max_memory)
    record = restoration.Record(kind=methods_of(config, problem.id)[name])
    if name == "input":
        return restoration.input_method, None, record
    if name in NETWORKS:
        model, meta = trained(config, problem.task, name)
        record.details = {key: meta[key] for key in TRAINING}
        device = device_for(config.train.accelerator)
        how: dict[str, Any] = {
            "self_ensemble": config.restore.mirrors(problem.task),
            "batch": config.restore.batch,
            "precision": _precision(device, meta),
            "device": device,
            "max_memory": ceiling,
        }
        spread = None
        if config.restore.uncertainty.level is not None and model.uncertain:
            spread = restoration.network_spread_method(model, draws=config.restore.uncertainty.draws, **how)
        run = restoration.network_method(model, **how)
        if study_of_networks(config).train.supervision == "noise2self":
            # Neighbours are read as they were measured, in training too, whatever is hidden of the slice itself.
            without_own = blended(run)
            return lambda given: without_own(given.with_neighbours(model.neighbours)), spread, record
        return run, spread, record
    method = classical(problem.task)[name] if name != ZERO_SHOT else _zero_shot(config, problem, record)
    run, record = _tuned(config, problem, method, record)
    return run, None, record


def _zero_shot(config: Config, problem: Problem, record: "Record") -> "Classical":
    """Return the restoration by the prior of the study's generative model, and note its training in the record."""
    import torch

    from medwvae import checkpoint
    from medwvae.latents.coefficients import wavelet_vae
    from medwvae.precision import device_for
    from medwvae.restore import autocast_type
    from medwvae.stages.generation import trained_model
    from medwvae.zero_shot import zero_shot

    name, study = cast(str, config.restore.zero_shot), study_of_networks(config)
    model = wavelet_vae(trained_model(study, name))
    meta = checkpoint.load(paths.generative_model(study.root, name))["meta"]
    record.details = {"model": name, **{key: meta[key] for key in TRAINING}}
    device = device_for(config.train.accelerator)
    mixed = autocast_type(_precision(device, meta))
    return zero_shot(model.to(torch.device(device)), problem.task, batch=config.restore.batch, mixed=mixed)


def _precision(device: str, meta: Mapping[str, Any]) -> str:
    """Return the precision in which a network restores: that of its training, if this machine has it."""
    from medwvae.precision import best_precision

    precision: str = meta["precision"]
    # Trained on a card, perhaps, and restored where there is none.
    return best_precision("cpu") if device == "cpu" and precision != "32-true" else precision


def _calibrated(
    config: Config, problem: Problem, spread: "SpreadMethod", acquire: "Acquisition", record: "Record"
) -> "Calibration":
    """Calibrate intervals on the validation subjects, and note in the record what came out."""
    from medwvae import restore as restoration
    from medwvae.data.loaders import load_cases

    wanted = config.restore.uncertainty
    cases = load_cases(paths.prepared_index(config.root), "val")
    started = time.perf_counter()
    with counter(f"calibrate {problem.id}", len(cases)) as advance:
        found = restoration.calibrated(
            cases,
            spread,
            acquire,
            level=cast(float, wanted.level),
            bounded=wanted.bounded,
            measurements=wanted.measurements,
            advance=advance,
        )
    seconds = round(time.perf_counter() - started, 2)
    record.details["uncertainty"] = found.to_dict() | {"draws": wanted.draws, "seconds": seconds}
    return found


def _tuned(config: Config, problem: Problem, method: "Classical", record: "Record") -> "tuple[Method, Record]":
    """Tune a method on validation subjects."""
    from medwvae import build
    from medwvae.baselines.tuning import Case as TuningCase
    from medwvae.baselines.tuning import tune
    from medwvae.data.loaders import load_cases

    params: dict[str, float] = method.grid[0]
    if method.tuned:
        acquire = build.acquisition(config, problem)
        cases = load_cases(paths.prepared_index(config.root), "val")
        subjects = sorted({case.subject for case in cases})[: config.classical.tuning_subjects]
        chosen = [case for case in cases if case.subject in subjects]
        measured = [
            TuningCase(
                case.subject,
                acquire(case).measurement,
                case.slices(),
                case.prepared.head,
            )
            for case in chosen
        ]
        every = max(1, min(len(case.prepared.tissue_slices()) for case in chosen) // config.classical.tuning_slices)
        tuning = tune(method, measured, every=every)
        params = tuning.params
        record.details["tuning"] = [vars(trial) for trial in tuning.table]
        record.details["tuning_seconds"] = round(tuning.seconds, 2)
        record.details["tuning_subjects"] = len(subjects)
    record.details["params"] = params
    return (lambda measurement: method.run(measurement, **params)), record
