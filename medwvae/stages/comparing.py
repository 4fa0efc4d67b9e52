"""Runs beside each other; needs their result folders and no configuration."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medwvae import paths
from medwvae.errors import ConfigError, InputError
from medwvae.files import atomic

if TYPE_CHECKING:
    import pandas as pd

FIGURES = (".png", ".svg", ".pdf")


def compare(
    folders: Sequence[Path],
    *,
    methods: Sequence[str] | None,
    region: str | None,
    fail_if_worse: Sequence[str],
    allow_missing: bool,
    json_file: Path | None,
    out: Sequence[Path],
) -> bool:
    """Print the comparison and write what was asked for; return whether a gate failed.

    Without methods it is that of the first run's report (`report.reference`).
    """
    for path in out:
        if path.suffix not in (".html", *FIGURES):
            raise ConfigError(f"--out {path.name}: expected .html, {', '.join(FIGURES)}")
    if len(folders) < 2:
        raise InputError("compare needs two result folders or more")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a folder is given twice; a run cannot differ from itself")
    tables = [paths.metrics(folder) for folder in folders]
    for place, table in enumerate(tables):
        if not table.is_file():
            raise InputError(
                f"folder {place + 1} has no {table.name}; give the folder of a finished run, results/<run>"
            )
    from rich.console import Console

    from medwvae.report import compare as comparison

    gates = [comparison.parse_gate(text) for text in fail_if_worse]
    runs = comparison.named([_read(table, place) for place, table in enumerate(tables, start=1)])
    methods = methods or (_reference(folders[0]),)
    result = comparison.compare(runs, methods=methods, region=region, gates=gates, allow_missing=allow_missing)
    screen = Console()
    screen.width = max(screen.width, comparison.WIDTH)  # a narrower one breaks lines, and loses no number
    screen.print(comparison.render_text_table(result))
    if json_file is not None:
        _write(json_file, json.dumps(result, indent=1, allow_nan=False) + "\n")
    for path in out:
        from medwvae.report import compare_page

        if path.suffix == ".html":
            _write(path, compare_page.page(result))
        else:
            compare_page.write_figure(path, result)
    return bool(result["failed"])


def _reference(folder: Path) -> str:
    try:
        return str(json.loads(paths.summary(folder).read_text(encoding="utf-8"))["reference"])
    except (OSError, ValueError, KeyError, TypeError):
        return "wavelet_vae"


def _read(table: Path, place: int) -> "pd.DataFrame":
    from medwvae.report.tables import read_scores

    try:
        return read_scores(table)
    except ValueError as error:  # also what pandas raises, and bytes that are no text
        raise InputError(f"{table.name} of folder {place} cannot be read; run `medwvae report` there again") from error


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
