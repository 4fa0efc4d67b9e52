"""Figures of what is done with a latent: arrays in, Matplotlib figures out; the caller gives the words.

Images (N, H, W) are shown in grey, (N, H, W, 3) in colour.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from medwvae.files import atomic
from medwvae.latents.interpolate import Smoothness

Array = NDArray[np.floating]

MAP = "cividis"
"""The same to people with and without a colour vision deficiency (Nuñez, Anderton and Renslow 2018)."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
_MISSING = "#56b4e9"
_SIGNED_MAP = "RdBu_r"
_OUTLINE = "#f0e442"
_STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False}
_INCH = 1.3


def grid(images: Array, *, columns: int | None = None, high: float | None = None) -> Figure:
    """Return images side by side, all in one window from 0 to `high` (by default 99.9 % of them)."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    figure, axes = _panels(rows, columns, images.shape[1:3])
    for axis, image in zip(axes.ravel().tolist(), images, strict=False):
        _grey(axis, image, high or window(images))
    return figure


def walks(images: Mapping[str, Array], measured: Mapping[str, Smoothness]) -> Figure:
    """Return walks by model: a row of images (n, H, W) each, and below, distance per step and residual along the way.

    Parameters
    ----------
    images, measured
        By what the legend calls the model; the same n. A row without measures, as of a cross-fade, is only shown.
    """
    first = next(iter(images.values()))
    count, shape = len(first), first.shape[1:]
    width = _INCH * _widening(shape)
    height = width * shape[0] / shape[1]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width * count, (height + 0.2) * len(images) + 2.2), layout="constrained")
        rows = figure.add_gridspec(len(images) + 1, 1, height_ratios=[height + 0.2] * len(images) + [2.0])
        high = max(window(row) for row in images.values())
        for k, (name, row) in enumerate(images.items()):
            cells = rows[k].subgridspec(1, count, wspace=0.03)
            for n, image in enumerate(row):
                axis = figure.add_subplot(cells[n])
                _grey(axis, image, high)
                if n == 0:
                    axis.set_title(_plain(name), loc="left")
        below = rows[len(images)].subgridspec(1, 2)
        left, right = (figure.add_subplot(cell) for cell in (below[0], below[1]))
        for colour, (name, one) in zip(_colours(len(measured)), measured.items(), strict=True):
            middles = (np.arange(len(one.rmse)) + 0.5) / len(one.rmse)
            left.plot(middles, one.rmse, "o-", color=colour, markersize=3, label=_plain(name))
            right.plot(np.linspace(0, 1, len(one.residual)), one.residual, "o-", color=colour, markersize=3)
        left.set_ylabel("RMSE to the next image")
        right.set_ylabel("RMSE to own reconstruction")
        for axis in (left, right):
            axis.set_xlabel("place on the walk")
            axis.set_ylim(bottom=0)
            axis.grid(linewidth=0.5, alpha=0.5)
        left.legend(frameon=False)
    return figure


def heatmaps(image: Array, maps: Mapping[int, Mapping[str, Array]]) -> Figure:
    """Return an image (H, W) and its maps by level (rows) and orientation (columns), each map from 0 to 1."""
    names = list(dict.fromkeys(name for bands in maps.values() for name in bands))
    figure, axes = _panels(len(maps), 1 + len(names), image.shape[:2], titles=len(maps), colour_bar=True)
    for row, (level, bands) in enumerate(maps.items()):
        if row == 0:
            _grey(axes[row, 0], image, window(image))
            _title(axes[row, 0], "image")
        for column, name in enumerate(names, start=1):
            if name in bands:
                shown = axes[row, column].imshow(bands[name], cmap=MAP, vmin=0, vmax=1, interpolation="nearest")
                _title(axes[row, column], f"{name}{level}")
    _bar(figure, axes, shown, "|coefficient| / largest of its level")
    return figure


def imputed(images: Mapping[str, Array], beside: Array | None = None, words: str = "standard deviation") -> Figure:
    """Return a row per image: its versions by column (NaN: missing), then a map of them (of colours, the mean).

    Parameters
    ----------
    beside : array, optional
        (N, H, W[, 3]), from 0 up: standard deviation, or error.
    words : str
        What that map shows.
    """
    first = next(iter(images.values()))
    columns = len(images) + (beside is not None)
    figure, axes = _panels(len(first), columns, first.shape[1:3], titles=1, colour_bar=beside is not None)
    high = max(window(column) for column in images.values())
    for column, (name, values) in enumerate(images.items()):
        _title(axes[0, column], name)
        for axis, image in zip(axes[:, column], values, strict=True):
            _grey(axis, image, high)
    if beside is not None:
        top = window(beside)
        _title(axes[0, -1], words)
        for axis, values in zip(axes[:, -1], beside if beside.ndim == 3 else beside.mean(-1), strict=True):
            shown = axis.imshow(values, cmap=MAP, vmin=0, vmax=top, interpolation="nearest")
        _bar(figure, axes, shown, words)
    return figure


def edited(before: Array, after: Array, mask: NDArray[np.bool_]) -> Figure:
    """Return an image (H, W[, 3]) before and after an edit and the difference, with the outline of a mask (H, W)."""
    figure, axes = _panels(1, 3, before.shape[:2], titles=1, colour_bar=True, inches=2 * _INCH)
    high = window(before)
    difference = after - before if before.ndim == 2 else (after - before).mean(-1)
    top = window(np.abs(difference))
    for axis, name, image in zip(axes[0], ("before", "after"), (before, after), strict=False):
        _grey(axis, image, high)
        _title(axis, name)
    shown = axes[0, 2].imshow(difference, cmap=_SIGNED_MAP, vmin=-top, vmax=top, interpolation="nearest")
    _title(axes[0, 2], "after − before")
    for axis, colour in zip(axes[0], (_OUTLINE, _OUTLINE, "black"), strict=True):
        axis.contour(mask, levels=[0.5], colors=[colour], linewidths=0.8)
    _bar(figure, axes, shown, "network units")
    return figure


def said(words: str) -> Figure:
    """Return a figure that says in words why there is no other."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4 * _INCH, _INCH), layout="constrained")
        figure.text(0.5, 0.5, _plain(words), ha="center", va="center", wrap=True)
    return figure


def save(path: Path, figure: Figure, alt: str) -> None:
    """Write a figure as PNG, atomically, with its words as the file's `Description`; no date, no version."""
    with atomic(path) as temporary:
        FigureCanvasAgg(figure)
        figure.savefig(temporary, format="png", dpi=150, metadata={"Description": alt, "Software": None})


def window(images: Array) -> float:
    """Return what is shown white: the value that 99.9 % of the finite pixels do not exceed; 1 for black images."""
    finite = images[np.isfinite(images)]
    return max(float(np.quantile(finite, 0.999)), 0.0) or 1.0 if finite.size else 1.0


def _widening(shape: tuple[int, ...]) -> float:
    """Return how much more room a picture (H, W) gets that is broader than high, as the three slices of a volume."""
    return math.sqrt(max(1.0, shape[1] / shape[0]))


def _panels(
    rows: int,
    columns: int,
    shape: tuple[int, ...],
    *,
    titles: int = 0,
    colour_bar: bool = False,
    inches: float = _INCH,
) -> tuple[Figure, NDArray[np.object_]]:
    """Return axes for pictures (H, W), `inches` wide each, broad ones more; so many rows have titles."""
    height, width = shape
    inches *= _widening(shape)
    with matplotlib.rc_context(_STYLE):
        size = (inches * columns + colour_bar, inches * height / width * rows + 0.25 * titles)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0))
        axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _grey(axis: Axes, image: Array, high: float) -> None:
    axis.set_axis_off()
    if image.ndim == 3:
        known = np.isfinite(image).all(-1, keepdims=True)
        shown = np.where(known, np.clip(np.nan_to_num(image) / high, 0, 1), to_rgb(_MISSING))
        axis.imshow(shown, interpolation="nearest")
        return
    colours = matplotlib.colormaps["gray"].with_extremes(bad=_MISSING)
    axis.imshow(np.ma.masked_invalid(image), cmap=colours, vmin=0, vmax=high, interpolation="nearest")


def _title(axis: Axes, text: str) -> None:
    axis.set_title(_plain(text), fontsize=_STYLE["axes.titlesize"])


def _bar(figure: Figure, axes: NDArray[np.object_], shown: AxesImage, text: str) -> None:
    with matplotlib.rc_context(_STYLE):
        figure.colorbar(shown, ax=axes.ravel().tolist(), shrink=0.6, label=text)


def _colours(count: int) -> list[str]:
    return [_COLOURS[k % len(_COLOURS)] for k in range(count)]


def _plain(text: str) -> str:
    # A dollar sign would start mathematics, and a leading underscore would hide a line from the legend.
    return text.replace("$", r"\$").lstrip("_")
