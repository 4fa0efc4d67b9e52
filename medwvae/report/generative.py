"""The report's section on generative models: the table by rate, curves, samples, neighbours, reconstructions."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from medwvae.generative import table
from medwvae.generative.scoring import LEAST
from medwvae.report import figures, panels
from medwvae.report.figures import VARIABLES
from medwvae.report.uses import UsesInputs
from medwvae.report.words import count, of_few, percent

_COLOURS = {
    "wavelet": "ours",
    "dense_vae": "second",
    "conv_vae": "third",
    "autoencoder_kl": "network",
    "ll_only": "classical",
    "zone": "input",
    "top_k": "control",
}
KINDS = {
    "wavelet": "Wavelet-VAE",
    "dense_vae": "dense VAE",
    "conv_vae": "convolutional VAE",
    "autoencoder_kl": "MONAI AutoencoderKL",
    "ll_only": "control: coarse subbands, nothing learned",
    "zone": "control: coefficients largest over the training images",
    "top_k": "control: largest coefficients, positions not counted",
    "codec": "lossless codec",
    "reference": "in the place of samples",
}
WHAT = {"slices": "slices that show the head", "volumes": "whole volumes"}
SETS = {"cifar10": "CIFAR-10", "celeba_hq": "a folder of photographs", "mnist": "MNIST"}
_PIXELS = 3_000_000  # of all sample grids together
_NEIGHBOURS = 8
_WINDOW = (0.0, 1.2)  # network units: the reference intensity of the head is 1


@dataclass(frozen=True)
class GenerativeInputs:
    """All that the section shows.

    Attributes
    ----------
    summary : the content of generative.json.
    histories : training history by model, as in `ReportInputs.histories`, with `s/<subband>` and `s/x`.
    pictures : `.npz` by model, see `medwvae.generative.scoring.Scored.pictures`.
    radiological : whether the images are of volumes, to be turned for display; (n, H, W, 3) of colour photographs.
    uses : what is done with the latent of one of the models, for the section after this one.
    """

    summary: Mapping[str, Any]
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    radiological: bool = True
    uses: UsesInputs | None = None

    @property
    def window(self) -> tuple[float, float]:
        """Values that are shown black and white."""
        return _WINDOW if self.radiological else (0.0, 1.0)


def generative_section(inputs: GenerativeInputs) -> dict[str, Any]:
    """Return what the template `generative.html` shows."""
    rows = inputs.summary["rows"]
    rates = sorted({row["rate"] for row in rows if row["rate"] is not None})
    shown = list(_first_models(inputs, rates))
    # Of a model that is put to use, samples are one of the uses.
    drawn = list(dict.fromkeys([*shown, *([inputs.uses.model] if inputs.uses else [])]))
    where, unit = " in the head" if inputs.radiological else "", _unit(inputs.summary)
    return {
        "conditions": _conditions(inputs.summary["conditions"]),
        "radiological": inputs.radiological,
        "few": of_few(inputs.summary["conditions"].get("test_subjects", 0)),
        "volumes": len(inputs.summary["conditions"]["size"]) == 3,
        "verdicts": [_verdict(rows, rate, where, unit) for rate in rates],
        "tables": [_table(rows, rate, unit) for rate in (*rates, None)],
        "against_rate": _against_rate(rows, where, unit),
        "curves": figures.training_curves(
            "Generative models", {m: h for m, h in inputs.histories.items() if m in shown}
        ),
        "scales": {
            model: svg
            for model in shown
            if model in inputs.histories
            and (svg := figures.noise_scales(f"Generative, {model}", inputs.histories[model]))
        },
        "samples": list(_samples(inputs, drawn)),
        "neighbours": list(_neighbours(inputs, drawn)),
        "reconstructions": list(_reconstructions(inputs, rates)),
    }


def about_models(summary: Mapping[str, Any]) -> str:
    """Return in one line what was run."""
    systems = dict.fromkeys(row["system"] for row in summary["rows"] if row["rate"] is not None)
    rates = sorted({row["rate"] for row in summary["rows"] if row["rate"] is not None})
    models = sum(entry["rate"] is not None for entry in summary["models"].values())
    listed = ", ".join(f"1/{rate}" for rate in rates)
    return f"{count(len(systems), 'system')}, {count(models, 'model')}; latent values per {_unit(summary)}: {listed}"


def _unit(summary: Mapping[str, Any]) -> str:
    """Return what a rate counts: a pixel of a colour image has three values."""
    known = summary["conditions"]
    return "value" if known.get("channels", 1) > 1 else "pixel" if len(known["size"]) == 2 else "voxel"


def _conditions(known: Mapping[str, Any]) -> str:
    size, unlike = " × ".join(map(str, known["size"])), ""
    if (kind := known.get("data", "slices")) in WHAT:
        if kind == "volumes":
            spacing = " × ".join(f"{mm:.3g}" for mm in known["spacing"])
            size += f" voxels of {spacing} mm along right, anterior, superior"
            unlike = " SSIM in three dimensions; codecs code sagittal slices, each on its own."
            if min(known["test_images"], known["training_images"]) < LEAST:
                unlike += f" Fewer than {LEAST} volumes: no distances between distributions."
        images = (
            f"Images: {WHAT[kind]}, {size}; "
            f"{known['training_images']} of {count(known['training_subjects'], 'training subject')}, scored on "
            f"{known['test_images']} of {count(known['test_subjects'], 'test subject')}"
        )
    else:
        colour = (
            ", in colour (three values per pixel; codecs code each channel on its own)" if known["channels"] > 1 else ""
        )
        images = (
            f"Images: {SETS[kind]}, {size}{colour}; scored on {known['test_images']} test images, each its "
            f"own subject; nearest neighbours among {known['training_images']} training images"
        )
    return (
        f"{images}. Training: {known['budget']} each "
        "unless the table says otherwise; the weights are those of the best validation PSNR. Bits per voxel: "
        f"{known['quantisation_levels']} grey levels over 0 to {known['quantisation_top']:.3g} (the largest training "
        f"value, network units), uniform dequantisation. Distances between distributions: {known['features']} "
        f"features of the test images against as many as {known['draws']} samples.{unlike}"
    )


def _verdict(rows: list[dict[str, Any]], rate: int, where: str, unit: str) -> str:
    """Return who leads at a rate, and what the controls have, in a sentence each."""
    means = sorted(
        (
            (entry["mean"], row["system"], not row["trained"])
            for row in rows
            if row["rate"] == rate and (entry := table.value_of(row, "head/psnr"))
        ),
        reverse=True,
    )
    trained = [(mean, system) for mean, system, control in means if not control]
    controls = [f"{system} {mean:.2f} dB" for mean, system, control in means if control]
    text = f"One latent value for {count(rate, unit)}: "
    if len(trained) > 1:
        text += f"{trained[0][1]} has the highest PSNR{where}, {trained[0][0]:.2f} dB"
        text += f"; next is {trained[1][1]} with {trained[1][0]:.2f} dB."
    elif trained:
        text += f"{trained[0][1]} reconstructs with {trained[0][0]:.2f} dB PSNR{where}"
        text += "; nothing is left out at this rate." if rate == 1 else "."
    else:
        text += "no trained model was measured."
    return text + (f" Controls, nothing learned: {', '.join(controls)}." if controls else "")


def _table(rows: list[dict[str, Any]], rate: int | None, unit: str) -> dict[str, Any]:
    own = [row for row in rows if row["rate"] == rate]
    names = table.shown_columns(own)
    best = {name: table.best_of(own, name) for name in names}
    return {
        "caption": f"One latent value for {count(rate, unit)}"
        if rate
        else "For comparison: nothing of this is a model",
        "columns": [(table.SHOWN[name], _arrow(name)) for name in names],
        "rows": [
            {
                "name": row["system"],
                "kind": KINDS.get(row["kind"], row["kind"]),
                "ours": row["kind"] == "wavelet",
                "seeds": count(len(row["seeds"]), "training") if len(row["seeds"]) > 1 else "",
                "cells": [_cell(row, name, best[name]) for name in names],
            }
            for row in own
        ],
    }


def _arrow(name: str) -> str:
    if name in table.NO_CONTEST or name == "whole/energy_high":
        return ""
    return "lower" if name.split("/")[-1] in table.LOWER_IS_BETTER else "higher"


def _cell(row: Mapping[str, Any], name: str, best: float | None) -> dict[str, Any]:
    entry = table.value_of(row, name)
    if entry is None:
        return {"mean": "–", "interval": "", "seeds": "", "best": False, "note": "not defined"}
    low, high = entry.get("low"), entry.get("high")
    spread = len(row["seeds"]) > 1 and entry["seeds_low"] != entry["seeds_high"]
    ends = (table.number(entry[key], name) for key in ("seeds_low", "seeds_high"))
    return {
        "mean": table.number(entry["mean"], name),
        "interval": "" if low is None else f"{table.number(low, name)} to {table.number(high, name)}",
        "seeds": " to ".join(ends) if spread else "",
        "best": best is not None and entry["mean"] == best,
        "note": entry.get("note", ""),
    }


def _against_rate(rows: list[dict[str, Any]], where: str, unit: str) -> str | None:
    """Return PSNR against the number of latent values, one line per system."""
    lines: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    kinds = {row["system"]: row["kind"] for row in rows}
    for row in rows:
        if row["rate"] is not None and (entry := table.value_of(row, "head/psnr")):
            lines.setdefault(row["system"], []).append((row["rate"], entry))
    if not lines:
        return None
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axis = figure.subplots()
        alike: dict[str, int] = {}
        said = []
        for system, points in lines.items():
            kind = kinds[system]
            nth = alike[kind] = alike.get(kind, -1) + 1
            points = sorted(points, key=lambda point: point[0])
            means = [entry["mean"] for _, entry in points]
            below = [m - (m if e["low"] is None else e["low"]) for m, (_, e) in zip(means, points, strict=True)]
            above = [(m if e["high"] is None else e["high"]) - m for m, (_, e) in zip(means, points, strict=True)]
            axis.errorbar(
                [1 / rate for rate, _ in points],
                means,
                yerr=(below, above),
                color=VARIABLES[_COLOURS.get(kind, "input")],
                linestyle=figures.DASHES[nth % len(figures.DASHES)],
                marker=figures.MARKERS[nth % len(figures.MARKERS)],
                markersize=4,
                linewidth=1.4,
                elinewidth=0.8,
                label=figures.plain(system),
            )
            said.append(
                f"{system} " + ", ".join(f"{m:.2f} at 1/{rate}" for m, (rate, _) in zip(means, points, strict=True))
            )
        rates = sorted({rate for points in lines.values() for rate, _ in points})
        axis.set_xscale("log", base=2)
        axis.set_xticks([1 / rate for rate in rates], [f"1/{rate}" for rate in rates])
        axis.set_xlabel(f"latent values per {unit}")
        axis.set_ylabel(f"PSNR{where} (dB)")
        axis.grid()
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figures.svg(
            figure,
            f"Generative models: PSNR{where} in dB against latent values per {unit}: " + "; ".join(said) + ".",
        )


def _first_models(inputs: GenerativeInputs, rates: list[int]) -> Iterator[str]:
    """Yield the first training of every system at the middle rate, or at the one nearest to it that it has."""
    if not rates:
        return
    middle = rates[len(rates) // 2]
    models = inputs.summary["models"]
    for system in dict.fromkeys(entry["system"] for entry in models.values() if entry["rate"] is not None):
        own = {model: entry for model, entry in models.items() if entry["system"] == system}
        yield min(own, key=lambda model: (abs(math.log(own[model]["rate"] / middle)), own[model]["seed"]))


def _loaded(inputs: GenerativeInputs, model: str, *names: str) -> list[NDArray[np.float32]] | None:
    path = inputs.pictures.get(model)
    if path is None or not path.is_file():
        return None
    with np.load(path) as arrays:
        if not set(names) <= set(arrays.files):
            return None
        return [_turned(arrays[name].astype(np.float32), inputs.radiological) for name in names]


def _turned(images: NDArray[np.float32], radiological: bool) -> NDArray[np.float32]:
    return np.stack([panels.radiological(image) for image in images]) if radiological and len(images) else images


def _samples(inputs: GenerativeInputs, models: list[str]) -> Iterator[dict[str, str]]:
    found = {model: loaded[0] for model in models if (loaded := _loaded(inputs, model, "samples"))}
    for model, images in found.items():
        columns = math.ceil(math.sqrt(len(images)))
        yield {
            "name": model,
            "image": grid(images, columns, _PIXELS // len(found), inputs.window),
            "alt": f"{len(images)} samples of {model}, drawn one after the other, none left out",
        }


def _neighbours(inputs: GenerativeInputs, models: list[str]) -> Iterator[dict[str, str]]:
    for model in models:
        loaded = _loaded(inputs, model, "samples", "neighbours")
        if loaded is None:
            continue
        pairs = np.concatenate([images[:_NEIGHBOURS] for images in loaded])
        yield {
            "name": model,
            "image": grid(pairs, min(_NEIGHBOURS, len(loaded[0])), _PIXELS // 8, inputs.window),
            "alt": f"Samples of {model} above, the training image nearest to each below",
            "numbers": _memorised(inputs.summary["models"][model]),
        }


def _memorised(facts: Mapping[str, Any]) -> str:
    """Return in words how near the shown samples are to training images."""
    ratio, copies = facts.get("neighbour_ratio"), facts.get("copies")
    if ratio is None or copies is None:
        return ""
    return (
        f"The median distance of a shown sample to its nearest training image is {ratio:.2f} of that of a test image; "
        f"{percent(copies)} are nearer to one than every test image is."
    )


def _reconstructions(inputs: GenerativeInputs, rates: list[int]) -> Iterator[dict[str, Any]]:
    """Yield, for each rate, the same test slices in truth and by the first training of every system."""
    models = inputs.summary["models"]
    for rate in rates:
        rows: list[tuple[str, NDArray[np.float32]]] = []
        for model, entry in models.items():
            if entry["rate"] != rate or entry["seed"] != 1:
                continue
            loaded = _loaded(inputs, model, "truths", "reconstructions")
            if loaded is not None:
                rows = rows or [("truth", loaded[0])]
                rows.append((entry["system"], loaded[1]))
        if rows:
            names = ", ".join(name for name, _ in rows)
            yield {
                "rate": f"{rate} {_unit(inputs.summary)}s",
                "names": [name for name, _ in rows],
                "image": grid(
                    np.concatenate([images for _, images in rows]), len(rows[0][1]), _PIXELS // 4, inputs.window
                ),
                "alt": f"Test images, one latent value for {rate} {_unit(inputs.summary)}s; rows from the top: {names}",
            }


def grid(images: NDArray[np.float32], columns: int, pixels: int, window: tuple[float, float] = _WINDOW) -> str:
    """Return images (n, H, W) or (n, H, W, 3) in rows of `columns` as one PNG address, all in one window.

    It has at most about `pixels` pixels.
    """
    count_, height, width, *colours = images.shape
    rows = math.ceil(count_ / columns)
    canvas = np.zeros((rows * (height + 2) - 2, columns * (width + 2) - 2, *colours), np.float32)
    for k, image in enumerate(panels.scaled(np.nan_to_num(images), *window)):
        top, left = (k // columns) * (height + 2), (k % columns) * (width + 2)
        canvas[top : top + height, left : left + width] = image
    picture = Image.fromarray(np.uint8(255 * canvas + 0.5))
    if (factor := math.sqrt(pixels / (canvas.shape[0] * canvas.shape[1]))) < 1:
        size = (max(1, round(picture.size[0] * factor)), max(1, round(picture.size[1] * factor)))
        picture = picture.resize(size, Image.Resampling.BOX)
    return panels.address(picture)
