"""The manifest: one row per image that was found, usable or refused. It holds no identifier and no source path."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import CONTRASTS, Contrast, Modality

Status = Literal["ok", "refused"]


@dataclass(frozen=True)
class Row:
    """One image. For a refused one, `reason` says why and what to do, and what is not known is empty.

    `volume` is its name everywhere in the study. `series` counts the volumes of one subject, session and contrast,
    `part` those of one file or series ("3/20"), if there are several. `shape` is in voxels ("120x120x90") and
    `spacing` in mm ("2.000x2.000x2.000"), both in RAS+ order. `file` is relative to the folder that holds the manifest
    (a BIDS name). `site` tells institutions apart without naming them (`subjects.site_labels`). `source` is a short tag
    of the source's content, never a path.
    """

    volume: str
    subject: str = ""
    session: str = ""
    series: str = ""
    part: str = ""
    modality: Modality | Literal[""] = ""
    contrast: Contrast = "unknown"
    shape: str = ""
    spacing: str = ""
    age: float | None = None
    sex: str = ""
    site: str = ""
    status: Status = "ok"
    reason: str = ""
    file: str = ""
    source: str = ""
    source_sha256: str = ""
    result_sha256: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as CSV, sorted by volume, atomically."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in sorted(rows, key=lambda row: row.volume):
            writer.writerow(asdict(row))


def read(path: Path) -> list[Row]:
    """Return the rows of a manifest.

    Raises
    ------
    InputError
        If the file is missing, or is not a manifest that `write` could have written.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path}: not a manifest of this version; run `medwvae ingest` again")
            rows = [_row(record, f"{path}, line {reader.line_num}") for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a manifest; run `medwvae ingest` again") from error
    if len({row.volume for row in rows}) != len(rows):
        raise InputError(f"{path}: a volume is listed twice; run `medwvae ingest` again")
    return rows


def _row(record: dict[str, str], where: str) -> Row:
    if None in record or None in record.values():
        raise InputError(f"{where}: the number of columns is wrong; run `medwvae ingest` again")
    allowed = {"modality": (*get_args(Modality), ""), "contrast": CONTRASTS, "status": get_args(Status)}
    for column, values in allowed.items():
        if record[column] not in values:
            raise InputError(f"{where}: {column} is {record[column]!r}, expected one of {', '.join(values)}")
    try:
        age = float(record["age"]) if record["age"] else None
    except ValueError:
        raise InputError(f"{where}: age is {record['age']!r}, expected a number of years or nothing") from None
    return Row(**cast(dict[str, str], {**record, "age": age}))  # type: ignore[arg-type]
