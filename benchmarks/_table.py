"""What the benchmark scripts share: the machine, a table on the terminal, a JSON file."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medwvae.files import atomic
from medwvae.provenance import machine, versions


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write {machine, rows, claims} to this file")
    parser.add_argument("--quick", action="store_true", help="end within 60 s")
    return parser


def publish(rows: Sequence[dict[str, Any]], claims: dict[str, float], path: Path | None) -> None:
    """Print the rows and claims; write them as JSON where asked for."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console()
    console.print(table)
    for name, value in claims.items():
        console.print(f"{name} = {value:.3g}")
    if path is not None:
        save(rows, claims, path)


def save(rows: Sequence[dict[str, Any]], claims: dict[str, float], path: Path) -> None:
    """Write {machine, rows, claims} as JSON."""
    document = {"machine": machine() | versions(), "rows": list(rows), "claims": claims}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
