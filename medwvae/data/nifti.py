"""NIfTI in and out: read only what can be trusted, one volume at a time; write the same bytes for the same volume.

References: the NIfTI-1.1 and NIfTI-2 headers, https://nifti.nimh.nih.gov; Lowekamp, nifti1.h (units, qform, sform).
"""

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.cifti2 import Cifti2Image
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import logger as nibabel_log
from nibabel.nifti1 import Nifti1Pair
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from medwvae.errors import Refusal
from medwvae.files import atomic
from medwvae.geometry import is_plausible, is_singular, shear_of, spacing_of

SUFFIXES: Final = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
MAX_NOT_FINITE: Final = 0.01
"""The largest fraction of NaN or infinite voxels that is repaired (they become the smallest finite value)."""
MAX_VOXELS: Final = 1024**3
"""The most voxels of one volume: 4 GiB as float32."""
MAX_VOLUMES: Final = 32767
"""The most volumes of one file, NIfTI-1's own limit."""
_DEFLATE_LIMIT: Final = 1032  # deflate cannot compress by a larger factor
_CHUNK: Final = 1 << 20  # bytes read at once
_GZIP_LEVEL: Final = 1
_TO_MM: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unit code: not stated (mm by custom), metre, mm, micrometre
_DAMAGED: Final = "the file is damaged or cut short: its voxels cannot be read; export it again"

_NO_NIFTI: Final = "the file holds no NIfTI header, so it does not say where its voxels lie; convert it to NIfTI"


@dataclass(frozen=True)
class File:
    """A NIfTI file whose header passed every check: `count` volumes of one shape on one grid (affine in mm)."""

    data: Path
    shape: tuple[int, int, int]
    count: int
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    def volumes(self) -> Iterator[NDArray[np.float32]]:
        """Yield volume after volume, scaled, axes as in the file; only one is in memory.

        Raises
        ------
        Refusal
            If the file ends too early or its checksum is wrong. The last volume is not given before that is known.
        OSError, MemoryError
            If the machine, not the file, is to blame.
        """
        try:
            with _opened(self.data) as handle:
                handle.seek(self.offset)
                for k in range(1, self.count + 1):
                    volume = self._next(handle)
                    while k == self.count and handle.read(_CHUNK):
                        pass  # the checksum of gzip lies at the very end
                    yield volume
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Refusal(_DAMAGED) from error

    def _next(self, handle: BinaryIO) -> NDArray[np.float32]:
        """Read and scale a few slices at a time: memory is taken as the file turns out to hold them."""
        nx, ny, nz = self.shape
        volume = np.empty(self.shape, dtype=np.float32, order="F")
        slice_bytes = nx * ny * self.dtype.itemsize
        step = max(1, _CHUNK // slice_bytes)
        for start in range(0, nz, step):
            stop = min(start + step, nz)
            raw = handle.read(slice_bytes * (stop - start))
            if len(raw) != slice_bytes * (stop - start):
                raise EOFError
            values = np.frombuffer(raw, dtype=self.dtype).reshape((nx, ny, stop - start), order="F")
            with np.errstate(all="ignore"):  # what overflows is not finite, and counted as such
                if (self.slope, self.intercept) != (1.0, 0.0):
                    values = np.multiply(values, self.slope, dtype=np.float64) + self.intercept
                volume[..., start:stop] = values
        return volume


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files of an image: itself, and the .img (.img.gz) beside a .hdr (.hdr.gz) where there is one."""
    name = path.name
    end = name.lower().rfind(".hdr")
    if end < 0 or not name.lower().endswith((".hdr", ".hdr.gz")):
        return (path,)
    image = path.with_name(name[:end] + (".IMG" if name[end:].isupper() else ".img") + name[end + 4 :])
    return (path, image) if image.is_file() else (path,)


def inspect(path: Path) -> File:
    """Check a file by its header alone; nothing of the size that it claims is allocated.

    Parameters
    ----------
    path
        `.nii`, `.nii.gz` or the `.hdr` of a `.hdr`/`.img` pair (NIfTI-1 or NIfTI-2), in any orientation and byte
        order. The affine is the sform where its code is positive, else the qform; a file with neither is refused.

    Raises
    ------
    Refusal
        If the header cannot be read, says nothing (or nonsense) about where its voxels lie, promises more voxels than
        the file can hold, or describes no real-valued volume. The message names no file: names can identify a patient.
    OSError, MemoryError
        If the machine, not the file, is to blame.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise Refusal(_NO_NIFTI)
    with warnings.catch_warnings(), np.errstate(all="ignore"), _silence():
        warnings.simplefilter("ignore")
        try:
            image = nib.load(path)
            if not isinstance(image, Nifti1Pair):  # also NIfTI-2; not CIFTI, Analyze, MGH, MINC, ...
                raise Refusal(_foreign(image))
            with ImageOpener(path) as handle:
                header = image.header_class.from_fileobj(handle, check=False)  # nibabel repairs what we must refuse
        except (Refusal, MemoryError):
            raise
        except Exception as error:  # nibabel lets struct, quaternion and zlib errors through for fuzzed headers
            if isinstance(error, OSError) and error.errno:
                raise
            raise Refusal("the file is not a readable NIfTI image: its header is damaged; export it again") from error
        shape, count = _shape_of(image)
        data = Path((image.file_map.get("image") or image.file_map["header"]).filename)
        if not data.is_file():
            raise Refusal("the header has no .img file beside it; copy both files of the pair")
        dtype, offset = image.get_data_dtype(), int(image.dataobj.offset)
        factor = _DEFLATE_LIMIT if data.suffix.lower() == ".gz" else 1
        if offset < 0:
            raise Refusal("the header says that the voxels begin before the file: it is damaged; export it again")
        if offset + math.prod(shape) * count * dtype.itemsize > data.stat().st_size * factor:
            raise Refusal(
                "the header promises more voxels than the file holds: it was cut short; copy or export it again"
            )
        if math.prod(shape) > MAX_VOXELS:
            raise Refusal(f"a volume would have more than {MAX_VOXELS} voxels; crop the image or use larger voxels")
        if np.isinf(header["scl_slope"]):
            raise Refusal("the slope that scales the voxels is infinite: the header is damaged; export it again")
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
        return File(data, shape, count, _affine(image, header), dtype, offset, slope, intercept)


def read(path: Path, *, flat: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the one volume of a file, scaled and repaired, and its affine in mm; axes as in the file.

    A map, unlike an image, may have one value everywhere: `flat`.

    Raises
    ------
    Refusal
        If the file cannot be read in full, cannot be trusted (see `inspect`, `repaired`), or holds several volumes.
    """
    try:
        file = inspect(path)
        if file.count != 1:
            raise Refusal(f"the file holds {file.count} volumes, not one; export each volume as its own file")
        return repaired(next(file.volumes()), flat=flat), file.affine
    except (OSError, MemoryError) as error:
        raise Refusal(
            f"the file cannot be read ({type(error).__name__}); check permissions, disk and memory"
        ) from error


def repaired(volume: NDArray[np.float32], *, flat: bool = False) -> NDArray[np.float32]:
    """Return the volume with a few NaN and infinite voxels set to the smallest finite value.

    Raises
    ------
    Refusal
        If more than `MAX_NOT_FINITE` of them are not finite, or all have the same value and may not (`flat`).
    """
    low, high = float(volume.min()), float(volume.max())  # NaN if there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = ~np.isfinite(volume)
        if (fraction := float(bad.mean())) > MAX_NOT_FINITE:
            raise Refusal(
                f"{fraction:.1%} of the voxels are not numbers (NaN or infinite; {MAX_NOT_FINITE:.0%} are allowed); "
                "mask or export the image again"
            )
        low, high = float(volume[~bad].min()), float(volume[~bad].max())
        volume = np.where(bad, np.float32(low), volume)
    if low == high and not flat:
        raise Refusal(f"every voxel has the same value ({low:g}): there is no image in the file")
    return volume


@contextmanager
def _silence() -> Iterator[None]:
    """Keep nibabel's log from standard error (its own suppressor leaves Python's handler of last resort)."""
    before, nibabel_log.disabled = nibabel_log.disabled, True
    try:
        yield
    finally:
        nibabel_log.disabled = before


@contextmanager
def _sink(path: Path) -> Iterator[IO[bytes]]:
    """Open for writing; .gz by ISA-L, several times as fast as zlib, with neither a time nor a name in its header."""
    with path.open("wb") as handle:
        if path.suffix != ".gz":
            yield handle
            return
        with igzip.IGzipFile("", "wb", fileobj=handle, compresslevel=_GZIP_LEVEL, mtime=0) as packed:  # type: ignore[no-untyped-call]
            yield cast(IO[bytes], packed)


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))


def _foreign(image: Any) -> str:
    if isinstance(image, Cifti2Image):
        return "the file holds values on a surface or a connectivity matrix (CIFTI), not an image; nothing to do"
    return _NO_NIFTI


def _shape_of(image: Nifti1Pair) -> tuple[tuple[int, int, int], int]:
    """Return the shape of a volume and the number of volumes; refuse what is no real-valued volume."""
    shape, dtype = tuple(int(n) for n in image.shape), image.get_data_dtype()
    if dtype.fields is not None:
        raise Refusal("the image is in colour (RGB); only grey-value MR and CT images can be used")
    if dtype.kind not in "iuf":
        raise Refusal(f"the voxels are {dtype} numbers; only real-valued images can be used, export the magnitude")
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise Refusal(
            f"the image is no volume: its shape is {'x'.join(str(n) for n in shape) or 'empty'}; export all slices"
        )
    if math.prod(shape[4:]) != 1:  # the fifth axis runs over the values at one place and time (nifti1.h)
        raise Refusal(
            "the file holds several values a voxel (vectors or a fit), not an image; "
            "export the image that they were computed from"
        )
    count = math.prod(shape[3:4])
    if not 1 <= count <= MAX_VOLUMES:
        raise Refusal(f"the header claims {count} volumes (possible are 1 to {MAX_VOLUMES}): it is damaged")
    return (shape[0], shape[1], shape[2]), count


def _affine(image: Nifti1Pair, header: Any) -> NDArray[np.float64]:
    """Return the affine in mm; `header` is the image's as it stands in the file."""
    if int(image.header["sform_code"]) <= 0 and int(image.header["qform_code"]) <= 0:
        raise Refusal(
            "the file does not say where its voxels lie in the patient (sform and qform code are 0); "
            "convert it again from DICOM with a tool that keeps the position"
        )
    if int(image.header["sform_code"]) <= 0 and not (header["pixdim"][1:4] > 0).all():
        raise Refusal("the voxel size is not positive: the header is damaged; convert the image again from DICOM")
    affine = np.array(image.affine, dtype=np.float64)
    if is_singular(affine):
        raise Refusal("the affine is singular: the file's orientation makes no sense; convert it again from DICOM")
    affine[:3] *= _TO_MM.get(int(header["xyzt_units"]) % 8, np.nan)
    spacing = spacing_of(affine)
    if not is_plausible(spacing):
        size = " x ".join(f"{mm:g}" for mm in spacing)
        raise Refusal(
            f"the voxels would be {size} mm: the file's spacing or unit is wrong; convert it again from DICOM"
        )
    return affine


def compact(volume: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int16]:
    """Return the volume as int16 where that keeps every value exactly: half the bytes to compress and to store."""
    bounds = np.iinfo(np.int16)
    if not bounds.min <= float(volume.min()) <= float(volume.max()) <= bounds.max:  # nor with a NaN
        return volume
    short = volume.astype(np.int16)
    return short if np.array_equal(short, volume) else volume


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
    with atomic(path) as temporary, _sink(temporary) as handle:
        image.to_file_map({"image": FileHolder(fileobj=handle)})
