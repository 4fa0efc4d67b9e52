"""Model card (Mitchell et al. 2019) and data sheet (Gebru et al. 2021) of a finished run, from its own files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import pandas as pd

from medwvae.metrics.definitions import OF_INTERVALS, definition
from medwvae.names import PARTS
from medwvae.provenance import digest_of
from medwvae.report.cohort import PART_LABELS, cohort_rows, counted, listed, refused_rows
from medwvae.report.document import NOT_FOR_DIAGNOSIS, Document, Section, Table
from medwvae.report.inputs import ReportInputs
from medwvae.report.tables import main_and_more, rivals, subgroup_cells, worst_first
from medwvae.report.words import (
    CONTRAST_LABELS,
    METRIC_LABELS,
    REGION_LABELS,
    between,
    count,
    duration,
    family,
    label,
    mean_of,
    number,
    of_few,
    p_value,
    task_label,
    verdict,
)

FAILURES: Final = 3
"""Worst subjects named per task."""
FEWEST_OF_GROUP: Final = 3
"""A subgroup of fewer subjects is left out: they describe themselves and no group."""
ARROWS: Final = {"higher": " ↑", "lower": " ↓", "nearest": " →", "neither": ""}


@dataclass(frozen=True)
class CardInputs:
    """All that the card and the sheet say.

    Attributes
    ----------
    study : what the report shows.
    summary : `medwvae.report.tables.summary` of it.
    hashes : SHA-256 by file, relative to the study's folder.
    intended_use, data_licence, data_source : the user's own words; None or '' where not given.
    """

    study: ReportInputs
    summary: Mapping[str, Any]
    hashes: Mapping[str, str]
    intended_use: str
    data_licence: str | None = None
    data_source: str | None = None


def model_card(given: CardInputs) -> Document:
    """Return what the run's own networks are for, what they reached, where they fail and what is not known."""
    study, tasks = given.study, given.summary["tasks"]
    name = label(study.reference)
    sections = [
        Section("Model", facts=list(_model_facts(given))),
        Section(
            "Intended use",
            [given.intended_use, NOT_FOR_DIAGNOSIS],
            items=[
                "Not for images that differ from the training images in contrast, scanner or disease without a test.",
                "Not for deciding what a lesion is: a restored image can lose one, and can show one that is not there.",
            ],
        ),
        Section("Training and test data", tables=[_cohort_table(study)] if len(study.manifest) else ()),
        Section(
            "Results",
            [
                "The subject is the unit. Intervals: 95 % BCa bootstrap of the mean over test subjects, expanded for "
                f"their number. Difference: {name} minus the best rival (of a metric that is best near a target, of "
                "the distances to it); p: two-sided Wilcoxon signed-rank test, adjusted after Holm for the rivals. "
                "↑ more is better, ↓ less, → nearest to a target, which stands with the metric's meaning below.",
                *(f"{task_label(t['task'])}: {_verdict(t, given)}" for t in tasks.values()),
            ],
            tables=[_results(key, task, study.reference) for key, task in tasks.items()],
        ),
    ]
    if sure := [table for key, task in tasks.items() if (table := _intervals(key, task, study.reference))]:
        said = "Intervals of single voxels, and how far they hold what they promise; not compared with any method."
        sections.append(Section("How sure it is", [said], tables=sure))
    if groups := [table for key, task in tasks.items() if (table := _group_table(key, task)).rows]:
        said = f"Descriptions, not tests, of groups with {FEWEST_OF_GROUP} subjects or more."
        sections.append(Section("Subgroups", [said], tables=groups))
    if failures := [table for key, task in tasks.items() if (table := _failures(key, task, study)) is not None]:
        sections.append(
            Section("Failure cases", [f"Test subjects for whom {name} did worst, by study label."], tables=failures)
        )
    if meanings := list(_meanings(tasks)):
        sections.append(Section("What the metrics mean", facts=meanings))
    sections += [
        Section("Limits", items=list(_limits(given))),
        Section(
            "Licence", [f"Code: {_code_licence()}. Weights: as the data they were trained on allow.", _terms(given)]
        ),
        Section("Files", facts=[*given.hashes.items(), *_digests(study)]),
    ]
    return Document(f"Model card: {study.title}", f"{name} of the run {study.run}", sections)


def data_sheet(given: CardInputs) -> Document:
    """Return what the study's images are, how they were chosen and treated, and what may be done with them."""
    study = given.study
    manifest = study.manifest
    usable = manifest[manifest["status"] == "ok"]
    refused = refused_rows(manifest)
    parts = list(study.splits.values())
    facts = [
        ("Subjects", str(usable["subject"].nunique())),
        ("Volumes", str(len(usable))),
        ("Modality", listed(usable["modality"])),
        ("Contrasts", ", ".join(label(c, CONTRAST_LABELS) for c in sorted(set(usable["contrast"].astype(str))))),
        ("Sites", ", ".join(_sites(usable)) or "not known"),
        ("Voxels", listed(usable["shape"])),
        ("Spacing, mm", listed(usable["spacing"])),
        ("Parts", ", ".join(f"{parts.count(part)} {PART_LABELS[part]}" for part in PARTS)),
        ("Digest of all volumes", digest_of(sorted(map(str, usable["result_sha256"].dropna())))
         if "result_sha256" in usable else "not known"),
    ]  # fmt: skip
    sections = [
        Section("Source", [given.data_source or "Not stated (report.data_source).", _terms(given)]),
        Section("Composition", facts=facts, tables=[_cohort_table(study)] if len(manifest) else ()),
        Section(
            "Collection",
            [
                "Every image that was found is listed in manifest.csv, usable or refused. None was left out for how "
                "well a method did on it.",
                f"{count(len(usable), 'image')} used{counted(manifest) or ', none refused'}.",
            ],
            tables=[
                Table(
                    ["Reason", "Images", "Which"],
                    [[r["reason"], str(r["n"]), r["volumes"]] for r in refused],
                    "Refused",
                )
            ]
            if refused
            else (),
        ),
        Section(
            "Preprocessing",
            [
                "Canonical orientation, scanner units or HU, not resampled by this pipeline unless a sidecar says so "
                "(how the images came to it, the source says); then stacks of slices, which networks on volumes read "
                "whole, scaled linearly so that air is 0 and a percentile inside the head is 1. Nothing is clipped.",
                "Degradations are simulated on the canonical volumes: " + "; ".join(study.settings.values()) + "."
                if study.settings
                else "Nothing was degraded.",
            ],
        ),
        Section(
            "Splits",
            ["By subject: all images of one are in one part. Classical methods are tuned on validation subjects."],
        ),
        Section(
            "Privacy",
            [
                "Subjects go by labels of the study. Faces are not removed: a head volume can identify a person, so "
                "volumes are patient data, and so are the pictures of a report.",
            ],
        ),
        Section("Files", facts=[(k, v) for k, v in given.hashes.items() if k.endswith(".csv")]),
    ]
    return Document(f"Data sheet: {study.title}", f"Images of the run {study.run}", sections)


def _model_facts(given: CardInputs) -> Iterator[tuple[str, str]]:
    study = given.study
    versions = study.provenance.get("versions")
    known = versions if isinstance(versions, Mapping) else {}
    yield "Run", study.run
    yield "Version", f"medwvae {known.get('medwvae', 'unknown')}, revision {known.get('revision', 'unknown')}"
    ways: dict[str, list[str]] = {}
    for problem in dict.fromkeys(entry["task"] for entry in given.summary["tasks"].values()):
        ways.setdefault(family(problem), []).append(study.settings.get(problem, ""))
    for task, settings in ways.items():  # the settings of a task share one training
        size = study.parameters.get((task, study.reference))
        history = study.histories.get((task, study.reference), pd.DataFrame())
        words = [" / ".join(filter(None, settings))]
        words += [f"{size:,} parameters"] if size is not None else []
        if len(history) and {"step", "seconds"} <= set(history.columns):
            words.append(f"{int(history['step'].max()):,} steps in {duration(float(history['seconds'].max()))}")
        yield task_label(task), ", ".join(filter(None, words))
    if study.trained_elsewhere:
        yield "Training", study.trained_elsewhere
    yield "Libraries", ", ".join(f"{k} {v}" for k, v in known.items() if k not in ("medwvae", "revision"))


def _cohort_table(study: ReportInputs) -> Table:
    head = {"part": "Part", "subjects": "Subjects", "volumes": "Volumes", "contrasts": "Contrast", "age": "Age",
            "sex": "Sex", "spacing": "Spacing (mm)"}  # fmt: skip
    rows = cohort_rows(study.manifest, study.splits)
    return Table(list(head.values()), [[row[key] for key in head] for row in rows], "Usable images")


def _verdict(task: dict[str, Any], given: CardInputs) -> str:
    main, _ = main_and_more(task)
    region, blocks = next(iter(main["regions"].items()))
    return verdict(task, given.summary["reference"], region, next(iter(blocks)))


def _title(key: str, task: Mapping[str, Any]) -> str:
    return task_label(key) if key == task["task"] else key


def _results(key: str, task: Mapping[str, Any], reference: str) -> Table:
    rows = []
    for region, metric, block, own in _own(task, reference):
        if metric in OF_INTERVALS:
            continue
        rival = block["verdict"]["best_rival"]
        theirs = block["methods"][rival] if rival else {}
        rows.append(
            [
                _named(metric) + ARROWS[definition(metric).better],
                label(region, REGION_LABELS).removeprefix("in the "),
                mean_of(own, metric),
                between(own["low"], own["high"], metric) or "–",
                number(own["median"], metric),
                str(own["n"]),
                "–" if rival is None else f"{label(rival)}: {mean_of(theirs, metric)}",
                _difference(theirs, metric),
                p_value(theirs.get("p_holm")) or "–",
            ]
        )
    head = ["Metric", "Region", "Mean", "95 % interval", "Median", "Subjects", "Best rival", "Difference", "p (Holm)"]
    return Table(head, rows, _title(key, task))


def _intervals(key: str, task: Mapping[str, Any], reference: str) -> Table | None:
    """Return what is known of the intervals of single voxels; None if there are none."""
    rows = [
        [_named(metric), mean_of(own, metric), between(own["low"], own["high"], metric) or "–", str(own["n"])]
        for _, metric, _, own in _own(task, reference)
        if metric in OF_INTERVALS
    ]
    return Table(["Metric", "Mean", "95 % interval", "Subjects"], rows, _title(key, task)) if rows else None


def _own(task: Mapping[str, Any], reference: str) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield region, metric, its block and what the reference has there."""
    for region, blocks in task["regions"].items():
        for metric, block in blocks.items():
            if (own := block["methods"].get(reference)) is not None:
                yield region, metric, block, own


def _named(metric: str) -> str:
    unit = definition(metric).unit
    return label(metric, METRIC_LABELS) + (f" ({unit})" if unit else "")


def _meanings(tasks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the definition of every metric that the card shows."""
    shown = (metric for task in tasks.values() for blocks in task["regions"].values() for metric in blocks)
    for metric in dict.fromkeys(shown):
        yield _named(metric), definition(metric).explained


def _difference(rival: Mapping[str, Any], metric: str) -> str:
    """Return reference − rival with its interval."""
    if "difference" not in rival:
        return "–"
    mean = number(rival["difference"], metric, sign=True)
    within = between(rival["difference_low"], rival["difference_high"], metric, sign=True)
    return f"{mean} [{within}]" if within else mean


def _group_table(key: str, task: dict[str, Any]) -> Table:
    rows = [
        [r["variable"], r["group"], r["metric"], r["n"], r["mean"], r["interval"]]
        for r in subgroup_cells(task)
        if int(r["n"]) >= FEWEST_OF_GROUP
    ]
    return Table(["Variable", "Group", "Metric", "Subjects", "Mean", "95 % interval"], rows, _title(key, task))


def _failures(key: str, task: dict[str, Any], study: ReportInputs) -> Table | None:
    main, _ = main_and_more(task)
    region, blocks = next(iter(main["regions"].items()))
    metric, block = next(iter(blocks.items()))
    m = study.metrics
    rows = m[(m["region"] == region) & (m["metric"] == metric)]
    for column in ("task", "setting", "protocol"):
        rows = rows[rows[column].astype(str) == task[column]]
    wide = rows.pivot_table(index="subject", columns="method", values="value", aggfunc="mean")
    if study.reference not in wide:
        return None
    kinds = task["kinds"]
    against = rivals(kinds, study.reference)
    others = [method for method in wide if str(method) in against or kinds[str(method)] == "input"]
    worst = worst_first(wide[study.reference], metric).index[:FAILURES]
    name = label(metric, METRIC_LABELS) + (f" ({block['unit']})" if block["unit"] else "")
    table = []
    for subject in worst:
        values = wide.loc[subject]
        found = [f"{label(str(method))} {number(float(values[method]), metric)}" for method in others]
        table.append([str(subject), number(float(values[study.reference]), metric), ", ".join(found)])
    return Table(["Subject", name, "The others on this subject"], table, _title(key, task))


def _limits(given: CardInputs) -> Iterator[str]:
    study, tasks = given.study, given.summary["tasks"]
    subjects = max((task["subjects"] for task in tasks.values()), default=0)
    if not tasks:
        yield "No restoration was scored in this run; what its generative models do is in report.html."
        return
    yield of_few(subjects) or f"Scored on {count(subjects, 'test subject')}."
    if sure := {one.calibration.subjects for of in study.intervals.values() for one in of.values()}:
        yield f"Intervals of voxels are calibrated on {count(min(sure), 'validation subject')}."
    used = study.manifest[study.manifest["status"] == "ok"]
    yield from _training_limits(study, used)
    if len(sites := _sites(used)) < 2:
        said = "All images come from one site" if sites else "The manifest does not say from which sites images come"
        yield f"{said}: nothing is known about a change of scanner."
    families = {family(task["task"]) for task in tasks.values()}
    if (used["modality"] == "CT").any() and (of_mr := families - {"ct"}):
        names = ", ".join(sorted(map(task_label, of_mr)))
        yield f"CT passes through the simulations of MR ({names}): an exercise, not low-dose or sparse-view CT."
    if (used["modality"] == "MR").any() and "ct" in families:
        yield "MR passes through the simulation of CT from few views: an exercise."
    yield "The degradations are simulated. Real scanners degrade in more ways than one."
    yield "One training run: another seed gives other weights, and the intervals say nothing about that."
    for task in tasks.values():
        block = next(iter(next(iter(task["regions"].values())).values()))
        if block["verdict"]["outcome"] in ("behind", "lost"):
            rival = label(block["verdict"]["best_rival"])
            yield f"{task_label(task['task'])}: {rival} does better on average."


def _training_limits(study: ReportInputs, used: pd.DataFrame) -> Iterator[str]:
    if study.trained_elsewhere:
        yield study.trained_elsewhere
        return
    part = used["subject"].astype(str).map(dict(study.splits))
    seen, tested = (set(used[part == p]["contrast"].astype(str)) for p in ("train", "test"))
    if unseen := tested - seen:
        yield f"Tested on contrasts that training did not hold: {', '.join(sorted(unseen))}."
    yield f"Trained on {', '.join(label(c, CONTRAST_LABELS) for c in sorted(seen)) or 'no volumes'} only."


def _sites(used: pd.DataFrame) -> list[str]:
    return sorted(set(used["site"].dropna().astype(str)) - {""}) if "site" in used else []


def _terms(given: CardInputs) -> str:
    return (
        f"Data: {given.data_licence}"
        if given.data_licence
        else "Licence of the data: not stated (report.data_licence)."
    )


def _code_licence() -> str:
    found = metadata.metadata("medwvae").get_all("License-Expression")
    return str(found[0]) if found else "see LICENSE"


def _digests(study: ReportInputs) -> Iterator[tuple[str, str]]:
    digests = study.provenance.get("digests")
    if isinstance(digests, Mapping):
        for name, value in digests.items():
            yield f"digest of {name}", str(value)
