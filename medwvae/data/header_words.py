"""Words of a header that may be repeated in results: only known ones, for any text field can hold a name."""

import re
from typing import Final

from pydicom.uid import UID_dictionary

_MODALITIES: Final = (  # PS3.3 C.7.3.1.1.1
    "AR ASMT AU BDUS BI BMD CR CT CTPROTOCOL DG DMS DOC DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LS MG "
    "MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN "
    "RTRECORD RTSTRUCT RWV SEG SM SMR SR SRF STAIN TG US VA XA XAPROTOCOL XC"
)
_UNITS: Final = "OD HU US MGML Z_EFF ED EDW HU_MOD PCT"  # PS3.3 C.11.1.1.2
_PRODUCTS: Final = (
    # Siemens
    "aera altea amira ara avanto avantofit biograph biographmmr cima cimax confidence connectom definition drive edge "
    "emotion espree essenza fit force free free.max go harmony lumina magnetom mmr naeotom alpha perspective prisma "
    "prismafit pro scope sensation skyra skyrafit sola somatom sonata spectra spirit symphony symphonytim tim trio "
    "triotim verio vida x.cite x.ceed mct vision numaris impact concerto allegra terra terra.x plus flash "
    # Philips
    "achieva ambition brilliance dstream elition evolution gemini gyroscan iqon ict ingenia ingenuity intera mobile "
    "multiva mx panorama prodiva big bore spectral stream access incisive tf "
    # GE
    "signa premier architect artist hero voyager explorer creator pioneer horizon genesis excite hdx hdxt hdxtr mr "
    "discovery optima brivo lightspeed brightspeed revolution apex maxima evo vct ultra frontier hispeed qx/i pro16 "
    "prospeed ace hd es ct ge medical systems contour lx echospeed hde "
    # Canon, Toshiba, Hitachi, Fujifilm, United Imaging, others
    "aquilion one prime lightning genesis vantage titan orian galan elan atlas excelart prism exceed asteion activion "
    "alexion echelon oasis aperto airis supria scenaria oval umr uct umi neusoft neuviz anatom scanner hyperfine "
    "swoop siemens philips canon toshiba hitachi united imaging healthineers"
)


def modality_word(text: object) -> str:
    """Return a modality of the standard as it is, and for others `of no known code` or `not stated`."""
    return _word(text, _MODALITIES)


def unit_word(text: object) -> str:
    """Return a rescale type of the standard as it is, and for others `of no known code` or `not stated`."""
    return _word(text, _UNITS)


def kind_word(uid: object) -> str:
    """Return the name of a standard SOP class, or nothing."""
    known = UID_dictionary.get(str(uid or "").strip())
    return known[0] if known else ""


def scanner_model(text: object) -> str:
    """Return a scanner model if all its words are product names or short codes (`Ingenia 3.0T`), or else nothing."""
    words = str(text or "").replace("_", " ").replace(",", " ").split()
    products = set(_PRODUCTS.split())
    known = all(w.casefold() in products or re.fullmatch(r"[A-Za-z]{0,3}\d{1,3}(\.\d)?[A-Za-z]{0,2}", w) for w in words)
    return " ".join(words) if known and len(words) <= 5 else ""


def _word(text: object, known: str) -> str:
    word = str(text or "").strip()
    return word if word in known.split() else "of no known code" if word else "not stated"
