"""Enhanced multi-frame objects and Siemens mosaics: each frame a slice, each time point a volume."""

import gzip
import tempfile
from pathlib import Path

import nibabel.testing
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from scipy.spatial.transform import Rotation

from medwvae.data import dicom
from medwvae.data.contrast import contrast_of
from medwvae.errors import Refusal
from medwvae.geometry import LPS_TO_RAS, to_ras
from tests.data.objects import write_enhanced, write_mosaic
from tests.data.series import SHARED, image_of
from tests.data.test_dicom import needs_dcm2niix, needs_shared, references

SIEMENS = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"


def volumes(folder, **choices):
    """Return the volumes of the only series of a folder."""
    series, unreadable = dicom.scan(path for path in sorted(folder.iterdir()) if path.is_file())
    assert (len(series), unreadable) == (1, [])
    return [dicom.load(dicom.check(part, **choices)) for part in dicom.split(series[0])]


def assert_equal_dcm2niix(folder):
    mine, (expected, affine) = volumes(folder), references(folder)
    expected = expected[..., None] if expected.ndim == 3 else expected
    assert len(mine) == expected.shape[3]
    for k, volume in enumerate(mine):
        voxels, own = to_ras(volume.voxels, volume.affine)
        other, wanted = to_ras(expected[..., k], affine)
        assert np.allclose(own, wanted, atol=1e-3)
        assert np.array_equal(voxels, other.astype(np.float32))


@needs_shared
@needs_dcm2niix
@pytest.mark.parametrize("name", ["enhanced_siemens/001", "enhanced_philips/001", "enhanced_philips/001_implicit"])
def test_real_enhanced_objects_equal_dcm2niix(name):
    assert_equal_dcm2niix(SHARED / "dicom" / name)


@st.composite
def oblique(draw):
    """Any orientation, spacing, origin, and pixels of (time, slice, row, column)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    matrix = Rotation.random(rng=rng).as_matrix()
    shape = draw(st.tuples(st.integers(1, 3), st.integers(3, 6), st.integers(4, 9), st.integers(4, 9)))
    return {
        "stored": rng.integers(0, 3000, shape).astype(np.uint16),
        "cosines": np.concatenate([matrix[0], matrix[1]]),
        "spacing": (round(draw(st.floats(0.3, 5)), 3), round(draw(st.floats(0.3, 5)), 3)),
        "origin": rng.uniform(-200, 200, 3),
    }


@settings(max_examples=20, deadline=None)
@given(oblique(), st.floats(0.3, 7), st.booleans(), st.sampled_from(["MR", "CT"]))
def test_every_frame_lands_at_its_millimetre(arguments, gap, shared, modality):
    stored, cosines = arguments["stored"], arguments["cosines"]
    times, slices = stored.shape[:2]
    step = np.cross(cosines[:3], cosines[3:]) * gap
    slopes = [0.5 + k for k in range(times * slices)]
    intercepts = [-float(k) for k in range(times * slices)]
    with tempfile.TemporaryDirectory() as folder:
        write_enhanced(
            Path(folder) / "one",
            **arguments,
            step=step,
            shared=shared,
            modality=modality,
            slopes=slopes,
            intercepts=intercepts,
        )
        found = volumes(Path(folder))
    assert len(found) == times
    row_gap, column_gap = arguments["spacing"]
    for t, k, r, c in np.random.default_rng(0).integers(0, stored.shape, (20, 4)):
        lps = arguments["origin"] + k * step + cosines[:3] * column_gap * c + cosines[3:] * row_gap * r
        index = np.linalg.solve(found[t].affine, LPS_TO_RAS @ [*lps, 1])[:3]
        assert np.allclose(index, np.rint(index), atol=1e-2)
        expected = stored[t, k, r, c] * slopes[t * slices + k] + intercepts[t * slices + k]
        assert found[t].voxels[tuple(np.rint(index).astype(int))] == pytest.approx(expected)


@needs_dcm2niix
@pytest.mark.parametrize("times", [1, 3])
def test_a_made_enhanced_object_equals_dcm2niix(tmp_path, times):
    write_enhanced(tmp_path / "one.dcm", image_of(times, 5, 8, 6), spacing=(1.5, 1.25), seed=4)
    assert_equal_dcm2niix(tmp_path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_frames_decode_alike_in_every_syntax(tmp_path, syntax):
    stored = image_of(2, 4, 6, 5)
    path = write_enhanced(tmp_path / "one.dcm", stored)
    dataset = pydicom.dcmread(path)
    if syntax == RLELossless:
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    for image, volume in zip(stored, volumes(tmp_path), strict=True):
        assert np.array_equal(volume.voxels, image.T)


def test_philips_floating_point_values_are_used_not_the_display_scale(tmp_path):
    def philips(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.25)

    stored = image_of(1, 4, 6, 5)
    scale = {"slopes": [8.0] * 4, "intercepts": [16.0] * 4}
    write_enhanced(tmp_path / "one.dcm", stored, **scale, edit=philips)
    assert np.array_equal(volumes(tmp_path)[0].voxels, (stored[0].T * 8.0 + 16) / (8 * 0.25))


def test_one_file_per_time_point(tmp_path):
    stored = image_of(3, 4, 6, 5)
    for t in range(3):
        write_enhanced(tmp_path / str(t), stored[t : t + 1], uids=("study", "series", str(t)), AcquisitionNumber=9 - t)
    assert [np.array_equal(v.voxels, image.T) for v, image in zip(volumes(tmp_path), stored[::-1], strict=True)]


def test_the_timing_of_an_enhanced_object_tells_its_weighting(tmp_path):
    write_enhanced(tmp_path / "one", image_of(1, 4, 6, 5), ScanningSequence="SE")
    header = dicom.scan([tmp_path / "one"])[0][0].header
    assert contrast_of(header) == "t1w"
    assert dicom.acquisition_of(header) == {"RepetitionTime": 0.5, "EchoTime": 0.012}


def drop(group):
    def edit(dataset):
        for holder in (dataset.SharedFunctionalGroupsSequence[0], *dataset.PerFrameFunctionalGroupsSequence):
            if group in holder:
                del holder[group]

    return edit


def fewer(dataset):
    dataset.NumberOfFrames = 3


def unscaled(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence[0].RescaleSlope


def localiser(dataset):
    dataset.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType = [
        "ORIGINAL",
        "PRIMARY",
        "LOCALIZER",
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"edit": drop("PlanePositionSequence")}, "does not say its position"),
        ({"edit": drop("PlaneOrientationSequence")}, "does not say its orientation"),
        ({"edit": drop("PixelMeasuresSequence")}, "does not say its pixel spacing"),
        ({"edit": drop("PlanePositionSequence"), "shared": False}, "does not say its position"),
        ({"edit": fewer}, "promises 3 frames and describes 8"),
        ({"edit": unscaled, "modality": "CT"}, "Hounsfield"),
        ({"edit": localiser}, "localiser"),
        ({"BurnedInAnnotation": "YES"}, "burned into"),
        ({"step": (0, 0.4, 2)}, r"11\.3 degrees"),
        ({"step": (0, 0, 0)}, "lie where another"),
    ],
)
def test_an_enhanced_object_that_cannot_be_trusted_is_refused(tmp_path, arguments, reason):
    write_enhanced(tmp_path / "one", image_of(2, 4, 6, 5), **arguments)
    with pytest.raises(Refusal, match=reason):
        volumes(tmp_path)


@settings(max_examples=20, deadline=None)
@given(oblique(), st.floats(0.5, 7), st.booleans())
def test_every_tile_of_a_mosaic_lands_at_its_millimetre(arguments, distance, flip):
    stored, cosines = arguments["stored"][0], arguments["cosines"]
    distance = round(distance, 3)
    with tempfile.TemporaryDirectory() as folder:
        write_mosaic(Path(folder) / "one", **arguments | {"stored": stored}, distance=distance, flip=flip)
        (found,) = volumes(Path(folder))
    step = np.cross(cosines[:3], cosines[3:]) * distance * (-1 if flip else 1)
    row_gap, column_gap = arguments["spacing"]
    for k, r, c in np.random.default_rng(0).integers(0, stored.shape, (20, 3)):
        lps = arguments["origin"] + k * step + cosines[:3] * column_gap * c + cosines[3:] * row_gap * r
        index = np.linalg.solve(found.affine, LPS_TO_RAS @ [*lps, 1])[:3]
        assert np.allclose(index, np.rint(index), atol=1e-2)
        assert found.voxels[tuple(np.rint(index).astype(int))] == stored[k, r, c]


@needs_dcm2niix
@pytest.mark.parametrize("count", [4, 7])
def test_made_mosaics_equal_dcm2niix(tmp_path, count):
    for t in (1, 2, 3):
        write_mosaic(
            tmp_path / f"{t}.dcm",
            image_of(count, 8, 8, seed=t),
            acquisition=t,
            uids=("study", "series", str(t)),
            cosines=(1, 0, 0, 0, 0.8, -0.6),
            origin=(-20, 30, 5),
        )
    assert_equal_dcm2niix(tmp_path)


@needs_dcm2niix
@pytest.mark.skipif(not SIEMENS.is_dir(), reason="nibabel's test files are not installed")
def test_real_mosaic_headers_equal_dcm2niix(tmp_path):
    """The pixels of nibabel's anonymised files are blank: noise takes their place."""
    for name in ("siemens_dwi_0", "siemens_dwi_1000"):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(gzip.decompress((SIEMENS / f"{name}.dcm.gz").read_bytes()))
        dataset = pydicom.dcmread(path)
        dataset.PixelData = image_of(dataset.Rows, dataset.Columns).tobytes()
        dataset.save_as(path)
    assert_equal_dcm2niix(tmp_path)


@pytest.mark.parametrize(
    "arguments", [{"csa": False}, {"SpacingBetweenSlices": None}, {"ImagePositionPatient": None}, {"Rows": 13}]
)
def test_a_mosaic_without_its_private_header_is_refused(tmp_path, arguments):
    write_mosaic(tmp_path / "one", image_of(7, 8, 8), **arguments)
    with pytest.raises(Refusal, match="mosaic"):
        volumes(tmp_path)
