"""From the long-format metrics to the numbers of the report: means, intervals, paired tests, verdicts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medwvae.errors import InputError
from medwvae.metrics.definitions import definition
from medwvae.names import TASKS
from medwvae.report.text import one_line
from medwvae.report.words import (
    CONTRAST_LABELS,
    KIND_LABELS,
    METHOD_LABELS,
    METRIC_LABELS,
    between,
    family,
    infinite,
    label,
    mean_of,
    number,
    p_value,
    task_label,
    verdict,
)
from medwvae.statistics import SIGNIFICANT, agree, groups, holm, mean_interval, paired, subgroup_rows

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = ("task", "setting", "method", "kind", "protocol", "subject", "region", "metric", "value", "unit")
KINDS = ("input", "classical", "network", "ours")
MAIN_METRICS = ("psnr", "ssim", "nmse")
"""In the main table; all others follow in a table of their own."""


def read_scores(path: Path) -> pd.DataFrame:
    """Read a table of scores (`metrics.csv`, or one of `scores/`).

    Labels are texts, also those that look like numbers (007) or like nothing (NA).

    Raises
    ------
    ValueError
        If it cannot be read as a table.
    """
    missing = {column: ["", "nan"] for column in ("value", "distance")}
    return pd.read_csv(path, dtype={"subject": str}, keep_default_na=False, na_values=missing)


def summary(
    metrics: pd.DataFrame,
    reference: str = "wavelet_vae",
    volumes: pd.DataFrame | None = None,
    manifest: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return the study's result, ready for JSON (no NaN, no infinity: None, with a note).

    Parameters
    ----------
    metrics
        Long format, one row per task (or setting of one), method, subject, region and metric; several rows of one
        subject are averaged.
    reference
        The method that all others are compared with. Holm's adjustment counts its `rivals` in one task, region and
        metric.
    volumes, manifest
        The same metrics per volume, and the table of images: for the subgroups. Without them there are none.

    Returns
    -------
    dict
        `tasks[key]["regions"][region][metric]` holds `unit`, `methods[method]` (`mean`, `median`, `low`, `high`, `n`,
        `infinite`: in how many subjects, `note`, and against the reference `difference` = reference − method with
        `difference_low`/`_high`, `p`, `p_holm`, the effect sizes `rank_biserial` and `dz`, and `needed` subjects) and
        `verdict`. Where a metric is best near a target, the difference is that of the distances to it.
        `tasks[key]["subgroups"]`: rows of `statistics.subgroup_rows`.
        The key is the id in the column `task`, longer only where that was run in several ways or protocols: those are
        never averaged.

    Raises
    ------
    InputError
        If a column is missing.
    """
    if missing := [column for column in COLUMNS if column not in metrics]:
        raise InputError(f"the metrics have no column {', '.join(missing)}; run `medwvae evaluate` again")
    tasks: dict[str, Any] = {}
    for task, of_task in metrics.groupby("task", sort=False):
        groups = list(of_task.groupby(["setting", "protocol"], sort=False))
        for (setting, protocol), rows in groups:
            key = str(task) if len(groups) == 1 else f"{task}, {setting}, {protocol}"
            tasks[key] = _task(str(task), str(setting), str(protocol), rows, reference)
            if volumes is not None and manifest is not None:
                tasks[key]["subgroups"] = _subgroups(tasks[key], volumes, manifest, reference)
    order: dict[str, int] = {name: i for i, name in enumerate(TASKS)}
    ordered = sorted(tasks.items(), key=lambda item: order.get(family(item[1]["task"]), len(order)))
    return {"reference": reference, "tasks": dict(ordered)}


def _task(task: str, setting: str, protocol: str, rows: pd.DataFrame, reference: str) -> dict[str, Any]:
    kinds = {str(method): str(kind) for method, kind in zip(rows["method"], rows["kind"], strict=True)}
    regions: dict[str, dict[str, Any]] = {}
    for (region, metric), block in rows.groupby(["region", "metric"], sort=False):
        block = block.assign(compared=compared(block))
        wide, judged = (
            block.pivot_table(index="subject", columns="method", values=column, aggfunc="mean", sort=True)
            for column in ("value", "compared")
        )
        unit = str(block["unit"].iloc[0]) if block["unit"].notna().any() else ""
        # "dB" and the like; a unit of "1" says that there is none.
        shown = "" if unit in ("1", "nan") else unit
        regions.setdefault(str(region), {})[str(metric)] = _block(wide, judged, kinds, str(metric), shown, reference)
    regions = {name: regions[name] for name in sorted(regions, key=lambda name: (name != "head", name))}
    wanted = list(METRIC_LABELS)
    for name, blocks in regions.items():
        rank = {metric: wanted.index(metric) if metric in wanted else len(wanted) for metric in blocks}
        regions[name] = dict(sorted(blocks.items(), key=lambda item: (rank[item[0]], item[0])))
    return {
        "task": task,
        "setting": setting,
        "protocol": protocol,
        "subjects": int(rows["subject"].nunique()),
        "kinds": kinds,
        "regions": regions,
    }


def _block(
    wide: pd.DataFrame, judged: pd.DataFrame, kinds: dict[str, str], metric: str, unit: str, reference: str
) -> dict[str, Any]:
    meaning = definition(metric)
    lower = meaning.better != "higher"
    methods: dict[str, dict[str, Any]] = {}
    for method in sorted(map(str, wide.columns), key=lambda name: (KINDS.index(kinds[name]), name)):
        interval = mean_interval(wide[method].dropna())
        methods[method] = {
            "kind": kinds[method],
            "mean": _json(interval.mean),
            "median": _json(interval.median),
            "low": _json(interval.low),
            "high": _json(interval.high),
            "n": interval.n,
            "infinite": int(wide[method].map(math.isinf).sum()),
            "note": interval.note,
        }
        if exact := infinite(methods[method]):
            methods[method]["note"] = f"{exact}: no interval"
    against = rivals({method: entry["kind"] for method, entry in methods.items()}, reference)
    tested = []
    if reference in methods and meaning.better != "neither":
        for method, entry in methods.items():
            both = judged[[reference, method]].dropna() if method != reference else pd.DataFrame()
            if both.empty or any(math.isinf(v) for v in both.to_numpy().flat):
                continue
            result = paired(both[reference], both[method])
            entry["difference"] = result.difference.mean
            entry["difference_low"] = _json(result.difference.low)
            entry["difference_high"] = _json(result.difference.high)
            entry["pairs"] = len(both)
            entry["ahead"], entry["behind"] = (result.below, result.above) if lower else (result.above, result.below)
            if method in against:  # the input is no rival: it is shown with its difference and is not tested
                entry["p"], entry["p_smallest"] = result.p, result.p_smallest
                entry["rank_biserial"], entry["dz"] = result.rank_biserial, _json(result.dz)
                entry["needed"] = result.needed
                tested.append(method)
        for method, adjusted in zip(tested, holm([methods[m]["p"] for m in tested]), strict=True):
            methods[method]["p_holm"] = adjusted
            methods[method]["p_holm_smallest"] = min(1.0, methods[method]["p_smallest"] * len(tested))
    means = {m: float(judged[m].mean()) for m in methods if meaning.better != "neither"}
    return {
        "unit": unit,
        "better": meaning.better,
        "best": _best(means, list(methods), lower),
        "methods": methods,
        "verdict": _verdict(methods, means, reference, against, lower, len(tested)),
    }


def rivals(kinds: Mapping[str, str], reference: str) -> list[str]:
    """Return the methods (with their kinds) that a reference is tested against: all but the input and its own kin.

    Of the methods of ours none is a rival of another; a reference of another kind has ours among its rivals.
    """
    ours = kinds.get(reference) == "ours"
    return [m for m, kind in kinds.items() if m != reference and kind != "input" and not (ours and kind == "ours")]


def compared(rows: pd.DataFrame) -> pd.Series:
    """Return what methods are compared by: the values, or how far they lie from the target of a metric that has one.

    The distances are those of `evaluate.by_subject`, where the rows have them: of each volume by itself.
    """
    targets = rows["metric"].map({m: definition(m).target for m in rows["metric"].unique() if nearest(m)}).astype(float)
    far = (rows["value"] - targets).abs()
    if "distance" in rows:
        far = rows["distance"].astype(float).fillna(far)
    return far.where(targets.notna(), rows["value"])


def worst_first(values: pd.Series, metric: str) -> pd.Series:
    """Return the values from the worst to the best, without those that are missing."""
    losses = values.dropna().map(definition(metric).loss)
    return values.loc[losses.sort_values(ascending=False, kind="stable").index]


def nearest(metric: str) -> bool:
    """Return whether a metric is compared by its distance from a target."""
    return definition(metric).better == "nearest"


def _subgroups(
    task: dict[str, Any], volumes: pd.DataFrame, manifest: pd.DataFrame, reference: str
) -> list[dict[str, Any]]:
    region, blocks = next(iter(task["regions"].items()))
    rows = volumes
    for column, value in (("task", task["task"]), ("setting", task["setting"]), ("protocol", task["protocol"])):
        rows = rows[rows[column].astype(str) == value]
    members = groups(manifest.drop_duplicates("volume").set_index("volume"))
    found = []
    for metric, block in blocks.items():
        if metric in MAIN_METRICS:
            of_metric = rows[(rows["region"] == region) & (rows["metric"] == metric)]
            rival = block["verdict"]["best_rival"] if "difference" in block["verdict"] else None
            for row in subgroup_rows(of_metric, members, method=reference, rival=rival):
                found.append({"region": region, "metric": metric, "rival": rival, **row})
    return found


def _verdict(
    methods: dict[str, dict[str, Any]],
    means: dict[str, float],
    reference: str,
    against: Sequence[str],
    lower: bool,
    comparisons: int,
) -> dict[str, Any]:
    rival = _best(means, against, lower)
    classical = _best(means, [m for m in against if methods[m]["kind"] == "classical"], lower)
    found: dict[str, Any] = {"best_rival": rival, "best_classical": classical, "beats_every_classical": None}
    gains = [entry["difference"] for entry in methods.values() if entry["kind"] == "input" and "difference" in entry]
    found["beats_input"] = all(gain != 0 and (gain < 0) == lower for gain in gains) if gains else None
    if reference not in methods:
        return {"outcome": "absent", **found}
    if rival is None:
        return {"outcome": "alone", **found}
    if "p" not in methods[rival]:  # a value is infinite, or no subject is common
        return {"outcome": "not comparable", **found}
    if classical is not None and "difference" in methods[classical]:
        found["beats_every_classical"] = all(
            (entry["difference"] < 0) == lower and entry["difference"] != 0
            for entry in methods.values()
            if entry["kind"] == "classical" and "difference" in entry
        )
    entry = methods[rival]
    better, every = (entry["difference"] < 0) == lower, _ahead_of_every([methods[m] for m in against], lower)
    agreed = agree(entry["difference"], entry["rank_biserial"])
    sure = agreed and (entry["p_holm"] < SIGNIFICANT or (every is not None and every < SIGNIFICANT))
    outcome = ("won" if sure else "ahead") if better else ("lost" if sure else "behind")
    return {
        "outcome": "level" if entry["difference"] == 0 else outcome,
        **found,
        "difference": entry["difference"],
        "low": entry["difference_low"],
        "high": entry["difference_high"],
        "agree": agreed,
        "rank_biserial": entry["rank_biserial"],
        "p": entry["p"],
        "p_holm": entry["p_holm"],
        "p_holm_smallest": entry["p_holm_smallest"],
        "p_every": every,
        "comparisons": comparisons,
        "n": entry["pairs"],
        "ahead": entry["ahead"],
        "behind": entry["behind"],
    }


def _ahead_of_every(rivals: Sequence[dict[str, Any]], lower: bool) -> float | None:
    """Return the p of being ahead of all rivals at once: the largest of the single tests.

    None where one is not behind, or was not tested.

    That claim is false as soon as it is false of one rival, so each test at 5 % keeps it at 5 %, and nothing is to be
    adjusted (intersection-union test, Berger 1982, Technometrics 24, 295-300). Claims about one rival take Holm's p.
    """
    if not rivals or any("p" not in entry for entry in rivals):
        return None
    ahead = all(
        agree(entry["difference"], entry["rank_biserial"]) and (entry["difference"] < 0) == lower for entry in rivals
    )
    return max(entry["p"] for entry in rivals) if ahead else None


def _best(means: dict[str, float], names: Sequence[str], lower: bool) -> str | None:
    candidates = {m: v for m, v in means.items() if m in names and not math.isnan(v)}
    return (min if lower else max)(candidates, key=candidates.__getitem__) if candidates else None


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def main_and_more(task: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a task's result with the metrics of the main table alone, and with all others alone."""
    parts: list[dict[str, Any]] = []
    every = {metric for blocks in task["regions"].values() for metric in blocks}
    main = every & set(MAIN_METRICS) or every
    for chosen in (main, every - main):
        regions = {r: {m: b for m, b in blocks.items() if m in chosen} for r, blocks in task["regions"].items()}
        parts.append(task | {"regions": {region: blocks for region, blocks in regions.items() if blocks}})
    return parts[0], parts[1]


def result_rows(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one entry per method for the main table: `label`, `kind`, and `cells` by (region, metric) as text."""
    rows = []
    order = sorted(task["kinds"], key=lambda method: _rank(task, method))
    for method in order:
        cells = []
        for region, blocks in task["regions"].items():
            for metric, block in blocks.items():
                entry = block["methods"].get(method)
                cells.append({"region": region, "metric": metric, **_cell(entry, metric, method == block["best"])})
        kind = task["kinds"][method]
        rows.append({"method": method, "label": label(method), "kind": kind, "what": KIND_LABELS[kind], "cells": cells})
    return rows


def _rank(task: dict[str, Any], method: str) -> tuple[int, float]:
    block = next(iter(next(iter(task["regions"].values())).values()))
    entry = block["methods"].get(method, {})
    mean = math.inf if entry.get("infinite") else entry.get("mean") or 0.0
    worth = mean if block["better"] == "higher" else -mean
    return KINDS.index(task["kinds"][method]), worth


def effect_rows(task: dict[str, Any], reference: str) -> list[dict[str, str]]:
    """Return, as text, how the reference differs from every rival in the first region, and subjects needed."""
    blocks = next(iter(task["regions"].values()))
    rows = []
    for metric, block in blocks.items():
        unit = f" {block['unit']}" if block["unit"] else ""
        for method, entry in block["methods"].items():
            if method == reference or "p_holm" not in entry:
                continue
            low, high = entry["difference_low"], entry["difference_high"]
            rows.append(
                {
                    "metric": label(metric, METRIC_LABELS),
                    "rival": label(method),
                    "difference": f"{number(entry['difference'], metric, sign=True)}{unit}",
                    "interval": between(low, high, metric, sign=True),
                    "p": p_value(entry["p_holm"]),
                    "rank_biserial": f"{entry['rank_biserial']:+.2f}".replace("-", "−"),
                    "dz": "–" if entry["dz"] is None else f"{entry['dz']:+.2f}".replace("-", "−"),
                    "needed": "–" if entry["needed"] is None else f"{entry['needed']:,}",
                }
            )
    return rows


def subgroup_cells(task: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the subgroups as text."""
    rows = []
    for row in task.get("subgroups", ()):
        metric, gap = row["metric"], row.get("difference")
        rows.append(
            {
                "variable": row["variable"].capitalize(),
                "group": label(row["group"], CONTRAST_LABELS) if row["variable"] == "contrast" else row["group"],
                "metric": label(metric, METRIC_LABELS),
                "n": str(row["n"]),
                "mean": number(row["mean"], metric),
                "interval": between(row["low"], row["high"], metric),
                "difference": "–" if gap is None else number(gap, metric, sign=True),
                "rival": "" if row["rival"] is None else label(row["rival"]),
                "difference_interval": between(row.get("difference_low"), row.get("difference_high"), metric),
            }
        )
    return rows


def _cell(entry: dict[str, Any] | None, metric: str, best: bool) -> dict[str, Any]:
    if entry is None:
        return {"mean": "–", "median": "", "interval": "", "p": "", "best": False, "note": "not measured"}
    return {
        "mean": mean_of(entry, metric),
        "median": "" if entry.get("median") is None else number(entry["median"], metric),
        "interval": between(entry["low"], entry["high"], metric),
        "p": p_value(entry.get("p_holm")),
        "best": best,
        "note": entry["note"],
        "n": entry["n"],
    }


def render_text_table(result: dict[str, Any]) -> "Group":
    """Return the summary as rich tables for the terminal, one per task, each under its verdict in words."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = []
    for key, whole in result["tasks"].items():
        task, _ = main_and_more(whole)
        region, blocks = next(iter(task["regions"].items()))
        # Text, not str: rich would read square brackets in a setting as markup.
        title = f"{task_label(key)} · {task['setting']} · {task['subjects']} test subjects · {task['protocol']}"
        table = Table(title=Text(one_line(title)), title_justify="left")
        table.add_column("Method")
        names = [(r, m) for r, of_region in task["regions"].items() for m in of_region]
        for r, metric in names:
            table.add_column(Text(f"{label(metric, METRIC_LABELS)}\n{r}"), justify="right")
        table.add_column("Holm p", justify="right")
        for row in result_rows(task):
            name = Text(
                one_line(label(row["method"], METHOD_LABELS)),
                style="bold" if row["method"] == result["reference"] else "",
            )
            cells = [Text(cell["mean"], style="bold" if cell["best"] else "") for cell in row["cells"]]
            table.add_row(name, *cells, row["cells"][0]["p"].removeprefix("p ").removeprefix("= "))
        parts += [table, Text(verdict(task, result["reference"], region, next(iter(blocks))) + "\n")]
    return Group(*parts)
