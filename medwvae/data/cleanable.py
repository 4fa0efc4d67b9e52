"""Which DICOM objects can be cleaned of identity at all: images without text in their pixels, complete and known."""

from typing import Final

from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID, UID_dictionary

from medwvae.data.identifiers import values_of
from medwvae.errors import Refusal

PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NO_TEXT_EXPECTED: Final = (  # objects whose pixels a scanner fills with anatomy alone
    *("MR Image Storage", "Enhanced MR Image Storage", "Legacy Converted Enhanced MR Image Storage"),
    *("CT Image Storage", "Enhanced CT Image Storage", "Legacy Converted Enhanced CT Image Storage"),
    *("Positron Emission Tomography Image Storage", "Enhanced PET Image Storage", "Nuclear Medicine Image Storage"),
    *("Legacy Converted Enhanced PET Image Storage", "Parametric Map Storage"),
)
_SCREENS: Final = ("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "PATIENT PROTOCOL", "SCREENSHOT", "SECONDARY CAPTURE")
_CANNOT: Final = (
    ("Secondary Capture", "a secondary capture (a screenshot or scan); identity may be burned into its pixels"),
    ("Encapsulated", "an encapsulated document; its content cannot be cleaned"),
    (" SR", "a structured report; its text cannot be cleaned"),
    ("Presentation State", "a presentation state; its annotations cannot be cleaned"),
    ("Photograph", "a photograph, which may show a face"),
)


def check_cleanable(dataset: Dataset) -> None:
    """Refuse an object whose identity may be in its pixels or in a content that no table can clean.

    Raises
    ------
    Refusal
        With the reason in words, without an identifier.
    """
    known = UID_dictionary.get(str(dataset.get("SOPClassUID") or ""))
    kind = known[0] if known else ""
    if not dataset.get("SOPClassUID"):
        raise Refusal("the header does not say what kind of object it is: it is damaged; export the file again")
    if not kind:
        raise Refusal("its kind is private to a vendor or newer than this program, so it cannot be cleaned")
    for words, what in _CANNOT:
        if words in kind:
            raise Refusal(f"the file is {what}")
    if not any(name in dataset for name in PIXELS):
        raise Refusal(f"the file holds no image (it is: {kind}); only images are cleaned")
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        raise Refusal("the header says that text is burned into the pixels, which cannot be cleaned")
    image_type = " ".join(str(v).upper() for v in values_of(dataset.get("ImageType")))
    if any(word in image_type for word in _SCREENS):
        raise Refusal("the image is a screen or a protocol page; identity may be burned into its pixels")
    declared = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "NO"
    if kind not in _NO_TEXT_EXPECTED and not declared:
        raise Refusal(f"{kind} often has text burned into its pixels, and the header does not say that there is none")
    if int(dataset.get("SamplesPerPixel") or 1) > 1 and not declared:
        raise Refusal("the image is in colour (often a screenshot), and the header does not say that no text is in it")
    for group in range(0x6000, 0x6100, 2):
        # A retired form hides the overlay in the pixels' unused bits, from where it cannot be cut unseen.
        if (group, 0x0010) in dataset and (group, 0x3000) not in dataset:
            raise Refusal("an overlay lies within the pixels, from where it cannot be removed; export without overlays")
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not str(dataset.get(name) or "").strip():
            raise Refusal(f"{name} is missing; export the file again")
    _check_complete(dataset)


def _check_complete(dataset: Dataset) -> None:
    data = dataset.get("PixelData")
    if data is None:
        return
    damaged = Refusal("the pixels are cut short: the file is damaged; export it again")
    if UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated:
        try:
            if not sum(len(fragment) for fragment in generate_fragments(data)):
                raise damaged
        except ValueError as error:
            raise damaged from error
    elif len(data) < get_expected_length(dataset):
        raise damaged
