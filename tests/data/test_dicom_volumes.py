"""One series, several volumes; padding; bare files; copies; and gaps and tilt mended where the user asks for it."""

import shutil
import tracemalloc
from functools import partial

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)

from medwvae.data import dicom
from medwvae.data.dicom.repair import resampled
from medwvae.errors import Refusal
from medwvae.geometry import to_ras
from tests.data.series import SHARED, image_of, write_series
from tests.data.test_dicom import change, needs_shared, read
from tests.data.test_dicom_multiframe import volumes

TIMES, SLICES = 3, 4


def write_repeats(folder, edit, times=TIMES, slices=SLICES, **arguments):
    """Write `times` volumes under one series, slice by slice; `edit(dataset, t, k)` tells them apart."""
    stored = image_of(times, slices, 5, 6)

    def one(t, dataset, k):
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(t), str(k)])
        edit(dataset, t, k)

    for t in range(times):
        write_series(
            folder,
            stored[t],
            prefix=f"t{t}_",
            edit=partial(one, t),
            **arguments,
        )
    return stored


def put(tag, value):
    return lambda dataset, t, k: setattr(dataset, tag, value(t, k))


def siemens_b_value(dataset, t, k):
    dataset.Manufacturer = "SIEMENS"
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", str(1000 * t))


def philips_b_value(dataset, t, k):
    dataset.Manufacturer = "Philips"
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", 1000.0 * t)


def ge_b_value(dataset, t, k):
    dataset.Manufacturer = "GE MEDICAL SYSTEMS"
    block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [str(1_000_000_000 + 500 * t), "8", "0", "0"])


TOLD_APART = {
    "time": put("TemporalPositionIdentifier", lambda t, k: 200 + t),
    "echo": put("EchoNumbers", lambda t, k: 1 + t),
    "echo time": put("EchoTime", lambda t, k: 10 + 20 * t + 0.001 * k),
    "inversion time": put("InversionTime", lambda t, k: 100 + 300 * t),
    "b-value": put("DiffusionBValue", lambda t, k: 500.0 * t),
    "b-value of Siemens": siemens_b_value,
    "b-value of Philips": philips_b_value,
    "b-value of GE": ge_b_value,
    "direction": put("DiffusionGradientOrientation", lambda t, k: [float(t == n) for n in range(3)]),
    "image type": put("ImageType", lambda t, k: ["ORIGINAL", "PRIMARY", "IMP"[t]]),
    "acquisition": put("AcquisitionNumber", lambda t, k: 10 * k + t),
    "trigger": put("TriggerTime", lambda t, k: 30.0 * t + 1.5 * k),
}


@pytest.mark.parametrize("case", TOLD_APART)
def test_what_must_not_be_mixed_becomes_a_volume_each(tmp_path, case):
    stored = write_repeats(tmp_path, TOLD_APART[case])
    found = volumes(tmp_path)
    assert len(found) == TIMES
    assert {v.voxels.tobytes() for v in found} == {image.T.astype(np.float32).tobytes() for image in stored}
    if case not in ("image type", "direction"):
        assert all(np.array_equal(volume.voxels, image.T) for volume, image in zip(found, stored, strict=True))


def test_each_volume_says_which_it_is(tmp_path):
    write_repeats(tmp_path, TOLD_APART["echo time"])
    parts = dicom.split(dicom.scan(tmp_path.iterdir())[0][0])
    notes = [dicom.check(part).notes for part in parts]
    assert [note["VolumeOfSeries"] for note in notes] == [1, 2, 3]
    assert {note["VolumesInSeries"] for note in notes} == {3}
    assert [note["EchoTime"] for note in notes] == pytest.approx([0.01, 0.03, 0.05], abs=1e-5)


def test_phase_and_diffusion_have_no_weighting_of_their_own(tmp_path):
    for case, plain in (("image type", 1), ("b-value", 1), ("echo", 3)):
        write_repeats(tmp_path / case, TOLD_APART[case])
        parts = dicom.split(dicom.scan((tmp_path / case).iterdir())[0][0])
        assert sum(part.weighted for part in parts) == plain


def test_repeats_that_nothing_tells_apart_are_refused(tmp_path):
    write_repeats(tmp_path, lambda dataset, t, k: None)
    with pytest.raises(Refusal, match="8 of 12 slices lie where another one lies"):
        volumes(tmp_path)


def test_single_slices_of_many_volumes_are_refused_once(tmp_path):
    write_repeats(tmp_path, TOLD_APART["echo"], slices=2)
    with pytest.raises(Refusal, match=r"3 echoes, so 3 volumes, none of more than 2 slice"):
        volumes(tmp_path)


def test_a_volume_that_was_not_finished_is_refused_and_the_others_are_not(tmp_path):
    write_repeats(tmp_path, TOLD_APART["time"], slices=5)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        if dataset.TemporalPositionIdentifier == 202 and dataset.ImagePositionPatient[2] > 5:
            path.unlink()
    parts = dicom.split(dicom.scan(tmp_path.iterdir())[0][0])
    assert [len(dicom.check(part).frames) for part in parts[:2]] == [5, 5]
    with pytest.raises(Refusal, match="3 slices, others of its series have 5"):
        dicom.check(parts[2])


@needs_shared
def test_five_encodings_of_one_series_are_one_volume():
    files = [path for folder in (SHARED / "dicom").glob("mr_compressed*") for path in folder.iterdir()]
    (series,), unreadable = dicom.scan(files)
    assert (len(files), unreadable) == (20, [])
    (part,) = dicom.split(series)
    assert dicom.load(dicom.check(part)).voxels.shape == (256, 256, 4)


def test_a_copy_in_another_encoding_counts_once_another_image_does_not(tmp_path):
    write_series(tmp_path / "a", image_of(4, 6, 5))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    (series,), _ = dicom.scan(tmp_path.rglob("im*"))
    assert [len(part.frames) for part in dicom.split(series)] == [4]
    write_series(tmp_path / "b", image_of(4, 6, 5, seed=9))
    (series,), _ = dicom.scan(tmp_path.rglob("im*"))
    (part,) = dicom.split(series)
    with pytest.raises(Refusal, match="lie where another"):
        dicom.check(part)


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize(
    ("value", "limit", "dtype"),
    [(-2000, None, np.int16), (63536, None, np.int16), (4000, 4095, np.uint16), (4095, 4000, np.uint16)],
)
def test_padding_becomes_the_smallest_measured_value(tmp_path, modality, value, limit, dtype):
    stored = image_of(4, 6, 5, dtype=dtype, seed=3) + dtype(24)
    stored[:, 0] = 4000 if limit else -2000
    tags = {"PixelPaddingValue": value} | ({"PixelPaddingRangeLimit": limit} if limit else {})

    def edit(dataset, k):
        for tag, number in tags.items():
            dataset.add_new(tag, "US" if number >= 0 else "SS", number)

    write_series(tmp_path, stored, modality=modality, edit=edit)
    voxels, _ = read(tmp_path)
    valid = stored[:, 1:].astype(float) - (1024 if modality == "CT" else 0)
    assert np.array_equal(voxels[:, 1:], valid.T)
    assert (voxels[:, 0] == valid.min()).all()


def test_an_image_of_padding_only_is_refused(tmp_path):
    write_series(tmp_path, np.full((3, 4, 4), 7, np.uint16), PixelPaddingValue=7)
    with pytest.raises(Refusal, match="padding"):
        read(tmp_path)


def test_bits_above_the_stored_ones_do_not_count(tmp_path):
    stored = image_of(3, 4, 4, dtype=np.uint16)

    def edit(dataset, k):
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (stored[k] | 0xF000).tobytes()

    write_series(tmp_path, stored, edit=edit)
    assert np.array_equal(read(tmp_path)[0], stored.T)


def bare(path, syntax, **options):
    """Rewrite a file without preamble and file meta information."""
    dataset = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta, dataset.preamble = pydicom.dataset.FileMetaDataset(), None
    dataset.save_as(path, enforce_file_format=False, **options)


@pytest.mark.parametrize(
    ("syntax", "options"),
    [
        ("explicit", {"implicit_vr": False, "little_endian": True}),
        (ImplicitVRLittleEndian, {"implicit_vr": True, "little_endian": True}),
    ],
)
def test_files_without_the_preamble_are_found_and_read(tmp_path, syntax, options):
    stored = image_of(4, 6, 5)
    write_series(tmp_path, stored)
    for path in tmp_path.iterdir():
        bare(path, syntax, **options)
        assert path.read_bytes()[128:132] != b"DICM"
        assert dicom.is_dicom(path)
    assert np.array_equal(read(tmp_path)[0], stored.T)


@settings(max_examples=300)
@given(st.binary(max_size=2000))
def test_bytes_are_not_mistaken_for_dicom(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(content)
    assert dicom.is_dicom(path) == (content[128:132] == b"DICM")


@pytest.mark.parametrize(
    "content", [b"\0" * 2000, b"\x08\0" * 1000, b"\x08\0\x05\0" * 500, b"PK\3\4" * 300, b"\x1f\x8b"]
)
def test_lookalikes_are_not_mistaken_for_dicom(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert not dicom.is_dicom(tmp_path / "file")


def plane(volume):
    """Return x - 2y + 3z of every voxel's place in mm: linear, so linear interpolation keeps it."""
    index = np.indices(volume.voxels.shape).reshape(3, -1)
    mm = (volume.affine[:3, :3] @ index).T + volume.affine[:3, 3]
    return (mm @ [1.0, -2.0, 3.0]).reshape(volume.voxels.shape)


def write_plane(folder, places, lean=(0.0, 0.0), shape=(14, 12), **arguments):
    """Write slices whose pixels say where they lie (RAS mm, x - 2y + 3z, plus 500)."""
    rows, columns = np.indices(shape)
    stored, where = [], []
    for z in places:
        x, y = lean[0] * z + 1.5 * columns, lean[1] * z + 2.0 * rows
        stored.append(np.rint((-x + 2 * y + 3 * z + 500) * 10).astype(np.int16))
        where.append([lean[0] * z, lean[1] * z, z])
    edit = change("ImagePositionPatient", lambda k: where[k])
    write_series(
        folder,
        np.array(stored),
        spacing=(2.0, 1.5),
        slopes=[0.1] * len(places),
        intercepts=[-500] * len(places),
        edit=edit,
        **arguments,
    )


@pytest.mark.parametrize(
    ("places", "depth", "invented"), [((0, 2, 4, 8, 10), 6, 1), ((0, 2, 4, 6.4, 8), 5, 1), ((0, 3, 6, 15, 18), 7, 2)]
)
def test_missing_slices_are_interpolated_only_if_asked_for(tmp_path, places, depth, invented):
    write_plane(tmp_path, places)
    with pytest.raises(Refusal, match=r"missing|evenly"):
        read(tmp_path)
    (part,) = dicom.split(dicom.scan(tmp_path.iterdir())[0][0])
    stack = dicom.check(part, on_gap="resample")
    volume = dicom.load(stack)
    assert volume.voxels.shape == (12, 14, depth)
    assert stack.notes == {
        "SlicesAcquired": len(places),
        "SlicesInterpolated": invented,
        "SliceInterpolation": "linear",
    }
    assert np.allclose(volume.voxels, plane(volume), atol=0.06)


@pytest.mark.parametrize("lean", [(0.0, 0.3), (0.2, -0.25), (-0.3, 0.0)])
def test_a_tilted_gantry_is_put_straight_only_if_asked_for(tmp_path, lean):
    write_plane(tmp_path, range(0, 10, 2), lean)
    with pytest.raises(Refusal, match="gantry tilt"):
        read(tmp_path)
    (part,) = dicom.split(dicom.scan(tmp_path.iterdir())[0][0])
    stack = dicom.check(part, on_tilt="shear")
    volume = dicom.load(stack)
    assert stack.notes["GantryTiltDegrees"] == pytest.approx(np.rad2deg(np.arctan(np.hypot(*lean))), abs=0.01)
    columns = volume.affine[:3, :3]
    assert np.allclose(columns.T @ columns, np.diag([1.5**2, 2.0**2, 2.0**2]), atol=1e-6)
    expected = plane(volume)
    near = np.abs(volume.voxels - expected) < 0.06
    inside = 12 * 14  # pixels of a slice, of which a border row and column are half outside
    assert all(near[..., k].sum() >= inside - 12 - 14 for k in range(5))


@needs_shared
@pytest.mark.parametrize(
    ("name", "choices", "shape"),
    [
        ("gantrytilting", {"on_tilt": "shear"}, (512, 521, 4)),  # the size of dcm2niix's own correction
        ("missing_slice", {"on_tilt": "shear", "on_gap": "resample"}, (512, 514, 5)),
        ("sliceincrement", {"on_gap": "resample"}, (512, 512, 5)),
    ],
)
def test_real_series_are_mended_if_asked_for(name, choices, shape):
    assert read(SHARED / "dicom" / "refuse" / name, **choices)[0].shape == shape


def test_more_missing_than_there_is_refused_all_the_same(tmp_path):
    write_plane(tmp_path, (0, 2, 4, 90, 92))
    with pytest.raises(Refusal, match="more slices are missing"):
        read(tmp_path, on_gap="resample")


def test_repeated_slices_are_refused_all_the_same(tmp_path):
    write_plane(tmp_path, (0, 2, 2, 4, 6))
    with pytest.raises(Refusal, match="lie where another"):
        read(tmp_path, on_gap="resample")


def test_slices_on_the_grid_are_kept_to_the_bit():
    voxels = image_of(3, 4, 4).astype(np.float32)
    even = resampled(voxels, (0.0, 1.0, 3.0), 4)
    assert np.array_equal(even[[0, 1, 3]], voxels)
    assert np.allclose(even[2], (voxels[1] + voxels[2]) / 2)


def test_headers_are_read_once(tmp_path):
    """Splitting and checking need no file any more: an archive is walked a single time."""
    for n in range(3):
        write_series(tmp_path, image_of(4, 5, 6), prefix=f"s{n}", uids=("study", f"series{n}"))
    series, _ = dicom.scan(tmp_path.iterdir())
    shutil.rmtree(tmp_path)
    assert [len(dicom.check(part).frames) for one in series for part in dicom.split(one)] == [4, 4, 4]


@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)])
def test_memory_is_bounded_by_one_volume(tmp_path, cosines):
    """Also while it is turned to RAS+: every pixel is written once, to its final place."""
    step = np.cross(cosines[:3], cosines[3:]) * 2.0
    write_series(tmp_path, image_of(40, 96, 128), cosines=cosines, step=step, slopes=[0.5] * 40, intercepts=[1] * 40)
    (part,) = dicom.split(dicom.scan(tmp_path.iterdir())[0][0])
    stack = dicom.check(part)
    dicom.load(stack)  # imports and caches
    tracemalloc.start()
    volume = dicom.load(stack)
    turned, _ = to_ras(volume.voxels, volume.affine)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert turned.flags.f_contiguous
    assert peak < 1.3 * turned.nbytes


def test_a_dicomdir_is_skipped(tmp_path):
    write_series(tmp_path, image_of(3, 4, 4))
    path = tmp_path / "DICOMDIR"
    dataset = pydicom.dcmread(tmp_path / "im000")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MediaStorageDirectoryStorage
    dataset.save_as(path)
    series, unreadable = dicom.scan(tmp_path.iterdir())
    assert dicom.is_dicom(path)
    assert (len(series), unreadable) == (1, [])
    assert path not in series[0].files


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path, compressed):
    write_series(tmp_path, image_of(3, 4, 4))
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        if compressed:
            dataset.compress(RLELossless)
        dataset.Rows = dataset.Columns = 60_000
        dataset.save_as(path)
    tracemalloc.start()
    with pytest.raises(Refusal, match="more pixels than its file"):
        read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
