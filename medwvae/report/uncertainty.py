"""How sure a method is, and whether it is right to be: calibration plot, map of widths, and the outcome in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medwvae.names import INTERVAL_LEVELS
from medwvae.report import figures, panels
from medwvae.report.words import count, label, number, percent
from medwvae.statistics import Calibration

STRATA = ("narrow", "wide", "flat", "edges", "dark", "bright")
CLOSE = 0.02
"""A coverage this near to its level is as promised, or slightly off where its own interval does not hold the level."""


@dataclass(frozen=True)
class IntervalInputs:
    """Of one method and problem.

    Attributes
    ----------
    calibration : what the validation subjects said. draws : posterior draws of a volume.
    """

    calibration: Calibration
    draws: int


def interval_section(
    method: str,
    inputs: IntervalInputs,
    blocks: Mapping[str, Any],
    metrics: pd.DataFrame,
    title: str,
) -> dict[str, Any] | None:
    """Return what the page shows of a method's intervals; None if they were not scored.

    Parameters
    ----------
    blocks
        `summary()["tasks"][key]["regions"]["head"]`.
    metrics
        The rows of the task.
    """
    found = {name: block["methods"][method] for name, block in blocks.items() if method in block["methods"]}
    levels = [level for level in INTERVAL_LEVELS if _coverage(level) in found]
    if not levels:
        return None
    rows = metrics[(metrics["method"] == method) & (metrics["region"] == "head")]
    return {
        "name": label(method),
        "level": percent(inputs.calibration.level),
        "words": sentences(method, inputs, found),
        "plot": calibration_plot(f"{title}, {label(method)}", levels, found, rows),
        "strata": [
            {"name": name, "mean": _share(found[key]["mean"]), "interval": _bounds(found[key])}
            for name in STRATA
            if (key := f"coverage_{name}") in found
        ],
        "gradient": panels.gradient(panels.WIDTH_MAP),
    }


def sentences(method: str, inputs: IntervalInputs, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in words how far the intervals hold what they promise, and where they do not."""
    calibration = inputs.calibration
    main = found.get(_coverage(calibration.level))
    if main is None or main["mean"] is None:
        return ""
    off = main["mean"] - calibration.level
    if abs(off) > CLOSE + 1e-9:
        held = "too few" if off < 0 else "more than promised"
    elif main["low"] is None or main["high"] is None or main["low"] <= calibration.level <= main["high"]:
        held = "as promised"
    else:
        held = f"slightly {'fewer' if off < 0 else 'more'} than promised"
    words = [
        f"The {percent(calibration.level)} intervals of {label(method)}, calibrated on "
        f"{count(calibration.subjects, 'validation subject')}, hold {_share(main['mean'])}{_bounds(main, ' [', ']')} "
        f"of the head's voxels in {count(main['n'], 'test subject')}: {held}."
    ]
    if calibration.left_out:
        low, high = min(calibration.left_out), max(calibration.left_out)
        words.append(
            f"Of each validation subject, the factor of the others held {_share(low)} to {_share(high)} of the voxels."
        )
    if (width := found.get("interval_width")) and width["mean"] is not None:
        words.append(f"The 90 % intervals are {100 * width['mean']:.1f} % of the maximum wide on average.")
    if (rank := found.get("width_error_rank")) and rank["mean"] is not None:
        words.append(f"Width and error rank together with ρ = {number(rank['mean'], 'width_error_rank')}.")
    known = {name: one["mean"] for name in STRATA if (one := found.get(f"coverage_{name}")) and one["mean"] is not None}
    if known:
        worst = min(known, key=known.__getitem__)
        words.append(f"They hold least, {_share(known[worst])}, where voxels are {_WHERE[worst]}.")
    return " ".join(words)


_WHERE = {
    "narrow": "surest of themselves (the narrowest third)",
    "wide": "least sure of themselves (the widest third)",
    "dark": "darkest (a third)",
    "bright": "brightest (a third)",
    "flat": "far from edges (the flattest third)",
    "edges": "at edges (the third with the steepest gradient)",
}


def calibration_plot(
    title: str, levels: list[float], found: Mapping[str, Mapping[str, Any]], rows: pd.DataFrame
) -> str:
    """Return nominal against actual coverage: the mean with its interval, a dot per subject, and the diagonal."""
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(4.2, 3.6), layout="constrained")
        axis = figure.subplots()
        ends = np.array([min(levels) - 0.08, 1.0])
        axis.plot(ends, ends, "--", color=figures.VARIABLES["muted"], linewidth=1.0, label="as promised")
        for level in levels:
            values = rows.loc[rows["metric"] == _coverage(level), "value"]
            axis.plot(np.full(len(values), level), values, "o", color=figures.VARIABLES["thread"], markersize=3.2)
        entries = [found[_coverage(level)] for level in levels]
        means = [entry["mean"] for entry in entries]
        axis.plot(levels, means, "o-", color=figures.VARIABLES["ours"], markersize=4.5, label="mean over subjects")
        for level, entry in zip(levels, entries, strict=True):
            if entry["low"] is not None and entry["high"] is not None:
                bounds = [entry["low"], entry["high"]]
                axis.plot([level] * 2, bounds, color=figures.VARIABLES["ours"], linewidth=1.6)
        axis.set_xlabel("level of the intervals")
        axis.set_ylabel("share of voxels that they hold")
        axis.grid()
        axis.set_axisbelow(True)
        axis.legend(loc="upper left")
        said = "; ".join(f"{percent(level)}: {_share(mean)}" for level, mean in zip(levels, means, strict=True))
        return figures.svg(figure, f"{title}: coverage of the intervals by their level: {said}.")


def _coverage(level: float) -> str:
    return f"coverage_{100 * level:g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _bounds(entry: Mapping[str, Any], before: str = "", behind: str = "") -> str:
    if entry["low"] is None or entry["high"] is None:
        return ""
    return f"{before}{_share(entry['low'])} to {_share(entry['high'])}{behind}"
