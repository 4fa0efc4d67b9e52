"""What failed, in words: the worst case of each task, worse than the input, volumes that are missing, refusals."""

from collections.abc import Iterator, Mapping
from typing import Any

from medwvae.metrics.definitions import definition
from medwvae.report.cases import Ranking
from medwvae.report.inputs import ReportInputs
from medwvae.report.tables import MAIN_METRICS
from medwvae.report.text import one_line
from medwvae.report.words import METRIC_LABELS, REGION_LABELS, count, label, listed, number, task_label

_NAMED = 3


def of_task(inputs: ReportInputs, task: Mapping[str, Any], ranked: Ranking | None) -> list[str]:
    """Return what a reader has to know before using our method on one task, a sentence each."""
    if ranked is None:
        return []
    sentences = [_worst(task, ranked), _worse_than_input(ranked)]
    sentences += _missing(inputs, task["task"])
    return [sentence for sentence in sentences if sentence]


def of_study(inputs: ReportInputs) -> list[str]:
    """Return what was refused and what was never scored, a sentence each."""
    refused = inputs.manifest[inputs.manifest["status"] == "refused"]
    sentences = []
    if len(refused):
        reasons = refused["reason"].astype(str).value_counts()
        most = f"{one_line(reasons.index[0])} ({reasons.iloc[0]})"
        others = f" and {count(len(reasons) - 1, 'other reason')}" if len(reasons) > 1 else ""
        sentences.append(
            f"{len(refused)} of {count(len(inputs.manifest), 'image')} were refused and are in no number here: "
            f"{most}{others}; the table of the cohort lists them."
        )
    tested = {subject for subject, part in inputs.splits.items() if part == "test"}
    scored = set(inputs.metrics["subject"].astype(str))
    if scored and (silent := sorted(tested - scored)):
        sentences.append(f"{_subjects(silent)} of the test part {'has' if len(silent) == 1 else 'have'} no score.")
    return sentences + list(_unscored(inputs, tested & scored))


def _unscored(inputs: ReportInputs, tested: set[str]) -> Iterator[str]:
    """Yield of each task and main metric which of these subjects lack a score by one of its methods."""
    main = inputs.metrics[inputs.metrics["metric"].isin(MAIN_METRICS)].dropna(subset=["value"])
    for (task, metric), rows in main.groupby(["task", "metric"], sort=False):
        without: set[str] = set()
        for _, whole in rows.groupby(["setting", "protocol"], sort=False):
            for region, own in whole.groupby("region", sort=False):
                # Not every subject has a lesion: who has no score there by any method lacks none.
                expected = tested & set(own["subject"].astype(str)) if region == "lesion" else tested
                for method in whole["method"].unique():
                    without |= expected - set(own["subject"][own["method"] == method].astype(str))
        if lacking := sorted(without):
            name = f"{task_label(str(task))}, {label(str(metric), METRIC_LABELS)}"
            lack = "lacks" if len(lacking) == 1 else "lack"
            yield f"{one_line(name)}: {_subjects(lacking)} of the test part {lack} the score of a method."


def _worst(task: Mapping[str, Any], ranked: Ranking) -> str:
    scores = ranked.scores.dropna()
    if len(scores) < 2:
        return ""
    unit = task["regions"][ranked.region][ranked.metric]["unit"]
    value, middle = (f"{number(float(v), ranked.metric)} {unit}".strip() for v in (scores.iloc[0], scores.median()))
    what = f"{label(ranked.metric, METRIC_LABELS)} {label(ranked.region, REGION_LABELS)}"
    return f"Worst case of {label(ranked.by)}: {one_line(scores.index[0])} with {value} {what} (median {middle})."


def _worse_than_input(ranked: Ranking) -> str:
    wide = ranked.table
    if "input" not in wide or ranked.by == "input":
        return ""
    loss = definition(ranked.metric).loss
    worse = wide[ranked.by].map(loss) > wide["input"].map(loss)
    names = [str(name) for name in wide.index[worse]]
    if not names:
        return ""
    return f"In {len(names)} of {count(len(wide), 'subject')} it is worse than its own input: {_subjects(names)}."


def _missing(inputs: ReportInputs, problem: str) -> list[str]:
    missing = {
        method: sum(not path.is_file() for path in of.values())
        for method, of in inputs.volumes.get(problem, {}).items()
    }
    return [
        f"{label(method)}: {n} of {count(len(inputs.volumes[problem][method]), 'restored volume')} not found."
        for method, n in missing.items()
        if n
    ]


def _subjects(names: list[str]) -> str:
    shown = [one_line(name) for name in names[:_NAMED]]
    return listed(shown if len(names) <= _NAMED else [*shown, f"{len(names) - _NAMED} more"])
