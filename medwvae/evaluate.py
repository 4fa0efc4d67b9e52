"""Scores: every restored volume against its truth, one row per subject, method, region and metric."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medwvae.data import nifti
from medwvae.data.lesions import read_lesions
from medwvae.data.loaders import Case
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.geometry import spacing_of
from medwvae.metrics.voxels import Mask
from medwvae.names import Kind, Metric, Region, Task, task_of
from medwvae.protocols import PROTOCOLS, Protocol, Score
from medwvae.scores import ct_scores, scores_of

PROTOCOL_OF: Mapping[Task, str] = {
    "superres": "ixi-td",
    "denoise": "brainweb-rician",
    "recon": "fastmri",
    "ct": "sparse-view",
    "inpaint": "inpainting",
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
    task: str,
    setting: str,
    regions: Sequence[Region],
    protocol: str | None = None,
    metrics: Collection[Metric] = ("psnr", "ssim", "nmse"),
    lesions: Path | None = None,
) -> pd.DataFrame:
    """Return one row per volume, method, region and metric: `COLUMNS` plus volume and contrast.

    Parameters
    ----------
    task : str
        The id of a problem, such as `denoise` or its setting `denoise-s3`.
    protocol : str, optional
        Name in `PROTOCOLS`; the task's own (`PROTOCOL_OF`), if not given.
    lesions : Path, optional
        Folder of lesion masks, see `medwvae.data.lesions`.

    Raises
    ------
    InputError
        If a restored volume is missing or not on its truth's grid.
    """
    rules = PROTOCOLS[protocol or PROTOCOL_OF[task_of(task)]]
    rows = []
    masks = {c.volume: None if lesions is None else read_lesions(lesions, c.volume, c.prepared) for c in cases}
    for item in restored:
        for case in cases:
            base = {
                "run": run,
                "task": task,
                "setting": setting,
                "method": item.method,
                "kind": item.kind,
                "protocol": rules.name,
                "subject": case.subject,
                "volume": case.volume,
                "contrast": case.contrast,
            }
            path = item.folder / f"{case.volume}.nii.gz"
            for one in _score_one(case, path, rules, regions, metrics, masks[case.volume]):
                rows.append(base | one._asdict())
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


def _score_one(
    case: Case,
    path: Path,
    protocol: Protocol,
    regions: Sequence[Region],
    metrics: Collection[Metric],
    lesion: Mask | None,
) -> list[Score]:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `medwvae restore` for this method again")
    volume, _ = nifti.read(path)
    prepared = case.prepared
    x = prepared.to_slices(volume)
    if x.shape != prepared.image.shape:
        raise InputError(f"{path}: shape {x.shape} is not its truth's {prepared.image.shape}")
    found = scores_of(
        protocol,
        x,
        prepared.image,
        prepared.head,
        metrics=metrics,
        regions=regions,
        lesion=lesion,
        scaling=prepared.scaling,
    )
    if "ct" in metrics and case.contrast == "ct" and "head" in regions:
        hounsfield = [prepared.scaling.invert(image) for image in (x, prepared.image)]
        spacing = [mm for axis, mm in enumerate(spacing_of(prepared.affine)) if axis != prepared.axis]
        found += ct_scores(hounsfield[0], hounsfield[1], prepared.head, (spacing[0], spacing[1]))
    return found
