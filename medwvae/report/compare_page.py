"""The comparison of runs as a figure and as one HTML page."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from medwvae.files import atomic
from medwvae.report import compare
from medwvae.report.figures import STYLE, VARIABLES, plain, svg
from medwvae.report.tables import MAIN_METRICS
from medwvae.report.text import environment, one_line
from medwvae.report.words import METRIC_LABELS, label, task_label

PRINT: Final = {
    "ink": "#1a1a1a", "muted": "#666666", "rule": "#dddddd", "thread": "#bbbbbb", "input": "#777777",
    "classical": "#e69f00", "network": "#d55e00", "ours": "#0072b2", "control": "#999999", "second": "#cc79a7",
    "third": "#009e73", "fourth": "#56b4e9",
}  # fmt: skip
"""Colours of a figure that stands alone; Okabe and Ito's, which the colour-blind can tell apart."""


def page(result: Mapping[str, Any]) -> str:
    """Return the comparison as HTML: no script, nothing loaded from anywhere, everything from data escaped."""
    return str(
        environment()
        .get_template("compare.html")
        .render(
            result=result,
            words=compare.words(dict(result)),
            rows=[compare.cells(row) for row in result["rows"]],
            figure=svg(figure(result, VARIABLES), _alt(result)),
        )
    )


def write_figure(path: Path, result: Mapping[str, Any]) -> None:
    """Write the figure as PNG, SVG or PDF, by the suffix, atomically."""
    with atomic(path) as temporary:
        drawing = figure(result, PRINT)
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            drawing.savefig(temporary, dpi=150, facecolor="white", metadata={} if path.suffix == ".png" else None)


def figure(result: Mapping[str, Any], colours: Mapping[str, str]) -> Figure:
    """Draw every subject's difference from the first run, with mean and interval, one panel a task and metric."""
    rows = [row for row in result["rows"] if row["metric"] in MAIN_METRICS] or list(result["rows"])
    panels = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    most = max(sum((r["task"], r["metric"]) == panel for r in rows) for panel in panels)
    back = {colour: colours[name] for name, colour in VARIABLES.items()}
    style = {key: back.get(value, value) if isinstance(value, str) else value for key, value in STYLE.items()}
    with matplotlib.rc_context(style):
        drawing = Figure(figsize=(3.8 * columns + 1.2, lines * (1.0 + 0.42 * most)), layout="constrained")
        axes = np.atleast_1d(drawing.subplots(lines, columns, squeeze=False)).ravel()
        for axis, (task, metric) in zip(axes, panels, strict=False):
            of_panel = [row for row in rows if (row["task"], row["metric"]) == (task, metric)]
            for height, row in enumerate(of_panel):
                values = np.array(list(row["differences"].values()))
                spread = 0.22 * np.sin(2.4 * np.arange(values.size))  # so that equal dots are not one
                colour = colours[{"better": "ours", "worse": "network"}.get(row["verdict"], "input")]
                axis.plot(values, height + spread, "o", color=colour, markersize=3, alpha=0.6, markeredgewidth=0)
                if row["low"] is not None:
                    axis.plot([row["low"], row["high"]], [height, height], color=colours["ink"], linewidth=2)
                axis.plot(row["difference"], height, "D", color=colours["ink"], markersize=5)
            axis.axvline(0, color=colours["muted"], linewidth=0.8)
            names = [plain(f"{row['candidate']}\n{one_line(label(row['method']), 40)}") for row in of_panel]
            axis.set_yticks(range(len(of_panel)), names)
            axis.set_ylim(len(of_panel) - 0.5, -0.5)
            unit = f" ({of_panel[0]['unit']})" if of_panel[0]["unit"] else ""
            better = "right" if of_panel[0]["better"] == "higher" else "left"
            axis.set_title(plain(one_line(task_label(task), 40)))
            axis.set_xlabel(f"{label(metric, METRIC_LABELS)}{unit}: difference, better to the {better}")
            axis.grid(axis="x")
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        colour_of = {"better": "blue", "worse": "orange"}
        seen = [f"{colour_of.get(verdict, 'grey')} {verdict}" for verdict in sorted({row["verdict"] for row in rows})]
        against = f"Difference from {result['runs'][0]}, region {one_line(result['region'], 40)}; {', '.join(seen)}"
        wide = int(14 * drawing.get_figwidth())  # letters
        drawing.suptitle(textwrap.fill(plain(against), wide), fontsize="medium")
        return drawing


def _alt(result: Mapping[str, Any]) -> str:
    names = ", ".join(result["runs"][1:])
    return f"Differences of {names} from {result['runs'][0]}, one dot per subject; the numbers are in the table below."
