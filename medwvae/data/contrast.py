"""Image weighting, from a file's name, a series' name or its timing; `unknown` where none of them says."""

import re
from typing import Final

import pydicom

from medwvae.data.dicom.sidecar import number
from medwvae.names import Contrast

WORDS: Final[dict[str, Contrast]] = {
    "t1": "t1w",
    "t1w": "t1w",
    "mprage": "t1w",
    "t2": "t2w",
    "t2w": "t2w",
    "pd": "pdw",
    "pdw": "pdw",
    "flair": "flair",
    "ct": "ct",
}
"""The last word of a file name that states a contrast."""


def contrast_worded(text: str) -> Contrast:
    """Return the contrast of a word of a file name, or of free text."""
    return WORDS.get(text.lower()) or contrast_named(text) or "unknown"


def contrast_of(header: pydicom.Dataset) -> Contrast:
    """Return the weighting: CT, or what the MR series is called, or what its timing says, or `unknown`."""
    if header.get("Modality") == "CT":
        return "ct"
    named = contrast_named(f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}")
    return named or _contrast_timed(header)


def contrast_named(text: str) -> Contrast | None:
    """Return the weighting that a series' name states, `unknown` for one we do not handle, None if it states none."""
    patterns: dict[Contrast, str] = {
        "unknown": r"t2[ _-]?(\*|star)|swi|\bgre\b|dwi|dti|diff|adc|bold|fmri|perf|\basl\b|tof|angio|phase|field.?map",
        "flair": r"flair|dark.?fluid|tirm",
        "t1w": r"(?<![a-z0-9])t1|mp2?rage|spgr|bravo|\btfl",
        "t2w": r"(?<![a-z0-9])t2",
        "pdw": r"(?<![a-z])pdw?(?![a-z])|proton",
    }
    return next((contrast for contrast, pattern in patterns.items() if re.search(pattern, text, re.IGNORECASE)), None)


def _contrast_timed(header: pydicom.Dataset) -> Contrast:
    kinds = header.get("ScanningSequence") or ()
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    tr, te, ti = (number(header, tag) or 0.0 for tag in ("RepetitionTime", "EchoTime", "InversionTime"))
    if not te or not tr:
        return "unknown"
    if "IR" in kinds and ti > 1500 and te > 70:
        return "flair"
    if "GR" in kinds and 500 <= ti <= 1500 and te < 10:  # magnetisation-prepared gradient echo
        return "t1w"
    if "SE" in kinds and "IR" not in kinds:
        if tr < 1000 and te < 30:
            return "t1w"
        if tr > 2000:
            return "t2w" if te > 70 else "pdw" if te < 40 else "unknown"
    return "unknown"
