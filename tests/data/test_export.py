import gzip
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID, EnhancedMRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

from medwvae.data import dicom, dicom_export_source, nifti
from medwvae.data.confidentiality import action_of
from medwvae.data.dicom_export import export_series, stored
from medwvae.data.dicom_export_header import Derivation, Hidden
from medwvae.data.dicom_export_modules import COPIED, CT, GEOMETRY, MR
from medwvae.data.dicom_export_source import find_source, source_files
from medwvae.data.export import export_volume
from medwvae.data.ingest import ingest
from medwvae.errors import InputError, Refusal
from medwvae.geometry import LPS_TO_RAS, onto_grid
from tests.data.objects import write_enhanced, write_mosaic
from tests.data.series import SHARED, image_of, write_series

DCIODVFY = shutil.which("dciodvfy") or ""
DCM2NIIX = shutil.which("dcm2niix", path=Path(sys.executable).parent) or shutil.which("dcm2niix") or ""
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
MADE_BY = Derivation("superres", "wavelet_vae", {"steps": 2000})
PLANES = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 2.5)),
    "axial, head first from below": ((1, 0, 0, 0, 1, 0), (0, 0, -2.5)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 2.5, 0)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (2.5, 0, 0)),
}
_TURN = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
PLANES["oblique"] = (tuple(_TURN[:, 0]) + tuple(_TURN[:, 1]), tuple(2.5 * _TURN[:, 2]))
_HALF = Rotation.from_euler("z", 45, degrees=True).as_matrix()  # between two orientations: which is closest?
PLANES["45 degrees"] = (tuple(_HALF[:, 0]) + tuple(_HALF[:, 1]), (0, 0, 2.5))


def without_new_uids(content):
    """Leave out UIDs that chance made: thousands of digits in which every short number is found now and then."""
    return re.sub(rb"(?:2\.25|1\.2\.826\.0\.1\.3680043\.(?:8\.498|10\.511\.3))\.\d+", b"", content)


class Scan:
    """A series, what ingestion makes of it, a restoration of that, and the folder that it is exported to."""

    def __init__(self, folder, modality="MR", plane="axial", **tags):
        self.source, self.out, self.key = folder / "scanner", folder / "out", folder / "private" / "key"
        cosines, step = PLANES[plane]
        top = 3000 if modality == "CT" else 1000
        tags = {"StudyID": "1", "AccessionNumber": "7", "FrameOfReferenceUID": generate_uid()} | tags
        pixels = image_of(5, 6, 7, top=top)
        options = {"cosines": cosines, "step": step, "spacing": (0.9, 1.3), "origin": (-31.5, 12.25, 101.125)}
        write_series(self.source, pixels, modality=modality, **options, **tags)
        self.folder, self.rounding = folder, np.nan
        (self.row,) = ingest(self.source, folder / "run" / "canonical", key_file=self.key)
        self.volume = folder / "run" / self.row.file
        values, self.affine = nifti.read(self.volume)
        self.values = (values * 0.97 + np.random.default_rng(1).normal(0, 4, values.shape)).astype(np.float32)
        self.restored = self.put("restored", self.values)
        self.map = self.put("map", np.abs(values * 0.013).astype(np.float32))

    def put(self, name, values):
        path = self.folder / f"{name}.nii.gz"
        nifti.write(path, values, self.affine)
        return path

    def export(self, **options):
        one = export_volume(self.restored, self.source, self.out, MADE_BY, uncertainty=self.map, **options)
        self.rounding = one.rounding

    def slices(self):
        paths = sorted((self.out / "restored").iterdir())
        return [pydicom.dcmread(path) for path in paths]

    def originals(self):
        return [pydicom.dcmread(path) for path in sorted(self.source.iterdir())]


@pytest.fixture(scope="module", params=["MR", "CT"])
def modality(request):
    return request.param


@pytest.fixture(scope="module", params=list(PLANES))
def scan(request, modality, tmp_path_factory):
    one = Scan(tmp_path_factory.mktemp("scan"), modality, request.param)
    one.export()
    return one


@pytest.fixture
def plain(tmp_path):
    return Scan(tmp_path)


def problems(*paths):
    """Return the errors that dciodvfy reports."""
    answers = [subprocess.run([DCIODVFY, "-new", path], capture_output=True, text=True) for path in paths]
    lines = [line for answer in answers for line in (answer.stdout + answer.stderr).splitlines()]
    assert lines  # it says at least which object it sees
    return [line for line in lines if line.startswith("Error")]


# --- there and back --------------------------------------------------------------------------------------------------


def test_round_trip_gives_the_restored_volume_to_the_stated_rounding(scan, tmp_path):
    (row,) = ingest(scan.out / "restored", tmp_path / "canonical", key_file=tmp_path / "key")
    values, affine = nifti.read(tmp_path / row.file)
    assert (row.modality, row.status) == (scan.row.modality, "ok")
    assert np.allclose(affine, scan.affine, atol=1e-3)
    rounding = scan.rounding
    assert np.abs(values - scan.values).max() <= rounding + 1e-3
    assert rounding == json.loads((scan.out / "export.json").read_text())["largest_rounding_error"]
    assert rounding <= 0.5 if row.modality == "CT" else rounding <= scan.values.max() / 32767 / 2 * 1.03
    assert float(f"{rounding:.3g}") == rounding
    assert f"at most {rounding:.3g} " in scan.slices()[0].DerivationDescription


def test_the_native_volumes_have_the_grid_of_the_source(scan):
    (part,) = dicom.split(dicom.scan(sorted(scan.source.iterdir()))[0][0])
    stack = dicom.check(part)
    for name, original in (("restored", scan.values), ("uncertainty", nifti.read(scan.map)[0])):
        native, affine = nifti.read(scan.out / f"{name}.nii.gz")
        assert native.shape == (7, 6, 5)
        assert np.allclose(affine, stack.affine, atol=1e-4)
        assert np.array_equal(onto_grid(native, affine, original.shape, scan.affine), original)


@pytest.mark.skipif(not DCM2NIIX, reason="dcm2niix, the reference converter, is not installed")
def test_dcm2niix_converts_the_derived_series_to_the_same_volume(scan, tmp_path):
    command = [DCM2NIIX, "-o", tmp_path, "-b", "n", "-z", "n", "-f", "x", scan.out / "restored"]
    subprocess.run(command, check=True, capture_output=True)
    image = nib.load(tmp_path / "x.nii")
    same = onto_grid(image.get_fdata(), image.affine, scan.values.shape, scan.affine)  # refuses another affine
    assert np.abs(same - scan.values).max() <= scan.rounding + 1e-2


def test_the_geometry_is_that_of_the_source_to_the_letter(scan):
    originals = {original.SOPInstanceUID: original for original in scan.originals()}
    for image in scan.slices():
        original = originals[image.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
            assert image[keyword].value == original[keyword].value
        assert image.SourceImageSequence[0].ReferencedSOPClassUID == original.SOPClassUID == image.SOPClassUID


def test_every_uid_is_valid_and_new_but_those_that_are_shared(scan):
    originals, images = scan.originals(), scan.slices()
    mapped = pydicom.dcmread(scan.out / "uncertainty.dcm")
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert len({str(one[keyword].value) for one in [*originals, *images, mapped]}) == 1
    old = {str(one[keyword].value) for one in originals for keyword in ("SOPInstanceUID", "SeriesInstanceUID")}
    new = {image.SOPInstanceUID for image in images} | {images[0].SeriesInstanceUID}
    new |= {mapped.SOPInstanceUID, mapped.SeriesInstanceUID}
    assert len(new) == len(images) + 3
    assert not new & old
    assert len({image.SeriesInstanceUID for image in images}) == 1
    for image in [*images, mapped]:
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        for element in image.iterall():
            if element.VR == "UI" and element.value:
                assert UID(element.value).is_valid


def test_the_header_says_what_it_is(scan):
    for image in scan.slices():
        assert list(image.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert (image.BurnedInAnnotation, image.LossyImageCompression) == ("NO", "00")
        assert image.DerivationCodeSequence[0].CodeValue == "113085"
        assert image.WindowWidth > 0
        _, program = image.ContributingEquipmentSequence
        assert program.ManufacturerModelName == image.ManufacturerModelName == "medwvae"
        assert "superres" in program.ContributionDescription
        assert "steps 2000" in program.ContributionDescription
        assert "wavelet_vae" in image.SeriesDescription


# --- parametric map --------------------------------------------------------------------------------------------------


def test_highdicom_reads_the_map_with_its_values_and_place(scan):
    image = hd.imread(scan.out / "uncertainty.dcm")
    volume = image.get_volume(apply_real_world_transform=True)
    affine = LPS_TO_RAS @ volume.affine
    values = onto_grid(volume.array.astype(np.float32), affine, scan.values.shape, scan.affine)
    assert np.array_equal(values, nifti.read(scan.map)[0])
    mapping = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == ("[hnsf'U]" if scan.row.modality == "CT" else "[arb'U]")


def test_the_map_refers_to_the_restored_series_and_to_its_source(scan):
    image = pydicom.dcmread(scan.out / "uncertainty.dcm")
    wanted = {one.SeriesInstanceUID for one in [*scan.slices(), *scan.originals()]}
    assert {series.SeriesInstanceUID for series in image.ReferencedSeriesSequence} == wanted
    wanted = {one.SOPInstanceUID for one in [*scan.slices(), *scan.originals()]}
    frames = [
        {item.ReferencedSOPInstanceUID for item in frame.DerivationImageSequence[0].SourceImageSequence}
        for frame in image.PerFrameFunctionalGroupsSequence
    ]
    assert set.union(*frames) == wanted
    assert all(len(frame) == 2 for frame in frames)


@pytest.mark.skipif(not DCIODVFY, reason="dciodvfy, the checker of the Debian package dicom3tools, is not here")
def test_dciodvfy_finds_no_error(scan):
    assert problems(*sorted((scan.out / "restored").iterdir()), scan.out / "uncertainty.dcm") == []


# --- rounding --------------------------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-1e7, 1e7, width=32), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
)
@settings(deadline=None)
def test_mr_is_rounded_by_at_most_half_a_step(values, scale):
    volume = (np.array(values, np.float32) * np.float32(scale)).reshape(1, 1, -1)
    if not np.abs(volume).max() > 1e-20:
        return
    packed = stored(volume, "MR")
    back = packed.pixels * float(packed.slope) + packed.intercept
    assert np.abs(back - volume).max() == pytest.approx(packed.error)
    assert packed.error <= float(packed.slope) / 2 * 1.001
    read_back = packed.pixels.astype(np.float32) * np.float32(packed.slope) + np.float32(packed.intercept)
    assert np.abs(read_back.astype(np.float64) - volume).max() <= packed.bound
    assert float(f"{packed.bound:.3g}") == packed.bound
    assert float(packed.slope) <= max(1.0, np.abs(volume).max() / 32767 * 1.001)
    assert len(packed.slope) <= 16


@given(st.lists(st.integers(-32767, 32767), min_size=2, max_size=40))
def test_whole_numbers_are_kept(values):
    for kind in ("MR", "CT"):
        packed = stored(np.array(values, np.float32).reshape(1, 1, -1), kind)
        assert (packed.pixels.ravel().tolist(), packed.slope, packed.intercept, packed.error) == (values, "1", 0, 0)


def test_hounsfield_units_stay_whole_wherever_they_lie():
    volume = np.linspace(-1024, 64000, 50, dtype=np.float32).reshape(1, 1, -1)
    packed = stored(volume, "CT")
    assert packed.slope == "1"
    assert np.abs(packed.pixels + float(packed.intercept) - volume).max() <= 0.5
    with pytest.raises(Refusal, match="Hounsfield"):
        stored(volume * 2, "CT")


# --- what passes on, and what does not -------------------------------------------------------------------------------


def test_private_and_broken_elements_stay_behind(tmp_path):
    def edit(dataset, k):
        dataset.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "LO", "secret of the vendor")
        dataset.add_new("PatientAge", "AS", "0Y")

    with pydicom.config.disable_value_validation():
        scan = Scan(tmp_path, edit=edit)
        scan.export()
    for image in scan.slices():
        assert "PatientAge" not in image
        assert not any(element.tag.is_private for element in image.iterall())


def test_a_name_in_any_script_is_the_same_name(tmp_path):
    scan = Scan(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    scan.export()
    for image in [*scan.slices(), pydicom.dcmread(scan.out / "uncertainty.dcm")]:
        assert str(image.PatientName) == "Müller^Jürgen"


def test_a_source_without_study_or_frame_of_reference_gets_one_for_all(tmp_path):
    scan = Scan(tmp_path, FrameOfReferenceUID="", StudyInstanceUID="")
    scan.export()
    assert len({(image.StudyInstanceUID, image.FrameOfReferenceUID) for image in scan.slices()}) == 1
    assert UID(scan.slices()[0].FrameOfReferenceUID).is_valid


def test_once_lossy_always_lossy(tmp_path):
    marks = {"LossyImageCompressionRatio": 10, "LossyImageCompressionMethod": "ISO_10918_1"}
    scan = Scan(tmp_path, LossyImageCompression="01", **marks)
    scan.export()
    for image in scan.slices():
        assert image.LossyImageCompression == "01"
        assert {keyword: image[keyword].value for keyword in marks} == marks


def test_loss_is_told_from_the_encoding_where_the_header_does_not_say(plain):
    path = next(plain.source.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9" * 9])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    (header,) = dicom_export_source._frames(path)
    assert (header.LossyImageCompression, header.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert header.LossyImageCompressionRatio >= 1


def test_frames_of_an_enhanced_object_become_slices(tmp_path):
    plane, measures, shared = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.9, 1.3]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    frames = []
    for k in (2, 0, 3, 1):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [-5, 4, 2.5 * k]
        frame.PlanePositionSequence = [position]
        frames.append(frame)

    def edit(dataset, k):
        dataset.SOPClassUID, dataset.NumberOfFrames = EnhancedMRImageStorage, 4
        dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing

    write_series(tmp_path / "scanner", image_of(1, 6, 7), edit=edit)
    (series,), _ = dicom.scan((tmp_path / "scanner").iterdir())
    (part,) = dicom.split(series)
    source = dicom_export_source._source(dicom.check(part))
    assert source.shape == (7, 6, 4)
    volume = np.random.default_rng(0).normal(0, 9, (7, 6, 4))
    images, _ = export_series(tmp_path / "out", volume, source, MADE_BY)
    assert [image.SourceImageSequence[0].ReferencedFrameNumber for image in images] == [2, 4, 1, 3]
    assert [image.ImagePositionPatient[2] for image in images] == [0, 2.5, 5, 7.5]
    assert {image.SOPClassUID.name for image in images} == {"MR Image Storage"}
    if DCIODVFY:
        assert problems(*sorted((tmp_path / "out").iterdir())) == []


@pytest.mark.parametrize("write", [write_enhanced, write_mosaic])
def test_objects_of_many_frames_become_a_classic_series(tmp_path, write):
    pixels = image_of(5, 8, 8)
    write(tmp_path / "in" / "one.dcm", pixels[None] if write is write_enhanced else pixels)
    (row,) = ingest(tmp_path / "in", tmp_path / "canonical", key_file=tmp_path / "key")
    place = source_files(tmp_path / "key_sources.csv")[row.volume]
    export_volume(tmp_path / row.file, place, tmp_path / "out", MADE_BY, uncertainty=tmp_path / row.file)
    (again,) = ingest(tmp_path / "out" / "restored", tmp_path / "back" / "c", key_file=tmp_path / "key")
    values, affine = nifti.read(tmp_path / row.file)
    back, grid = nifti.read(tmp_path / "back" / again.file)
    assert np.array_equal(values, back)
    assert np.allclose(affine, grid, atol=1e-3)
    if DCIODVFY:
        assert problems(*(tmp_path / "out").rglob("*.dcm")) == []


def test_of_several_volumes_in_one_series_the_right_one_is_the_source(tmp_path):
    def edit(dataset, k):
        dataset.EchoTime, dataset.EchoNumbers = (10, 1) if k < 4 else (20, 2)
        dataset.ImagePositionPatient = [0, 0, 2.0 * (k % 4)]

    write_series(tmp_path / "in", image_of(8, 6, 7), edit=edit)
    rows = ingest(tmp_path / "in", tmp_path / "canonical", key_file=tmp_path / "key")
    assert len(rows) == 2
    echoes = set()
    for row in rows:
        values, affine = nifti.read(tmp_path / row.file)
        source = find_source(source_files(tmp_path / "key_sources.csv")[row.volume], values, affine)
        echoes.add(tuple({int(header.EchoTime) for header in source.headers}))
        for number in (1, 2):
            found = find_source(tmp_path / "in", values, affine, number=number)
            assert {int(header.EchoTime) for header in found.headers} == {10 * number}
        with pytest.raises(Refusal, match="2 series"):
            find_source(tmp_path / "in", values, affine)
    assert echoes == {(10,), (20,)}


@pytest.mark.parametrize("kind", ["MR", "CT"])
def test_deidentified_means_that_nothing_of_the_person_leaves(tmp_path, kind):
    secrets = {
        "PatientID": "PAT4711",
        "PatientName": "Planted^Name",
        "PatientBirthDate": "19510203",
        "StudyDescription": "knee of Planted",
        "SeriesDescription": "t1 Planted",
        "AccessionNumber": "ACC99182",
        "InstitutionName": "Hospital of Plantedville",
        "StationName": "STATION77",
        "DeviceSerialNumber": "SERIAL88",
        "ReferringPhysicianName": "Doctor^Who",
        "ProtocolName": "Planted protocol",
        "AcquisitionDate": "20190807",
        "PatientComments": "lives at Planted Street",
        "OtherPatientNames": "Mustermann^M",
        "ManufacturerModelName": "Prisma of Planted",
        "SoftwareVersions": ["E11", "for Mustermann"],
        "PositionReferenceIndicator": "Mustermann",
        "PatientPosition": "HFS",
    }
    scan = Scan(tmp_path, kind, **secrets)
    scan.export(hidden=Hidden("sub-abc", b"k" * 32))
    originals = scan.originals()
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    found = {str(one[keyword].value) for one in originals for keyword in uids}
    needles = [
        "Planted",
        "Mustermann",
        "PAT4711",
        "19510203",
        "ACC99182",
        "STATION77",
        "SERIAL88",
        "Who",
        "20190807",
        "20200131",
    ]
    files = [path for path in scan.out.rglob("*") if path.is_file()]
    assert len(files) == 5 + 4
    for path in files:
        content = path.name.encode() + path.read_bytes()
        if path.suffix == ".gz":
            content = nib.load(path).header.binaryblock
        assert not any(uid.encode() in content for uid in found)
        for needle in needles:
            assert needle.encode() not in without_new_uids(content), (path.name, needle)
    images = scan.slices()
    assert {(image.PatientID, image.PatientIdentityRemoved) for image in images} == {("sub-abc", "YES")}
    assert {image.PatientPosition for image in images} == {"HFS"}  # what repeats nothing passes on
    if DCIODVFY:
        assert problems(*(path for path in files if path.suffix == ".dcm")) == []


TEXTS = {
    "CS": ("ZQXNAME", "X_ZQXNAME", "LI_SE", "LIZQ2"),
    "SH": ("Zqxname_se", "li_se", "LiZq", "sw 1951-02-03", "474747_x"),
    "LO": ("for Zqxname", "zqli", "sw 1951-02-03", "474747", "Zqxtown"),
    "IS": ("474747", "19510203"),
    "DS": ("474747", "474747.0"),
    "FD": (474747.0,),
    "UI": ("1.2.474747.3",),
    "SQ": (),
}
EVERYTHING = [
    keyword
    for keyword in dict.fromkeys((*dicom_export_source._READ, *COPIED))
    if keyword not in ("Modality", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet")
    and keyword not in ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", *dicom_export_source._GROUPS)
    and keyword not in ("PatientID", "PatientName", "PatientBirthDate", "PatientBirthTime")
    and keyword not in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "AcquisitionMatrix")
]


@pytest.mark.parametrize("kind", ["MR", "CT"])
@pytest.mark.parametrize("round_", range(5))
def test_what_is_planted_in_all_elements_that_an_export_reads_is_in_no_file(tmp_path, kind, round_):
    def edit(dataset, k):
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Zqxname^Li^Zq", "474747", "19510203"
        dataset.PatientAddress = "Zqxtown"
        for keyword in EVERYTHING:
            vr = dictionary_VR(keyword)
            if vr == "SQ":
                item = Dataset()
                item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "474747", "DCM", "Zqxname"
                item.Manufacturer = item.StationName = "Zqxname"
                dataset.add_new(keyword, vr, [item])
            elif vr in TEXTS:
                dataset.add_new(keyword, vr, TEXTS[vr][round_ % len(TEXTS[vr])])
            elif vr in ("LT", "ST", "PN"):
                dataset.add_new(keyword, vr, "Zqxname")
        dataset.InstanceNumber = "474747" if k == 2 else k
        dataset.FrameOfReferenceUID, dataset.StudyInstanceUID = "1.2.474747.3", "1.2.474747.4"

    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scan = Scan(tmp_path, kind, edit=edit)
        scan.export(hidden=Hidden("sub-abc", b"k" * 32))
    files = [path for path in scan.out.rglob("*") if path.is_file()]
    assert len(files) == 5 + 4
    for path in files:
        content = gzip.decompress(path.read_bytes())[:352] if path.suffix == ".gz" else path.read_bytes()
        for word in (b"zqx", b"474747", b"1951-02-03", b"19510203"):
            assert word not in path.name.encode() + without_new_uids(content.lower()), (path.name, word)
        if path.suffix == ".dcm":
            for element in pydicom.dcmread(path).iterall():
                values = element.value if element.VM > 1 else [element.value]
                assert not {"474747", "474747.0", "zqli", "li_se", "lizq", "lizq2"} & {str(v).lower() for v in values}
    assert sorted(image.InstanceNumber for image in scan.slices()) == [1, 2, 3, 4, 5]
    if DCIODVFY:
        assert problems(*(path for path in files if path.suffix == ".dcm")) == []


@pytest.mark.parametrize("keyword", [k for k in EVERYTHING if k in (*GEOMETRY, *MR, *CT)])
def test_the_profile_keeps_what_a_deidentified_export_keeps(keyword):
    assert action_of(tag_for_keyword(keyword)) in ("", "U")


@pytest.mark.parametrize("which", ["restored", "map"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused_with_their_count(plain, which, value):
    path = getattr(plain, which)
    values = nifti.read(path)[0].copy()
    values[0, 0, :3] = value
    nifti.write(path, values, plain.affine)
    with pytest.raises(Refusal, match="3 of the volume's 210 voxels are not numbers"):
        plain.export()
    assert not plain.out.exists()
    assert not list(plain.folder.glob(".*"))


# --- sources ---------------------------------------------------------------------------------------------------------


def test_the_private_table_leads_back_to_the_series(plain):
    (place,) = source_files(plain.key.with_name("key_sources.csv")).values()
    source = find_source(place, plain.values, plain.affine)
    assert [h.SOPInstanceUID for h in source.headers] == [
        one.SOPInstanceUID for one in sorted(plain.originals(), key=lambda one: one.ImagePositionPatient[2])
    ]
    with pytest.raises(InputError, match="--source"):
        source_files(plain.key.with_name("none.csv"))


def test_a_series_that_lies_in_two_folders_is_found_in_the_tree(plain):
    files = sorted(plain.source.iterdir())
    (plain.source / "second").mkdir()
    for path in files[:2]:
        path.rename(plain.source / "second" / path.name)
    assert len(find_source(files[3], plain.values, plain.affine, around=plain.source).headers) == 5
    with pytest.raises(Refusal):
        find_source(files[3], plain.values, plain.affine)


def test_among_several_series_the_one_of_the_grid_is_taken(plain):
    write_series(plain.source, image_of(4, 6, 7), uids=("study", "other"), prefix="b")
    assert len(find_source(plain.source, plain.values, plain.affine).headers) == 5
    shutil.copytree(plain.source, plain.folder / "twice")
    for path in (plain.folder / "twice").glob("im*"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID
        dataset.save_as(plain.source / f"c{path.name}")
    with pytest.raises(Refusal, match="2 series"):
        find_source(plain.source, plain.values, plain.affine)
    assert find_source(next(plain.source.glob("im*")), plain.values, plain.affine)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v, a: (v[:-1], a), "voxels"),
        (lambda v, a: (v, a @ np.diag([1.02, 1, 1, 1])), "voxel sizes"),
        (lambda v, a: (v, a + 0.5 * np.eye(4, k=3)), "0.5 mm away"),
        (lambda v, a: (v, np.block([[_HALF @ a[:3, :3], a[:3, 3:]], [a[3:]]])), "turned"),
    ],
)
def test_a_volume_of_another_grid_is_refused_with_the_reason(plain, change, reason):
    values, affine = change(plain.values, plain.affine)
    nifti.write(plain.restored, values, affine)
    with pytest.raises(Refusal, match=reason):
        plain.export()
    assert not plain.out.exists()
    assert not list(plain.folder.glob(".*"))


def test_a_map_of_another_grid_leaves_nothing_half_written(plain):
    nifti.write(plain.map, plain.values[1:], plain.affine)
    with pytest.raises(Refusal, match="voxels"):
        plain.export()
    assert not plain.out.exists()


def test_an_export_is_never_overwritten(plain):
    plain.export()
    with pytest.raises(InputError, match="exists already"):
        plain.export()


def test_a_nifti_source_gives_nifti_alone_and_says_why(tmp_path):
    native = image_of(6, 5, 4).astype(np.float32)
    affine = np.array([[0, 0, -2.0, 30], [-1.0, 0, 0, 7], [0, 1.5, 0, 4], [0, 0, 0, 1]])
    nifti.write(tmp_path / "in" / "p1_T1.nii.gz", native, affine)
    (row,) = ingest(tmp_path / "in", tmp_path / "canonical", key_file=tmp_path / "key")
    one = export_volume(tmp_path / row.file, tmp_path / "in" / "p1_T1.nii.gz", tmp_path / "out", MADE_BY)
    assert "no DICOM series" in one.without_dicom
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["restored.nii.gz"]
    values, grid = nifti.read(tmp_path / "out" / "restored.nii.gz")
    assert np.array_equal(values, native)
    assert np.allclose(grid, affine)


# --- real series -----------------------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "ct_jpeg2000",
        "mr_compressed",
        "mr_compressed_jpeg",
        "mr_compressed_rle",
        "mr_non_isotropic_slope_per_slice",
        "enhanced_siemens/001",
        "enhanced_philips/001",
    ],
)
def test_real_series_go_there_and_back(name, tmp_path):
    out = tmp_path / "run" / "canonical"
    (row,) = ingest(SHARED / "dicom" / name, out, key_file=tmp_path / "private" / "key", pattern="(?P<subject>.)")
    values, affine = nifti.read(out.parent / row.file)
    nifti.write(tmp_path / "map.nii.gz", np.sqrt(np.abs(values)), affine)
    one = export_volume(
        out.parent / row.file,
        source_files(tmp_path / "private" / "key_sources.csv")[row.volume],
        tmp_path / "out",
        MADE_BY,
        uncertainty=tmp_path / "map.nii.gz",
    )
    (again,) = ingest(
        tmp_path / "out" / "restored", tmp_path / "back" / "c", key_file=tmp_path / "k", pattern="(?P<subject>.)"
    )
    back, grid = nifti.read(tmp_path / "back" / again.file)
    assert np.allclose(grid, affine, atol=1e-3)
    assert np.abs(back - values).max() <= one.rounding + 1e-4
    if DCIODVFY:
        assert problems(*(tmp_path / "out").rglob("*.dcm")) == []
