"""The report's section on a latent in use: figures that were drawn before, with captions and their numbers."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medwvae.report.words import count, listed, percent

Facts = Mapping[str, Any]
_WALK = {
    "path_ratio": "path ratio",
    "rmse_variation": "variation of the steps, RMSE",
    "dissimilarity_variation": "variation of the steps, 1 − SSIM",
    "strangeness": "strangeness",
    "crossfade_strangeness": "strangeness of a cross-fade",
}
_FILLINGS = {"biharmonic": "biharmonic surface", "mean": "mean of the known pixels"}


@dataclass(frozen=True)
class UsesInputs:
    """All that the section shows.

    Attributes
    ----------
    facts : the content of uses.json, see `medwvae.latents.uses`.
    figures : PNG by use, named as in `names.LATENT_USES`; one whose file is missing is left out.
    radiological : whether the images are slices, turned for display.
    """

    facts: Facts
    figures: Mapping[str, Path] = field(default_factory=dict)
    radiological: bool = True

    @property
    def model(self) -> str:
        """Id of the model that is put to use."""
        return str(self.facts["model"])


@dataclass(frozen=True)
class Table:
    """Numbers below a figure: rows of (name, cells), a cell with whether it is the best of its row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, bool]]]]


def uses_section(inputs: UsesInputs) -> dict[str, Any]:
    """Return what the template `uses.html` shows."""
    return {"model": inputs.model, "entries": list(_entries(inputs))}


def _entries(inputs: UsesInputs) -> Iterator[dict[str, Any]]:
    writers: dict[str, tuple[str, Callable[[UsesInputs, Facts], tuple[str, Table | None]]]] = {
        "walk": ("A walk between two subjects", _walk),
        "edit": ("An edit", _edit),
        "heatmap": ("Coefficients by level and orientation", _heatmap),
        "imputed": ("Missing pixels filled in", _imputed),
    }
    for name, path in inputs.figures.items():
        if name in inputs.facts and path.is_file():
            facts = inputs.facts[name]
            title, write = writers[name]
            if "skipped" in facts:
                yield {"title": title, "caption": facts["skipped"]}
                continue
            caption, table = write(inputs, facts)
            yield {
                "title": title,
                "subjects": " to ".join(facts["subjects"]) if name == "walk" else "",
                "image": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
                "alt": facts["alt"],
                "caption": caption,
                "table": table,
            }


def _walk(inputs: UsesInputs, facts: Facts) -> tuple[str, Table]:
    beside = inputs.facts["beside"]
    rows = [
        (model, [(_decimal(measured[name]), False) for name in _WALK]) for model, measured in facts["models"].items()
    ]
    caption = (
        f"From the image of one test subject to that of another in {facts['steps']} steps through the latent of "
        f"{inputs.model}" + (f" and, beside it, of {beside}" if beside else "") + "; last, the pixelwise cross-fade. "
        "Path ratio: the steps' RMSE together over that between the ends; 1 is the straight line. Variation: standard "
        "deviation over mean of the steps; 0 is even. Strangeness: RMSE between an image and its own reconstruction, "
        "between the ends over at the ends. Low numbers alone are no merit: a cross-fade has path ratio 1 and "
        "variation 0, and shows both images at once."
    )
    return caption, Table("How smooth the walks are", list(_WALK.values()), rows)


def _edit(inputs: UsesInputs, facts: Facts) -> tuple[str, None]:
    voxels, changed, region = facts["voxels_deep_inside"], facts["changed_deep_inside"], facts["region"]
    deep = f"farther than the filter's reach ({facts['reach']} voxels) from its edge"
    kept = (
        f"Of {count(voxels, 'voxel')} of the {region} {deep}, {changed or 'none'} changed"
        if voxels
        else f"The {region} is too small for voxels {deep}"
    )
    caption = (
        f"Gain 0 on the finest level of the {facts['wavelet']} coefficients outside the outlined {region}: the "
        f"surroundings are smoothed, what lies in the {region} is left. {kept}; outside it the change is "
        f"{facts['rms_change_outside']:.3g} (root mean square, network units). Test subject {facts['subject']}; the "
        "coefficients are the image's own, no trained weight has a part in this."
    )
    return caption, None


def _heatmap(inputs: UsesInputs, facts: Facts) -> tuple[str, None]:
    first, second = ("left to right", "top to bottom") if inputs.radiological else ("top to bottom", "left to right")
    names = f"da: what changes from {first}, ad: from {second}, dd: both"
    if facts["dims"] == 3:
        names = "a letter for each axis (right, anterior, superior), d where it changes along that axis"
    energy = ", ".join(f"level {level} {percent(share)}" for level, share in facts["energy"].items())
    sentences = [
        f"Magnitude of the {facts['wavelet']} details of the image, level 1 the finest; {names}. Each level is divided "
        f"by its largest. Energy of the details: {energy}.",
    ]
    if facts["kept"]:
        known = {band: value for band, value in facts["correlation"].items() if value is not None}
        agree = ", ".join(f"{band} {_decimal(value)}" for band, value in known.items())
        sentences.append(
            f"On the right what the latent of {inputs.model} holds of it (posterior mean): "
            f"{listed(facts['kept'])}. Correlation with the image's own coefficients: {agree}."
        )
    sentences.append(f"Test subject {facts['subject']}.")
    return " ".join(sentences), None


def _imputed(inputs: UsesInputs, facts: Facts) -> tuple[str, Table]:
    how = {
        "map": "by the latent of largest density given the known pixels",
        "chain": "by a Markov chain, for the model has no density",
    }[facts["method"]]
    rows = []
    for hole in facts["holes"].values():
        errors = [hole["rmse"][name] for name in facts["fillings"]]
        rows.append((hole["what"], [(f"{error:.3f}", error == min(errors)) for error in errors]))
    columns = [inputs.model if name == "model" else _FILLINGS[name] for name in facts["fillings"]]
    caption = (
        f"Missing pixels (blue) of images of {count(len(facts['subjects']), 'test subject')}, filled in {how}. Known "
        "pixels come back as they are. Read the table before the pictures: the biharmonic surface and the mean know no "
        "anatomy, and what a model fills in is its guess, not a finding."
    )
    table = Table("Root mean square error over the missing pixels of these images, network units", columns, rows)
    return caption, table


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")
