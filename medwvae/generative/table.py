"""The table of the study: every system at every rate, means with intervals over test subjects, ranges over seeds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from medwvae.statistics import mean_interval

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: Final = (
    "run", "system", "kind", "rate", "seed", "model", "subject", "region", "metric", "value", "unit",
)  # fmt: skip
"""Columns of generative.csv, long format; codecs have neither rate nor seed."""

LOWER_IS_BETTER: Final = (
    "mse", "bits", "nats", "rate", "reconstruction_frechet", "reconstruction_mmd", "sample_frechet", "sample_mmd",
)  # fmt: skip

SHOWN: Final[Mapping[str, str]] = {
    "head/mse": "MSE",
    "head/psnr": "PSNR (dB)",
    "head/ssim": "SSIM",
    "whole/energy_high": "Finest details: energy",
    "whole/detail_high": "truly there",
    "whole/bits": "Bits/voxel",
    "reconstruction_frechet": "Fréchet, reconstructions",
    "sample_frechet": "Fréchet, samples",
    "sample_mmd": "MMD², samples",
    "sample_precision": "Precision",
    "sample_recall": "Recall",
    "sample_ms_ssim": "MS-SSIM of pairs",
    "parameters": "Parameters",
    "encoder_parameters": "of the encoder",
    "images_per_s": "Images/s",
    "training_seconds": "Training (s)",
    "prior_parameters": "Parameters of the prior",
    "prior_seconds": "Prior's training (s)",
}
"""What the printed tables show, in this order: of subjects (`region/metric`), then of models."""


BRIEF: Final[Mapping[str, str]] = {
    "head/psnr": "PSNR\ndB",
    "head/ssim": "SSIM",
    "whole/energy_high": "finest\ndetails",
    "whole/bits": "bits/\nvoxel",
    "reconstruction_frechet": "Fréchet\nrecon.",
    "sample_frechet": "Fréchet\nsamples",
    "training_seconds": "training\ns",
    "prior_seconds": "prior\ns",
}
"""What fits a terminal."""

NO_CONTEST: Final = (
    "parameters", "encoder_parameters", "images_per_s", "training_seconds", "prior_parameters", "prior_seconds",
    "sample_ms_ssim",
)  # fmt: skip
"""Columns of which neither direction is better: samples should be as diverse as images, not more."""

_OF_ROWS: Final = ("system", "kind", "rate", "seed", "trained")


def summary(scores: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per system and rate, ready for JSON (no NaN, no infinity: None, with a note).

    Parameters
    ----------
    scores
        Long format, `COLUMNS`. A subject's values of several seeds are averaged before the interval is taken: the
        subject is the unit; what seeds do is stated beside it, as the smallest and the largest mean of a seed.
    facts
        By model, what belongs to it as a whole, and `system`, `kind`, `rate`, `seed`, `trained`. Numbers are averaged
        over seeds, with the smallest and the largest beside; the rest is left out.
    """
    rows: dict[tuple[str, int | None], dict[str, Any]] = {}
    for entry in facts.values():
        key = (entry["system"], entry["rate"])
        known = {"system": key[0], "kind": entry["kind"], "rate": key[1], "trained": entry["trained"], "seeds": []}
        row = rows.setdefault(key, known)
        if entry["seed"] is not None:
            row["seeds"].append(entry["seed"])
    for (system, rate), row in rows.items():
        own = scores[(scores["system"] == system) & (scores["rate"].isna() if rate is None else scores["rate"] == rate)]
        row["subjects"] = int(own["subject"].nunique())
        row["scores"] = {
            f"{region}/{metric}": _of_subjects(block) for (region, metric), block in own.groupby(["region", "metric"])
        }
        models = [entry for entry in facts.values() if (entry["system"], entry["rate"]) == (system, rate)]
        row["facts"] = _of_models(models)
    return list(rows.values())


def _of_subjects(block: pd.DataFrame) -> dict[str, Any]:
    wide = block.pivot_table(index="subject", columns="model", values="value", aggfunc="mean")
    means, interval = wide.mean(), mean_interval(wide.mean(axis=1))
    return {
        "mean": _json(interval.mean),
        "low": _json(interval.low),
        "high": _json(interval.high),
        "n": interval.n,
        "note": interval.note,
        "seeds_low": _json(float(means.min())),
        "seeds_high": _json(float(means.max())),
        "unit": str(block["unit"].iloc[0]) if block["unit"].notna().any() else "",
    }


def _of_models(models: list[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for model in models for name in model if name not in _OF_ROWS)
    found = {}
    for name in names:
        values = [model.get(name) for model in models]
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if numbers:
            found[name] = {
                "mean": _json(float(np.mean(numbers))),
                "seeds_low": _json(min(numbers)),
                "seeds_high": _json(max(numbers)),
            }
    return found


def _json(value: float) -> float | None:
    return value if np.isfinite(value) else None


def value_of(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return an entry of a row by its name in `SHOWN`, or None where it is not defined.

    Photographs have no head: what is shown of the head is there of the whole image.
    """
    values = row["scores" if "/" in name else "facts"]
    entry: dict[str, Any] | None = values.get(name) or values.get(name.replace("head/", "whole/"))
    return entry if entry is not None and entry["mean"] is not None else None


def shown_columns(rows: list[dict[str, Any]]) -> list[str]:
    """Return the columns that at least one row has a value for."""
    return [name for name in SHOWN if any(value_of(row, name) for row in rows)]


def best_of(rows: list[dict[str, Any]], name: str) -> float | None:
    """Return the best mean of the trained models where one direction is better and there is a contest, else None."""
    if name in NO_CONTEST:
        return None
    trained = [row for row in rows if row["trained"]]  # a control sets the scale and is in no contest
    means = [entry["mean"] for row in trained if (entry := value_of(row, name))]
    if len(means) < 2:
        return None
    if name == "whole/energy_high":  # all of it, neither more nor less
        return float(min(means, key=lambda mean: abs(mean - 1)))
    return float(min(means) if name.split("/")[-1] in LOWER_IS_BETTER else max(means))


def number(value: float | None, name: str) -> str:
    """Return a value of the table as text, with as many digits as it deserves."""
    if value is None:
        return "–"
    if name.endswith("parameters"):
        return f"{value / 1e6:.2f} M" if value >= 10_000 else f"{value:.0f}"
    if name == "head/mse":
        return f"{value:.5f}"
    if name in ("images_per_s", "training_seconds", "prior_seconds"):
        return f"{value:.0f}"
    return f"{value:.{2 if name.split('/')[-1] in ('psnr', 'bits') else 3}f}".replace("-", "−")


def render_text_table(rows: list[dict[str, Any]]) -> "Table":
    """Return the table for the terminal: one block of lines per rate, its numbers whole in 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = [name for name in BRIEF if any(value_of(row, name) for row in rows)]
    table = Table(title=Text("Generative models"), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("System", overflow="fold")
    table.add_column("Rate", justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(BRIEF[name]), justify="right", no_wrap=True)
    for rate in dict.fromkeys(row["rate"] for row in rows):
        table.add_section()
        block = [row for row in rows if row["rate"] == rate]
        for row in block:
            cells = [Text(number((value_of(row, name) or {"mean": None})["mean"], name)) for name in names]
            table.add_row(Text(row["system"]), "" if rate is None else f"1/{rate}", *cells)
    return table
