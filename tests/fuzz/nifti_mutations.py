"""Damage to a NIfTI file: any field of its header, its magic and extensions, its compression."""

import gzip
import zlib

import nibabel as nib
import numpy as np

from tests.fuzz.common import ANY_FILE, Mutation, Rng, flip, pick

_FLOATS = (0.0, -0.0, -1.0, 1.0, 1e-30, 1e-40, 1e30, -1e30, 3.4e38, np.nan, np.inf, -np.inf, 352.0, 1000.0, 0.5)
_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1)
_FIELDS: tuple[str, ...] = (
    "dim",
    "pixdim",
    "datatype",
    "bitpix",
    "vox_offset",
    "scl_slope",
    "scl_inter",
    "sform_code",
    "qform_code",
)
_FIELDS += ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "xyzt_units", "magic")


def plain(data: bytes) -> bytes:
    """Return the file without its compression, as far as it can be undone."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return zlib.decompressobj(31).decompress(data)
    except zlib.error:
        return data


def in_place(change: Mutation) -> Mutation:
    """Return the mutation of a file that, where it is compressed, damages what is inside."""

    def inside(rng: Rng, data: bytes) -> bytes:
        changed = change(rng, plain(data))
        return gzip.compress(changed, 1, mtime=0) if data[:2] == b"\x1f\x8b" else changed

    return inside


def set_field(rng: Rng, data: bytes) -> bytes:
    """Give one field of the header a value that it should not have."""
    if len(data) < 348:
        return flip(rng, data)
    dtype = nib.nifti2.header_dtype if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.nifti1.header_dtype
    if data[:1] == b"\0":
        dtype = dtype.newbyteorder(">")
    if len(data) < dtype.itemsize:
        return flip(rng, data)
    header = np.frombuffer(data[: dtype.itemsize], dtype).copy()
    name = pick(rng, _FIELDS if rng.random() < 0.8 else dtype.names)
    field = header[name].reshape(-1)
    for _ in range(int(rng.integers(1, 4))):
        field[int(rng.integers(field.size))] = _hostile(rng, name, field.dtype)
    header[name] = field.reshape(header[name].shape)
    return header.tobytes() + data[dtype.itemsize :]


def _hostile(rng: Rng, name: str, dtype: np.dtype):
    if dtype.kind == "f":
        return dtype.type(pick(rng, tuple(np.float32(x) for x in _FLOATS)))
    if dtype.kind == "S":
        return rng.bytes(dtype.itemsize)
    if name == "datatype":
        return pick(rng, _TYPES)
    top = np.iinfo(dtype)
    return pick(rng, (0, 1, 2, 3, 5, 7, 8, 100, top.max, top.min, top.max // 2, int(rng.integers(top.min, top.max))))


def flip_header(rng: Rng, data: bytes) -> bytes:
    return flip(rng, data, 352)


def set_dims(rng: Rng, data: bytes) -> bytes:
    """Claim another shape altogether, from nothing to more than any disk holds."""
    if len(data) < 352 or data[:4] != b"\x5c\x01\0\0":
        return set_field(rng, data)
    count = int(rng.integers(0, 8))
    dims = [count, *(int(pick(rng, (0, 1, 2, 5, 7, 512, 2048, 32767, -1))) for _ in range(7))]
    return data[:40] + np.array(dims, "<i2").tobytes() + data[56:]


def recompress(rng: Rng, data: bytes) -> bytes:
    """Compress what was plain, twice what was compressed, or neither; or add a second member."""
    member = gzip.compress(plain(data), 1, mtime=0)
    return pick(rng, (member, gzip.compress(member), plain(data), member + member, member + b"\0" * 40, member[:-8]))


def damage_stream(rng: Rng, data: bytes) -> bytes:
    """Damage the compressed stream: a block, the checksum or the length at its end."""
    if rng.random() < 0.3:
        return data[:-8] + rng.bytes(8)
    return data[:12] + flip(rng, data[12:])


def fill(rng: Rng, data: bytes) -> bytes:
    """Make the voxels not a number, or all the same."""
    return data[:352] + pick(rng, (b"\xff", b"\0", b"\x7f\xc0")) * ((len(data) - 352) // 2 + 1)


_INSIDE: tuple[Mutation, ...] = (*[set_field] * 8, set_dims, set_dims, flip_header, flip_header, fill, *ANY_FILE)
MUTATIONS: tuple[Mutation, ...] = (*(in_place(change) for change in _INSIDE), *ANY_FILE, recompress, damage_stream)
