"""Siemens mosaics: the slices of a volume as the tiles of one large image, described by the private CSA header.

References: nibabel's doc/theory/dicom_mosaic; Siemens CSA header as read by `nibabel.nicom.csareader`.
"""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom

from medwvae.data.dicom.records import Frame
from medwvae.data.dicom.values import first


def frames_of(frame: Frame, dataset: pydicom.Dataset) -> list[Frame]:
    """Return one frame per tile of a mosaic; the tiles run along each row of tiles, then down.

    The position of a mosaic is that of a slice as large as the whole mosaic, centred on the first slice: half of the
    difference in size leads to the first slice, and the others follow along the normal that the CSA header states, at
    the distance between slices (the header of a mosaic holds no further position). A file without all of these is
    refused: its tiles could not be told from one another.
    """
    csa = _csa(dataset)
    rows, columns = frame.file.shape
    count = int(_first_of(csa, "NumberOfImagesInMosaic") or 0)
    normal = np.array((csa or {}).get("tags", {}).get("SliceNormalVector", {}).get("items", []), dtype=float)
    distance = first(dataset, 0x00180088) or 0.0
    tiles = math.ceil(math.sqrt(count))
    known = [len(values) for values in (frame.position, frame.cosines, frame.spacing, normal)] == [3, 6, 2, 3]
    words = ""
    if not known or count < 1 or distance <= 0:
        words = (
            "the image is a Siemens mosaic whose private header (number, normal and distance of slices) is missing; "
            "export the original series before anonymising, or as one image per slice"
        )
    elif rows % tiles or columns % tiles:
        words = f"the image is a Siemens mosaic that does not divide into {tiles} x {tiles} slices; export it again"
    if words:
        return [replace(frame, file=replace(frame.file, refusal=words))]
    shape = rows // tiles, columns // tiles
    file = replace(frame.file, shape=shape, tiles=tiles)
    along_row, along_column = np.reshape(frame.cosines, (2, 3))
    corner = (
        np.array(frame.position)
        + along_row * frame.spacing[1] * (columns - shape[1]) / 2
        + along_column * frame.spacing[0] * (rows - shape[0]) / 2
    )
    tells = frame.tells._replace(mosaic=frame.file.instance)
    return [
        replace(frame, file=file, index=k, position=tuple(corner + k * distance * normal), tells=tells)
        for k in range(count)
    ]


def _first_of(csa: dict[str, Any] | None, name: str) -> float | None:
    """Return the first value of a CSA element, or None."""
    values = (csa or {}).get("tags", {}).get(name, {}).get("items", [])
    return float(values[0]) if values else None


def _csa(dataset: pydicom.Dataset) -> dict[str, Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from nibabel.nicom import csareader  # warns on import that it is experimental

            found: dict[str, Any] | None = csareader.get_csa_header(dataset, "image")
            return found
    except Exception:  # the reader raises what damaged bytes provoke
        return None
