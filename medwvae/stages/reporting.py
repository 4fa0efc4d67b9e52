"""The page, the long table, the summary, the model card and the data sheet."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from medwvae import paths, provenance
from medwvae.config import Config
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import LATENT_USES, NETWORKS, ZERO_SHOT, task_of
from medwvae.stages.plan import generative_models, methods_of, networks_trained, weights_of
from medwvae.stages.training import study_of_networks, training_digest


def report(config: Config) -> None:
    """Write the long table, the summary and the page; print the summary and where the page lies."""
    root = config.root
    problems = [problem.id for problem in config.problems()]
    for problem in problems:
        if not paths.scores(root, problem).is_file():
            raise InputError(f"{paths.scores(root, problem)} is missing; run `medwvae evaluate --task {problem}` first")
    import pandas as pd
    from rich.console import Console

    from medwvae.evaluate import COLUMNS, write_table
    from medwvae.generative.table import render_text_table as generative_table
    from medwvae.report import page
    from medwvae.report.tables import read_scores, render_text_table

    if (models := generative_models(config)) and not paths.generative_summary(root).is_file():
        raise InputError(f"{paths.generative_summary(root)} is missing; run `medwvae generative-report` first")
    none = pd.DataFrame(columns=COLUMNS)  # a study of generative models alone
    tables = [read_scores(paths.scores(root, problem)) for problem in problems]
    _refuse_other_methods(config, dict(zip(problems, tables, strict=True)))
    metrics = pd.concat(tables, ignore_index=True) if tables else none
    inputs = _report_inputs(config, metrics)
    summary = page.summary(metrics, inputs.reference, inputs.volume_scores, inputs.manifest)
    html = page.build(inputs)
    write_table(paths.metrics(root), metrics)
    for path, text in ((paths.summary(root), json.dumps(summary, indent=1) + "\n"), (paths.report(root), html)):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _write_cards(config, inputs, summary)
    if summary["tasks"]:
        Console().print(render_text_table(summary))
    if models:
        Console().print(generative_table(inputs.generative.summary["rows"]))
    print(f"Report: {paths.report(root)}")


def _refuse_other_methods(config: Config, tables: dict[str, Any]) -> None:
    """Raise InputError if there are scores of methods that the configuration does not run: it is of another run."""
    found = {
        problem: sorted(set(table["method"]) - set(methods_of(config, problem))) for problem, table in tables.items()
    }
    if gone := [f"{problem} of {', '.join(methods)}" for problem, methods in found.items() if methods]:
        raise InputError(
            f"the configuration does not run every method that was scored ({'; '.join(gone)}); give the configuration "
            "of that run or, to leave them out, run `medwvae evaluate` of these tasks again"
        )


def card(config: Config) -> None:
    """Write the model card and the data sheet of a finished run; print where they lie."""
    from medwvae.report import page
    from medwvae.report.tables import read_scores

    root = config.root
    if not paths.metrics(root).is_file():
        raise InputError(f"{paths.metrics(root)} is missing; run `medwvae report` first")
    inputs = _report_inputs(config, read_scores(paths.metrics(root)))
    summary = page.summary(inputs.metrics, inputs.reference, inputs.volume_scores, inputs.manifest)
    _write_cards(config, inputs, summary)
    print(f"Model card: {paths.model_card(root, 'md')}\nData sheet: {paths.data_sheet(root, 'md')}")


def _write_cards(config: Config, inputs: Any, summary: dict[str, Any]) -> None:
    from medwvae.files import sha256_of
    from medwvae.report.card import CardInputs, data_sheet, model_card
    from medwvae.report.document import as_html, as_markdown

    root = config.root
    files = {
        **_weights(config, inputs.reference),
        **{path(root).name: path(root) for path in (paths.manifest, paths.splits, paths.metrics)},
    }
    given = CardInputs(
        study=inputs,
        summary=summary,
        hashes={name: sha256_of(path) for name, path in files.items() if path.is_file()},
        intended_use=config.report.intended_use or _research(inputs.manifest),
        data_licence=config.report.data_licence,
        data_source=config.report.data_source or ("" if config.input else "the synthetic cohort of medwvae"),
    )
    for document, path in ((model_card(given), paths.model_card), (data_sheet(given), paths.data_sheet)):
        for suffix, text in (("md", as_markdown(document)), ("html", as_html(document))):
            with atomic(path(root, suffix)) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _research(manifest: Any) -> str:
    """Return the intended use where nobody stated one: of the modalities that there are, no others."""
    found = sorted(set(manifest.loc[manifest["status"] == "ok", "modality"].astype(str)))
    return f"Research on the restoration of {' and '.join(found) or 'medical'} images."


def _weights(config: Config, reference: str) -> dict[str, Path]:
    """Return the files of weights behind the results of ours, by what a reader may know of where they lie."""
    root, said = config.root, ""
    if config.networks.from_run is not None:
        root, said = Path(config.networks.from_run), " (of the run that trained it)"
    methods = (reference, ZERO_SHOT) if config.restore.zero_shot else (reference,)
    found = [
        path for problem in config.problems() for method in methods for path in weights_of(config, problem.id, method)
    ]
    return {f"{path.relative_to(root)}{said}": path for path in found}


def _report_inputs(config: Config, metrics: Any) -> Any:
    """Gather what the page shows from the study's folder."""
    import pandas as pd

    from medwvae import build
    from medwvae.data import splits
    from medwvae.data.loaders import load_cases, read_index
    from medwvae.data.manifest import COLUMNS
    from medwvae.protocols import PROTOCOLS
    from medwvae.report.cohort import UNUSED
    from medwvae.report.inputs import ReportInputs

    root, problems = config.root, [problem.id for problem in config.problems()]
    cohort = config.has_cohort
    manifest = pd.read_csv(paths.manifest(root)) if cohort else pd.DataFrame(columns=list(COLUMNS))
    cases = load_cases(paths.prepared_index(root), "test", mapped=True) if cohort else []
    names = [case.volume for case in cases]
    files = manifest.set_index("volume")["file"]
    if cohort:
        prepared = {row["volume"] for row in read_index(paths.prepared_index(root))}
        left_out = (manifest["status"] == "ok") & ~manifest["volume"].isin(prepared)
        manifest.loc[left_out, "status"] = UNUSED
    records = {
        (problem, m): json.loads(paths.record(root, problem, m).read_text())
        for problem in problems
        for m in methods_of(config, problem)
    }
    tuning = [
        {
            "task": problem,
            "method": m,
            "params": ", ".join(f"{k} = {v:g}" for k, v in r["details"]["params"].items()),
            "seconds": r["details"]["tuning_seconds"],
        }
        for (problem, m), r in records.items()
        if "tuning" in r["details"]
    ]
    trained = networks_trained(config)
    return ReportInputs(
        run=config.run,
        title=config.report.title,
        metrics=metrics,
        manifest=manifest,
        splits=dict(splits.read(paths.splits(root))) if cohort else {},
        histories={key: pd.read_csv(paths.history(root, *key)) for key in trained},
        volumes={
            problem: {
                m: {v: paths.volume(paths.restored(root, problem, m), v) for v in names}
                for m in methods_of(config, problem)
            }
            for problem in problems
        },
        uncertainties={problem: _uncertainties(config, problem, names) for problem in problems},
        truths={v: root / files[v] for v in names},
        subjects={case.volume: case.subject for case in cases},
        slice_axis={case.volume: case.prepared.axis for case in cases},
        tuning=pd.DataFrame(tuning, columns=["task", "method", "params", "seconds"]),
        settings={problem: build.setting(config, problem) for problem in problems},
        protocols={name: PROTOCOLS[name].description for name in dict.fromkeys(metrics["protocol"])},
        durations=_durations(root, records),
        provenance={
            "configuration": _without_paths(config),
            "versions": provenance.versions() | {"revision": provenance.revision()},
            "machine": provenance.machine(),
            "digests": {stage: provenance.stage_code(stage) for stage in ("ingest", "preprocess", "evaluate")}
            | {f"train {task}/{network}": training_digest(config, task, network) for task, network in trained},
            "seed": config.seed,
        },
        parameters={
            (task_of(problem), m): r["details"]["parameters"] for (problem, m), r in records.items() if m in NETWORKS
        },
        generative=_generative_inputs(config),
        volume_scores=_volume_scores(config),
        intervals=_interval_inputs(records),
        reference=config.report.reference,
        figures_per_task=config.report.subjects_shown,
        viewer=config.report.viewer,
        ct_window=config.report.ct_window,
        trained_elsewhere=_trained_elsewhere(config),
    )


def _trained_elsewhere(config: Config) -> str:
    """Return where the networks come from, if they were trained in another run; else ''."""
    from medwvae.data.loaders import read_index
    from medwvae.report.words import CONTRAST_LABELS, count, label

    if config.networks.from_run is None:
        return ""
    other = study_of_networks(config)
    rows = [row for row in read_index(paths.prepared_index(other.root)) if row["part"] == "train"]
    subjects = count(len({row["subject"] for row in rows}), "subject")
    contrasts = ", ".join(label(one, CONTRAST_LABELS) for one in sorted({row["contrast"] for row in rows}))
    return (
        f"The networks were trained in another run, on {subjects} ({contrasts}); nothing was trained on the images "
        "of this report. Classical methods were tuned on its validation subjects."
    )


def _interval_inputs(records: dict[tuple[str, str], Any]) -> Any:
    """Gather what the page shows of intervals: problem to method, of those that have some."""
    from medwvae.report.uncertainty import IntervalInputs
    from medwvae.statistics import Calibration

    found: dict[str, dict[str, IntervalInputs]] = {}
    for (problem, method), record in records.items():
        if known := record["details"].get("uncertainty"):
            found.setdefault(problem, {})[method] = IntervalInputs(Calibration.from_dict(known), known["draws"])
    return found


def _uncertainties(config: Config, problem: str, names: list[str]) -> dict[str, dict[str, Path]]:
    """Return the maps of uncertainty that there are, by method and volume."""
    maps = {
        m: {v: paths.uncertainty(paths.restored(config.root, problem, m), v) for v in names}
        for m in methods_of(config, problem)
    }
    return {m: found for m, of in maps.items() if (found := {v: p for v, p in of.items() if p.is_file()})}


def _volume_scores(config: Config) -> Any:
    """Return the metrics per volume of all problems; None without any."""
    import pandas as pd

    from medwvae.report.tables import read_scores

    tables = [read_scores(paths.volume_scores(config.root, problem.id)) for problem in config.problems()]
    return pd.concat(tables, ignore_index=True) if tables else None


def _generative_inputs(config: Config) -> Any:
    """Gather what the section on generative models shows; None without any."""
    import pandas as pd

    from medwvae.report.generative import GenerativeInputs

    root, models = config.root, generative_models(config)
    if not models:
        return None
    histories = {model: paths.generative_history(root, model) for model in models}
    return GenerativeInputs(
        summary=json.loads(paths.generative_summary(root).read_text(encoding="utf-8")),
        histories={model: pd.read_csv(path) for model, path in histories.items() if path.is_file()},
        pictures={model: paths.generative_pictures(root, model) for model in models},
        radiological=config.generative.data.of_cohort,
        uses=_uses_inputs(config),
    )


def _uses_inputs(config: Config) -> Any:
    """Gather what the section on a latent in use shows; None where no model is put to use."""
    from medwvae.report.uses import UsesInputs

    root, model = config.root, config.generative.uses
    if model is None:
        return None
    numbers = paths.generative_uses(root, model)
    if not numbers.is_file():
        raise InputError(f"{numbers} is missing; run `medwvae generative-uses --model {model}` first")
    return UsesInputs(
        facts=json.loads(numbers.read_text(encoding="utf-8")),
        figures={use: paths.generative_use(root, model, use) for use in LATENT_USES},
        radiological=config.generative.data.of_cohort,
    )


def _without_paths(config: Config) -> dict[str, Any]:
    """Return the configuration with the user's own paths blanked: they can hold names, and a report travels.

    The folder of results is left out: its default serves as well.
    """
    blank = dict.fromkeys(config.own_paths, "(a path of the user's)")
    return config.with_paths(blank).model_dump(mode="json", exclude={"results"})


def _durations(root: Path, results: Collection[tuple[str, str]]) -> dict[str, float]:
    """Wall seconds of every job, from the workflow's own benchmark tables (empty when stages ran by hand).

    A restoration that is no part of the study any more does not count.
    """
    import pandas as pd

    restored = {paths.benchmark(root, f"restore-{problem}-{method}").stem for problem, method in results}
    tables = sorted((root / "benchmarks").glob("*.tsv"))
    tables = [path for path in tables if path.stem in restored or not path.stem.startswith("restore-")]
    return {path.stem: float(pd.read_csv(path, sep="\t")["s"].iloc[-1]) for path in tables}
