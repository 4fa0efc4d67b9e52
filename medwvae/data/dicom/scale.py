"""Stored values to Hounsfield units or the scanner's units: slope and intercept of one image."""

from typing import NamedTuple

import numpy as np
import pydicom

from medwvae.data.dicom.values import first, text
from medwvae.data.header_words import unit_word


class Scale(NamedTuple):
    """value = slope x stored + intercept; `refusal` says why there is no such value."""

    slope: float = 1.0
    intercept: float = 0.0
    refusal: str = ""


def scale_of(dataset: pydicom.Dataset, vendor: pydicom.Dataset, modality: str) -> Scale:
    """Return the scale that a dataset, or the item of a functional group, states (PS3.3 C.11.1).

    Philips MR states two: a rescale for display that differs between scans, and in `vendor` the private scale slope
    that turns it into the scanner's floating-point values, which compare (Chenevert et al., Transl Oncol 2014,
    doi:10.1593/tlo.13811). Those are used, as dcm2niix does. Both numbers are rounded to float32, as NIfTI holds them.
    """
    slope, intercept = first(dataset, 0x00281053), first(dataset, 0x00281052)
    if modality == "CT":
        if slope is None or intercept is None:
            return Scale(refusal="the CT has no rescale slope and intercept, so no Hounsfield units; export it again")
        unit = text(dataset, 0x00281054) or "HU"
        if unit != "HU":
            return Scale(
                refusal=f"the CT is in units {unit_word(unit)}, not in Hounsfield units; "
                "export the standard reconstruction"
            )
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    private = first(vendor, 0x2005100E) if modality == "MR" else None
    if private and slope and text(vendor, 0x20050010).upper().startswith("PHILIPS MR IMAGING"):
        slope, intercept = 1 / private, intercept / (slope * private)
    with np.errstate(over="ignore"):
        return Scale(float(np.float32(slope)), float(np.float32(intercept)))
