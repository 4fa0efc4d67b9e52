"""The synthetic cohort: same arguments same bytes, valid DICOM, physical contrasts, heads that differ."""

import importlib
import importlib.util
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.data.dicom_write import uid, write_series
from medwvae.data.phantom import make_cohort
from medwvae.data.phantom.anatomy import make_head
from medwvae.data.phantom.shapes import Space, rotation
from medwvae.data.phantom.signal import PROTOCOLS, TISSUES, bias_field, ct_image, draw_protocol, draw_tissues, mr_image
from medwvae.errors import InputError
from medwvae.geometry import LPS_TO_RAS
from medwvae.names import Contrast

SHAPE, SPACING = (60, 64, 34), (3.4, 3.6, 4.4)


def cohort(out: Path, **changes: Any) -> list[Path]:
    arguments: dict[str, Any] = {
        "subjects": 1,
        "seed": 7,
        "shape": SHAPE,
        "spacing": SPACING,
        "file_format": "nifti",
    } | changes
    return make_cohort(out, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).get_fdata())


@cache
def head(seed: int = 11, lesions: bool = True):
    affine = np.diag([2.2, 2.2, 2.6, 1.0])
    shape = (88, 100, 60)
    affine[:3, 3] = np.array([0, 2, 16]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return make_head(shape, affine, seed, lesions=lesions)


@cache
def series(tmp: Path) -> list[Path]:
    return cohort(tmp / "series", subjects=2, contrasts=("t1w", "ct"), file_format="dicom", noise=0.01, bias=0.2)


@pytest.fixture(scope="module")
def dicom(tmp_path_factory) -> list[Path]:
    return series(tmp_path_factory.getbasetemp())


def read(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def affine_of(slices: list[pydicom.Dataset]) -> np.ndarray:
    """Assemble the RAS affine from the standard's own equation (PS3.3 C.7.6.2.1.1)."""
    first, last = (np.array(s.ImagePositionPatient, float) for s in (slices[0], slices[-1]))
    cosines = np.array(slices[0].ImageOrientationPatient, float)
    between_rows, between_columns = map(float, slices[0].PixelSpacing)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = cosines[:3] * between_columns, cosines[3:] * between_rows
    lps[:3, 2], lps[:3, 3] = (last - first) / (len(slices) - 1), first
    return LPS_TO_RAS @ lps


@pytest.mark.parametrize("file_format", ["dicom", "nifti"])
def test_same_arguments_give_the_same_bytes(tmp_path, file_format):
    options = {"contrasts": ("t1w", "ct"), "noise": 0.02, "bias": 0.3, "file_format": file_format}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        cohort(tmp_path / name, seed=seed, **options)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


def test_bytes_do_not_depend_on_workers_nor_on_the_number_of_subjects(tmp_path):
    ticks = []
    cohort(tmp_path / "one", subjects=1)
    cohort(tmp_path / "two", subjects=2, workers=2, advance=lambda: ticks.append(1))
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one["PHANTOM001_t1w.nii.gz"] == two["PHANTOM001_t1w.nii.gz"]
    assert len(ticks) == 2


def test_a_contrast_does_not_depend_on_the_others(tmp_path):
    cohort(tmp_path / "a", contrasts=("t2w",), noise=0.01)
    cohort(tmp_path / "b", contrasts=("t1w", "t2w"), noise=0.01)
    name = "PHANTOM001_t2w.nii.gz"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_series_are_valid_dicom(dicom):
    instances: set[str] = set()
    studies: dict[str, set[str]] = {}
    for folder in dicom:
        slices = read(folder)
        assert len(slices) == SHAPE[2]
        first = slices[0]
        assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        cosines = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
        assert np.allclose(cosines @ cosines.T, np.eye(2), atol=1e-6)
        positions = np.array([s.ImagePositionPatient for s in slices], float)
        steps = np.diff(positions, axis=0)
        normal = np.cross(*cosines)
        assert np.allclose(steps, float(first.SpacingBetweenSlices) * normal, atol=1e-3)
        for s in slices:
            assert s.ImageOrientationPatient == first.ImageOrientationPatient
            assert s.file_meta.MediaStorageSOPInstanceUID == s.SOPInstanceUID
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
                assert s[keyword].value.is_valid
                assert len(s[keyword].value) <= 64
            assert s.pixel_array.dtype == np.uint16
        fresh = {s.SOPInstanceUID for s in slices}
        assert len(fresh) == len(slices)
        assert not fresh & instances
        instances |= fresh
        studies.setdefault(first.PatientID, set()).add(first.StudyInstanceUID)
        assert first.PatientID == folder.parent.name
        assert first.Modality == ("CT" if folder.name == "ct" else "MR")
    assert sorted(studies) == ["PHANTOM001", "PHANTOM002"]
    assert all(len(uids) == 1 for uids in studies.values())
    assert len(set.union(*studies.values())) == 2


def test_one_subject_is_straight_and_one_oblique(dicom):
    largest = [np.abs(np.array(read(f)[0].ImageOrientationPatient, float)) for f in (dicom[0], dicom[2])]
    assert np.allclose(largest[0], [1, 0, 0, 0, 1, 0], atol=1e-6)
    assert np.abs(largest[1] - [1, 0, 0, 0, 1, 0]).max() > 0.03


def test_dicom_and_nifti_hold_the_same_voxels_at_the_same_places(dicom, tmp_path):
    niftis = cohort(tmp_path / "n", subjects=2, contrasts=("t1w", "ct"), noise=0.01, bias=0.2)
    for folder, path in zip(dicom, niftis, strict=True):
        slices = read(folder)
        stack = np.stack([s.pixel_array.T * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices], -1)
        ours = nibabel.as_closest_canonical(nibabel.Nifti1Image(stack, affine_of(slices)))
        theirs = nibabel.load(path)
        assert np.allclose(ours.affine, theirs.affine, atol=1e-3)
        assert np.allclose(theirs.header.get_zooms(), SPACING, atol=1e-4)
        assert np.array_equal(ours.get_fdata(), theirs.get_fdata())


@pytest.mark.skipif(importlib.util.find_spec("dcm2niix") is None, reason="the dcm2niix wheel is not installed")
def test_dcm2niix_agrees(dicom, tmp_path):
    dcm2niix = importlib.import_module("dcm2niix")

    for number, folder in enumerate(dicom):
        out = tmp_path / str(number)
        out.mkdir()
        subprocess.run([dcm2niix.bin, "-z", "n", "-b", "n", "-o", out, folder], check=True, capture_output=True)
        (converted,) = out.glob("*.nii")
        theirs = nibabel.as_closest_canonical(nibabel.load(converted))
        slices = read(folder)
        stack = np.stack([s.pixel_array.T + float(s.RescaleIntercept) for s in slices], -1)
        ours = nibabel.as_closest_canonical(nibabel.Nifti1Image(stack, affine_of(slices)))
        assert np.allclose(theirs.affine, ours.affine, atol=1e-3)
        assert np.array_equal(theirs.get_fdata(), ours.get_fdata())


angles = st.tuples(*[st.floats(-180, 180)] * 3)


@settings(max_examples=25, deadline=None)
@given(degrees=angles, spacing=st.tuples(*[st.floats(0.3, 6)] * 3), origin=st.tuples(*[st.floats(-300, 300)] * 3))
def test_write_series_keeps_any_right_angled_affine(tmp_path_factory, degrees, spacing, origin):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation(degrees) @ np.diag(spacing), origin
    volume = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 5
    template = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "SeriesInstanceUID": uid("a test"), "Modality": "MR"}
    folder = tmp_path_factory.mktemp("series")
    slices = [pydicom.dcmread(path) for path in write_series(folder, volume, affine, template=template)]
    assert np.allclose(affine_of(slices), affine, atol=1e-3)
    assert np.array_equal(np.stack([s.pixel_array.T for s in slices], -1), volume)


def test_write_series_refuses_what_dicom_cannot_hold(tmp_path):
    sheared = np.eye(4)
    sheared[0, 2] = 0.2
    with pytest.raises(ValueError, match="shear"):
        write_series(tmp_path, np.zeros((2, 2, 2), np.uint16), sheared, template={})
    with pytest.raises(ValueError, match="16-bit"):
        write_series(tmp_path, np.zeros((2, 2, 2), np.float32), np.eye(4), template={})  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [2.0, 5.0, (12.0, 3.0, 3.0)])
def test_noise_has_unit_variance_and_its_own_stream(scale):
    space = Space.make((48, 48, 48), np.diag([1.5, 1.5, 1.5, 1]), np.eye(4), seed=5)
    field = space.noise("a", scale)
    assert field.std() == pytest.approx(1, rel=0.1)
    assert abs(field.mean()) < 0.15
    assert np.array_equal(field, space.noise("a", scale))
    assert abs(np.corrcoef(field.ravel(), space.noise("b", scale).ravel())[0, 1]) < 0.2


def test_fractions_fill_every_voxel():
    total = sum(head().fractions.values())
    assert np.allclose(total, 1, atol=1e-4)
    for fraction in head().fractions.values():
        assert fraction.dtype == np.float32
        assert fraction.min() >= 0


def test_ct_numbers():
    image = ct_image(head(), TISSUES)
    fractions = head().fractions
    assert np.abs(image[:4, :4, -4:] + 1000).max() < 1
    assert np.median(image[fractions["bone"] > 0.9]) > 300
    brain = (fractions["white"] + fractions["grey"]) > 0.99
    assert brain.sum() > 1000
    assert np.percentile(image[brain], 1) > 20
    assert np.percentile(image[brain], 99) < 50


@pytest.mark.parametrize(
    ("contrast", "order"),
    [
        ("t1w", ("white", "grey", "csf")),
        ("t2w", ("csf", "grey", "white")),
        ("flair", ("lesion", "grey", "white", "csf")),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mr_contrast_orders_the_tissues(contrast: Contrast, order, seed):
    rng = np.random.default_rng(seed)
    image = mr_image(head(), draw_tissues(rng), draw_protocol(contrast, rng))
    means = [np.median(image[head().fractions[tissue] > 0.9]) for tissue in order]
    assert all(bright > 1.1 * dark for bright, dark in pairwise(means))
    if contrast == "flair":
        assert means[-1] < 0.15 * means[0]


def test_tissue_is_not_piecewise_constant():
    """Total variation must not solve the data: within white matter there is structure from voxel to voxel."""
    image = mr_image(head(), TISSUES, PROTOCOLS["t1w"])
    white = head().fractions["white"] > 0.99
    both = white[1:] & white[:-1]
    step = np.diff(image, axis=0)[both]
    assert 0.005 < np.std(step) / np.mean(image[white]) < 0.1


def test_lesions_change_white_matter_only():
    with_lesions, without = head(), head(lesions=False)
    assert "lesion" not in without.fractions
    lesion = with_lesions.fractions["lesion"]
    assert 30 < lesion.sum() < 3000
    for tissue, fraction in without.fractions.items():
        expected = fraction - lesion if tissue == "white" else fraction
        assert np.allclose(with_lesions.fractions[tissue], expected, atol=1e-6)


def test_subjects_differ_in_anatomy():
    first, second = (head(seed).fractions["csf"].ravel() for seed in (11, 12))
    assert np.corrcoef(first, second)[0, 1] < 0.8
    brains = [sum(head(seed).fractions[t].sum() for t in ("white", "grey", "deep")) * 2.2**2 * 2.6 for seed in (11, 12)]
    assert all(0.7e6 < volume < 1.7e6 for volume in brains)  # mm^3; adults have about 1.0 to 1.5 litres
    assert abs(brains[0] / brains[1] - 1) > 1e-3


def test_noise_has_the_sigma_asked_for(tmp_path):
    (clean,) = cohort(tmp_path / "clean")
    (noisy,) = cohort(tmp_path / "noisy", noise=0.03)
    sigma = 0.03 * voxels(clean).max()
    background = voxels(noisy)[voxels(clean) == 0]
    assert background.size > 5000
    assert background.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)
    assert (background**2).mean() == pytest.approx(2 * sigma**2, rel=0.04)
    bright = voxels(clean) > 10 * sigma
    assert np.std((voxels(noisy) - voxels(clean))[bright]) == pytest.approx(sigma, rel=0.05)


def test_bias_is_smooth_and_bounded():
    field = bias_field((20, 24, 16), 0.3, np.random.default_rng(0))
    logarithm = np.log(field)
    assert np.abs(logarithm).max() == pytest.approx(0.3, rel=1e-4)
    assert max(np.abs(np.diff(logarithm, 2, axis=axis)).max() for axis in range(3)) < 0.02
    assert np.all(bias_field((8, 8, 8), 0.0, np.random.default_rng(0)) == 1)


def test_an_earlier_phantom_is_replaced_and_anything_else_is_left_alone(tmp_path):
    cohort(tmp_path / "out", subjects=2)
    cohort(tmp_path / "out", subjects=1)
    assert [p.name for p in (tmp_path / "out").glob("*.nii.gz")] == ["PHANTOM001_t1w.nii.gz"]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="other files"):
        cohort(tmp_path / "out")
    with pytest.raises(InputError, match="a file is in the way"):
        cohort(tmp_path / "out" / "notes.txt")
    assert contents(tmp_path) == before


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail():
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        cohort(tmp_path / "out", advance=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"contrasts": ()}, {"contrasts": ("unknown",)}, {"subjects": 0}, {"noise": -1.0}, {"shape": (4, 64, 64)}]
)
def test_arguments_without_sense_are_refused(tmp_path, wrong):
    with pytest.raises(InputError):
        cohort(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
