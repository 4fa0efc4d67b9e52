import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import EnhancedMRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

from medwvae.data import contrast, dicom
from medwvae.errors import Refusal
from medwvae.geometry import LPS_TO_RAS, spacing_of, to_ras
from tests.data.series import SHARED, image_of, write_series

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
DCM2NIIX = shutil.which("dcm2niix", path=Path(sys.executable).parent) or shutil.which("dcm2niix")
needs_dcm2niix = pytest.mark.skipif(DCM2NIIX is None, reason="dcm2niix, the reference converter, is not installed")


def read(folder, **choices):
    """Return (volume, affine) of the only series of a folder."""
    series, unreadable = dicom.scan(path for path in sorted(folder.iterdir()) if path.is_file())
    assert (len(series), unreadable) == (1, [])
    parts = dicom.split(series[0])
    assert len(parts) == 1
    volume = dicom.load(dicom.check(parts[0], **choices))
    return volume.voxels, volume.affine


def references(folder):
    """Return (volume, affine) as dcm2niix writes them."""
    assert DCM2NIIX is not None
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([DCM2NIIX, "-o", out, "-b", "n", "-z", "n", "-f", "x", folder], check=True, capture_output=True)
        image = nib.load(Path(out) / "x.nii")
        return image.get_fdata(), image.affine


def assert_same_volume(mine, other):
    volume, affine = to_ras(*mine)
    expected, expected_affine = to_ras(*other)
    assert np.allclose(affine, expected_affine, atol=1e-3)
    assert np.array_equal(volume, expected.astype(np.float32))


@needs_shared
@needs_dcm2niix
@pytest.mark.parametrize(
    "name",
    [
        "ct_jpeg2000",
        "mr_compressed",
        "mr_compressed_j2k",
        "mr_compressed_jpeg",
        "mr_compressed_jpegls",
        "mr_compressed_rle",
        "mr_non_isotropic_slope_per_slice",
    ],
)
def test_real_series_equal_dcm2niix(name):
    assert_same_volume(read(SHARED / "dicom" / name), references(SHARED / "dicom" / name))


@needs_shared
def test_spacing_comes_from_positions_not_from_thickness():
    _, affine = read(SHARED / "dicom" / "ct_jpeg2000")
    assert spacing_of(affine) == pytest.approx((0.9765625, 0.9765625, 2.0))


@needs_shared
@pytest.mark.parametrize("syntax", ["j2k", "jpeg", "jpegls", "rle"])
def test_compressed_syntaxes_decode_alike(syntax):
    volume, affine = read(SHARED / "dicom" / f"mr_compressed_{syntax}")
    plain, plain_affine = read(SHARED / "dicom" / "mr_compressed")
    assert np.array_equal(volume, plain)
    assert np.array_equal(affine, plain_affine)


@needs_shared
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gantrytilting", "14.0 degrees"),
        ("missing_slice", "1 slice.*missing"),
        ("sliceincrement", "missing"),
        ("sliceorientation", "orientation"),
        ("slicecount", "2 slice"),
        ("notavolume", "lie where another"),
    ],
)
def test_real_series_that_are_no_volume_are_refused(name, reason):
    with pytest.raises(Refusal, match=reason):
        read(SHARED / "dicom" / "refuse" / name)


@needs_shared
@pytest.mark.parametrize("path", sorted((SHARED / "hostile").glob("*.dcm")), ids=lambda path: path.name)
def test_hostile_files_are_refused(path):
    series, unreadable = dicom.scan([path])
    assert len(series) + len(unreadable) == 1
    for one in series:
        with pytest.raises(Refusal):
            for part in dicom.split(one):
                dicom.load(dicom.check(part))


@st.composite
def made(draw):
    """Any legal classic series: orientation, spacing, slope per slice, signedness, shape."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    rotation = draw(st.sampled_from(["axes", "oblique"]))
    matrix = Rotation.random(rng=rng).as_matrix() if rotation == "oblique" else np.eye(3)[rng.permutation(3)]
    matrix = matrix * rng.choice([-1, 1], (3, 1))
    gap = draw(st.floats(0.3, 7))
    shape = draw(st.tuples(st.integers(3, 6), st.integers(4, 9), st.integers(4, 9)))
    dtype = draw(st.sampled_from([np.int16, np.uint16]))
    stored = rng.integers(-2000 if dtype is np.int16 else 0, 3000, shape).astype(dtype)
    normal = np.cross(matrix[0], matrix[1])
    return {
        "stored": stored,
        "cosines": np.concatenate([matrix[0], matrix[1]]),
        "spacing": draw(st.tuples(st.floats(0.3, 5), st.floats(0.3, 5))),
        "step": normal * gap * draw(st.sampled_from([-1, 1])),
        "origin": rng.uniform(-200, 200, 3),
        "slopes": [round(float(x), 6) for x in rng.uniform(0.1, 3, shape[0])],
        "intercepts": [round(float(x), 3) for x in rng.uniform(-50, 50, shape[0])],
    }


@settings(max_examples=30, deadline=None)
@given(made())
def test_every_pixel_lands_at_its_millimetre(arguments):
    """The law of PS3.3 C.7.6.2.1.1: position of pixel (row r, column c) of slice k, and its rescaled value."""
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), **arguments)
        volume, affine = read(Path(folder))
    stored, cosines = arguments["stored"], arguments["cosines"]
    for k, r, c in np.random.default_rng(0).integers(0, stored.shape, (20, 3)):
        row_gap, column_gap = arguments["spacing"]
        lps = arguments["origin"] + k * arguments["step"] + cosines[:3] * column_gap * c + cosines[3:] * row_gap * r
        index = np.linalg.solve(affine, LPS_TO_RAS @ [*lps, 1])[:3]
        assert np.allclose(affine @ [*np.rint(index), 1], LPS_TO_RAS @ [*lps, 1], atol=1e-3)
        expected = stored[k, r, c] * arguments["slopes"][k] + arguments["intercepts"][k]
        assert volume[tuple(np.rint(index).astype(int))] == pytest.approx(expected, rel=1e-6, abs=1e-4)


@needs_dcm2niix
@settings(max_examples=8, deadline=None)
@given(made())
def test_made_series_equal_dcm2niix(arguments):
    arguments["slopes"], arguments["intercepts"] = [2.5] * len(arguments["stored"]), [-7.0] * len(arguments["stored"])
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), **arguments, Manufacturer="Unknown")
        assert_same_volume(read(Path(folder)), references(Path(folder)))


def test_file_names_do_not_matter(tmp_path):
    for seed in (1, 2):
        write_series(tmp_path / str(seed), image_of(5, 4, 6), seed=seed)
    assert np.array_equal(read(tmp_path / "1")[0], read(tmp_path / "2")[0])


def test_byte_for_byte_copies_are_dropped(tmp_path):
    write_series(tmp_path, image_of(4, 4, 4))
    for path in list(tmp_path.iterdir()):
        shutil.copy(path, tmp_path / f"copy_of_{path.name}")
    assert read(tmp_path)[0].shape == (4, 4, 4)


def test_ct_is_in_hounsfield_units_also_if_monochrome1(tmp_path):
    write_series(tmp_path, image_of(3, 4, 4), modality="CT", PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read(tmp_path)[0], image_of(3, 4, 4).T - 1024.0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_monochrome1_of_mr_is_mirrored_within_its_range(tmp_path, dtype):
    stored = image_of(3, 4, 4, dtype=dtype)
    write_series(tmp_path, stored, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read(tmp_path)[0], stored.max() + stored.min() - stored.T.astype(float))


def test_overlay_bits_above_the_stored_bits_are_ignored(tmp_path):
    stored = image_of(3, 4, 4, top=4096)
    write_series(tmp_path, stored | 0xF000, BitsStored=12, HighBit=11)
    assert np.array_equal(read(tmp_path)[0], stored.T)


def change(tag, value, only=None):
    def edit(dataset, k):
        if only is None or k == only:
            if value is None:
                delattr(dataset, tag)
            else:
                setattr(dataset, tag, value(k) if callable(value) else value)

    return edit


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no position": ({"edit": change("ImagePositionPatient", None, 2)}, "position"),
    "no orientation": ({"edit": change("ImageOrientationPatient", None)}, "orientation"),
    "no spacing": ({"edit": change("PixelSpacing", None, 1)}, "pixel spacing"),
    "zero spacing": ({"spacing": (0, 1)}, "not positive"),
    "skewed cosines": ({"cosines": (1, 0, 0, 0.2, 0.98, 0)}, "right angle"),
    "gap": ({"edit": change("ImagePositionPatient", lambda k: [0, 0, 2 * k + 0.1 * (k == 2)])}, "not evenly spaced"),
    "hole": ({"edit": change("ImagePositionPatient", lambda k: [0, 0, 2 * k + 2 * (k > 2)])}, "1 slice.* missing"),
    "duplicate": ({"edit": change("ImagePositionPatient", lambda k: [0, 0, 2 * (k // 2)])}, "lie where another"),
    "mixed orientation": ({"edit": change("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], 3)}, "one orientation"),
    "mixed spacing": ({"edit": change("PixelSpacing", [1, 1.1], 3)}, "one pixel spacing"),
    "mixed shape": ({"edit": change("Rows", 3, 3)}, "2 image sizes"),
    "mixed grey": ({"edit": change("PhotometricInterpretation", "MONOCHROME1", 3)}, "2 grey scales"),
    "two patients": ({"edit": change("PatientID", "another", 3)}, "2 patients"),
    "gantry tilt": ({"step": (0, 0.2, 2)}, r"5\.7 degrees"),
    "wandering": ({"edit": change("ImagePositionPatient", lambda k: [0.5 * (k == 2), 0, 2 * k])}, "straight line"),
    "localiser": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
    "multi-frame": ({"NumberOfFrames": 2}, "several frames"),
    "enhanced": ({"SOPClassUID": EnhancedMRImageStorage}, "promises 1 frames and describes 0"),
    "burned in": ({"BurnedInAnnotation": "YES"}, "burned into the image"),
    "no image": ({"Rows": 0, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "no image.*SR"),
    "PET": ({"Modality": "PT"}, "modality is PT"),
    "CT without HU": ({"modality": "CT", "edit": change("RescaleIntercept", None, 0)}, "Hounsfield"),
    "CT in other units": ({"modality": "CT", "RescaleType": "US"}, "units US"),
    "no pixels": ({"edit": change("PixelData", None, 2)}, "slice 3 of 5 holds no pixel data"),
    "too few pixels": ({"edit": change("PixelData", b"\0" * 6, 1)}, "slice 2 of 5 cannot be decoded"),
    "empty": ({"edit": change("PixelData", b"\0" * 32)}, "same value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trusted_is_refused_with_its_reason(tmp_path, case):
    arguments, reason = REFUSED[case]
    write_series(tmp_path, image_of(5, 4, 4), **arguments)
    with pytest.raises(Refusal, match=reason) as refused:
        read(tmp_path)
    assert "PAT-4711" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_slices(tmp_path, count):
    write_series(tmp_path, image_of(count, 4, 4))
    with pytest.raises(Refusal, match=f"{count} slice"):
        read(tmp_path)


@needs_shared
@pytest.mark.parametrize("syntax", ["j2k", "jpeg", "jpegls", "rle"])
def test_a_slice_cut_short_is_refused_and_not_guessed(tmp_path, syntax):
    for k, path in enumerate(sorted((SHARED / "dicom" / f"mr_compressed_{syntax}").iterdir())):
        dataset = pydicom.dcmread(path)
        if k == 2:
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
            dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
        dataset.save_as(tmp_path / path.name)
    with pytest.raises(Refusal, match=r"slice . of 4 cannot be decoded"):
        read(tmp_path)


def test_damaged_headers_are_listed_and_stop_nothing(tmp_path):
    write_series(tmp_path, image_of(4, 4, 4))
    (tmp_path / "noise").write_bytes(b"\0" * 128 + b"DICM" + bytes(range(256)))
    series, unreadable = dicom.scan(sorted(tmp_path.iterdir()))
    assert len(series) + len(unreadable) == 2
    assert any(len(one.files) == 4 for one in series)


def test_series_without_a_uid_are_grouped_by_folder(tmp_path):
    for name in "ab":
        write_series(tmp_path / name, image_of(3, 4, 4), SeriesInstanceUID="", SOPInstanceUID=generate_uid())
    series, _ = dicom.scan(sorted(tmp_path.rglob("im*")))
    assert [len(one.files) for one in series] == [3, 3]


def test_dicom_is_known_by_its_magic(tmp_path):
    write_series(tmp_path, image_of(1, 4, 4))
    assert all(dicom.is_dicom(path) for path in tmp_path.iterdir())
    (tmp_path / "text.dcm").write_text("no")
    assert not dicom.is_dicom(tmp_path / "text.dcm")
    assert not dicom.is_dicom(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AX T2 FLAIR fs", "flair"),
        ("t1_mprage_sag", "t1w"),
        ("MPRAGE", "t1w"),
        ("sag T2 tse", "t2w"),
        ("T2* gre", "unknown"),
        ("ep2d_diff_b1000", "unknown"),
        ("PD_TSE", "pdw"),
        ("Localizer", "unknown"),
    ],
)
def test_contrast_named(name, expected):
    header = pydicom.Dataset()
    header.Modality, header.SeriesDescription = "MR", name
    assert contrast.contrast_of(header) == expected


@pytest.mark.parametrize(
    ("sequence", "tr", "te", "ti", "expected"),
    [
        (["SE", "IR"], 9000, 120, 2500, "flair"),
        ("SE", 500, 12, None, "t1w"),
        ("SE", 4000, 100, None, "t2w"),
        ("SE", 3000, 15, None, "pdw"),
        (["GR", "IR"], 2300, 3, 900, "t1w"),
        ("GR", 6, 3, None, "unknown"),
        (None, None, None, None, "unknown"),
    ],
)
def test_contrast_timed(sequence, tr, te, ti, expected):
    header = pydicom.Dataset()
    header.ScanningSequence, header.RepetitionTime, header.EchoTime, header.InversionTime = sequence, tr, te, ti
    assert contrast.contrast_of(header) == expected


def test_only_allowed_fields_are_kept():
    header = pydicom.Dataset()
    header.RepetitionTime, header.EchoTime, header.MagneticFieldStrength = 2000, 30, 3
    header.PatientName, header.DeviceSerialNumber, header.ManufacturerModelName = "Doe^Jane", "12345", "Prisma"
    kept = {"RepetitionTime": 2.0, "EchoTime": 0.03, "MagneticFieldStrength": 3.0, "ManufacturersModelName": "Prisma"}
    assert dicom.acquisition_of(header) == kept
