"""What leaves the study: a volume on its source's own grid as NIfTI and, where there is a DICOM source, as DICOM."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medwvae.data import dicom, nifti
from medwvae.data.dicom_export import export_series
from medwvae.data.dicom_export_header import Derivation, Hidden
from medwvae.data.dicom_export_source import Scanned, find_source
from medwvae.data.identifiers import identifiers_in
from medwvae.errors import InputError, Refusal
from medwvae.files import atomic
from medwvae.geometry import onto_grid

_PSEUDONYM = "sub-[a-z2-7]{10}"  # of a study: made by chance, so what it repeats is chance, too
NO_SOURCE = (
    "its source is NIfTI, so there is no DICOM series to derive from; to get DICOM, name the original series, "
    "on the same grid, with --source"
)


@dataclass(frozen=True)
class Exported:
    """What was written. `without_dicom` is empty, or says why only NIfTI was."""

    slices: int
    rounding: float
    without_dicom: str = ""


def export_volume(
    volume: Path,
    place: Path,
    out: Path,
    derivation: Derivation,
    *,
    uncertainty: Path | None = None,
    hidden: Hidden | None = None,
    around: Path | None = None,
    number: int | None = None,
    scanned: Scanned | None = None,
) -> Exported:
    """Write a volume into a new folder, in the order of slices, rows and columns of its source; nothing is resampled.

    `restored.nii.gz` holds the values as they are; `restored/IM0001.dcm`, ... the derived series; `uncertainty.dcm`
    and `uncertainty.nii.gz` the map, where there is one; `export.json` the rounding. All appear together or not at all.

    Parameters
    ----------
    volume, uncertainty
        NIfTI on the source's grid, in any order of its axes (the pipeline's volumes are RAS+).
    place
        Of the source: a folder of DICOM, one file of the series, or a NIfTI file.
    around, number, scanned
        See `find_source`.
    hidden
        Replaces patient and study, where the export is to be de-identified.

    Raises
    ------
    Refusal
        If a volume cannot be read, has voxels that are no numbers, or no source is of its grid; or if the name that is
        to hide a patient repeats the patient's.
    InputError
        If `out` exists.
    """
    values, affine = _read(volume)
    with _new_folder(out) as folder:
        if place.is_file() and not dicom.is_dicom(place):
            grid, target = nifti.read(place)
            shape = (grid.shape[0], grid.shape[1], grid.shape[2])
            _native(folder / "restored.nii.gz", values, affine, shape, target)
            if uncertainty:
                _native(folder / "uncertainty.nii.gz", *_read(uncertainty, flat=True), shape, target)
            return Exported(shape[2], 0.0, NO_SOURCE)
        source = find_source(place, values, affine, around=around, number=number, scanned=scanned)
        if hidden:
            hidden = replace(hidden, known=identifiers_in(source.files))
            if not re.fullmatch(_PSEUDONYM, hidden.name) and hidden.known.in_text(hidden.name):
                raise Refusal("the name to show instead of the patient's repeats a name or number of the patient")
        native = _native(folder / "restored.nii.gz", values, affine, source.shape, source.affine)
        headers, packed = export_series(folder / "restored", native, source, derivation, hidden=hidden)
        if uncertainty:
            from medwvae.data.dicom_export_map import export_map

            native = _native(folder / "uncertainty.nii.gz", *_read(uncertainty, flat=True), source.shape, source.affine)
            export_map(folder / "uncertainty.dcm", native, source, headers, derivation, hidden=hidden)
        record = {
            "task": derivation.task,
            "method": derivation.method,
            "modality": source.modality,
            "slices": len(headers),
            "rescale_slope": float(packed.slope),
            "rescale_intercept": packed.intercept,
            "largest_rounding_error": packed.bound,
            "deidentified": hidden is not None,
        }
        with atomic(folder / "export.json") as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return Exported(len(headers), packed.bound)


def _read(path: Path, *, flat: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    lost, voxels = _not_finite(path)
    if lost:
        raise Refusal(
            f"{lost} of the volume's {voxels} voxels are not numbers (NaN or infinite), which DICOM cannot hold "
            "and nobody may guess; set them to a value, for example the background's, and export again"
        )
    return nifti.read(path, flat=flat)


def _not_finite(path: Path) -> tuple[int, int]:
    """Return how many voxels `nifti.read` would replace, and of how many: what leaves a study must not be made up."""
    values = next(nifti.inspect(path).volumes())
    return int(np.count_nonzero(~np.isfinite(values))), values.size


def _native(
    path: Path,
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    grid: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Write the values on the source's grid and return them."""
    try:
        native = np.asarray(onto_grid(values, affine, shape, grid), dtype=np.float32)
    except Refusal as refusal:
        raise Refusal(f"the volume is not on the grid of its source: {refusal}") from None
    nifti.write(path, native, grid)
    return native


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling that becomes the folder on success only."""
    if folder.exists():
        raise InputError(f"{folder} exists already; name another folder or move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".tmp.{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was interrupted
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
