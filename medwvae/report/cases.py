"""Which subjects a report shows, the worst first, and their pictures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from medwvae.report import panels, volumes
from medwvae.report.inputs import ReportInputs
from medwvae.report.tables import worst_first
from medwvae.report.words import CONTRAST_LABELS, METRIC_LABELS, REGION_LABELS, label, number

_PIXELS: Final = 5_000_000  # of all panels together; with about 0.8 byte a pixel they stay well under 8 MB
_LEAST_SIDE: Final = 128  # pixels; below it there are fewer pictures instead
_PLACES: Final = ("worst", "median", "best")


@dataclass(frozen=True)
class Case:
    """One volume of one test subject that is shown.

    Attributes
    ----------
    place : str
        "worst", "median", "best", "rank 4" or, where there is one subject, "only".
    volumes : int
        How many volumes the subject has; the first by name is shown.
    paths : dict
        Method to restored volume, from left to right.
    values : dict
        Method to the subject's score, as text.
    """

    place: str
    subject: str
    volume: str
    volumes: int
    modality: str
    contrast: str
    paths: dict[str, Path]
    values: dict[str, str]

    @property
    def unit(self) -> str:
        """Return the unit of the voxels."""
        return "HU" if self.modality == "CT" else "intensity units"


@dataclass(frozen=True)
class Ranking:
    """The test subjects of one section from the worst to the best, by one method's score.

    Attributes
    ----------
    table : pandas.DataFrame
        Score by subject and method.
    scores : pandas.Series
        Score by subject, the worst first; who has none is not among them.
    """

    by: str
    metric: str
    region: str
    table: pd.DataFrame
    scores: pd.Series
    cases: list[Case]


def ranking(
    inputs: ReportInputs, problem: str, metrics: pd.DataFrame, task: Mapping[str, Any], methods: list[str]
) -> Ranking | None:
    """Return the subjects of a section, and as cases those whose volumes can be shown; None without a score."""
    region, blocks = next(iter(task["regions"].items()))
    metric, block = next(iter(blocks.items()))
    by = inputs.reference if inputs.reference in methods else block["best"]
    rows = metrics[(metrics["region"] == region) & (metrics["metric"] == metric)]
    wide = rows.pivot_table(index="subject", columns="method", values="value")
    if by not in wide or wide[by].isna().all():
        return None
    scores = worst_first(wide[by], metric)  # unscored is neither worst nor best
    wide.index, scores.index = wide.index.astype(str), scores.index.astype(str)
    places = {"worst": 0, "median": len(scores) // 2, "best": len(scores) - 1}
    order = dict.fromkeys([places[place] for place in _PLACES] + list(range(len(scores))))
    restored = inputs.volumes.get(problem, {})
    columns = [method for method in methods if method in restored]
    cases = []
    for rank in order:
        subject = str(scores.index[rank])
        of_subject = [v for v in sorted(inputs.truths) if inputs.subjects.get(v) == subject]
        if not of_subject or not columns or not inputs.truths[of_subject[0]].is_file():
            continue
        volume = of_subject[0]
        known = inputs.manifest[inputs.manifest["volume"] == volume]
        modality, contrast = (str(known[column].iloc[0]) if len(known) else "" for column in ("modality", "contrast"))
        place = next((p for p in _PLACES if places[p] == rank), f"rank {rank + 1}")
        cases.append(
            Case(
                place="only" if len(scores) == 1 else place,
                subject=subject,
                volume=volume,
                volumes=len(of_subject),
                modality=modality,
                contrast=CONTRAST_LABELS.get(contrast, modality),
                paths={method: restored[method].get(volume, Path()) for method in columns},
                values={
                    str(method): f"{number(value, metric)} {block['unit']}".strip()
                    for method, value in wide.loc[subject].items()
                },
            )
        )
    return Ranking(by, metric, region, wide, scores, cases)


def window_of(inputs: ReportInputs, case: Case) -> panels.Window | None:
    """Return the window that the study names for a case; None where it follows from the image."""
    return inputs.ct_window if case.modality == "CT" else None


def pictures(inputs: ReportInputs, ranked: Ranking | None) -> Iterator[dict[str, Any]]:
    """Yield what the page says and shows of each pictured subject."""
    if ranked is None or not ranked.cases:
        return
    of_one = 2 * (len(ranked.cases[0].paths) + 1) * max(1, len(inputs.volumes))
    shown = ranked.cases[: min(inputs.figures_per_task, max(1, _PIXELS // (of_one * _LEAST_SIDE**2)))]
    side = int(np.clip((_PIXELS / (of_one * max(1, len(shown)))) ** 0.5, _LEAST_SIDE, 320))
    for case in shown:
        axis = inputs.slice_axis.get(case.volume, 2)
        yield {
            "panel": panels.panel(inputs.truths[case.volume], case.paths, axis, window_of(inputs, case), side),
            "case": case,
            "ranked_by": label(ranked.by),
            "names": _names(case),
            "metric": f"{label(ranked.metric, METRIC_LABELS)} {label(ranked.region, REGION_LABELS)}",
        }


@dataclass
class Allowance:
    """The text that the volumes of one page may take, shared among its sections: what one saves, the next may use."""

    sections: int
    left: int

    def share(self) -> int:
        """Return what the next section may take."""
        share = self.left // max(1, self.sections)
        self.sections -= 1
        return share


def viewer(inputs: ReportInputs, problem: str, ranked: Ranking | None, allowance: Allowance) -> dict[str, Any] | None:
    """Return the worst subject's volume for the interactive viewer; None without one or if none is wanted."""
    share = allowance.share()
    if share <= 0 or not inputs.viewer or ranked is None or not ranked.cases:
        return None
    case = ranked.cases[0]
    maps = inputs.uncertainties.get(problem, {})
    view = volumes.volume_view(
        inputs.truths[case.volume],
        case.paths,
        {method: of[case.volume] for method, of in maps.items() if case.volume in of},
        window_of(inputs, case),
        inputs.reference,
        share,
    )
    if view is None:
        return None
    allowance.left -= view.bytes
    first = inputs.reference if inputs.reference in view.images else next(m for m in view.images if m != "truth")
    return {"view": view, "case": case, "names": _names(case), "first": first}


def _names(case: Case) -> dict[str, str]:
    return {method: label(method) for method in case.paths} | {"truth": "Truth"}
