"""The report: one self-contained HTML file, from plain tables and paths."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medwvae.metrics.definitions import OF_INTERVALS, definition
from medwvae.names import PARTS
from medwvae.report import figures, panels
from medwvae.report.cohort import PART_LABELS, cohort_rows, listed, refused_rows
from medwvae.report.generative import GenerativeInputs, about_models, generative_section
from medwvae.report.tables import effect_rows, main_and_more, result_rows, subgroup_cells, summary
from medwvae.report.text import environment
from medwvae.report.uncertainty import IntervalInputs, interval_section
from medwvae.report.uses import uses_section
from medwvae.report.words import (
    CONTRAST_LABELS,
    KIND_LABELS,
    METRIC_LABELS,
    REGION_LABELS,
    count,
    duration,
    family,
    label,
    number,
    task_label,
    verdict,
)

__all__ = ["ReportInputs", "build", "summary"]

_PIXELS = 5_000_000  # of all panels together; with about 0.8 byte a pixel the page stays well under 8 MB
_PLACES = ("median", "worst", "best")


@dataclass(frozen=True)
class ReportInputs:
    """All that a report shows.

    Attributes
    ----------
    run, title : name of the study and the page's headline.
    metrics : long format, see `medwvae.report.tables.summary`.
    manifest : one row per image found, see `medwvae.data.manifest`; none in a study of photographs.
    splits : subject to train, val or test.
    histories : (task, network) to a table with the columns step, seconds, loss, val_psnr (NaN between validations),
        lr, images_per_s and, where noise scales are learned, `s/<subband>`.
    volumes : problem (task, or setting of one) to method to volume to restored NIfTI; the method "input" is what every
        method saw.
    truths, subjects, slice_axis : by volume: canonical NIfTI, its subject, the axis along which slices were restored.
    tuning : columns task (the problem), method, params, seconds: how classical methods were tuned on validation
        subjects.
    settings, protocols, durations : in plain words by problem and by protocol; seconds by rule.
    provenance : configuration, digests, versions, seeds, machine; nested as it comes.
    parameters : (task, network) to the number of parameters.
    intervals : problem to method to its calibrated intervals, of methods that have some.
    volume_scores : the metrics per volume, for subgroups. generative : the study of generative models, or None.
    reference : our method. figures_per_task : subjects shown per task (median, worst, best of `reference`, ...).
    """

    run: str
    title: str
    metrics: pd.DataFrame
    manifest: pd.DataFrame
    splits: dict[str, str]
    histories: dict[tuple[str, str], pd.DataFrame]
    volumes: dict[str, dict[str, dict[str, Path]]]
    truths: dict[str, Path]
    subjects: dict[str, str]
    slice_axis: dict[str, int]
    tuning: pd.DataFrame
    settings: dict[str, str]
    protocols: dict[str, str]
    durations: dict[str, float]
    provenance: dict[str, object]
    parameters: dict[tuple[str, str], int]
    generative: GenerativeInputs | None = None
    volume_scores: pd.DataFrame | None = None
    reference: str = "wavelet_vae"
    figures_per_task: int = 2
    intervals: dict[str, dict[str, IntervalInputs]] = field(default_factory=dict)


def build(inputs: ReportInputs) -> str:
    """Return the report as HTML: no script, style, font or picture is loaded from anywhere.

    Raises
    ------
    InputError
        If the metrics are not in the long format.
    """
    result = summary(inputs.metrics, inputs.reference, inputs.volume_scores, inputs.manifest)
    templates = environment()
    templates.filters.update(duration=duration, task_label=task_label)
    tasks = [_task(inputs, key, task, result) for key, task in result["tasks"].items()]
    return str(
        templates.get_template("template.html").render(
            title=inputs.title,
            run=inputs.run,
            about=_about(inputs, result),
            tasks=tasks,
            families=_families(tasks),
            generative=None if inputs.generative is None else generative_section(inputs.generative),
            uses=uses_section(inputs.generative.uses) if inputs.generative and inputs.generative.uses else None,
            cohort=cohort_rows(inputs.manifest, inputs.splits),
            refused=refused_rows(inputs.manifest),
            tuning=_tuning(inputs.tuning),
            networks=_networks(inputs),
            protocols=inputs.protocols,
            durations=inputs.durations,
            provenance={str(key): list(_flat(value)) for key, value in inputs.provenance.items()},
            gradient=panels.gradient(),
            reference=label(inputs.reference),
            metric_labels=METRIC_LABELS,
            region_labels=REGION_LABELS,
            kind_labels=KIND_LABELS,
        )
    )


def _about(inputs: ReportInputs, result: Mapping[str, Any]) -> dict[str, str]:
    """Return what was run, in words, by heading."""
    usable = inputs.manifest[inputs.manifest["status"] == "ok"]
    about: dict[str, str] = {}
    splits = list(inputs.splits.values())
    parts = [f"{splits.count(part)} {PART_LABELS[part]}" for part in PARTS]
    refused = len(inputs.manifest) - len(usable)
    modalities = listed(usable["modality"])
    if len(inputs.manifest):
        about["Cohort"] = (
            f"{count(len(inputs.splits), 'subject')} ({', '.join(parts)}); "
            f"{count(len(usable), f'{modalities} volume'.strip())}" + (f", {refused} refused" if refused else "")
        )
    if result["tasks"]:
        ways: dict[str, list[str]] = {}
        for problem in dict.fromkeys(entry["task"] for entry in result["tasks"].values()):
            words = inputs.settings.get(problem, "") or _setting(result, problem)
            ways.setdefault(family(problem), []).append(words)
        about["Tasks"] = "; ".join(f"{task_label(task)}: {' / '.join(words)}" for task, words in ways.items())
    if inputs.generative is not None:
        about["Generative models"] = about_models(inputs.generative.summary)
    budgets = {
        (duration(float(h["seconds"].max())), f"{int(h['step'].max()):,} steps")
        for h in inputs.histories.values()
        if len(h)
    }
    if budgets:
        times = sorted(time for time, _ in budgets)
        about["Budget"] = (
            f"{' in '.join(reversed(next(iter(budgets))))} for every network"
            if len(budgets) == 1
            else f"{' to '.join(dict.fromkeys((times[0], times[-1])))} of training per network (table below)"
        )
    if machine := inputs.provenance.get("machine"):
        about["Machine"] = ", ".join(f"{name.replace('_', ' ')} {value}".strip() for name, value in _flat(machine))
    if inputs.durations:
        about["Duration"] = f"{duration(sum(inputs.durations.values()))}, sum over jobs (several run at once)"
    return about


def _setting(result: Mapping[str, Any], task: str) -> str:
    return ", ".join(dict.fromkeys(str(e["setting"]) for e in result["tasks"].values() if e["task"] == task))


def _families(tasks: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the sections by the label of their task, as the navigation has them."""
    families: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        families.setdefault(task["family"], []).append(task)
    return families


def _task(inputs: ReportInputs, key: str, whole: dict[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    metrics = inputs.metrics
    task, more = main_and_more(whole)
    more = _without_intervals(more)
    mine = metrics[
        (metrics["task"].astype(str) == task["task"])
        & (metrics["setting"].astype(str) == task["setting"])
        & (metrics["protocol"].astype(str) == task["protocol"])
    ]
    region, blocks = next(iter(task["regions"].items()))
    metric = next(iter(blocks))
    rows = result_rows(task)
    shown = [row["method"] for row in rows]
    name = family(task["task"])
    others = [other for other, entry in result["tasks"].items() if family(entry["task"]) == name]
    # One training serves all settings: its curves stand once, with the first.
    trained = key == others[0]
    histories = {n: h for (of, n), h in inputs.histories.items() if trained and of == name}
    block = blocks[metric]
    title = key if key != task["task"] else task_label(key)
    tests = [entry for entry in block["methods"].values() if "p_holm" in entry]
    examples = list(_panels(inputs, task["task"], mine, task, shown))
    return {
        "id": "".join(letter if letter.isalnum() else "-" for letter in key),
        "name": task_label(task["task"]),
        "family": task_label(name),
        "short": task["task"].partition("-")[2],
        "shared": len(others) > 1,
        "setting": inputs.settings.get(task["task"]) or task["setting"],
        "protocol": task["protocol"],
        "protocol_words": inputs.protocols.get(task["protocol"], ""),
        "subjects": task["subjects"],
        # A word joiner behind the hyphen keeps "U-Net" on one line.
        "verdict": verdict(task, result["reference"], region, metric).replace("U-Net", "U-\u2060Net"),
        "outcome": block["verdict"]["outcome"],
        "others": list(_others(task, region, metric)),
        "rows": rows,
        "columns": _columns(task),
        "more": result_rows(more) if more["regions"] else [],
        "more_columns": _columns(more),
        "effects": effect_rows(task, result["reference"]),
        "subgroups": subgroup_cells(whole),
        "definitions": [definition(m) for m in dict.fromkeys(m for of in whole["regions"].values() for m in of)],
        "notes": sorted({f"{label(m)}: {e['note']}" for m, e in block["methods"].items() if e["note"]}),
        "floor": min((entry["p_holm_smallest"] for entry in tests), default=None),
        "rivals": len(tests),
        "region": label(region, REGION_LABELS),
        "strips": figures.strips(title, mine, task, region, shown),
        "panels": examples,
        "intervals": list(_intervals(inputs, whole, mine, examples, title)),
        "curves": figures.training_curves(title, histories),
        "scales": {
            label(n): svg
            for n, history in histories.items()
            if (svg := figures.noise_scales(f"{title}, {label(n)}", history))
        },
    }


def _without_intervals(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task's result without the metrics of intervals, which have a place of their own."""
    regions = {r: {m: b for m, b in of.items() if m not in OF_INTERVALS} for r, of in task["regions"].items()}
    return task | {"regions": {region: blocks for region, blocks in regions.items() if blocks}}


def _intervals(
    inputs: ReportInputs, task: Mapping[str, Any], metrics: pd.DataFrame, examples: list[dict[str, Any]], title: str
) -> Iterator[dict[str, Any]]:
    """Yield the section of every method with intervals, shown on the subject that is shown first."""
    for method, intervals in inputs.intervals.get(task["task"], {}).items():
        shown = None
        if examples and (restored := inputs.volumes[task["task"]].get(method)):
            example = examples[0]
            shown = {name: example[name] for name in ("volume", "modality", "side", "subject", "unit")}
            volume = shown["volume"]
            shown |= {
                "truth": inputs.truths[volume],
                "restored": restored.get(volume, Path()),
                "axis": inputs.slice_axis.get(volume, 2),
            }
        section = interval_section(method, intervals, task["regions"].get("head", {}), metrics, shown, title)
        if section is not None:
            yield section


def _columns(task: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    return {
        name: [(m, block["unit"], definition(m).direction) for m, block in of.items()]
        for name, of in task["regions"].items()
    }


def _others(task: Mapping[str, Any], region: str, metric: str) -> Iterator[dict[str, Any]]:
    """Yield the outcome of the other metrics and regions against their own best rivals, as text."""
    main = task["regions"][region][metric]["verdict"]
    for name, blocks in task["regions"].items():
        for other, block in blocks.items():
            found = block["verdict"]
            if (name, other) == (region, metric) or "difference" not in found:
                continue
            difference = f"{number(found['difference'], other, sign=True)} {block['unit']}".strip()
            rival = "" if found["best_rival"] == main["best_rival"] else f" against {label(found['best_rival'])}"
            yield {
                "what": f"{label(other, METRIC_LABELS)} {label(name, REGION_LABELS)}",
                "outcome": found["outcome"],
                "text": difference + rival,
            }


def _panels(
    inputs: ReportInputs, name: str, metrics: pd.DataFrame, task: Mapping[str, Any], methods: list[str]
) -> Iterator[dict[str, Any]]:
    region, blocks = next(iter(task["regions"].items()))
    metric, block = next(iter(blocks.items()))
    ranked_by = inputs.reference if inputs.reference in methods else block["best"]
    rows = metrics[(metrics["region"] == region) & (metrics["metric"] == metric)]
    wide = rows.pivot_table(index="subject", columns="method", values="value")
    if ranked_by not in wide:
        return
    ranked = wide[ranked_by].sort_values(ascending=block["better"] == "higher").index.astype(str).tolist()
    places = {"median": len(ranked) // 2, "worst": 0, "best": len(ranked) - 1}
    picked = list(dict.fromkeys([places[place] for place in _PLACES] + list(range(len(ranked)))))
    restored = inputs.volumes.get(name, {})
    columns = [method for method in methods if method in restored]
    tiles = 2 * (len(columns) + 1) * max(1, inputs.figures_per_task) * max(1, len(inputs.volumes))
    side = int(np.clip((_PIXELS / tiles) ** 0.5, 128, 320))
    for rank in picked[: inputs.figures_per_task]:
        subject = ranked[rank]
        of_subject = [v for v in sorted(inputs.truths) if inputs.subjects.get(v) == subject]
        if not of_subject or not columns or not inputs.truths[of_subject[0]].is_file():
            continue
        volume = of_subject[0]
        paths = {method: restored[method].get(volume, Path()) for method in columns}
        known = inputs.manifest[inputs.manifest["volume"] == volume]
        modality, contrast = (str(known[column].iloc[0]) if len(known) else "" for column in ("modality", "contrast"))
        place = next((p for p in _PLACES if places[p] == rank), f"rank {rank + 1}")
        unit = "HU" if modality == "CT" else "intensity units"
        values = {
            method: f"{number(value, metric)} {block['unit']}".strip() for method, value in wide.loc[subject].items()
        }
        yield {
            "panel": panels.panel(inputs.truths[volume], paths, inputs.slice_axis.get(volume, 2), modality, side),
            "volume": volume,
            "modality": modality,
            "side": side,
            "subject": subject,
            "volumes": len(of_subject),
            "place": "only" if len(ranked) == 1 else place,
            "contrast": CONTRAST_LABELS.get(contrast, modality),
            "ranked_by": label(ranked_by),
            "names": {method: label(method) for method in columns} | {"truth": "Truth"},
            "values": values,
            "metric": f"{label(metric, METRIC_LABELS)} {label(region, REGION_LABELS)}",
            "unit": unit,
        }


def _tuning(tuning: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "task": task_label(str(row["task"])),
            "method": label(str(row["method"])),
            "params": str(row["params"]),
            "seconds": duration(float(row["seconds"])) if pd.notna(row["seconds"]) else "",
        }
        for row in tuning.to_dict("records")
    ]


def _networks(inputs: ReportInputs) -> list[dict[str, str]]:
    rows = []
    for task, network in dict.fromkeys([*inputs.parameters, *inputs.histories]):
        history = inputs.histories.get((task, network), pd.DataFrame())
        size = inputs.parameters.get((task, network))
        has = set(history.columns) if len(history) else set()
        rows.append(
            {
                "task": task_label(task),
                "network": label(network),
                "parameters": "" if size is None else f"{size / 1e6:.2f} M" if size >= 10_000 else str(size),
                "steps": f"{int(history['step'].max()):,}" if "step" in has else "",
                "seconds": duration(float(history["seconds"].max())) if "seconds" in has else "",
                "speed": f"{history['images_per_s'].median():.0f}" if "images_per_s" in has else "",
                "psnr": f"{history['val_psnr'].max():.2f}"
                if "val_psnr" in has and history["val_psnr"].notna().any()
                else "",
            }
        )
    return rows


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested mappings as (dotted name, text)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, str):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, default=str, ensure_ascii=False)
