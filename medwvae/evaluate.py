"""Scores: every restored volume against its truth, one row per subject, method, region and metric."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medwvae import paths
from medwvae.data import nifti
from medwvae.data.lesions import read_lesions
from medwvae.data.loaders import Case
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.geometry import spacing_of
from medwvae.metrics.coverage import interval_metrics
from medwvae.metrics.definitions import definition
from medwvae.metrics.voxels import Mask
from medwvae.names import Kind, Metric, Region
from medwvae.protocols import PROTOCOLS, Protocol, Score
from medwvae.scores import ct_scores, scores_of
from medwvae.statistics import Calibration

COLUMNS = (
    "run", "task", "setting", "method", "kind", "protocol", "subject", "region", "metric", "value", "unit", "distance",
)  # fmt: skip
"""Columns of metrics.csv, long format; the last is empty but for metrics that are best near a target."""


@dataclass(frozen=True)
class Restored:
    """One method's volumes of a task: `folder` holds <volume>.nii.gz.

    With a calibration, it holds maps of their uncertainty too (`paths.uncertainty`).
    """

    method: str
    kind: Kind
    folder: Path
    calibration: Calibration | None = None


def score_volumes(
    cases: Sequence[Case],
    restored: Iterable[Restored],
    *,
    run: str,
    task: str,
    setting: str,
    regions: Sequence[Region],
    protocol: str,
    metrics: Collection[Metric] = ("psnr", "ssim", "nmse"),
    lesions: Path | None = None,
) -> pd.DataFrame:
    """Return one row per volume, method, region and metric: `COLUMNS` without the distance, volume and contrast.

    Parameters
    ----------
    task : str
        The id of a problem, such as `denoise` or its setting `denoise-s3`.
    protocol : str
        Name in `PROTOCOLS`.
    lesions : Path, optional
        Folder of lesion masks, see `medwvae.data.lesions`.

    Raises
    ------
    InputError
        If a restored volume is missing or not on its truth's grid, or the protocol's window is in HU and a volume not.
    """
    rules = PROTOCOLS[protocol]
    if rules.window is not None and (others := [c.volume for c in cases if c.contrast != "ct"]):
        raise InputError(
            f"protocol {protocol} looks at CT through a window in HU, and {others[0]} is no CT; "
            "take evaluate.protocols.ct away, or leave the volume out with preprocess.contrasts: [ct]"
        )
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
            found = _score_one(case, path, rules, regions, metrics, masks[case.volume])
            if item.calibration is not None and "head" in regions:
                found += _score_intervals(case, item.folder, item.calibration)
            rows += [base | one._asdict() for one in found]
    return pd.DataFrame(rows)


def by_subject(volumes: pd.DataFrame) -> pd.DataFrame:
    """Average the volumes (contrasts, sessions) of a subject: the subject is the unit. Columns: `COLUMNS`.

    `distance` is how far the volumes lie from the target of a metric that is best near one, on average: +20 HU and
    −20 HU are not as good as twice 0.
    """
    keys = [name for name in COLUMNS if name not in ("value", "distance")]
    known = {name: definition(name) for name in volumes["metric"].unique()}
    targets = volumes["metric"].map({name: one.target for name, one in known.items() if one.better == "nearest"})
    far = volumes.assign(distance=(volumes["value"] - targets.astype(float)).abs())
    return far.groupby(keys, sort=False)[["value", "distance"]].mean().reset_index()[list(COLUMNS)]


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
    prepared = case.prepared
    x = prepared.to_slices(_read(path, case))
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


def _score_intervals(case: Case, folder: Path, calibration: Calibration) -> list[Score]:
    prepared = case.prepared
    x = prepared.to_slices(_read(paths.volume(folder, case.volume), case))
    half = prepared.widths_to_slices(_read(paths.uncertainty(folder, case.volume), case, flat=True))
    # The map is one level's; the others are as many times as wide as their factors.
    factors = {level: factor / calibration.factor for level, factor in calibration.factors.items()}
    found = interval_metrics(x, prepared.image, half, mask=prepared.head, factors=factors)
    return [Score("head", name, value, definition(name).unit) for name, value in found.items()]


def _read(path: Path, case: Case, *, flat: bool = False) -> NDArray[np.float32]:
    """Read a volume that lies on the truth's grid."""
    if not path.is_file():
        raise InputError(f"{path} is missing; run `medwvae restore` for this method again")
    volume, _ = nifti.read(path, flat=flat)
    slices = tuple(np.moveaxis(volume, case.prepared.axis, 0).shape)
    if slices != case.prepared.image.shape:
        raise InputError(f"{path}: shape {slices} is not its truth's {case.prepared.image.shape}")
    return volume
