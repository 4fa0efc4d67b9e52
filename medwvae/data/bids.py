"""BIDS: what the names and sidecars of a raw dataset say, and how our own derivative dataset is named.

Reference: Brain Imaging Data Structure 1.10, https://bids-specification.readthedocs.io (file names, inheritance
principle, derivatives).
"""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from medwvae.data.contrast import WORDS
from medwvae.data.subjects import Person, read_demographics
from medwvae.files import atomic
from medwvae.names import Contrast
from medwvae.provenance import versions

BIDS_VERSION: Final = "1.10.0"
DESCRIPTION: Final = "dataset_description.json"
NOT_RAW: Final = frozenset({"derivatives", "sourcedata"})
"""Folders of a dataset that repeat its images: computed from them, or before conversion."""

_IMAGES: Final = frozenset(
    "T1w T2w FLAIR PDw T2starw inplaneT1 inplaneT2 PDT2 UNIT1 angio MP2RAGE MEGRE MESE VFA IRT1 MPM MTS MTR "
    "bold cbv sbref dwi asl m0scan epi magnitude magnitude1 magnitude2 ct t1 t1w t2 t2w pd pdw flair".lower().split()
)
_CONTRASTS: Final[dict[str, Contrast]] = {"inplanet1": "t1w", "unit1": "t1w", "inplanet2": "t2w"}
_SIDECAR: Final = ("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "MagneticFieldStrength")
_SUFFIX: Final[dict[Contrast, str]] = {
    "t1w": "T1w",
    "t2w": "T2w",
    "flair": "FLAIR",
    "pdw": "PDw",
    "ct": "ct",
    "unknown": "MRI",
}
_README: Final = """Volumes that medwvae converted from DICOM or NIfTI, a BIDS derivative dataset.

Voxels as they were acquired, none resampled unless a volume's sidecar says so (SliceInterpolation, TiltCorrection);
axes turned to the nearest RAS+, CT in Hounsfield units, MR in the scanner's units. Several volumes of one subject,
session and weighting are numbered as runs. CT and MR of unknown weighting (suffix MRI) have no name in BIDS yet and
stand in .bidsignore. Faces are not removed.
"""
_IGNORED: Final = "**/ct/**\n*_MRI.nii.gz\n*_MRI.json\n"  # BIDS names neither CT nor MR of unknown weighting yet


@dataclass(frozen=True)
class Name:
    """A file name of BIDS: its entities (`sub`, `ses`, `acq`, `run`, ...) and its suffix."""

    entities: dict[str, str]
    suffix: str

    @property
    def contrast(self) -> Contrast:
        """The weighting that the suffix states."""
        word = self.suffix.lower()
        return WORDS.get(word) or _CONTRASTS.get(word, "unknown")

    def refusal(self, path: PurePosixPath) -> str:
        """Return why the file at `path`, relative to the source, is no image to convert, or nothing."""
        if self.suffix.lower() not in _IMAGES:
            return "its BIDS suffix names no MR or CT image (but a mask, a map or something else); nothing to do"
        if self.entities.get("part", "mag") != "mag":
            return "it is a phase, real or imaginary part; only magnitude images can be used"
        for part in path.parts[:-1]:
            key, _, label = part.partition("-")
            if key in ("sub", "ses") and label and self.entities.get(key, label) != label:
                return "its folder and its file name disagree about whose image this is; correct the wrong one"
        return ""


def parse(file_name: str) -> Name | None:
    """Return what a file name `sub-<label>_..._<suffix>.<ext>` says, or None if it is none."""
    name = _parse(file_name)
    return name if name and re.fullmatch(r"[A-Za-z0-9]+", name.entities.get("sub", "")) else None


def _parse(file_name: str) -> Name | None:
    *chunks, suffix = file_name.split(".")[0].split("_")
    if not suffix or "-" in suffix:
        return None
    pairs = (chunk.split("-", 1) for chunk in chunks if "-" in chunk)
    return Name(dict(reversed([(key, label) for key, label in pairs])), suffix)  # the first of a repeated key counts


def is_dataset(folders: list[str], files: list[str]) -> bool:
    """Return whether a folder with these entries is the root of a BIDS dataset."""
    return DESCRIPTION in files or any(re.fullmatch(r"sub-[A-Za-z0-9]+", name) for name in folders)


def is_derivative(folder: Path) -> bool:
    """Return whether a folder calls itself a derivative dataset."""
    return _object(folder / DESCRIPTION).get("DatasetType") == "derivative"


@dataclass(frozen=True)
class Dataset:
    """A raw dataset in the source; its sidecars are looked up on demand."""

    root: Path
    described: bool
    _listed: dict[Path, list[tuple[Name, Path]]] = field(default_factory=dict, compare=False)

    @cached_property
    def people(self) -> dict[str, Person]:
        """Age, sex and site by `sanitised` label, of participants.tsv."""
        table = self.root / "participants.tsv"
        return read_demographics(table) if table.is_file() else {}

    def sidecar(self, path: Path, name: Name) -> dict[str, float | str]:
        """Return the allowed numbers of an image's sidecars, and `SkullStripped`.

        Those nearer to the image win (inheritance principle). Times are in seconds, the flip angle in degrees, the
        field strength in tesla. Text is never taken over: in a file that anybody can edit it may name somebody.
        """
        found: dict[str, float | str] = {}
        inside = path.parent.relative_to(self.root).parts
        for depth in range(len(inside) + 1):
            for other, sidecar in self._sidecars(self.root.joinpath(*inside[:depth])):
                if other.suffix == name.suffix and other.entities.items() <= name.entities.items():
                    values = _object(sidecar)
                    found |= {key: values[key] for key in _SIDECAR if _is_number(values.get(key))}
                    if isinstance(values.get("SkullStripped"), bool):
                        found["SkullStripped"] = values["SkullStripped"]
        return found

    def _sidecars(self, folder: Path) -> list[tuple[Name, Path]]:
        """Return the sidecars of a folder, the more specific ones last."""
        if folder not in self._listed:
            named = ((_parse(path.name), path) for path in sorted(folder.glob("*.json")))
            self._listed[folder] = sorted(
                ((name, path) for name, path in named if name), key=lambda item: len(item[0].entities)
            )
        return self._listed[folder]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # NaN is not, either


def _object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; nothing where it holds none, for a sidecar is a help, not a condition."""
    try:
        if path.stat().st_size > 1 << 20:
            return {}
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def derivative(subject: str, session: str, contrast: Contrast, run: int | None) -> PurePosixPath:
    """Return where a canonical volume lies in our dataset, without the ending: `sub-X/ses-1/anat/sub-X_ses-1_...`.

    CT lies in `ct/` with the suffix `ct` (as BIDS extension proposal 24 has it), MR of unknown weighting has the
    suffix `MRI`; both are listed in `.bidsignore`, because BIDS has no name for them yet.
    """
    numbered = "" if run is None else f"_run-{run}"
    name = f"{subject}_ses-{session}{numbered}_desc-canonical_{_SUFFIX[contrast]}"
    return PurePosixPath(subject, f"ses-{session}", "ct" if contrast == "ct" else "anat", name)


def describe(folder: Path) -> None:
    """Write what makes a folder a BIDS derivative dataset; it names nobody."""
    description = {
        "Name": "Canonical volumes",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "medwvae", "Version": versions()["medwvae"]}],
    }
    write_json(folder / DESCRIPTION, description)
    for name, text in ((".bidsignore", _IGNORED), ("README", _README)):
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically, its keys in order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
