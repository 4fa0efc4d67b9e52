"""Two or more runs, paired by subject: what changed, how sure that is, and whether it is a regression."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from medwvae.errors import ConfigError, InputError
from medwvae.metrics.definitions import definition
from medwvae.report.tables import COLUMNS, SIGNIFICANT
from medwvae.report.text import one_line
from medwvae.report.words import METRIC_LABELS, count, label, number, p_value, task_label
from medwvae.statistics import holm, paired, worse

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Run:
    """One run: a name for the tables (a letter and the study's name) and its `metrics.csv`."""

    name: str
    metrics: pd.DataFrame


@dataclass(frozen=True)
class Gate:
    """A metric that must not become worse by more than a margin, in the metric's unit."""

    metric: str
    margin: float


def parse_gate(text: str) -> Gate:
    """Read 'psnr:0.1', or 'psnr' for a margin of 0.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    metric, colon, margin = text.partition(":")
    try:
        value = float(margin) if colon else 0.0
    except ValueError:
        value = math.nan
    if not metric or not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"--fail-if-worse {text!r}: expected METRIC:MARGIN, for example psnr:0.1 (dB)")
    if definition(metric).better == "neither":
        raise ConfigError(f"--fail-if-worse {text!r}: of {metric} neither direction is worse")
    return Gate(metric, value)


def named(tables: Sequence[pd.DataFrame]) -> list[Run]:
    """Return runs named 'A demo', 'B demo2', ...

    Raises
    ------
    InputError
        If a table is not in the long format of metrics.csv, or empty.
    """
    runs = []
    for place, table in enumerate(tables):
        if missing := [column for column in COLUMNS if column not in table]:
            raise InputError(f"run {place + 1} has no column {', '.join(missing)}; run `medwvae report` there again")
        if not pd.api.types.is_numeric_dtype(table["value"]):
            raise InputError(f"run {place + 1} has values that are no numbers; run `medwvae report` there again")
        if table.empty:
            raise InputError(f"run {place + 1} has no scores; run `medwvae evaluate` and `medwvae report` there")
        study = one_line(table["run"].iloc[0], 40) if "run" in table else ""
        letter = chr(ord("A") + place) if place < 26 else str(place + 1)
        runs.append(Run(f"{letter} {study}".strip(), table))
    return runs


def compare(
    runs: Sequence[Run],
    *,
    methods: Sequence[str] = ("wavelet_vae",),
    region: str | None = None,
    gates: Sequence[Gate] = (),
) -> dict[str, Any]:
    """Compare every later run with the first, subject by subject.

    Parameters
    ----------
    methods
        Each is compared with itself in the other runs.
    region
        By default the head, or what there is.
    gates
        Conditions on the later runs. A run is worse if a one-sided Wilcoxon test finds it below the first by more than
        the margin (p < .05 after Holm over all that the gates test) and its mean is, too.

    Returns
    -------
    dict
        Ready for JSON. `runs`: names. `region`. `rows`: of each task, metric, method, later run `n`, `baseline_mean`,
        `candidate_mean`, `difference` (candidate − baseline; of distances to the target where a metric has one) with
        `low` and `high`, `median`, `p`, `p_holm` (over later runs and methods of one task and metric), effect sizes,
        `needed`, `verdict` (better, worse or no difference shown) and `differences` by subject. `gates`: what was
        tested, and whether it `failed`. `notes`: what could not be compared, and why. `failed`: whether any gate did.

    Raises
    ------
    InputError
        If there is nothing to compare, or a gate has nothing to test or too few subjects ever to fail.
    """
    if len(runs) < 2:
        raise InputError("compare needs two result folders or more")
    first, notes = runs[0], list[str]()
    region = region or _region(first.metrics)
    rows = [row for other in runs[1:] for row in _pairs(first, other, methods, region, notes)]
    if not rows:
        raise InputError(
            "nothing to compare: " + ("; ".join(notes) or f"no method {', '.join(methods)} scored in the {region}")
        )
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault((row["task"], row["metric"]), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = adjusted
            row["verdict"] = _verdict(row)
    tested = _gates(rows, gates, notes)
    return {
        "runs": [run.name for run in runs],
        "region": region,
        "rows": rows,
        "gates": tested,
        "notes": list(dict.fromkeys(notes)),
        "failed": any(gate["failed"] for gate in tested),
    }


def _region(metrics: pd.DataFrame) -> str:
    regions = [str(region) for region in metrics["region"].unique()]
    return "head" if "head" in regions else regions[0]


def _pairs(first: Run, other: Run, methods: Sequence[str], region: str, notes: list[str]) -> Iterable[dict[str, Any]]:
    for task in first.metrics["task"].unique():
        ours, theirs = (run.metrics[run.metrics["task"] == task] for run in (first, other))
        if theirs.empty:
            notes.append(f"{task}: {other.name} has none of it")
            continue
        for (setting, protocol), block in ours.groupby(["setting", "protocol"], sort=False):
            same = theirs[(theirs["setting"] == setting) & (theirs["protocol"] == protocol)]
            if same.empty:
                had = " / ".join(one_line(text, 80) for text in theirs[["setting", "protocol"]].iloc[0])
                notes.append(
                    f"{task}: {first.name} was degraded or scored as {one_line(setting, 80)} / "
                    f"{one_line(protocol, 80)}, {other.name} as {had}: not compared"
                )
                continue
            for method in methods:
                yield from _of_method(first, other, block, same, str(task), str(setting), method, region, notes)


def _of_method(
    first: Run,
    other: Run,
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    task: str,
    setting: str,
    method: str,
    region: str,
    notes: list[str],
) -> Iterable[dict[str, Any]]:
    tables = [t[(t["method"] == method) & (t["region"] == region)] for t in (ours, theirs)]
    if any(table.empty for table in tables):
        notes.append(f"{task}: {method} is not in both {first.name} and {other.name} (region: {one_line(region, 40)})")
        return
    wide = [t.pivot_table(index="subject", columns="metric", values="value", aggfunc="mean") for t in tables]
    common = wide[0].index.intersection(wide[1].index)
    if common.empty:
        notes.append(
            f"{task}: {first.name} and {other.name} have no test subject in common (pseudonyms agree only between "
            "studies that share the key in private/)"
        )
        return
    if alone := len(wide[0].index.symmetric_difference(wide[1].index)):
        notes.append(f"{task}: {count(alone, 'subject')} of only one of {first.name} and {other.name} left out")
    known = [metric for metric in METRIC_LABELS if metric in wide[0] and metric in wide[1]]
    for metric in known:
        meaning = definition(metric)
        if meaning.better == "neither":
            continue
        both = pd.DataFrame({"first": wide[0].loc[common, metric], "other": wide[1].loc[common, metric]}).dropna()
        if both.empty or both.abs().to_numpy().max() == math.inf:
            notes.append(f"{task}: {metric} of {method} is infinite or missing for a subject: not compared")
            continue
        judged = (both - meaning.target).abs() if meaning.better == "nearest" else both
        result = paired(judged["other"], judged["first"])
        lower = meaning.better != "higher"
        interval = result.difference
        yield {
            "task": task,
            "setting": setting,
            "metric": metric,
            "unit": meaning.unit,
            "better": meaning.better,
            "method": method,
            "baseline": first.name,
            "candidate": other.name,
            "n": len(both),
            "baseline_mean": float(both["first"].mean()),
            "candidate_mean": float(both["other"].mean()),
            "difference": interval.mean,
            "median": interval.median,
            "low": _json(interval.low),
            "high": _json(interval.high),
            "p": result.p,
            "ahead": result.below if lower else result.above,
            "behind": result.above if lower else result.below,
            "rank_biserial": result.rank_biserial,
            "dz": _json(result.dz),
            "needed": result.needed,
            "differences": {str(s): float(d) for s, d in (judged["other"] - judged["first"]).items()},
        }


def _verdict(row: dict[str, Any]) -> str:
    if row["p_holm"] >= SIGNIFICANT or row["difference"] == 0:
        return "no difference shown"
    return "better" if (row["difference"] > 0) == (row["better"] == "higher") else "worse"


def _gates(rows: list[dict[str, Any]], gates: Sequence[Gate], notes: list[str]) -> list[dict[str, Any]]:
    tested = []
    for gate in gates:
        chosen = [row for row in rows if row["metric"] == gate.metric]
        if not chosen:
            have = ", ".join(dict.fromkeys(row["metric"] for row in rows))
            raise InputError(f"--fail-if-worse {gate.metric}: there is nothing to test; the runs share {have}")
        for row in chosen:
            sign = 1.0 if row["better"] == "higher" else -1.0
            gains = [sign * d for d in row["differences"].values()]
            found = worse(gains, [0.0] * len(gains), margin=gate.margin)
            keys = ("task", "metric", "unit", "method", "candidate", "n")
            tested.append(
                {key: row[key] for key in keys}
                | {"margin": gate.margin, "gain": found.mean, "p": found.p, "p_smallest": found.p_smallest}
            )
    for one, adjusted in zip(tested, holm([gate["p"] for gate in tested]), strict=True):
        if one["p_smallest"] * len(tested) >= SIGNIFICANT:
            least = math.floor(math.log2(len(tested) / SIGNIFICANT)) + 1
            raise InputError(
                f"--fail-if-worse {one['metric']}: with {count(one['n'], 'subject')} and "
                f"{count(len(tested), 'comparison')} the test can never give p < .05, so it could never fail; "
                f"it needs {count(least, 'subject')}"
            )
        one["p_holm"] = adjusted
        one["failed"] = adjusted < SIGNIFICANT and one["gain"] < -one["margin"]
    return tested


def words(result: dict[str, Any]) -> list[str]:
    """Return the outcome in sentences, regressions first."""
    said = []
    for gate in result["gates"]:
        margin = f"{gate['margin']:g} {gate['unit']}".strip()
        name = f"{_place(gate)}: {gate['candidate']}"
        change = f"{number(gate['gain'], gate['metric'], sign=True)} {gate['unit']}".strip()
        if gate["failed"]:
            said.append(f"REGRESSION. {name} is worse by more than {margin} ({change}, {p_value(gate['p_holm'])}).")
        else:
            said.append(f"{name} is not shown to be worse by more than {margin} ({change}, {p_value(gate['p_holm'])}).")
    said.sort(key=lambda sentence: not sentence.startswith("REGRESSION"))
    counts = {verdict: sum(r["verdict"] == verdict for r in result["rows"]) for verdict in ("better", "worse")}
    said.append(
        f"Of {count(len(result['rows']), 'comparison')}, {counts['better']} better, {counts['worse']} worse, "
        "the others without a difference that the test could show."
    )
    return said


def _place(row: dict[str, Any]) -> str:
    return one_line(f"{task_label(row['task'])}, {label(row['method'])}, {label(row['metric'], METRIC_LABELS)}")


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Return one row as text."""
    metric, unit = row["metric"], row["unit"]
    low, high = row["low"], row["high"]
    return {
        "task": one_line(task_label(row["task"])),
        "method": one_line(label(row["method"])),
        "metric": label(metric, METRIC_LABELS) + (f" ({unit})" if unit else ""),
        "candidate": row["candidate"],
        "n": str(row["n"]),
        "baseline_mean": number(row["baseline_mean"], metric),
        "candidate_mean": number(row["candidate_mean"], metric),
        "difference": number(row["difference"], metric, sign=True),
        "interval": "" if low is None else f"{number(low, metric, sign=True)} to {number(high, metric, sign=True)}",
        "p": p_value(row["p_holm"]),
        "rank_biserial": f"{row['rank_biserial']:+.2f}".replace("-", "−"),
        "needed": "–" if row["needed"] is None else f"{row['needed']:,}",
        "verdict": row["verdict"],
    }


def render_text_table(result: dict[str, Any]) -> "Group":
    """Return the comparison as a rich table under its words, for the terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"Compared with {result['runs'][0]}, region: {result['region']}"), title_justify="left")
    shown = {
        "task": "Task", "method": "Method", "metric": "Metric", "candidate": "Run", "n": "n", "baseline_mean": "before",
        "candidate_mean": "after", "difference": "difference", "interval": "95 %", "p": "Holm p", "verdict": "Verdict",
    }  # fmt: skip
    for name, heading in shown.items():
        table.add_column(
            heading, justify="left" if name in ("task", "method", "metric", "candidate", "verdict") else "right"
        )
    for row in result["rows"]:
        text = cells(row)
        style = {"better": "green", "worse": "red"}.get(row["verdict"], "")
        table.add_row(*(Text(text[name], style=style if name == "verdict" else "") for name in shown))
    return Group(table, *(Text(sentence) for sentence in (*words(result), *result["notes"])))


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
