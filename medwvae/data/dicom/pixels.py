"""The voxels of a checked stack, streamed file by file into one array; each file is read once, hashed and decoded."""

import hashlib
import io
import multiprocessing
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, iter_pixels, pixel_array

from medwvae.data.dicom import jpeg
from medwvae.data.dicom.records import FRAGILE, File, Frame, Pixels, Stack, Volume
from medwvae.data.dicom.repair import resampled, sheared
from medwvae.data.dicom.values import read
from medwvae.errors import Refusal
from medwvae.files import sha256_of

Raw = NDArray[np.integer]
_MOST_COMPRESSED: Final = 5000  # pixels per byte; the emptiest real slices stay far below


def load(stack: Stack) -> Volume:
    """Return the volume of a checked series: axes (column, row, slice), CT in HU, MR in the scanner's units.

    Slope and intercept are applied slice by slice, as dcm2niix does, to the last bit. Padding becomes the smallest
    value measured in the volume. MONOCHROME1 of MR (small values are bright) is mirrored within the volume's range;
    Hounsfield units mean the same either way.

    Raises
    ------
    Refusal
        If the pixels of a slice cannot be decoded, or the image is empty.
    """
    rows, columns = stack.frames[0].file.shape
    _check_size(stack)
    voxels = _empty((columns, rows, len(stack.frames)), stack.affine)
    wanted: dict[File, list[int]] = defaultdict(list)
    for place, frame in enumerate(stack.frames):
        wanted[frame.file].append(place)
    # Where slices differ in scale, a NIfTI file cannot keep the stored values, and the reference rounds to float32.
    exact = np.float64 if len({(frame.slope, frame.intercept) for frame in stack.frames}) == 1 else np.float32
    digests: list[str] = []
    padded = False
    for file, places in wanted.items():
        places.sort(key=lambda place: stack.frames[place].index)
        done = iter(places)
        try:
            for image in _images(file, [stack.frames[place].index for place in places], digests):
                place = next(done)
                padded |= _scale(image, stack.frames[place], voxels[:, :, place].T, exact)
            missing = next(done, None)
        except (Refusal, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever damaged bytes provoke
            if isinstance(error, OSError) and error.errno:  # the machine is to blame; pydicom's own have no number
                raise
            which = f"slice {min(places) + 1} of {len(stack.frames)}" if len(places) == 1 else "a slice"
            raise Refusal(f"the pixels of {which} cannot be decoded: the file is damaged; export it again") from error
        if missing is not None:
            raise Refusal(f"slice {missing + 1} of {len(stack.frames)} holds no pixel data; export the series again")
    if padded:
        _fill(voxels)
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Refusal("the rescaled pixels are not all numbers: the rescale slope or intercept is wrong; export again")
    if low == high:
        raise Refusal(f"every pixel has the same value ({low:g}): there is no image in the series")
    if stack.frames[0].file.grey == "MONOCHROME1" and stack.frames[0].file.modality == "MR":
        np.subtract(np.float32(high) + np.float32(low), voxels, out=voxels)
    affine = stack.affine
    if stack.places is not None:
        voxels = resampled(voxels.T, stack.places, stack.depth).T
    if stack.lean != (0.0, 0.0):
        straight, affine = sheared(voxels.T, affine, stack.lean)
        voxels = straight.T
    return Volume(voxels, affine, tuple(dict.fromkeys(digests)))


def _check_size(stack: Stack) -> None:
    """Refuse, before any memory is taken, headers that promise more pixels than their files can hold."""
    for file, count in Counter(frame.file for frame in stack.frames).items():
        promised = file.shape[0] * file.shape[1] * count
        least = promised * file.native.allocated // 8 if file.native else promised // _MOST_COMPRESSED
        if file.path.stat().st_size < least:
            raise Refusal("a header promises more pixels than its file can hold: the file is damaged; export it again")


def _empty(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an array whose memory lies as NIfTI keeps it, first axis fastest, once it is turned to RAS+.

    Every pixel is then written once, to its final place: turning the volume copies nothing.
    """
    orientation = io_orientation(affine)
    turned = [shape[int(np.flatnonzero(orientation[:, 0] == axis)[0])] for axis in range(3)]
    straight = io_orientation(np.eye(4))
    memory = np.empty(turned, np.float32, order="F")
    found: NDArray[np.float32] = apply_orientation(memory, ornt_transform(straight, orientation))
    return found


def stored_digests(files: list[File]) -> list[str]:
    """Return `stored_digest` of each file; what could end the process is decoded in another one."""
    fragile = [file for file in files if file.decoder == FRAGILE]
    found: dict[File, str] = {}
    if fragile:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool, suppress(BrokenProcessPool):
            found.update(zip(fragile, pool.map(stored_digest, fragile), strict=True))
        found = {file: found.get(file) or sha256_of(file.path) for file in fragile}
    return [found[file] if file in found else stored_digest(file) for file in files]


def stored_digest(file: File) -> str:
    """Return the SHA-256 of the stored values of a file's frames, or of its bytes where they cannot be decoded."""
    digest = hashlib.sha256()
    try:
        for image in _images(file, list(range(max(file.frames, file.tiles**2))), []):
            digest.update(np.ascontiguousarray(image, dtype="<i4").tobytes())
    except Exception:  # decoders raise whatever damaged bytes provoke
        return sha256_of(file.path)
    return digest.hexdigest()


def _images(file: File, indices: list[int], digests: list[str]) -> Iterator[Raw]:
    """Yield the frames of a file in rising order, stored values (row, column); append the file's SHA-256."""
    if file.frames > 1:
        stat = file.path.stat()
        digests.append(_digest(file.path, stat.st_size, stat.st_mtime_ns))
        if file.native is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if file.decoder == FRAGILE:
                    _check_coded(file.path, stat.st_size, stat.st_mtime_ns)
                yield from iter_pixels(file.path, indices=indices, decoding_plugin=file.decoder)
            return
        with file.path.open("rb") as handle:
            for index in indices:
                yield _native(handle, file, file.native, index)
        return
    content = file.path.read_bytes()  # small: hashed and decoded from the same bytes
    digests.append(hashlib.sha256(content).hexdigest())
    if file.native is not None:
        image = _native(io.BytesIO(content), file, file.native, 0)
    else:
        dataset = read(io.BytesIO(content), pixels=True)
        if "PixelData" not in dataset:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if file.decoder == FRAGILE:
                jpeg.check(dataset)
            image = pixel_array(dataset, decoding_plugin=file.decoder)
            if "ModalityLUTSequence" in dataset:
                image = apply_modality_lut(image, dataset)
    if not file.tiles:
        yield image
        return
    rows, columns = file.shape
    for index in indices:
        top, left = index // file.tiles * rows, index % file.tiles * columns
        yield image[top : top + rows, left : left + columns]


@lru_cache(maxsize=4)
def _digest(path: Path, size: int, changed: int) -> str:
    """Return the SHA-256 of a file of many frames, once for the many volumes that it may hold."""
    return sha256_of(path)


@lru_cache(maxsize=4)
def _check_coded(path: Path, size: int, changed: int) -> None:
    """Check the streams of a file of many frames, once for the many volumes that it may hold."""
    jpeg.check(read(path, pixels=True))


def _native(handle: BinaryIO, file: File, pixels: Pixels, index: int) -> Raw:
    """Return a frame that is not compressed, from where its header said that the pixels begin."""
    rows, columns = (side * max(file.tiles, 1) for side in file.shape)
    size = rows * columns * pixels.allocated // 8
    handle.seek(pixels.offset + index * size)
    content = handle.read(size)
    if len(content) < size:
        raise ValueError("too few pixels")
    kind = ("<i" if pixels.signed else "<u") + str(pixels.allocated // 8)
    image = np.frombuffer(content, kind).reshape(rows, columns)
    if unused := pixels.allocated - pixels.stored:  # their content is not defined
        image = np.right_shift(np.left_shift(image, unused), unused)
    return image


def _scale(image: Raw, frame: Frame, out: NDArray[np.float32], exact: type[np.floating]) -> bool:
    """Write the rescaled image to `out`, NaN where it is padding; return whether there is any."""
    if image.shape != out.shape:
        raise ValueError("the pixels do not have the size that the header promises")
    if frame.slope == 1 and frame.intercept == int(frame.intercept) and image.dtype.itemsize <= 2:
        np.add(image, np.float32(frame.intercept), out=out, dtype=np.float32)
    else:
        out[...] = image * exact(frame.slope) + exact(frame.intercept)
    if frame.file.padding is None:
        return False
    low, high = frame.file.padding
    padding = (image >= low) & (image <= high)
    if not padding.any():
        return False
    out[padding] = np.nan
    return True


def _fill(voxels: NDArray[np.float32]) -> None:
    """Replace padding (NaN) by the smallest value that was measured."""
    padding = np.isnan(voxels)
    if padding.all():
        raise Refusal("every pixel is padding: there is no image in the series")
    voxels[padding] = voxels[~padding].min()
