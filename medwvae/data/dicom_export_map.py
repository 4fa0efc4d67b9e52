"""A per-voxel map of numbers (an uncertainty) as a DICOM Parametric Map with float pixels (PS3.3 A.75)."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from medwvae.data.dicom_export_header import (
    MAKER,
    Derivation,
    Hidden,
    can_be_referenced,
    equipment,
    reference,
    series_number,
    version,
)
from medwvae.data.dicom_export_source import Source

UNITS = {
    "CT": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "MR": Code("[arb'U]", "UCUM", "arbitrary unit"),
}


def export_map(
    path: Path,
    values: NDArray[np.floating],
    source: Source,
    restored: Sequence[Dataset],
    derivation: Derivation,
    *,
    hidden: Hidden | None = None,
    now: datetime | None = None,
) -> Dataset:
    """Write a map as one Parametric Map object and return it.

    Parameters
    ----------
    values
        (columns, rows, slices) on the grid of the source, in the units of the image; stored as 32-bit floats.
    restored
        Headers of the derived series that the map belongs to, from `dicom_export.export_series`. Every frame refers to
        its slice there, and the object to the source series as well.
    """
    now = now or datetime.now().astimezone()
    frames = np.ascontiguousarray(np.transpose(values, (2, 1, 0)), dtype=np.float32)
    low, high = float(frames.min()), float(frames.max())
    mapping = RealWorldValueMapping(
        lut_label="UNCERTAINTY",
        lut_explanation="Uncertainty of the restored image",
        unit=UNITS[source.modality],
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on values that the source already spelled oddly
        result = ParametricMap(
            [_plain(image) for image in restored],
            frames,
            series_instance_uid=generate_uid(),
            series_number=series_number(source.headers[0], 2, hidden),
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MAKER,
            software_versions=version(),
            device_serial_number=version(),
            contains_recognizable_visual_features=True,  # a head stays a head
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[
                hd.VOILUTTransformation(
                    window_center=(low + high) / 2,
                    window_width=max(high - low, np.finfo(np.float32).tiny),
                    voi_lut_function="LINEAR_EXACT",
                )
            ],
            content_label="UNCERTAINTY",
            content_description="Uncertainty of the restored image",
            series_description=f"{MAKER} {derivation.task} {derivation.method}".rstrip()[:51] + " uncertainty",
            further_source_images=_originals(source, restored, hidden),
        )
        result.ContributingEquipmentSequence = equipment(source.headers[0], derivation, hidden, now)
        for keyword in ("Laterality", "BodyPartExamined"):
            if keyword in restored[0]:
                result[keyword] = restored[0][keyword]
        result.save_as(path, enforce_file_format=True)
    return result


def _plain(image: Dataset) -> Dataset:
    """Return a slice's header without references of its own, which are no business of the map."""
    plain = deepcopy(image)
    for keyword in ("SourceImageSequence", "ContributingEquipmentSequence", "DerivationCodeSequence"):
        plain.pop(keyword, None)
    return plain


def _originals(source: Source, restored: Sequence[Dataset], hidden: Hidden | None) -> list[Dataset]:
    """Return the source slices as highdicom wants them: the geometry of the derived ones under their own UIDs.

    Frames of one enhanced object have no UID each, and anonymisers take UIDs or make them all alike: then only the
    derived slices lead back.
    """
    usable = {str(header.SOPInstanceUID) for header in source.headers if can_be_referenced(header)}
    if len(usable) < len(source.headers) or not source.headers[0].get("SeriesInstanceUID"):
        return []
    originals = []
    for header, image in zip(source.headers, restored, strict=True):
        referred, original, series = reference(header, hidden), _plain(image), str(header.SeriesInstanceUID)
        original.SOPClassUID, original.SOPInstanceUID = (
            referred.ReferencedSOPClassUID,
            referred.ReferencedSOPInstanceUID,
        )
        original.SeriesInstanceUID = hidden.uid(series) if hidden else series
        originals.append(original)
    return originals
