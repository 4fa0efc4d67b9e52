"""Write a synthetic cohort to disk, as DICOM series or as NIfTI files."""

import gzip
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from medwvae.data.dicom_write import write_series
from medwvae.data.phantom.anatomy import make_head
from medwvae.data.phantom.headers import CT_INTERCEPT, SERIES_NAMES, series_attributes
from medwvae.data.phantom.shapes import Volume, rotation
from medwvae.data.phantom.signal import (
    bias_field,
    ct_image,
    draw_protocol,
    draw_tissues,
    mr_image,
    rician,
)
from medwvae.errors import InputError
from medwvae.files import atomic
from medwvae.names import Contrast
from medwvae.seeding import seed_for

Format = Literal["dicom", "nifti"]
MARKER: Final = ".medwvae-phantom.json"


@dataclass(frozen=True)
class _Plan:
    """What every subject of a cohort shares; travels to worker processes."""

    folder: Path
    seed: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    contrasts: tuple[Contrast, ...]
    lesions: bool
    bias: float
    noise: float
    file_format: Format

    def rng(self, subject: int, *purpose: object) -> np.random.Generator:
        return np.random.default_rng(seed_for(self.seed, subject, *purpose))


def make_cohort(
    out: Path,
    *,
    subjects: int,
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    contrasts: Sequence[Contrast] = ("t1w",),
    lesions: bool = True,
    bias: float = 0.0,
    noise: float = 0.0,
    file_format: Format = "dicom",
    workers: int = 1,
    advance: Callable[[], None] | None = None,
) -> list[Path]:
    """Write `subjects` synthetic heads below `out`; the same arguments give the same bytes.

    Parameters
    ----------
    out
        Absent, empty, or an earlier phantom (which is replaced once the new one is complete).
    subjects, seed
        Subject n is PHANTOM00n; it depends on `seed` and n only, not on how many there are.
    shape, spacing
        Voxels and mm along R, A, S. Slices are axial; every third subject's are oblique.
    contrasts
        Any of t1w, t2w, pdw, flair, ct; all of a subject's series share one grid.
    lesions
        Whether some subjects (about three in five) have white-matter lesions.
    bias
        Strength b of the receive field of MR, exp(b p) with a smooth p between -1 and 1.
    noise
        Acquisition noise. MR: Rician, sigma as a fraction of the noise-free maximum. CT: Gaussian, sigma as a
        fraction of 1000 HU.
    file_format
        "dicom": out/PHANTOM001/t1w/IM0001.dcm, ...; "nifti": out/PHANTOM001_t1w.nii.gz, ...
    workers
        Processes; the bytes do not depend on it.
    advance
        Called after each subject.

    Returns
    -------
    list of Path
        One series folder or NIfTI file per subject and contrast, in order.

    Raises
    ------
    InputError
        If `out` holds something else than an earlier phantom, or an argument makes no sense.
    """
    _check(subjects, shape, spacing, contrasts, bias, noise)
    with _replacing(out) as folder:
        plan = _Plan(folder, seed, shape, spacing, tuple(contrasts), lesions, bias, noise, file_format)
        written: list[Path] = []
        for paths in _each_subject(plan, subjects, workers):
            written += paths
            if advance is not None:
                advance()
        about = {"subjects": subjects, "seed": seed, "shape": shape, "spacing": spacing, "contrasts": list(contrasts)}
        about |= {"lesions": lesions, "bias": bias, "noise": noise, "file_format": file_format}
        (folder / MARKER).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return [out / path.relative_to(folder) for path in written]


def _check(
    subjects: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    contrasts: Sequence[Contrast],
    bias: float,
    noise: float,
) -> None:
    unknown = [contrast for contrast in contrasts if contrast not in SERIES_NAMES]
    if unknown or not contrasts or len(set(contrasts)) < len(contrasts):
        raise InputError(
            f"phantom contrasts {list(contrasts)}: name each at most once, out of {', '.join(SERIES_NAMES)}"
        )
    if subjects < 1 or min(shape) < 8 or min(spacing) <= 0 or bias < 0 or noise < 0:
        raise InputError(
            "phantom: needs at least one subject, 8 voxels along each axis, spacing above 0, bias and noise not below 0"
        )


def _each_subject(plan: _Plan, subjects: int, workers: int) -> Iterator[list[Path]]:
    if workers <= 1 or subjects == 1:
        yield from (_write_subject(plan, index) for index in range(subjects))
        return
    # Spawned, not forked: a fork would copy the parent's locks and threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, subjects), mp_context=context) as pool:
        yield from pool.map(_write_subject, [plan] * subjects, range(subjects))


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `out` when the block ends well; an earlier phantom is replaced."""
    if out.exists():
        if not out.is_dir():
            raise InputError(f"{out}: a file is in the way of the phantom; name another folder")
        names = {path.name for path in out.iterdir()}
        if names and (MARKER not in names or any(not n.startswith("PHANTOM") for n in names - {MARKER})):
            raise InputError(f"{out}: holds other files than an earlier phantom; name another or an empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp.", dir=out.parent))
    try:
        fresh = scratch / "new"
        fresh.mkdir()
        yield fresh
        if out.exists():
            out.rename(scratch / "old")
        fresh.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_subject(plan: _Plan, index: int) -> list[Path]:
    affine = _affine(plan, index)
    ill = plan.lesions and bool(plan.rng(index, "disease").random() < 0.6)
    head = make_head(plan.shape, affine, seed_for(plan.seed, index, "anatomy"), lesions=ill)
    tissues = draw_tissues(plan.rng(index, "tissues"))
    name = f"PHANTOM{index + 1:03d}"
    written = []
    for number, contrast in enumerate(plan.contrasts, start=1):
        protocol = None if contrast == "ct" else draw_protocol(contrast, plan.rng(index, contrast, "protocol"))
        image = ct_image(head, tissues) if protocol is None else mr_image(head, tissues, protocol)
        voxels = _acquire(plan, index, contrast, image)
        if plan.file_format == "nifti":
            path = plan.folder / f"{name}_{contrast}.nii.gz"
            _write_nifti(path, voxels, affine)
        else:
            path = plan.folder / name / contrast
            stored, stored_affine = _as_lps(voxels, affine)
            offset = CT_INTERCEPT if contrast == "ct" else 0
            identity = (plan.seed, plan.shape, plan.spacing, plan.lesions, plan.bias, plan.noise, index)
            person = plan.rng(index, "person")
            template = series_attributes(name, identity, person, number=number, contrast=contrast, protocol=protocol)
            write_series(path, (stored - offset).astype(np.uint16), stored_affine, template=template)
        written.append(path)
    return written


def _affine(plan: _Plan, index: int) -> NDArray[np.float64]:
    """Return the grid (RAS, mm): centred on the head, below the vertex, tilted for every third subject."""
    rng = plan.rng(index, "grid")
    extent = np.multiply(plan.shape, plan.spacing)
    centre = np.array([0.0, 2.0, min(97 - extent[2] / 2, 18.0)]) + rng.uniform(-2, 2, 3)
    tilt = np.array([rng.uniform(5, 12), rng.uniform(-4, 4), rng.uniform(-3, 3)]) * (index % 3 == 1)
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) @ np.diag(plan.spacing)
    affine[:3, 3] = np.round(centre - affine[:3, :3] @ ((np.array(plan.shape) - 1) / 2), 3)
    return affine


def _acquire(plan: _Plan, index: int, contrast: Contrast, image: Volume) -> NDArray[np.int16]:
    """Return what the scanner stores: gain, receive field and noise for MR, noise for CT; integers."""
    rng = plan.rng(index, contrast, "noise")
    if contrast == "ct":
        if plan.noise:
            image = image + np.float32(1000 * plan.noise) * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(np.rint(image), CT_INTERCEPT, 3071).astype(np.int16)
    if plan.bias:
        image = image * bias_field(image.shape, plan.bias, plan.rng(index, contrast, "bias"))
    image = image * np.float32(plan.rng(index, contrast, "gain").uniform(1500, 2500) / image.max())
    if plan.noise:
        image = rician(image, plan.noise * float(image.max()), rng)
    return np.clip(np.rint(image), 0, np.iinfo(np.int16).max).astype(np.int16)


def _write_nifti(path: Path, image: NDArray[np.int16], affine: NDArray[np.float64]) -> None:
    nifti = nibabel.Nifti1Image(image, affine)
    nifti.set_sform(affine, code=1)
    nifti.set_qform(affine, code=1)
    nifti.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(nifti.to_bytes(), compresslevel=4, mtime=0))


def _as_lps(image: NDArray[np.int16], affine: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Reorder the voxels as axial DICOM stores them: columns to the left, rows to the back, slices up."""
    change = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    return apply_orientation(image, change), affine @ inv_ornt_aff(change, image.shape)
