"""What is kept of a header: little enough that a thousand series fit in memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray

FRAGILE: Final = "gdcm"
"""The decoder that damaged pixels can crash; its C++ exceptions end the process."""

_PHASE: Final = frozenset(("P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "MIXED"))
"""Image types and complex components that are no magnitude."""


class Tells(NamedTuple):
    """What tells the volumes of one series apart; None or empty where the header does not say."""

    time: float | None = None
    echo: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    b_value: float | None = None
    direction: tuple[float, ...] = ()
    kind: tuple[str, ...] = ()
    mosaic: str = ""


NOTHING: Final = Tells()

WORDS: Final = {
    "time": "time points",
    "echo": "echoes",
    "echo_time": "echo times",
    "inversion_time": "inversion times",
    "b_value": "b-values",
    "direction": "diffusion directions",
    "kind": "image types",
    "mosaic": "mosaic images",
}
"""The plural of each, for messages."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels lie in a file that does not compress them: `offset` in bytes to frame 0, bits, sign."""

    offset: int
    allocated: int
    stored: int
    signed: bool


@dataclass(frozen=True, slots=True)
class File:
    """One DICOM file. `refusal` says why it is no image that can be used; `shape` is (rows, columns) of its frames.

    `padding` is the closed range of stored values that stand for no measurement. `tiles` is the number of frames along
    one side of a mosaic, 0 for any other file. `native` is None where the pixels are compressed or need pydicom;
    `decoder` names the plugin of pydicom for them, empty for whichever works.
    """

    path: Path
    instance: str
    owner: tuple[str, str]
    modality: str
    shape: tuple[int, int]
    grey: str
    refusal: str = ""
    frames: int = 1
    tiles: int = 0
    padding: tuple[int, int] | None = None
    native: Pixels | None = None
    decoder: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a file, number `index` from 0: LPS mm, empty where not stated; value = slope x stored + intercept.

    `ordinals` are the acquisition number and the trigger time: they may tell volumes apart where nothing else does.
    """

    file: File
    index: int
    position: tuple[float, ...]
    cosines: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float = 1.0
    intercept: float = 0.0
    tells: Tells = NOTHING
    ordinals: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Series:
    """The frames that share a series instance UID, by file name; `header` is that of the first file."""

    files: tuple[Path, ...]
    header: pydicom.Dataset
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Part:
    """The frames of one volume of a series: the `number`th of `count`, from 1; `most` is the most frames of any."""

    frames: tuple[Frame, ...]
    number: int = 1
    count: int = 1
    most: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the frames, in their order."""
        return tuple(dict.fromkeys(frame.file.path for frame in self.frames))

    @property
    def weighted(self) -> bool:
        """Whether the contrast that the series is named after shows: no phase, no diffusion weighting."""
        tells = self.frames[0].tells
        return not tells.b_value and not _PHASE & set(tells.kind)


@dataclass(frozen=True)
class Stack:
    """A volume that passed every check of its headers: slices in order along the normal, affine RAS in mm.

    `places` says where the slices lie on the regular grid of `depth` slices, where on_gap had to make one; `lean` is
    the shift in columns and rows from one slice to the next that on_tilt takes out. `notes` is for the sidecar.
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    depth: int
    places: tuple[float, ...] | None = None
    lean: tuple[float, float] = (0.0, 0.0)
    notes: dict[str, float | str] = field(default_factory=dict)

    @property
    def is_fragile(self) -> bool:
        """Whether a decoder is needed that can end the process over damaged pixels: GDCM's."""
        return any(frame.file.decoder == FRAGILE for frame in self.frames)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the slices, in the order of the slices."""
        return tuple(dict.fromkeys(frame.file.path for frame in self.frames))


@dataclass(frozen=True)
class Volume:
    """Voxels (column, row, slice), float32, their affine (RAS, mm) and the SHA-256 of every file they came from."""

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    digests: tuple[str, ...]
