"""What may be kept of a header beside a volume, by allowlist."""

import numpy as np
import pydicom

from medwvae.data.header_words import scanner_model


def acquisition_of(header: pydicom.Dataset) -> dict[str, float | str]:
    """Return what may be kept of a header, by allowlist; BIDS keys, times in seconds, field strength in tesla."""
    kept: dict[str, float | str] = {}
    for tag in ("RepetitionTime", "EchoTime", "InversionTime"):
        if (value := number(header, tag)) is not None:
            kept[tag] = round(value / 1000, 9)
    if (field := number(header, "MagneticFieldStrength")) is not None:
        kept["MagneticFieldStrength"] = field
    if model := scanner_model(header.get("ManufacturerModelName")):
        kept["ManufacturersModelName"] = model
    if header.get("LossyImageCompression") == "01":
        kept["LossyImageCompression"] = "01"
    return kept


def number(header: pydicom.Dataset, tag: str) -> float | None:
    """Return one finite number of a header, or None."""
    try:
        value = float(header.get(tag))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None
