"""Two or more runs, paired by subject: what changed, how sure that is, and whether it is a regression."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from medwvae.errors import ConfigError, InputError
from medwvae.metrics.definitions import definition
from medwvae.report.tables import COLUMNS, compared
from medwvae.report.text import one_line
from medwvae.report.words import METRIC_LABELS, between, count, label, listed, number, of_few, p_value, task_label
from medwvae.statistics import SIGNIFICANT, agree, holm, paired, worse

if TYPE_CHECKING:
    from rich.console import Group


MOST_NAMED = 3
"""Subjects, or things that are missing, that a sentence names."""


WIDTH = 80
"""Columns of a terminal that the tables need."""


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


@dataclass
class Left:
    """What could not be compared, and why; `lost` is what the first run has and a gate therefore cannot see.

    `gated` are the metrics of the gates.
    """

    gated: Collection[str] = ()
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, note: str, *, lost: bool = True) -> None:
        """Keep a note."""
        self.notes.append(note)
        if lost:
            self.lost.append(note)


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
        # An empty setting is a setting: pandas would group no row by a missing one.
        table = table.assign(**{name: table[name].fillna("").astype(str) for name in COLUMNS if name != "value"})
        runs.append(Run(f"{letter} {study}".strip(), table))
    return runs


def compare(
    runs: Sequence[Run],
    *,
    methods: Sequence[str] = ("wavelet_vae",),
    region: str | None = None,
    gates: Sequence[Gate] = (),
    allow_missing: bool = False,
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
    allow_missing
        Gates pass over what the first run has and a later one lacks; without it, that is an error.

    Returns
    -------
    dict
        Ready for JSON. `runs`: names. `region`. `rows`: of each task, metric, method, later run `n`, `baseline_mean`,
        `candidate_mean`, `difference` (candidate − baseline; of distances to the target where a metric has one) with
        `low` and `high`, `median`, `p`, `p_holm` (over later runs and methods of one task and metric), effect sizes,
        `needed`, `verdict` (better, worse, mean and ranks disagree, or no difference shown) and `differences` by
        subject. `gates`: what was tested, and whether it `failed`. `notes`: what could not be compared, and why.
        `failed`: whether any gate did.

    Raises
    ------
    InputError
        If there is nothing to compare, or a gate has nothing to test, too few subjects ever to fail, or lacks in a
        later run what the first has: a task, a setting, a method, a subject, a finite value.
    """
    if len(runs) < 2:
        raise InputError("compare needs two result folders or more")
    methods = list(dict.fromkeys(methods))  # each is one comparison, however often it is named
    gates = list(dict.fromkeys(gates))
    first, left = runs[0], Left({gate.metric for gate in gates})
    region = region or _region(first.metrics)
    for method in methods:
        if method not in set(first.metrics["method"]):
            left.add(f"{first.name} has no method {one_line(method, 40)}")
    rows = [row for other in runs[1:] for row in _pairs(first, other, methods, region, left)]
    if not rows:
        raise InputError("nothing to compare: " + "; ".join(dict.fromkeys(left.notes)))
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault((row["task"], row["metric"]), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = adjusted
            row["verdict"] = _verdict(row)
    lost = list(dict.fromkeys(left.lost))
    if gates and lost and not allow_missing:
        more = f"; and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        raise InputError(
            f"--fail-if-worse cannot see all of {first.name}: {'; '.join(lost[:MOST_NAMED])}{more}. Complete the later "
            "run, or give --allow-missing to test what there is"
        )
    tested = _gates(rows, gates)
    return {
        "runs": [run.name for run in runs],
        "region": region,
        "rows": rows,
        "gates": tested,
        "notes": list(dict.fromkeys(left.notes)),
        "failed": any(gate["failed"] for gate in tested),
    }


def _region(metrics: pd.DataFrame) -> str:
    regions = [str(region) for region in metrics["region"].unique()]
    return "head" if "head" in regions else regions[0]


def _pairs(first: Run, other: Run, methods: Sequence[str], region: str, left: Left) -> Iterable[dict[str, Any]]:
    for task in first.metrics["task"].unique():
        ours, theirs = (run.metrics[run.metrics["task"] == task] for run in (first, other))
        if theirs.empty:
            left.add(f"{one_line(task, 80)}: {other.name} has none of it")
            continue
        for (setting, protocol), block in ours.groupby(["setting", "protocol"], sort=False):
            same = theirs[(theirs["setting"] == setting) & (theirs["protocol"] == protocol)]
            if same.empty:
                had = " / ".join(one_line(text, 80) for text in theirs[["setting", "protocol"]].iloc[0])
                left.add(
                    f"{one_line(task, 80)}: {first.name} was degraded or scored as {one_line(setting, 80)} / "
                    f"{one_line(protocol, 80)}, {other.name} as {had}: not compared"
                )
                continue
            for method in methods:
                yield from _of_method(first, other, block, same, str(task), str(setting), method, region, left)


def _of_method(
    first: Run,
    other: Run,
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    task: str,
    setting: str,
    method: str,
    region: str,
    left: Left,
) -> Iterable[dict[str, Any]]:
    tables = [t[(t["method"] == method) & (t["region"] == region)] for t in (ours, theirs)]
    place = f"{one_line(task, 80)}: {one_line(method, 40)}"
    if any(table.empty for table in tables):
        # What the first run has not cannot be missing in another.
        left.add(
            f"{place} is not in both {first.name} and {other.name} (region: {one_line(region, 40)})",
            lost=not tables[0].empty,
        )
        return
    tables = [t.assign(compared=compared(t)) for t in tables]
    wide, judged = (
        [t.pivot_table(index="subject", columns="metric", values=column, aggfunc="mean") for t in tables]
        for column in ("value", "compared")
    )
    common = wide[0].index.intersection(wide[1].index)
    if common.empty:
        left.add(
            f"{one_line(task, 80)}: {first.name} and {other.name} have no test subject in common (pseudonyms agree "
            "only between studies that share the key in private/)"
        )
        return
    for run, mine, its in ((other, wide[0], wide[1]), (first, wide[1], wide[0])):
        if alone := list(mine.index.difference(its.index)):
            left.add(f"{place}: {run.name} lacks {_subjects(alone)}, left out", lost=run is other)
    for metric in METRIC_LABELS:
        meaning = definition(metric)
        if metric not in wide[0] or meaning.better == "neither":
            continue
        gated = metric in left.gated
        if metric not in wide[1]:
            left.add(f"{place}: {other.name} has no {label(metric, METRIC_LABELS)}", lost=gated)
            continue
        pairs = pd.DataFrame({"first": wide[0].loc[common, metric], "other": wide[1].loc[common, metric]})
        if lacking := list(pairs.index[pairs["first"].notna() & pairs["other"].isna()]):
            said = f"{other.name} has no {label(metric, METRIC_LABELS)} of {_subjects(lacking)}"
            left.add(f"{place}: {said}, left out", lost=gated)
        both = pairs.dropna()
        if infinite := int(both.map(math.isinf).any(axis=1).sum()):
            said = f"{label(metric, METRIC_LABELS)} is infinite in {infinite} of {count(len(both), 'subject')}"
            left.add(f"{place}: {said}, not compared", lost=gated)
        if both.empty or infinite:
            continue
        distances = [of.loc[both.index, metric] for of in judged]
        result = paired(distances[1], distances[0])
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
            "differences": {str(s): float(d) for s, d in (distances[1] - distances[0]).items()},
        }


def _subjects(names: Sequence[object]) -> str:
    shown = [one_line(name, 40) for name in names[:MOST_NAMED]]
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return f"{count(len(names), 'subject')} ({listed([*shown, *more])})"


def _verdict(row: dict[str, Any]) -> str:
    if row["p_holm"] >= SIGNIFICANT or row["difference"] == 0:
        return "no difference shown"
    if not agree(row["difference"], row["rank_biserial"]):
        return "mean and ranks disagree"
    return "better" if (row["difference"] > 0) == (row["better"] == "higher") else "worse"


def _gates(rows: list[dict[str, Any]], gates: Sequence[Gate]) -> list[dict[str, Any]]:
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
            keys = ("task", "metric", "unit", "method", "candidate", "n", "difference")
            tested.append(
                {key: row[key] for key in keys}
                | {"margin": gate.margin, "gain": found.mean, "p": found.p, "p_smallest": found.p_smallest}
            )
    adjusted_ps, floors = (holm([gate[key] for gate in tested]) for key in ("p", "p_smallest"))
    for one, adjusted, floor in zip(tested, adjusted_ps, floors, strict=True):
        if floor >= SIGNIFICANT:
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
        change = f"{number(gate['difference'], gate['metric'], sign=True)} {gate['unit']}".strip()
        if gate["failed"]:
            said.append(f"REGRESSION. {name} is worse by more than {margin} ({change}, {p_value(gate['p_holm'])}).")
        else:
            said.append(f"{name} is not shown to be worse by more than {margin} ({change}, {p_value(gate['p_holm'])}).")
    said.sort(key=lambda sentence: not sentence.startswith("REGRESSION"))
    if not result["gates"]:
        said += [_outcome(row) for row in result["rows"] if row["metric"] == result["rows"][0]["metric"]]
    verdicts = [row["verdict"] for row in result["rows"]]
    unlike = verdicts.count("mean and ranks disagree")
    said.append(
        f"Of {count(len(verdicts), 'comparison')}, {verdicts.count('better')} better, {verdicts.count('worse')} worse, "
        + (f"in {unlike} mean and ranks disagree, " if unlike else "")
        + "the others without a difference that the test could show."
    )
    if near := list(dict.fromkeys(row["metric"] for row in result["rows"] if row["better"] == "nearest")):
        names = listed([f"{label(metric, METRIC_LABELS)} ({definition(metric).target:g})" for metric in near])
        said.append(f"Best near a target: {names}; there a change is that of the distance to it, and more is worse.")
    families = len({(row["task"], row["metric"]) for row in result["rows"]})
    if families > 1:
        said.append(
            f"p is adjusted within a task and metric, not over all {families} of them: where nothing differs, about 5 "
            "in 100 show a difference by chance alone."
        )
    if few := of_few(min((row["n"] for row in result["rows"]), default=0)):
        said.append(few)
    return said


def _outcome(row: dict[str, Any]) -> str:
    """Return the outcome of one row in a sentence."""
    text = cells(row)
    change = f"{text['difference']} {row['unit']}".strip() + (f" [{text['interval']}]" if text["interval"] else "")
    sure = f" ({text['p']} after Holm)" if text["p"] else ""
    return f"{_place(row)}, {row['candidate']} against {row['baseline']}: {change}, {row['verdict']}{sure}."


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
        "interval": between(low, high, metric, sign=True),
        "p": p_value(row["p_holm"]),
        "rank_biserial": f"{row['rank_biserial']:+.2f}".replace("-", "−"),
        "needed": "–" if row["needed"] is None else f"{row['needed']:,}",
        "verdict": row["verdict"],
    }


def render_text_table(result: dict[str, Any]) -> "Group":
    """Return the comparison as rich tables under its words, for the terminal: one per task, method and later run.

    Of 80 columns the numbers get what they need; metric and verdict fold.
    """
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = [
        Text(f"Compared with {result['runs'][0]}, region: {one_line(result['region'], 40)}\n", style="bold")
    ]
    numbers = {
        "n": "n", "baseline_mean": "before", "candidate_mean": "after", "difference": "change", "interval": "95 %",
        "p": "Holm p",
    }  # fmt: skip
    tables: dict[tuple[str, str, str], Table] = {}
    for row in result["rows"]:
        text = cells(row)
        of = (row["task"], row["method"], row["candidate"])
        if of not in tables:
            title = f"{text['task']} · {text['method']} · {text['candidate']}"
            tables[of] = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
            tables[of].add_column("Metric", overflow="fold", min_width=10)
            for heading in numbers.values():
                tables[of].add_column(heading, justify="right", no_wrap=True)
            tables[of].add_column(" Verdict", overflow="fold", min_width=11)
        style = {"better": "green", "worse": "red"}.get(row["verdict"], "")
        tables[of].add_row(
            Text(text["metric"]),
            *(Text(f" {text[name].removeprefix('p = ').removeprefix('p ')}") for name in numbers),
            Padding(Text(row["verdict"], style=style), (0, 0, 0, 1)),
        )
    said = [Text(sentence) for sentence in (*words(result), *result["notes"])]
    return Group(*parts, *tables.values(), *said)


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
