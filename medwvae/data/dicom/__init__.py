"""DICOM to volumes, or a refusal with its reason: `scan` headers, `split` series, `check` geometry, `load` voxels."""

import logging

from medwvae.data.dicom.geometry import OnGap, OnTilt, check
from medwvae.data.dicom.headers import scan
from medwvae.data.dicom.pixels import load
from medwvae.data.dicom.records import Part, Series, Stack, Volume
from medwvae.data.dicom.sidecar import acquisition_of
from medwvae.data.dicom.stacks import split
from medwvae.data.dicom.values import is_dicom, starts_as_dicom

# Its messages quote the values of damaged elements, and a damaged element can swallow a name.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

__all__ = [
    "OnGap",
    "OnTilt",
    "Part",
    "Series",
    "Stack",
    "Volume",
    "acquisition_of",
    "check",
    "is_dicom",
    "load",
    "scan",
    "split",
    "starts_as_dicom",
]
