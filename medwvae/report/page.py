"""The report: one self-contained HTML file, from plain tables and paths."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from medwvae.metrics.definitions import OF_INTERVALS, definition
from medwvae.names import PARTS
from medwvae.report import cases, failures, figures, panels
from medwvae.report.cohort import PART_LABELS, cohort_rows, counted, listed, refused_rows
from medwvae.report.generative import about_models, generative_section
from medwvae.report.inputs import ReportInputs
from medwvae.report.tables import effect_rows, main_and_more, nearest, result_rows, subgroup_cells, summary
from medwvae.report.text import environment, one_line
from medwvae.report.uncertainty import interval_section
from medwvae.report.uses import uses_section
from medwvae.report.words import (
    KIND_LABELS,
    METRIC_LABELS,
    REGION_LABELS,
    count,
    duration,
    family,
    label,
    number,
    of_few,
    p_value,
    task_label,
    verdict,
)
from medwvae.statistics import SIGNIFICANT

__all__ = ["ReportInputs", "build", "summary"]

MARKS = {
    "won": "wins", "ahead": "ahead, not certain", "level": "level", "behind": "behind, not certain", "lost": "loses",
    "alone": "no rival", "not comparable": "not comparable", "absent": "not run",
}  # fmt: skip
"""Outcomes of a task as the summary marks them."""

INTERVAL_SIDE = 320
"""Pixels of the longer side of a picture of intervals."""

MOST_BYTES = 24_000_000
"""Of a page with its volumes, which get what text and pictures leave; under 25 MB it opens at once."""


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

    def page() -> str:
        return templates.get_template("template.html").render(
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
            failed=failures.of_study(inputs),
            configuration=_configuration(inputs),
            revision=_revision(inputs),
            gradient=panels.gradient(),
            uncertainty_gradient=panels.gradient("viridis"),
            reference=label(inputs.reference),
            reference_method=inputs.reference,
            metric_labels=METRIC_LABELS,
            region_labels=REGION_LABELS,
            kind_labels=KIND_LABELS,
            pseudonymous=_pseudonymous(inputs),
        )

    html = page()
    allowance = cases.Allowance(len(tasks), MOST_BYTES - len(html.encode()))
    for task in tasks:
        task["viewer"] = cases.viewer(inputs, task["problem"], task["ranked"], allowance)
    return page() if any(task["viewer"] for task in tasks) else html


def _about(inputs: ReportInputs, result: Mapping[str, Any]) -> dict[str, str]:
    """Return what was run, in words, by heading."""
    usable = inputs.manifest[inputs.manifest["status"] == "ok"]
    about: dict[str, str] = {}
    splits = list(inputs.splits.values())
    parts = [f"{splits.count(part)} {PART_LABELS[part]}" for part in PARTS]
    modalities = listed(usable["modality"])
    if len(inputs.manifest):
        about["Cohort"] = (
            f"{count(len(inputs.splits), 'subject')} ({', '.join(parts)}); "
            f"{count(len(usable), f'{modalities} volume'.strip())}{counted(inputs.manifest)}"
        )
    if result["tasks"]:
        ways: dict[str, list[str]] = {}
        for problem in dict.fromkeys(entry["task"] for entry in result["tasks"].values()):
            words = inputs.settings.get(problem, "") or _setting(result, problem)
            ways.setdefault(family(problem), []).append(words)
        about["Tasks"] = "; ".join(f"{task_label(task)}: {' / '.join(words)}" for task, words in ways.items())
    if inputs.generative is not None:
        about["Generative models"] = about_models(inputs.generative.summary)
    if inputs.trained_elsewhere:
        about["Networks"] = inputs.trained_elsewhere
    budgets = {
        (duration(float(h["seconds"].max())), f"{int(h['step'].max()):,} steps")
        for h in inputs.histories.values()
        if len(h)
    }
    if budgets:
        seconds = sorted(float(h["seconds"].max()) for h in inputs.histories.values() if len(h))
        times = [duration(seconds[0]), duration(seconds[-1])]
        about["Budget"] = (
            f"{' in '.join(reversed(next(iter(budgets))))} for every network"
            if len(budgets) == 1
            else f"{' to '.join(dict.fromkeys(times))} of training per network (table below)"
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
    """Return what a section shows, but for its viewer."""
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
    ranked = cases.ranking(inputs, task["task"], mine, task, shown)
    name = family(task["task"])
    others = [other for other, entry in result["tasks"].items() if family(entry["task"]) == name]
    # One training serves all settings: its curves stand once, with the first.
    trained = key == others[0]
    histories = {n: h for (of, n), h in inputs.histories.items() if trained and of == name}
    block = blocks[metric]
    title = one_line(key) if key != task["task"] else task_label(key)
    tests = [entry for entry in block["methods"].values() if "p_holm" in entry]
    return {
        "id": "".join(letter if letter.isalnum() else "-" for letter in key),
        "problem": task["task"],
        "name": task_label(task["task"]),
        "family": task_label(name),
        "short": task["task"].partition("-")[2],
        "shared": len(others) > 1,
        "setting": inputs.settings.get(task["task"]) or task["setting"],
        "protocol": task["protocol"],
        "protocol_words": inputs.protocols.get(task["protocol"], ""),
        "subjects": task["subjects"],
        "few": of_few(task["subjects"]),
        "nearest": any(nearest(metric) for part in (task, more) for of in part["regions"].values() for metric in of),
        # A word joiner behind the hyphen keeps "U-Net" on one line.
        "verdict": verdict(task, result["reference"], region, metric).replace("U-Net", "U-\u2060Net"),
        "outcome": block["verdict"]["outcome"],
        "mark": _mark(block["verdict"]),
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
        "every": p_value(block["verdict"].get("p_every")),
        "rivals": len(tests),
        "region": label(region, REGION_LABELS),
        "strips": figures.strips(title, mine, task, region, shown),
        "panels": list(cases.pictures(inputs, ranked)),
        "ranked": ranked,
        "viewer": None,
        "failed": failures.of_task(inputs, task, ranked),
        "intervals": list(_intervals(inputs, whole, mine, ranked, title)),
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
    inputs: ReportInputs, task: Mapping[str, Any], metrics: pd.DataFrame, ranked: cases.Ranking | None, title: str
) -> Iterator[dict[str, Any]]:
    """Yield the section of every method with intervals, shown on the subject that is shown first."""
    for method, intervals in inputs.intervals.get(task["task"], {}).items():
        case = ranked.cases[0] if ranked is not None and ranked.cases else None
        half = inputs.uncertainties.get(task["task"], {}).get(method, {})
        picture = None
        if case is not None and method in case.paths and case.volume in half:
            picture = panels.interval_panel(
                inputs.truths[case.volume],
                case.paths[method],
                half[case.volume],
                inputs.slice_axis.get(case.volume, 2),
                cases.window_of(inputs, case),
                INTERVAL_SIDE,
            )
        blocks = task["regions"].get("head", {})
        section = interval_section(method, intervals, blocks, metrics, title)
        if section is not None:
            yield section | {"panel": picture, "case": case}


def _columns(task: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    return {
        name: [(m, block["unit"], definition(m).direction) for m, block in of.items()]
        for name, of in task["regions"].items()
    }


def _mark(found: Mapping[str, Any]) -> str:
    """Return the outcome of a task in a word or two."""
    if found["outcome"] == "won" and found["p_holm"] >= SIGNIFICANT:
        return "ahead of every rival"  # at once, each single p below .05; no single rival after Holm
    return MARKS[found["outcome"]]


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


def _configuration(inputs: ReportInputs) -> str:
    """Return the study's configuration as the file that would run it again; '' if it is not known."""
    found = inputs.provenance.get("configuration")
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True) if isinstance(found, dict) else ""


def _pseudonymous(inputs: ReportInputs) -> bool:
    """Return whether subjects go by pseudonyms, which only the study's own key makes again."""
    found = inputs.provenance.get("configuration")
    if not isinstance(found, Mapping) or not len(inputs.manifest):
        return False
    ingest = found.get("ingest")
    # A phantom is no patient.
    return bool(found.get("input")) and isinstance(ingest, Mapping) and ingest.get("subjects") == "pseudonym"


def _revision(inputs: ReportInputs) -> str:
    found = inputs.provenance.get("versions")
    return str(found.get("revision") or "") if isinstance(found, Mapping) else ""


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested mappings as (dotted name, text)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, str):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, default=str, ensure_ascii=False)
