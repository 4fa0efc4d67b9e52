"""Plots as inline SVG that follow the page's theme: text stays text, and every colour is a CSS variable."""

import html
import io
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from medwvae.metrics.definitions import definition
from medwvae.report.words import METRIC_LABELS, label

# Matplotlib needs real colours, the page wants `var(--x)`: each stands for one variable and is replaced in the SVG.
VARIABLES = {
    "ink": "#010203",
    "muted": "#010204",
    "rule": "#010205",
    "thread": "#01020e",
    "input": "#010206",
    "classical": "#010207",
    "network": "#010208",
    "ours": "#010209",
    "control": "#01020a",
    "second": "#01020b",
    "third": "#01020c",
    "fourth": "#01020d",
}
_NETWORK_COLOURS = {"wavelet_vae": "ours", "unet": "network", "conv_vae": "second"}
VALIDATED = {"val_psnr": "PSNR", "val_held": "ratio of held-out data to error"}
"""Columns of a training's history that hold its validation score."""
_SPARE = ("third", "fourth", "classical", "input")
_LEVELS = ("ours", "network", "second", "third", "fourth")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vP"
_ORIENTATIONS = ("-", "--", ":", "-.", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 4)))
"""A line for each of the seven details of a level in 3D."""
STYLE = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": VARIABLES["muted"],
    "axes.labelcolor": VARIABLES["ink"],
    "axes.titlecolor": VARIABLES["ink"],
    "axes.titlesize": 9,
    "axes.linewidth": 0.7,
    "text.color": VARIABLES["ink"],
    "xtick.color": VARIABLES["muted"],
    "ytick.color": VARIABLES["muted"],
    "ytick.labelcolor": VARIABLES["ink"],
    "xtick.labelcolor": VARIABLES["ink"],
    "grid.color": VARIABLES["rule"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def strips(title: str, metrics: pd.DataFrame, task: Mapping[str, Any], region: str, methods: list[str]) -> str:
    """Return box and strip plots of every metric: one dot per subject, one thin line per subject through the methods.

    Parameters
    ----------
    title
        What the alternative text begins with; no two figures of a page may share it.
    metrics
        The rows of one task, setting and protocol.
    methods
        From top to bottom.
    """
    blocks = task["regions"][region]
    rows = metrics[(metrics["region"] == region) & metrics["method"].isin(methods)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.4, 0.75 + 0.36 * len(methods)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(blocks), sharey=True))
        for axis, (metric, block) in zip(axes, blocks.items(), strict=True):
            of_metric = rows[rows["metric"] == metric]
            wide = of_metric.pivot_table(index="subject", columns="method", values="value").reindex(columns=methods)
            _strip(axis, wide.replace([np.inf, -np.inf], np.nan), [task["kinds"][method] for method in methods])
            arrow = definition(metric).direction
            unit = f" ({block['unit']})" if block["unit"] else ""
            axis.set_xlabel(f"{label(metric, METRIC_LABELS)}{unit}, {arrow}")
        axes[0].set_yticks(range(len(methods)), [plain(label(method)) for method in methods])
        axes[0].set_ylim(len(methods) - 0.5, -0.5)
        names = ", ".join(label(metric, METRIC_LABELS) for metric in blocks)
        alt = (
            f"{title}: {names} of {len(methods)} methods, one dot per subject; means and intervals are in the "
            "table above, each subject's values in metrics.csv."
        )
        return svg(figure, alt)


def _strip(axis: Axes, wide: pd.DataFrame, kinds: list[str]) -> None:
    heights = np.arange(wide.shape[1])
    for values in wide.to_numpy():
        axis.plot(values, heights, color=VARIABLES["thread"], linewidth=0.8, zorder=1)
    for height, kind, values in zip(heights, kinds, wide.to_numpy().T, strict=True):
        colour, finite = VARIABLES[kind], values[np.isfinite(values)]
        axis.plot(finite, np.full(finite.size, height), "o", color=colour, markersize=3.6, markeredgewidth=0, zorder=3)
        if finite.size > 2:
            line = {"color": colour, "linewidth": 1.0}
            axis.boxplot(
                [finite],
                positions=[height],
                orientation="horizontal",
                widths=0.62,
                showfliers=False,
                manage_ticks=False,
                boxprops=line,
                whiskerprops=line,
                capprops={"linewidth": 0},
                medianprops={"color": colour, "linewidth": 2.2},
                zorder=2,
            )
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)


def training_curves(title: str, histories: Mapping[str, pd.DataFrame]) -> str | None:
    """Return validation scores against seconds of training for the networks of one task; None if none was validated.

    The score is the PSNR, or without clean images the ratio of held-out data to the error there (`VALIDATED`).
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        axis = figure.subplots()
        spare, ends, measure = iter(_SPARE), [], "val_psnr"
        for nth, (network, history) in enumerate(histories.items()):
            measure = next((name for name in VALIDATED if name in history), measure)
            points = history.dropna(subset=[measure])
            if points.empty:
                continue
            colour = VARIABLES[_NETWORK_COLOURS.get(network) or next(spare, "classical")]
            axis.plot(
                points["seconds"],
                points[measure],
                color=colour,
                linestyle=DASHES[nth % len(DASHES)],
                marker=MARKERS[nth % len(MARKERS)],
                markersize=3.5,
                label=plain(label(network)),
            )
            ends.append(f"{label(network)} {points[measure].iloc[-1]:.2f} dB after {points['seconds'].iloc[-1]:.0f} s")
        if not ends:
            return None
        axis.set_xlabel("training time (s)")
        axis.set_ylabel(f"{VALIDATED[measure]} on validation subjects (dB)")
        axis.grid()
        axis.legend(loc="lower right")
        return svg(figure, f"{title}: validation {VALIDATED[measure]} against training time: " + "; ".join(ends) + ".")


def noise_scales(title: str, history: pd.DataFrame) -> str | None:
    """Return the learned noise scale s of every subband over the steps (columns `s/<subband>`), if it was learned.

    A scale that belongs to no subband, such as the likelihood's σ_x (`s/x`), is dotted.
    """
    columns = [str(column) for column in history]
    bands = [name.removeprefix("s/") for name in columns if name.startswith("s/") and history[name].notna().any()]
    if not bands:
        return None
    subbands = [band for band in bands if _SUBBAND.fullmatch(band)]
    levels = sorted({_level(band) for band in subbands}, reverse=True)
    details = sorted({name for band in subbands if "d" in (name := band.rstrip("0123456789"))})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        axis = figure.subplots()
        for band in bands:
            shown = history.dropna(subset=[f"s/{band}"])
            orientation = band.rstrip("0123456789")
            smooth = band not in subbands or "d" not in orientation
            line = "-" if smooth else _ORIENTATIONS[details.index(orientation) % len(_ORIENTATIONS)]
            axis.plot(
                shown["step"],
                shown[f"s/{band}"],
                color=VARIABLES["ink" if smooth else _LEVELS[levels.index(_level(band)) % len(_LEVELS)]],
                linestyle=line if band in subbands else ":",
                linewidth=1.4,
                label=plain(band) if band in subbands else plain(f"σ {band}"),
            )
        axis.set_yscale("log")
        axis.set_xlabel("training step")
        axis.set_ylabel("learned noise scale s")
        axis.grid()
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        last = "; ".join(f"{band} {history[f's/{band}'].dropna().iloc[-1]:.3g}" for band in bands)
        return svg(figure, f"{title}: learned noise scale per subband over training; at the end: {last}.")


_SUBBAND = re.compile(r"[ad]+\d+")


def _level(band: str) -> int:
    return int(band.lstrip("ad") or 0)


def plain(text: str) -> str:
    """Return text that Matplotlib shows as it is."""
    # A dollar sign would start mathematics, and a leading underscore would hide a line from the legend.
    return text.replace("$", r"\$").lstrip("_")


def svg(figure: Figure, alt: str) -> str:
    """Return the figure as an SVG element to put into HTML: named, themed, and with ids of its own."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The alt text is part of the salt: two figures in one page must not share the ids of their clip paths.
    with matplotlib.rc_context({"svg.hashsalt": alt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # text stays text: the reader's fonts have what Matplotlib's lack
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    for name, colour in VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    width, height = (float(value) * 96 for value in figure.get_size_inches())
    opening = f'<svg role="img" aria-label="{html.escape(alt)}" viewBox='
    text = re.sub(r"<svg [^>]*?viewBox=", lambda _: opening, text, count=1)
    return text.replace("<svg ", f'<svg style="max-width:{math.ceil(width)}px" data-ratio="{width / height:.3f}" ', 1)
