"""Scores: every restored volume against its truth, one row per subject, method, region and metric."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medwvae.data import nifti
from medwvae.data.loaders import Case
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import Kind, Region, Task
from medwvae.protocols import PROTOCOLS, Protocol, Score, score

PROTOCOL_OF: Mapping[Task, str] = {
    "superres": "ixi-td",
    "denoise": "brainweb-rician",
    "recon": "fastmri",
}

COLUMNS = ("run", "task", "setting", "method", "kind", "protocol", "subject", "region", "metric", "value", "unit")
"""Columns of metrics.csv, long format."""


@dataclass(frozen=True)
class Restored:
    """One method's volumes of a task: `folder` holds <volume>.nii.gz."""

    method: str
    kind: Kind
    folder: Path


def score_volumes(
    cases: Sequence[Case],
    restored: Iterable[Restored],
    *,
    run: str,
    task: Task,
    setting: str,
    regions: Sequence[Region],
) -> pd.DataFrame:
    """Return one row per volume, method, region and metric: `COLUMNS` plus volume and contrast.

    Raises
    ------
    InputError
        If a restored volume is missing or not on its truth's grid.
    """
    protocol = PROTOCOLS[PROTOCOL_OF[task]]
    rows = []
    for item in restored:
        for case in cases:
            base = {
                "run": run,
                "task": task,
                "setting": setting,
                "method": item.method,
                "kind": item.kind,
                "protocol": protocol.name,
                "subject": case.subject,
                "volume": case.volume,
                "contrast": case.contrast,
            }
            for region, metric, value, unit in _score_one(case, item.folder / f"{case.volume}.nii.gz", protocol):
                if region in regions:
                    rows.append(base | {"region": region, "metric": metric, "value": value, "unit": unit})
    return pd.DataFrame(rows)


def by_subject(volumes: pd.DataFrame) -> pd.DataFrame:
    """Average the volumes (contrasts, sessions) of a subject: the subject is the unit. Columns: `COLUMNS`."""
    keys = [name for name in COLUMNS if name != "value"]
    mean = volumes.groupby(keys, sort=False)["value"].mean().reset_index()
    return mean[list(COLUMNS)]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def _score_one(case: Case, path: Path, protocol: Protocol) -> list[Score]:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `medwvae restore` for this method again")
    volume, _ = nifti.read(path)
    x = case.prepared.to_slices(volume)
    if x.shape != case.prepared.image.shape:
        raise InputError(f"{path}: shape {x.shape} is not its truth's {case.prepared.image.shape}")
    return score(protocol, x, case.prepared.image, case.prepared.head)
