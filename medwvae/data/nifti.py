"""NIfTI in and out: read only what can be trusted, write the same bytes for the same volume."""

import gzip
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger
from nibabel.nifti1 import Nifti1Pair
from numpy.typing import NDArray

from medwvae.errors import Refusal
from medwvae.files import atomic
from medwvae.geometry import is_singular, shear_of, spacing_of

SUFFIXES = (".nii", ".nii.gz", ".hdr")
MAX_NOT_FINITE = 0.01
"""The largest fraction of NaN or infinite voxels that is repaired (they become the smallest finite value)."""
_DEFLATE_LIMIT = 1032  # deflate cannot compress by a larger factor
_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unit code: not stated (mm by custom), metre, mm, micrometre
_PLAUSIBLE_MM = (0.001, 100.0)


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return a volume, scaled by the header's slope and intercept, and its affine in mm; axes as in the file.

    Parameters
    ----------
    path
        `.nii`, `.nii.gz` or the `.hdr` of a `.hdr`/`.img` pair (NIfTI-1 or NIfTI-2).

    Raises
    ------
    Refusal
        If the file cannot be read in full, says nothing (or nonsense) about where its voxels lie, holds more than one
        volume, or is not one real-valued image. The message names no file: names can identify a patient.
    """
    with _quiet():
        image = _open(path)
        _check_header(image, path)
        affine = _affine(image)
        try:
            _check_gzip(path)
            volume = image.get_fdata(dtype=np.float32, caching="unchanged")
        except Exception as error:  # whatever a damaged file provokes: EOFError, OSError, zlib.error, MemoryError, ...
            raise Refusal("the file is damaged or cut short: its voxels cannot be read; export it again") from error
    return _finite(np.asarray(volume).reshape(volume.shape[:3])), affine


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the reader's complaints off the terminal: nibabel's own suppressor leaves Python's last handler in place."""
    level = logger.level
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _open(path: Path) -> Nifti1Pair:
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel lets struct, quaternion and zlib errors through for fuzzed headers
        raise Refusal("the file is not a readable NIfTI image: its header is damaged; export it again") from error
    if not isinstance(image, Nifti1Pair):  # also NIfTI-2; not Analyze, MGH, MINC, ...
        raise Refusal("the file holds no NIfTI header, so it does not say where its voxels lie; convert it to NIfTI")
    return image


def _check_header(image: Nifti1Pair, path: Path) -> None:
    shape, dtype = image.shape, image.get_data_dtype()
    if dtype.fields is not None:
        raise Refusal("the image is in colour (RGB); only grey-value MR and CT images can be used")
    if dtype.kind not in "iuf":
        raise Refusal(f"the voxels are {dtype} numbers; only real-valued images can be used, export the magnitude")
    if len(shape) > 3 and np.prod(shape[3:], dtype=float) != 1:
        count = " x ".join(str(n) for n in shape[3:])
        raise Refusal(f"the file holds {count} volumes, not one; export each volume as its own file")
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise Refusal(f"the image is no volume: its shape is {'x'.join(str(n) for n in shape)}; export all slices")
    file_map = image.file_map.get("image") or image.file_map["header"]
    data = Path(file_map.filename)
    if not data.is_file():
        raise Refusal("the header has no .img file beside it; copy both files of the pair")
    needed = float(np.prod(shape, dtype=float)) * dtype.itemsize
    factor = _DEFLATE_LIMIT if data.suffix == ".gz" else 1
    if needed + (0 if factor > 1 else image.dataobj.offset) > data.stat().st_size * factor:
        raise Refusal("the header promises more voxels than the file holds: it was cut short; copy or export it again")


def _check_gzip(path: Path) -> None:
    """Read a compressed file to its end, where its checksum lies: nibabel stops at the last voxel before it."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as handle:
            while handle.read(1 << 20):
                pass


def _affine(image: Nifti1Pair) -> NDArray[np.float64]:
    header = image.header
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        raise Refusal(
            "the file does not say where its voxels lie in the patient (sform and qform code are 0); "
            "convert it again from DICOM with a tool that keeps the position"
        )
    affine = np.array(image.affine, dtype=np.float64)
    if is_singular(affine):
        raise Refusal("the affine is singular: the file's orientation makes no sense; convert it again from DICOM")
    affine[:3] *= _TO_MM.get(int(header["xyzt_units"]) % 8, np.nan)
    spacing = spacing_of(affine)
    if not (min(spacing) >= _PLAUSIBLE_MM[0] and max(spacing) <= _PLAUSIBLE_MM[1]):
        size = " x ".join(f"{mm:g}" for mm in spacing)
        raise Refusal(
            f"the voxels would be {size} mm: the file's spacing or unit is wrong; convert it again from DICOM"
        )
    return affine


def _finite(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    bad = ~np.isfinite(volume)
    if (fraction := float(bad.mean())) > MAX_NOT_FINITE:
        raise Refusal(f"{fraction:.1%} of the voxels are not numbers (NaN or infinite); mask or export the image again")
    if fraction:
        volume = np.where(bad, volume[~bad].min(), volume)
    if volume.min() == volume.max():
        raise Refusal(f"every voxel has the same value ({float(volume.flat[0]):g}): there is no image in the file")
    return volume


def write(path: Path, volume: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Write a volume atomically; the same volume gives the same bytes.

    Parameters
    ----------
    path
        `.nii` or `.nii.gz`.
    volume
        3-D; float32, or an integer type of at most 16 bits, stored without scaling.
    affine
        4x4, mm; stored as sform (and as qform where its axes are at right angles) with code 1, "scanner".

    Raises
    ------
    ValueError
        If the type or the number of dimensions is another, or the affine is singular.
    """
    if volume.ndim != 3 or volume.dtype not in (np.float32, np.int16, np.uint16, np.uint8):
        raise ValueError(f"expected a 3-D float32, int16, uint16 or uint8 volume, got {volume.ndim}-D {volume.dtype}")
    if is_singular(affine):
        raise ValueError("the affine is singular: it does not say where the voxels lie")
    image = nib.Nifti1Image(volume, affine)
    image.set_sform(affine, code=1)
    # A quaternion cannot hold a shear: a qform that contradicts the sform would be worse than none.
    image.set_qform(affine, code=1 if shear_of(affine) < 1e-4 else 0)
    image.header.set_xyzt_units(xyz="mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)  # nibabel's gzip header holds neither a time nor a name
