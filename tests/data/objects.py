"""Synthesised enhanced multi-frame objects and Siemens mosaics, for the tests of the reader."""

import math
import struct

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)


def _item(**tags):
    dataset = Dataset()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def _base(modality, storage, uids):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage, generate_uid(entropy_srcs=list(uids))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (generate_uid(entropy_srcs=[text]) for text in uids[:2])
    dataset.PatientID, dataset.PatientName = "PAT-4711", "Doe^Jane"
    dataset.StudyDate, dataset.StudyTime, dataset.SeriesNumber = "20200131", "120000", 3
    dataset.Modality = modality
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    return dataset


def _save(dataset, stored, path):
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_enhanced(
    path,
    stored,
    *,
    cosines=(1, 0, 0, 0, 1, 0),
    spacing=(1.0, 1.0),
    step=(0.0, 0.0, 2.0),
    origin=(0.0, 0.0, 0.0),
    slopes=None,
    intercepts=None,
    modality="MR",
    uids=("study", "series", "0"),
    shared=True,
    seed=0,
    edit=None,
    **tags,
):
    """Write `stored` (time, slice, row, column) as one file, its frames in a shuffled order.

    What all frames have in common lies in the shared groups, or with `shared=False` in those of every frame.
    """
    times, slices, rows, columns = stored.shape
    dataset = _base(modality, EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage, uids)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber = 1
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, times * slices
    common = Dataset()
    common.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=[round(float(x), 9) for x in cosines])])
    common.PixelMeasuresSequence = Sequence(
        [_item(PixelSpacing=[round(float(x), 6) for x in spacing], SliceThickness=99.0)]
    )
    if modality == "MR":
        kind = _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ComplexImageComponent="MAGNITUDE")
        common.MRImageFrameTypeSequence = Sequence([kind])
        common.MREchoSequence = Sequence([_item(EffectiveEchoTime=12.0)])
        common.MRTimingAndRelatedParametersSequence = Sequence([_item(RepetitionTime=500.0)])
    dataset.SharedFunctionalGroupsSequence = Sequence([common if shared else Dataset()])
    order = np.random.default_rng(seed).permutation(times * slices)
    frames = []
    for number in order:
        t, k = divmod(int(number), slices)
        frame = Dataset()
        if not shared:
            frame.update(common)
        position = [round(float(x), 6) for x in np.add(origin, np.multiply(step, k))]
        frame.PlanePositionSequence = Sequence([_item(ImagePositionPatient=position)])
        content = _item(StackID="1", InStackPositionNumber=k + 1, TemporalPositionIndex=t + 1)
        content.DimensionIndexValues = [1, k + 1, t + 1]
        frame.FrameContentSequence = Sequence([content])
        scale = _item(RescaleSlope=1.0, RescaleIntercept=0.0, RescaleType="HU" if modality == "CT" else "US")
        if slopes is not None:
            scale.RescaleSlope, scale.RescaleIntercept = slopes[number], intercepts[number]
        frame.PixelValueTransformationSequence = Sequence([scale])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    if edit:
        edit(dataset)
    return _save(dataset, stored.reshape(-1, rows, columns)[order], path)


def csa_header(**elements):
    """Return a Siemens CSA2 header (SV10) of the given elements, lists of text."""
    raw = b"SV10\4\3\2\1" + struct.pack("<II", len(elements), 77)
    for name, values in elements.items():
        raw += struct.pack("<64si4siii", name.encode(), len(values), b"FD\0\0", 4, len(values), 77)
        for value in values:
            content = value.encode() + b"\0"
            raw += struct.pack("<4i", len(content), len(content), 77, len(content)) + content
            raw += b"\0" * (-len(content) % 4)
    return raw + b"\0" * 4


def write_mosaic(
    path,
    stored,
    *,
    cosines=(1, 0, 0, 0, 1, 0),
    spacing=(2.0, 2.0),
    distance=3.0,
    origin=(0.0, 0.0, 0.0),
    flip=False,
    acquisition=1,
    uids=("study", "series", "0"),
    csa=True,
    **tags,
):
    """Write `stored` (slice, row, column) as a Siemens mosaic; `origin` is the first voxel of the first slice.

    `flip` turns the direction in which the slices follow one another against the normal of the image plane.
    """
    count, rows, columns = stored.shape
    side = math.ceil(math.sqrt(count))
    mosaic = np.zeros((side * rows, side * columns), stored.dtype)
    for k, image in enumerate(stored):
        top, left = k // side * rows, k % side * columns
        mosaic[top : top + rows, left : left + columns] = image
    axes = np.reshape(cosines, (2, 3)).astype(float)
    normal = np.cross(*axes) * (-1 if flip else 1)
    corner = np.array(origin, dtype=float)
    corner -= axes[0] * spacing[1] * (side - 1) * columns / 2 + axes[1] * spacing[0] * (side - 1) * rows / 2
    dataset = _base("MR", MRImageStorage, uids)
    dataset.Manufacturer = "SIEMENS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.AcquisitionNumber = dataset.InstanceNumber = acquisition
    dataset.Rows, dataset.Columns = mosaic.shape
    dataset.ImagePositionPatient = [round(float(x), 6) for x in corner]
    dataset.ImageOrientationPatient = [round(float(x), 9) for x in cosines]
    dataset.PixelSpacing, dataset.SliceThickness = list(spacing), 99.0
    dataset.SpacingBetweenSlices = distance
    dataset.EchoTime, dataset.RepetitionTime = 30.0, 2000.0
    if csa:
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        numbers = [f"{x:.8f}" for x in normal]
        header = csa_header(NumberOfImagesInMosaic=[str(count)], SliceNormalVector=numbers)
        block.add_new(0x08, "CS", "IMAGE NUM 4")
        block.add_new(0x10, "OB", header)
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return _save(dataset, mosaic, path)
