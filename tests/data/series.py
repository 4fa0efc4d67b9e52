"""Synthesised DICOM series, for the tests of the reader and of ingest."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write_series(
    folder,
    stored,
    *,
    cosines=(1, 0, 0, 0, 1, 0),
    spacing=(1.0, 1.0),
    step=(0.0, 0.0, 2.0),
    origin=(0.0, 0.0, 0.0),
    slopes=None,
    intercepts=None,
    modality="MR",
    uids=("study", "series"),
    edit=None,
    prefix="im",
    seed=0,
    **tags,
):
    """Write `stored` (slice, row, column) as one file per slice, in a shuffled order of names.

    `tags` go into every slice; `edit(dataset, k)` may change slice k. Texts of `uids` are hashed to UIDs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(len(stored))
    study, series = (generate_uid(entropy_srcs=[text]) for text in uids)
    for k, image in enumerate(stored):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*uids, str(k)])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.PatientID, dataset.PatientName = "PAT-4711", "Doe^Jane"
        dataset.StudyDate, dataset.StudyTime, dataset.SeriesNumber = "20200131", "120000", 3
        dataset.Modality, dataset.ImageType = modality, ["ORIGINAL", "PRIMARY", "M"]
        dataset.Rows, dataset.Columns = image.shape
        dataset.ImagePositionPatient = [round(float(x), 6) for x in np.add(origin, np.multiply(step, k))]
        dataset.ImageOrientationPatient = [round(float(x), 9) for x in cosines]
        dataset.PixelSpacing = [round(float(x), 6) for x in spacing]
        dataset.SliceThickness = 99.0  # a lie: thickness must never be read as spacing
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = image.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(image.dtype.kind == "i")
        if slopes is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = slopes[k], intercepts[k]
        elif modality == "CT":
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = image.tobytes() + b"\0" * (image.nbytes % 2)
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        if edit:
            edit(dataset, k)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{prefix}{names[k]:03d}", enforce_file_format=True)


def image_of(*shape, seed=0, dtype=np.uint16, top=1000):
    """Return random pixels."""
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)
