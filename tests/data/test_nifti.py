import gzip
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medwvae.data import nifti
from medwvae.errors import Refusal
from tests.data.series import SHARED

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def volume_of(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def save(path, data, affine=AFFINE, *, cls=nib.Nifti1Image, code=1, edit=None):
    image = cls(data, affine, dtype=data.dtype)
    image.set_sform(affine, code)
    image.set_qform(affine, code, strip_shears=True)
    if edit:
        edit(image.header)
    nib.save(image, path)
    return path


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([np.float32, np.int16, np.uint16, np.uint8]),
    st.sampled_from(["v.nii", "v.nii.gz"]),
    st.integers(0, 2**31),
    st.tuples(*[st.integers(2, 7)] * 3),
)
def test_what_is_written_is_read(dtype, name, seed, shape):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=rng).as_matrix() * rng.uniform(0.3, 5, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    volume = volume_of(*shape, dtype=dtype, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        nifti.write(path, volume, affine)
        back, back_affine = nifti.read(path)
        header = nib.load(path).header
        assert list(Path(folder).iterdir()) == [path]
    assert back.dtype == np.float32
    assert np.array_equal(back, volume)
    assert np.allclose(back_affine, affine, atol=1e-3)
    assert np.allclose(header.get_qform(), affine, atol=1e-3)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"


def test_bytes_depend_on_the_volume_only(tmp_path, monkeypatch):
    nifti.write(tmp_path / "one.nii.gz", volume_of(4, 5, 6), AFFINE)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    nifti.write(tmp_path / "other" / "two.nii.gz", volume_of(4, 5, 6), AFFINE)
    first = (tmp_path / "one.nii.gz").read_bytes()
    assert first == (tmp_path / "other" / "two.nii.gz").read_bytes()
    assert first[3] == 0  # no name, no comment in the gzip header
    assert first[4:8] == b"\0" * 4  # no time


def test_a_sheared_affine_gets_no_quaternion(tmp_path):
    affine = AFFINE.copy()
    affine[1, 2] = 1.0
    nifti.write(tmp_path / "v.nii", volume_of(3, 3, 3), affine)
    assert np.allclose(nifti.read(tmp_path / "v.nii")[1], affine)
    assert int(nib.load(tmp_path / "v.nii").header["qform_code"]) == 0


@pytest.mark.parametrize("data", [np.zeros((2, 2)), np.zeros((2, 2, 2)), np.zeros((2, 2, 2), complex)])
def test_only_volumes_of_plain_types_are_written(tmp_path, data):
    with pytest.raises(ValueError, match="expected a 3-D"):
        nifti.write(tmp_path / "v.nii", data, AFFINE)
    with pytest.raises(ValueError, match="singular"):
        nifti.write(tmp_path / "v.nii", volume_of(2, 2, 2), np.zeros((4, 4)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_type_is_read_with_its_slope(tmp_path, dtype, cls):
    stored = volume_of(3, 4, 5, dtype=dtype)
    image = cls(stored, AFFINE)
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "v.nii")
    raw = bytearray((tmp_path / "v.nii").read_bytes())
    offset = int(image.header["vox_offset"]) or len(raw) - stored.nbytes
    raw[offset:] = stored.tobytes(order="F")
    fields = {nib.Nifti1Image: (112, "<ff"), nib.Nifti2Image: (176, "<dd")}
    struct.pack_into(fields[cls][1], raw, fields[cls][0], 0.5, -3)
    (tmp_path / "v.nii").write_bytes(raw)
    assert np.allclose(nifti.read(tmp_path / "v.nii")[0], stored * 0.5 - 3)


def test_pairs_and_trailing_axes_are_read(tmp_path):
    save(tmp_path / "v.hdr", volume_of(3, 4, 5), cls=nib.Nifti1Pair)
    assert nifti.read(tmp_path / "v.hdr")[0].shape == (3, 4, 5)
    save(tmp_path / "one.nii", volume_of(3, 4, 5, 1))
    assert nifti.read(tmp_path / "one.nii")[0].shape == (3, 4, 5)


def test_the_affine_is_in_millimetres(tmp_path):
    path = save(tmp_path / "v.nii", volume_of(3, 4, 5), AFFINE, edit=lambda h: h.set_xyzt_units(xyz="micron"))
    assert np.allclose(nifti.read(path)[1][:3], AFFINE[:3] / 1000)


@pytest.mark.parametrize(("sform", "qform", "wins"), [(1, 0, "s"), (0, 1, "q"), (2, 1, "s"), (1, 4, "s"), (0, 3, "q")])
def test_the_sform_goes_before_the_qform(tmp_path, sform, qform, wins):
    image = nib.Nifti1Image(volume_of(3, 4, 5), None)
    image.set_sform(AFFINE, code=sform)
    image.set_qform(AFFINE[[1, 0, 2, 3]], code=qform)
    nib.save(image, tmp_path / "v.nii")
    assert np.allclose(nifti.read(tmp_path / "v.nii")[1], AFFINE if wins == "s" else AFFINE[[1, 0, 2, 3]])


@pytest.mark.parametrize("size", [0.0, -2.0, np.nan])
def test_a_voxel_size_that_the_qform_needs_is_not_made_up(tmp_path, size):
    raw = bytearray(save(tmp_path / "v.nii", volume_of(3, 4, 5)).read_bytes())
    struct.pack_into("<f", raw, 80, size)  # pixdim[1]
    (tmp_path / "v.nii").write_bytes(raw)
    assert np.allclose(nifti.read(tmp_path / "v.nii")[1], AFFINE)  # the sform does not need it
    struct.pack_into("<h", raw, 254, 0)  # sform_code
    (tmp_path / "v.nii").write_bytes(raw)
    with pytest.raises(Refusal, match="voxel size is not positive"):
        nifti.read(tmp_path / "v.nii")


def test_the_reader_is_silent_where_no_log_is_set_up(tmp_path):
    """In a process of its own, because pytest's handlers would catch what nibabel says."""
    raw = bytearray(save(tmp_path / "v.nii", volume_of(3, 4, 5)).read_bytes())
    struct.pack_into("<h", raw, 254, 514)  # a sform code that there is not
    (tmp_path / "v.nii").write_bytes(raw)
    code = "import sys; from pathlib import Path; from medwvae.data import nifti; nifti.read(Path(sys.argv[1]))"
    answer = subprocess.run([sys.executable, "-c", code, tmp_path / "v.nii"], capture_output=True, check=True)
    assert answer.stderr == answer.stdout == b""


def test_an_infinite_slope_is_refused_and_an_unset_one_is_none(tmp_path):
    raw = bytearray(save(tmp_path / "v.nii", volume_of(3, 4, 5)).read_bytes())
    for slope in (0.0, np.nan):
        struct.pack_into("<f", raw, 112, slope)
        (tmp_path / "v.nii").write_bytes(raw)
        assert np.array_equal(nifti.read(tmp_path / "v.nii")[0], volume_of(3, 4, 5))
    struct.pack_into("<f", raw, 112, np.inf)
    (tmp_path / "v.nii").write_bytes(raw)
    with pytest.raises(Refusal, match="infinite"):
        nifti.read(tmp_path / "v.nii")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([np.uint8, np.dtype(">i2"), np.int32, np.float32, np.dtype(">f8")]),
    st.sampled_from([(nib.Nifti1Image, "v.nii"), (nib.Nifti2Image, "v.nii.gz"), (nib.Nifti1Pair, "v.hdr"),
                     (nib.Nifti2Pair, "v.hdr.gz")]),
    st.tuples(*[st.integers(2, 6)] * 3, st.integers(1, 5)),
    st.integers(1, 200),
)  # fmt: skip
def test_volumes_are_streamed_in_order(dtype, kind, shape, chunk):
    """The reference is nibabel's own reader; the size of what is read at once changes nothing."""
    stored = volume_of(*shape, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(nifti, "_CHUNK", chunk)
        path = save(Path(folder) / kind[1], stored, cls=kind[0], edit=lambda h: h.set_slope_inter(0.25, -7))
        file = nifti.inspect(path)
        assert (file.shape, file.count) == (shape[:3], shape[3])
        expected = np.asarray(nib.load(path).dataobj).reshape(shape)
        volumes = list(file.volumes())
        assert len(volumes) == shape[3]
        for k, volume in enumerate(volumes):
            assert volume.dtype == np.float32
            assert np.array_equal(volume, expected[..., k].astype(np.float32))
        assert len(nifti.files_of(path)) == (2 if "hdr" in kind[1] else 1)


def test_several_volumes_take_the_memory_of_one(tmp_path):
    path = save(tmp_path / "v.nii.gz", volume_of(64, 64, 64, 10, dtype=np.uint8))
    one = 64 * 64 * 64 * 4
    file = nifti.inspect(path)
    tracemalloc.start()
    for volume in file.volumes():
        del volume
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * one  # the volume, the next one, and a chunk on its way from bytes to float32


@pytest.mark.parametrize("code", [1, 5])
def test_a_unit_that_makes_no_sense_is_refused(tmp_path, code):
    path = save(tmp_path / "v.nii", volume_of(3, 4, 5), edit=lambda h: h.__setitem__("xyzt_units", code))
    with pytest.raises(Refusal, match="unit is wrong"):
        nifti.read(path)


def test_a_few_nans_become_background(tmp_path):
    data = volume_of(10, 10, 10) + 5
    data[0, 0, :3] = [np.nan, np.inf, -np.inf]
    volume, _ = nifti.read(save(tmp_path / "v.nii", data))
    assert np.array_equal(volume[0, 0, :3], [data[1:].min()] * 3)
    assert np.array_equal(volume[1:], data[1:])


def colour(*shape):
    return np.zeros(shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


def nans(*shape):
    data = volume_of(*shape)
    data[0] = np.nan
    return data


REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "no codes": ((volume_of(3, 4, 5),), {"code": 0}, "does not say where"),
    "nans": ((nans(5, 5, 5),), {}, "not numbers"),
    "complex": ((np.ones((3, 4, 5), np.complex64),), {}, "real-valued"),
    "colour": ((colour(3, 4, 5),), {}, "colour"),
    "series": ((volume_of(3, 4, 5, 6),), {}, "holds 6 volumes"),
    "vectors": ((volume_of(3, 4, 5, 1, 3),), {}, "several values a voxel"),
    "slice": ((volume_of(3, 4, 1),), {}, "no volume"),
    "flat": ((volume_of(3, 4),), {}, "no volume"),
    "constant": ((np.full((3, 4, 5), 7, np.int16),), {}, r"same value \(7\)"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trusted_is_refused_with_its_reason(tmp_path, case, suffix):
    arguments, options, reason = REFUSED[case]
    path = save(tmp_path / f"Doe_Jane{suffix}", *arguments, **options)
    with pytest.raises(Refusal, match=reason) as refused:
        nifti.read(path)
    assert "Doe" not in str(refused.value)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_singular_affine_is_refused(tmp_path, value):
    raw = bytearray(save(tmp_path / "v.nii", volume_of(3, 4, 5)).read_bytes())
    struct.pack_into("<4f", raw, 312, *[value] * 4)  # srow_z
    (tmp_path / "v.nii").write_bytes(raw)
    with pytest.raises(Refusal, match="singular"):
        nifti.read(tmp_path / "v.nii")


def test_a_flipped_bit_under_gzip_is_noticed(tmp_path):
    path = save(tmp_path / "v.nii.gz", volume_of(20, 20, 20))
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # in the checksum
    path.write_bytes(raw)
    with pytest.raises(Refusal, match="damaged"):
        nifti.read(path)


@pytest.mark.parametrize("dims", [(30000, 30000, 30000), (200, 200, 200)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path, dims, suffix):
    raw = bytearray(save(tmp_path / "good.nii", volume_of(20, 20, 20)).read_bytes())
    struct.pack_into("<3h", raw, 42, *dims)
    path = tmp_path / f"v{suffix}"
    path.write_bytes(gzip.compress(bytes(raw)) if suffix.endswith("gz") else bytes(raw))
    with pytest.raises(Refusal, match="cut short"):
        nifti.read(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), st.sampled_from([".nii", ".nii.gz"]))
def test_a_file_cut_anywhere_is_refused(keep, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / f"v{suffix}", volume_of(8, 8, 8))
        whole = path.read_bytes()
        path.write_bytes(whole[: min(keep, len(whole) - 9)])
        with pytest.raises(Refusal):
            nifti.read(path)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 347), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_fuzzed_header_is_read_or_refused_but_never_crashes(changes):
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "v.nii", volume_of(8, 8, 8))
        raw = bytearray(path.read_bytes())
        for place, value in changes:
            raw[place] = value
        path.write_bytes(raw)
        try:
            volume, affine = nifti.read(path)
        except Refusal:
            return
        assert volume.ndim == 3
        assert np.isfinite(volume).all()
        assert np.isfinite(affine).all()


def test_analyze_and_lonely_headers_are_refused(tmp_path):
    nib.save(nib.AnalyzeImage(volume_of(3, 4, 5, dtype=np.int16), np.eye(4)), tmp_path / "v.hdr")
    with pytest.raises(Refusal, match="no NIfTI header"):
        nifti.read(tmp_path / "v.hdr")
    save(tmp_path / "w.hdr", volume_of(3, 4, 5), cls=nib.Nifti1Pair)
    (tmp_path / "w.img").unlink()
    with pytest.raises(Refusal, match=r"no \.img"):
        nifti.read(tmp_path / "w.hdr")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
@pytest.mark.parametrize("path", sorted((SHARED / "hostile").glob("*.nii*")), ids=lambda path: path.name)
def test_hostile_files_are_refused(path, capfd):
    with pytest.raises(Refusal):
        nifti.read(path)
    assert capfd.readouterr() == ("", "")


def test_what_nibabel_repairs_is_not_told_on_the_terminal(tmp_path):
    path = save(tmp_path / "v.nii", volume_of(3, 4, 5))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<h", raw, 254, 99)  # sform_code
    path.write_bytes(raw)
    code = f"from pathlib import Path; from medwvae.data import nifti; nifti.read(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=600)
    assert (done.stdout, done.stderr) == (b"", b"")
