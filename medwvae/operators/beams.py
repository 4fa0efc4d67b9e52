"""Where the rays of a CT run: parallel and fan beam, and the system matrices that follow.

Pixels are unit squares; the origin is the image's middle; x runs along a row to the right, y down a column. At angle θ
a ray runs along (sin θ, cos θ) and the detector along (cos θ, −sin θ): scikit-image's convention, whose angle 0 adds up
columns. Lengths are in pixels.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
BLOCK = 1 << 22
"""Entries of one block of a system matrix, about: views are taken in blocks, to bound the memory."""
KEPT = 32
"""Blocks of either kind that are kept: of `BLOCK` entries and with its transpose one takes 64 MiB. A geometry with more
of them is computed anew at every pass."""


@dataclass(frozen=True)
class Beam:
    """A planar acquisition.

    Attributes
    ----------
    shape : (int, int)
        H, W of the image.
    angles : tuple of float
        Of the views, in degrees.
    detectors : int
        Elements of the detector, centred.
    pitch : float
        Their distance, in pixels; for a fan on the detector itself.
    source, detector : float or None
        Distance of the source and of the (flat) detector from the axis of rotation, in pixels; None for parallel rays.
    """

    shape: tuple[int, int]
    angles: tuple[float, ...]
    detectors: int
    pitch: float = 1.0
    source: float | None = None
    detector: float | None = None

    @property
    def offsets(self) -> Floats:
        """Position of each element along the detector."""
        return np.asarray((np.arange(self.detectors) - (self.detectors - 1) / 2) * self.pitch)

    @property
    def virtual_offsets(self) -> Floats:
        """The same, projected onto the axis of rotation."""
        if self.source is None or self.detector is None:
            return self.offsets
        return self.offsets * self.source / (self.source + self.detector)

    @property
    def step(self) -> float:
        """Angle between neighbouring views, radians; views are equally spaced."""
        spread = max(self.angles) - min(self.angles)
        return float(np.radians(spread / (len(self.angles) - 1))) if len(self.angles) > 1 else float(np.pi)

    @property
    def half_turns(self) -> float:
        """How often the views go round a half circle."""
        return self.step * len(self.angles) / np.pi


def parallel_beam(
    shape: tuple[int, int], views: int, *, arc: float = 180.0, start: float = 0.0, detectors: int | None = None
) -> Beam:
    """Space views equally over `arc` degrees from `start`; the detector covers the image's diagonal unless told.

    Raises
    ------
    ValueError
        If the views lie neither within half a turn nor on a whole one: some rays would count twice, and some once.
    """
    if arc > 180 and arc != 360:
        raise ValueError(f"parallel views span at most 180 degrees, or 360; not {arc:g}")
    angles = tuple(start + arc * view / views for view in range(views))
    return Beam(shape, angles, detectors or int(np.ceil(np.hypot(*shape))))


def fan_beam(
    shape: tuple[int, int],
    views: int,
    *,
    arc: float = 360.0,
    start: float = 0.0,
    source: float | None = None,
    detector: float | None = None,
    detectors: int | None = None,
) -> Beam:
    """Fan with a flat detector; source and detector two diagonals from the axis, covering the image, unless told.

    Raises
    ------
    ValueError
        If the source is not outside the image's circle.
    """
    diagonal = float(np.hypot(*shape))
    source = 2 * diagonal if source is None else source
    detector = source if detector is None else detector
    if source <= diagonal / 2:
        raise ValueError(
            f"the source must lie outside the image: farther than {diagonal / 2:.1f} pixels, not {source:g}"
        )
    elements = detectors or int(np.ceil(diagonal / np.sqrt(1 - (diagonal / 2 / source) ** 2)))
    angles = tuple(start + arc * view / views for view in range(views))
    return Beam(shape, angles, elements, (source + detector) / source, source, detector)


def blocks(beam: Beam) -> list[tuple[int, int]]:
    """First and last-but-one view of each block."""
    entries = 2 * max(beam.shape) * beam.detectors
    step = max(1, BLOCK // entries)
    return [(first, min(first + step, len(beam.angles))) for first in range(0, len(beam.angles), step)]


Pair = tuple[Tensor, Tensor]
"""A sparse matrix and its transpose, both CSR."""


@lru_cache(maxsize=KEPT)
def projection(beam: Beam, first: int, last: int, dtype: torch.dtype, device: torch.device) -> Pair:
    """System matrix of some views: (views · detectors, H · W), line integrals by Joseph's method, and its transpose.

    Along the axis that is closest to its direction a ray visits every line of pixels once; there it interpolates
    linearly between two neighbours (Joseph, IEEE TMI 1, 1982).
    """
    height, width = beam.shape
    points, directions = _rays(beam, first, last)
    rows = np.arange(len(points))
    steep = np.abs(directions[:, 1]) >= np.abs(directions[:, 0])
    entries = []
    # Steep rays visit every row and interpolate along x; the others the other way round.
    for chosen, main, lines, across in ((steep, 1, height, width), (~steep, 0, width, height)):
        point, direction, row = points[chosen], directions[chosen], rows[chosen]
        line = np.arange(lines)
        along = (line - (lines - 1) / 2 - point[:, main, None]) / direction[:, main, None]
        place = point[:, 1 - main, None] + along * direction[:, 1 - main, None] + (across - 1) / 2
        low = np.floor(place)
        length = np.broadcast_to(1 / np.abs(direction[:, main, None]), place.shape)
        for index, share in ((low, 1 - (place - low)), (low + 1, place - low)):
            inside = (index >= 0) & (index < across) & (share > 0)
            other = index[inside].astype(np.int64)
            lines_of = np.broadcast_to(line, place.shape)[inside]
            pixel = lines_of * width + other if main == 1 else other * width + lines_of
            entries.append((np.broadcast_to(row[:, None], place.shape)[inside], pixel, (share * length)[inside]))
    return _pair(entries, (len(points), height * width), dtype, device)


@lru_cache(maxsize=KEPT)
def back_projection(beam: Beam, first: int, last: int, dtype: torch.dtype, device: torch.device) -> Pair:
    """Matrix (H · W, views · detectors) that gives each pixel the value where its ray meets the detector, interpolated.

    For a fan weighted by the inverse square of the distance from the source (Kak and Slaney, Principles of Computerized
    Tomographic Imaging, 1988, section 3.4.2). And its transpose.
    """
    height, width = beam.shape
    y, x = (part.ravel() for part in np.mgrid[:height, :width])
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    pitch = beam.virtual_offsets[1] - beam.virtual_offsets[0] if beam.detectors > 1 else beam.pitch
    entries = []
    for view, angle in enumerate(np.radians(beam.angles[first:last])):
        offset = x * np.cos(angle) - y * np.sin(angle)
        weight = np.ones_like(offset)
        if beam.source is not None:
            nearness = (beam.source + x * np.sin(angle) + y * np.cos(angle)) / beam.source
            offset, weight = offset / nearness, 1 / nearness**2
        place = offset / pitch + (beam.detectors - 1) / 2
        low = np.floor(place)
        for index, share in ((low, 1 - (place - low)), (low + 1, place - low)):
            inside = (index >= 0) & (index < beam.detectors) & (share > 0)
            column = view * beam.detectors + index[inside].astype(np.int64)
            entries.append((np.flatnonzero(inside), column, (share * weight)[inside]))
    return _pair(entries, (height * width, (last - first) * beam.detectors), dtype, device)


def _rays(beam: Beam, first: int, last: int) -> tuple[Floats, Floats]:
    """Return a point and the unit direction of each ray, both (views · detectors, 2) as (x, y)."""
    angles = np.radians(np.asarray(beam.angles[first:last]))[:, None, None]
    along = np.concatenate((np.sin(angles), np.cos(angles)), axis=2)
    across = np.concatenate((np.cos(angles), -np.sin(angles)), axis=2)
    offsets = beam.offsets[None, :, None]
    if beam.source is None or beam.detector is None:
        points = offsets * across
        return points.reshape(-1, 2), np.broadcast_to(along, points.shape).reshape(-1, 2)
    origin = -beam.source * along
    directions = beam.detector * along + offsets * across - origin
    directions = directions / np.linalg.norm(directions, axis=2, keepdims=True)
    return np.broadcast_to(origin, directions.shape).reshape(-1, 2), directions.reshape(-1, 2)


def _pair(
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64], Floats]],
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> Pair:
    import warnings

    from scipy import sparse

    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = sparse.csr_matrix((values, (rows, columns)), shape)

    def tensor(csr: sparse.csr_matrix) -> Tensor:
        with warnings.catch_warnings():
            # PyTorch calls its compressed rows beta; the one operation used here, times a dense matrix, is tested.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            return torch.sparse_csr_tensor(
                torch.from_numpy(csr.indptr.astype(np.int32)),
                torch.from_numpy(csr.indices.astype(np.int32)),
                torch.from_numpy(csr.data),
                shape if csr is matrix else shape[::-1],
                dtype=dtype,
                check_invariants=True,
                device=device,
            )

    return tensor(matrix), tensor(matrix.T.tocsr())
