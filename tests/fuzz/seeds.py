"""The sound images that every mutant starts from: a few kilobytes each, synthesised, with one planted identity."""

import io
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.data.jpeg import lossless
from tests.data.series import image_of, write_series

SECRET = "Zzyzxquoth"
"""Patient ID, name and description of every seed: no message and no result may show it."""
_AFFINE = np.array([[-0.9, 0.1, 0, 5], [0.1, 0.9, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Seed:
    """One sound image: the bytes of its files by name."""

    name: str
    files: dict[str, bytes]


def dicom_seeds() -> list[Seed]:
    """Return one small series for every way of coding that the reader knows."""

    def compressed(syntax):
        return lambda dataset, _: dataset.compress(syntax, encoding_plugin=plugin.get(syntax, ""))

    def coded(syntax):
        return lambda dataset, _: setattr(dataset.file_meta, "TransferSyntaxUID", syntax)

    plugin = {RLELossless: "pydicom"}
    small, signed = image_of(4, 12, 10), image_of(4, 12, 10, dtype=np.int16, seed=1)
    return [
        series("mr", small),
        series("mr-phase", small, ImageType=["ORIGINAL", "PRIMARY", "P"], RescaleSlope=2, RescaleIntercept=-4096),
        series("ct", signed, modality="CT", slopes=[1] * 4, intercepts=[-1024] * 4),
        series("mr-implicit", small, edit=coded(ImplicitVRLittleEndian)),
        series("ct-deflated", small, modality="CT", edit=coded(DeflatedExplicitVRLittleEndian)),
        series("mr-big-endian", small.astype(">u2"), edit=coded(ExplicitVRBigEndian)),
        series("mr-rle", small, edit=compressed(RLELossless)),
        series("mr-jpeg2000", image_of(3, 32, 32), edit=compressed(JPEG2000Lossless)),
        series("mr-jpegls", image_of(3, 16, 16), edit=compressed(JPEGLSLossless)),
        series("mr-jpeg-lossless", image_of(3, 16, 16), edit=_lossless),
        series("mr-jpeg", image_of(3, 16, 16, top=256, dtype=np.uint8), edit=_baseline),
        series("mr-echoes", image_of(6, 8, 8), edit=_two_echoes),
        series("mr-enhanced", image_of(1, 32, 8), edit=_enhanced),
        series("mr-mosaic", image_of(3, 16, 16), edit=_mosaic),
    ]


def series(name: str, stored: Any, **options: Any) -> Seed:
    """Return the series that `tests.data.series.write_series` makes of the pixels, with the planted identity."""
    tags = {"PatientID": SECRET, "PatientName": SECRET, "SeriesDescription": f"t1 {SECRET}", "PatientAge": "045Y"}
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), stored, uids=("study", name), **(tags | options))
        return Seed(name, {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())})


def _lossless(dataset, _):
    _code(dataset, lossless(dataset.pixel_array, 16), JPEGLosslessSV1)


def _baseline(dataset, _):
    stream = io.BytesIO()
    Image.fromarray(dataset.pixel_array).save(stream, "JPEG", quality=90)
    _code(dataset, stream.getvalue(), JPEGBaseline8Bit)


def _code(dataset, stream, syntax):
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax


def _two_echoes(dataset, k):
    dataset.EchoNumbers, dataset.EchoTime = 1 + k % 2, 10.0 * (1 + k % 2)
    dataset.ImagePositionPatient = [0, 0, 2.0 * (k // 2)]


def _enhanced(dataset, _):
    """Make four frames of 8 x 8 of a slice of 32 x 8."""
    dataset.SOPClassUID, dataset.Rows, dataset.NumberOfFrames = EnhancedMRImageStorage, 8, 4
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, 2
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    frames = []
    for k in range(4):
        frame, position, content, scale = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.0 * k]
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [1, k + 1]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1.5, 2, "US"
        frame.PlanePositionSequence, frame.FrameContentSequence = Sequence([position]), Sequence([content])
        frame.PixelValueTransformationSequence = Sequence([scale])
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, tag)


def _mosaic(dataset, k):
    """Make a Siemens mosaic of four tiles of 8 x 8; each file is one volume of a time series."""
    dataset.Manufacturer, dataset.ImageType = "SIEMENS", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["mosaic", str(k)])
    dataset.AcquisitionNumber = k + 1
    dataset.ImagePositionPatient = [0, 0, 0]
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 4)
    fields = {
        "NumberOfImagesInMosaic": ("US", ["4"]),
        "SliceNormalVector": ("FD", ["0.0", "0.0", "1.0"]),
        "SliceThickness": ("DS", ["2.0"]),
    }
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa_header(fields))


def csa_header(fields: dict[str, tuple[str, list[str]]]) -> bytes:
    """Return a Siemens CSA2 header (laid out as nibabel.nicom.csareader documents it)."""
    out = io.BytesIO()
    out.write(b"SV10\4\3\2\1" + struct.pack("<2I", len(fields), 77))
    for name, (vr, values) in fields.items():
        out.write(struct.pack("<64si4s3i", name.encode(), len(values), vr.encode(), 0, len(values), 77))
        for value in values:
            text = value.encode() + b"\0"
            out.write(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4))
    return out.getvalue() + b"\0" * (out.tell() % 2)


def nifti_seeds() -> list[Seed]:
    """Return small volumes of the kinds of file and number that the reader knows."""
    volume = image_of(7, 6, 5, seed=2, dtype=np.int16)
    scaled = nib.Nifti1Image(volume, _AFFINE)
    scaled.header.set_slope_inter(0.5, -3)
    quaternion = nib.Nifti1Image(volume.astype(np.float32), _AFFINE)
    quaternion.set_qform(_AFFINE, 1, strip_shears=True)
    quaternion.set_sform(None, 0)
    extended = nib.Nifti1Image(volume.astype(np.uint8), _AFFINE)
    extended.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET.encode()))
    swapped = nib.Nifti1Image(volume, _AFFINE, nib.Nifti1Header(endianness=">"))
    several = nib.Nifti1Image(np.stack([volume, volume // 2], axis=-1), _AFFINE)
    double = nib.Nifti2Image(volume.astype(np.float64) / 7, _AFFINE)
    return [
        _nifti("scaled", ".nii", scaled),
        _nifti("scaled-gz", ".nii.gz", scaled),
        _nifti("qform", ".nii.gz", quaternion),
        _nifti("extension", ".nii", extended),
        _nifti("big-endian", ".nii", swapped),
        _nifti("4d", ".nii.gz", several),
        _nifti("nifti2", ".nii", double),
        _nifti("nifti2-gz", ".nii.gz", double),
        _nifti("pair", ".hdr", nib.Nifti1Pair(volume, _AFFINE)),
    ]


def _nifti(name, suffix, image):
    with tempfile.TemporaryDirectory() as folder:
        image.to_filename(Path(folder) / f"{SECRET}_T1w{suffix}")
        return Seed(name, {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())})
